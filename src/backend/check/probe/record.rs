//! The result of a probe: a record for each stage, with what was found.

use std::net::SocketAddr;
use std::time::Duration;

use crate::backend::check::CheckError;
use crate::backend::data::DataEndpoint;
use crate::config::{self, ProxyVersion, TlsMode, TlsVersion, Verify};
use crate::ftp::reply::Reply;
use crate::ftp::server::{BackendProtection, PortMethod};
use crate::net::proxy_header::write::openssl_name;
use crate::net::stream::Stream;
use crate::outcome::ProbeStage;
use crate::tls::ShownCertificate;

/// The result of a probe: every stage that there is for such a backend, in order.
#[derive(Debug)]
pub struct ProbeRecord {
    /// When TLS starts, if it does.
    pub tls: Option<TlsMode>,
    /// All stages, made or skipped.
    pub stages: Vec<ProbedStage>,
    /// How long the probe took.
    pub took: Duration,
}

/// The result of one stage of a probe.
#[derive(Debug)]
pub struct ProbedStage {
    /// The stage.
    pub stage: ProbeStage,
    /// How long the stage took; `None` for one that was not made, or that is part of the one before it.
    pub took: Option<Duration>,
    /// The outcome of the stage.
    pub outcome: ProbeOutcome,
}

/// The outcome of a stage of a probe.
#[derive(Debug)]
pub enum ProbeOutcome {
    /// The stage works.
    Done(Finding),
    /// The stage failed.
    Failed {
        /// The error.
        error: CheckError,
        /// Advice what to do about it.
        remedy: String,
    },
    /// The stage was not made.
    Skipped(Skipped),
}

/// Why a stage was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// The stage was not asked for.
    NotAsked,
    /// Another stage failed.
    Failure,
    /// The backend wants a login first, and there was none.
    WantsLogin,
    /// Another backend of the site has refused the password, which was not sent again.
    PasswordRefused,
}

/// The finding of a stage that works.
#[derive(Debug)]
pub enum Finding {
    /// The addresses of the name.
    Addresses(Vec<SocketAddr>),
    /// The connection, and the version of the PROXY header that was sent on it.
    Connected {
        /// The address.
        to: SocketAddr,
        /// The header.
        header: Option<ProxyVersion>,
    },
    /// The backend's reply.
    Reply(Reply),
    /// The result of a handshake.
    Tls(AgreedTls),
    /// The certificate.
    Certificate(FoundCertificate),
    /// PBSZ and PROT, before or behind the login.
    Protection(BackendProtection),
    /// A login as this user.
    Login(String),
    /// The features in the reply to FEAT; `None` if the backend doesn't know the command.
    Features(Option<Vec<String>>),
    /// The ways to ask for a data connection, at least one of which works.
    Ports(Vec<AskedPort>),
    /// The other end of the data connection.
    Data(DataPeer),
    /// The handshake of the data connection.
    DataTls {
        /// The TLS version and cipher suite agreed on.
        tls: AgreedTls,
        /// Whether the handshake resumed the session of the control connection.
        resumed: bool,
    },
    /// The listing that was read.
    Listing {
        /// The bytes that were read.
        bytes: usize,
        /// The reply after it; `None` if it is longer than what is read of one.
        reply: Option<Reply>,
    },
}

/// The certificate of a backend.
#[derive(Debug)]
pub struct FoundCertificate {
    /// The backend's own certificate; `None` if it can't be read.
    pub own: Option<ShownCertificate>,
    /// The issuers' certificates that came with it.
    pub issuers: Vec<ShownCertificate>,
    /// Why the certificate was accepted.
    pub trust: Trust,
}

/// Why a certificate was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The certificate was accepted by its issuer, name and dates.
    Verified,
    /// The certificate was accepted by its fingerprint.
    Pinned,
    /// The certificate was accepted without having been looked at.
    Unverified,
}

/// The other end of a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPeer {
    /// Portcullis has connected there.
    To(SocketAddr),
    /// The backend connects, once it has the command.
    From,
}

/// The parameters that the two sides of a handshake have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreedTls {
    /// The version.
    pub version: TlsVersion,
    /// OpenSSL's name of the cipher suite.
    pub cipher: &'static str,
}

/// One method to ask for a data connection, and the answer to it.
#[derive(Debug)]
pub struct AskedPort {
    /// The method.
    pub method: PortMethod,
    /// The address for the connection, or why there is none.
    pub answer: Result<PortAnswer, CheckError>,
}

/// A backend's answer to EPSV, PASV or PORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAnswer {
    /// The address that a passive connection goes to.
    pub to: Option<SocketAddr>,
    /// The address in a 227, where it is another one.
    pub announced_elsewhere: Option<SocketAddr>,
}

impl AgreedTls {
    pub(super) fn of(stream: &Stream) -> Option<Self> {
        Some(Self {
            version: stream.tls_version()?,
            cipher: openssl_name(stream.cipher_suite()?).unwrap_or("unknown cipher suite"),
        })
    }
}

impl Trust {
    /// The kind of trust that this backend's configuration asks for.
    pub(super) fn at(backend: &config::Backend) -> Self {
        match backend.tls.as_ref().map(|tls| &tls.verify) {
            Some(Verify::System | Verify::Ca(_)) => Self::Verified,
            Some(Verify::Fingerprint(_)) => Self::Pinned,
            Some(Verify::None) | None => Self::Unverified,
        }
    }
}

impl PortAnswer {
    pub(super) fn of(endpoint: &DataEndpoint) -> Self {
        match endpoint {
            DataEndpoint::Passive { to, announced, .. } => Self {
                to: Some(*to),
                announced_elsewhere: announced
                    .map(|announced| SocketAddr::new(announced.into(), to.port()))
                    .filter(|announced| announced.ip() != to.ip().to_canonical()),
            },
            DataEndpoint::Active { .. } => Self {
                to: None,
                announced_elsewhere: None,
            },
        }
    }
}
