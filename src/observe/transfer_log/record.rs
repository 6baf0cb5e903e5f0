//! An entry of a transfer log: one transfer that is over, or one change of a file, as values.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::GlobalSessionId;
use crate::config::TlsVersion;
use crate::outcome::{DataMode, Direction, HashedPart, Representation, Verdict};

/// A SHA-256 digest.
pub type Sha256 = [u8; 32];

/// An entry of a transfer log. Values from clients are bytes as they were sent.
#[derive(Debug, Clone)]
pub struct LogRecord<'a> {
    /// When the transfer was over, or the change made.
    pub time: Timestamp,
    /// The session.
    pub session: GlobalSessionId,
    /// The client's address, also behind a load balancer.
    pub client: SocketAddr,
    /// The address that the client has connected to.
    pub server: SocketAddr,
    /// The site's name.
    pub site: &'a str,
    /// The host that has led to the site, if one was named.
    pub host: Option<&'a str>,
    /// The user, without the host.
    pub user: &'a [u8],
    /// The backend's address.
    pub backend: Option<SocketAddr>,
    /// The name of its entry in the configuration.
    pub backend_name: Option<&'a str>,
    /// The TLS of the client's control connection; `None` in clear text.
    pub tls: Option<TlsVersion>,
    /// The verb, in capitals.
    pub command: &'a str,
    /// The argument, as sent.
    pub path: &'a [u8],
    /// The path from the root, if it is certain.
    pub full_path: Option<&'a [u8]>,
    /// The code of the reply that the client was sent, if it was sent one.
    pub reply: Option<u16>,
    /// The event.
    pub event: Event<'a>,
}

/// The event that an entry is about.
#[derive(Debug, Clone)]
pub enum Event<'a> {
    /// A transfer is over.
    Transfer(Transfer<'a>),
    /// A file or a directory was changed: deleted, renamed, made, or what a SITE command does.
    Change {
        /// For a renaming, the former path, as sent, and from the root, if that is certain.
        renamed: Option<(&'a [u8], Option<&'a [u8]>)>,
    },
}

/// A transfer.
#[derive(Debug, Clone)]
pub struct Transfer<'a> {
    /// The direction of the bytes.
    pub direction: Direction,
    /// The outcome.
    pub verdict: Verdict,
    /// The reason why it is not complete.
    pub reason: Option<&'a str>,
    /// The bytes moved from the source to the sink.
    pub bytes: u64,
    /// The byte of the file that it began at.
    pub offset: u64,
    /// The time since the command.
    pub duration: Duration,
    /// From the command to the first byte, if there was one and it was looked for.
    pub first_byte: Option<Duration>,
    /// In which form the bytes were sent.
    pub representation: Representation,
    /// How the client's data connection was established.
    pub mode: DataMode,
    /// TLS on the client's data connection.
    pub data_tls: DataTls,
    /// SHA-256 of the relayed bytes, if they are complete and were hashed.
    pub sha256: Option<Sha256>,
    /// The part of the file that the hash covers.
    pub hashed_part: HashedPart,
}

/// TLS on a client's data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataTls {
    /// Clear text.
    Off,
    /// Under TLS, though there was no handshake, or none that succeeded.
    NotEstablished,
    /// A session of its own.
    Full,
    /// The handshake resumed a session.
    Resumed,
}

impl DataTls {
    /// Whether PROT P was in force.
    pub fn is_private(self) -> bool {
        self != Self::Off
    }

    /// Whether a session was resumed; `None` if there was no handshake.
    pub fn resumed(self) -> Option<bool> {
        match self {
            Self::Off | Self::NotEstablished => None,
            Self::Full => Some(false),
            Self::Resumed => Some(true),
        }
    }
}
