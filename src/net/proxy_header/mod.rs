//! The PROXY protocol's header, which names the client of a relayed connection: read from the sockets of load balancers,
//! and written, by [`mod@write`], for those of backends.
//!
//! Where one is read, it has to be there, whole and in time, from a peer that is trusted to tell the truth. Nothing
//! behind it is read: the ClientHello or command that follows belongs to the session.

pub mod parse;
pub mod write;

pub use parse::{BadHeader, ProxiedAddresses};
pub use write::{ClientTls, Origin, RelayedClient};

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::deadline::input_timeout;
use crate::base::address::canonical;
use crate::base::text::rounded;
use crate::config::is_in_any;
use crate::outcome::ProxyHeaderFault;
use parse::{Header, MAX_LEN, Parsed};

/// How long a header may take. A balancer sends it with its first segment, which may get lost twice on the way.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the client of a connection is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The peer is not in one of the trusted networks, so its header can't be believed.
    #[error("the peer is not in a network of proxy_protocol.trusted")]
    Untrusted,
    /// The connection ended, or failed, without a byte: a balancer's own health check, which some end with a reset.
    #[error("the connection closed without sending anything")]
    Empty,
    /// The connection ended, or failed, before the header did.
    #[error("the connection closed before a complete PROXY header arrived")]
    Truncated(#[source] io::Error),
    /// The header took too long.
    #[error("no complete PROXY header after {}", rounded(.0))]
    TimedOut(Duration),
    /// The connection begins with another protocol, or a malformed header.
    #[error(transparent)]
    Malformed(#[from] BadHeader),
}

impl ProxyHeaderError {
    /// The error's metric label, if it is a fault.
    pub fn fault(&self) -> Option<ProxyHeaderFault> {
        match self {
            Self::Empty => None,
            Self::Untrusted => Some(ProxyHeaderFault::Untrusted),
            Self::Truncated(_) | Self::TimedOut(_) => Some(ProxyHeaderFault::Missing),
            Self::Malformed(_) => Some(ProxyHeaderFault::Malformed),
        }
    }
}

/// Whether `peer` is in one of these networks.
pub fn is_trusted(peer: SocketAddr, trusted: &[IpNet]) -> bool {
    is_in_any(peer.ip(), trusted)
}

/// Whether a connection may begin with a header, by its first byte: not if none comes within [`HEADER_TIMEOUT`].
pub async fn may_be_there(stream: &TcpStream) -> bool {
    let mut first = [0];
    match input_timeout(HEADER_TIMEOUT, stream.peek(&mut first)).await {
        Ok(Ok(1)) => parse::may_begin(first[0]),
        // Over already: reading it tells how.
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Reads the header of a new connection and returns the addresses in it; for the balancer's own connections, those of
/// the connection itself.
///
/// # Errors
/// If the peer isn't trusted, or its header doesn't come whole within [`HEADER_TIMEOUT`].
pub async fn read(
    stream: &mut TcpStream,
    trusted: &[IpNet],
) -> Result<ProxiedAddresses, ProxyHeaderError> {
    let peer = stream.peer_addr().map_err(|_| ProxyHeaderError::Empty)?;
    if !is_trusted(peer, trusted) {
        return Err(ProxyHeaderError::Untrusted);
    }
    read_from_balancer(stream).await
}

/// As [`read`], for a connection whose peer is trusted.
///
/// # Errors
/// If the header doesn't come whole within [`HEADER_TIMEOUT`].
pub async fn read_from_balancer(
    stream: &mut TcpStream,
) -> Result<ProxiedAddresses, ProxyHeaderError> {
    // Only a connection that has been reset has no addresses any more.
    let peer = stream.peer_addr().map_err(|_| ProxyHeaderError::Empty)?;
    let local = stream.local_addr().map_err(|_| ProxyHeaderError::Empty)?;
    let header = input_timeout(HEADER_TIMEOUT, header(stream))
        .await
        .map_err(|_| ProxyHeaderError::TimedOut(HEADER_TIMEOUT))??;
    Ok(match header {
        Header::Proxied(addresses) => addresses,
        Header::Local => ProxiedAddresses {
            client: canonical(peer),
            destination: canonical(local),
        },
    })
}

/// Takes the header's bytes off the socket, and no other.
async fn header(stream: &mut TcpStream) -> Result<Header, ProxyHeaderError> {
    let mut bytes = vec![0; MAX_LEN];
    let mut taken = 0;
    loop {
        // Peeked first: only the bytes themselves show where the header ends.
        let seen = match stream.peek(&mut bytes[taken..]).await {
            Ok(0) | Err(_) if taken == 0 => return Err(ProxyHeaderError::Empty),
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            peeked => peeked,
        };
        let seen = taken + seen.map_err(ProxyHeaderError::Truncated)?;
        let (header, end) = match parse::parse(&bytes[..seen])? {
            Parsed::Incomplete => (None, seen),
            Parsed::Complete { header, length } => (Some(header), length),
        };
        let rest = &mut bytes[taken..end];
        stream
            .read_exact(rest)
            .await
            .map_err(ProxyHeaderError::Truncated)?;
        taken = end;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}
