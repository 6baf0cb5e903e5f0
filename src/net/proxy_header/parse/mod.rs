//! The PROXY protocol's header, version 1 and 2, from bytes to addresses.
//!
//! A load balancer writes it before the first byte of a connection that it relays, to name the client. Any sender of a
//! header can claim any address, so input that does not match the format exactly is rejected, and nothing is guessed.
//!
//! The format is HAProxy's, "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.

mod version_1;
pub(super) mod version_2;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::base::address::canonical;

/// The most bytes that a header has.
pub const MAX_LEN: usize = version_2::MAX_LEN;

/// The content of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The connection is relayed, and these are the ends of the one that the balancer accepted.
    Proxied(ProxiedAddresses),
    /// The connection is the balancer's own, such as a health check, or it doesn't know the ends: LOCAL, UNKNOWN.
    Local,
}

/// The two ends of a client's connection, in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// The client's address and port.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

/// The result of parsing the bytes at the beginning of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// All of them belong to a header, which is not complete.
    Incomplete,
    /// The first `length` of them are a header.
    Complete {
        /// The header's content.
        header: Header,
        /// The header's length in bytes.
        length: usize,
    },
}

/// Why the bytes aren't a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// The bytes begin like neither version.
    #[error("not a PROXY header")]
    NotAHeader,
    /// Longer than the version allows, or than any known balancer sends.
    #[error("the PROXY header is too long")]
    TooLong,
    /// Version 1, but not as its grammar has it.
    #[error("the PROXY header's line is malformed")]
    Line,
    /// Version 2 has no such version or command.
    #[error("the PROXY header has the unknown version and command {0:#04x}")]
    Command(u8),
    /// The protocol is neither TCP over IPv4 nor over IPv6.
    #[error("the PROXY header is for the protocol {0:#04x}, which isn't TCP")]
    Protocol(u8),
    /// Version 2 too short for its addresses.
    #[error("the PROXY header ends before its addresses do")]
    TooShort,
    /// Addresses that no connection can have.
    #[error("the PROXY header names {0}, which can't be the address of a connection")]
    Address(IpAddr),
}

/// Whether a header of either version may begin with this byte. No ClientHello does.
pub fn may_begin(first: u8) -> bool {
    !matches!(parse(&[first]), Err(BadHeader::NotAHeader))
}

/// Reads a header from the beginning of `bytes`.
///
/// # Errors
/// As soon as it is sure that no header can become of them.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let begins_like = |start: &[u8]| bytes.iter().zip(start).all(|(one, other)| one == other);
    if begins_like(version_2::SIGNATURE) {
        version_2::parse(bytes)
    } else if begins_like(version_1::START) {
        version_1::parse(bytes)
    } else {
        Err(BadHeader::NotAHeader)
    }
}

/// Refuses addresses of no machine: to connect to 0.0.0.0, as active mode would, is to connect to oneself.
fn proxied(client: SocketAddr, destination: SocketAddr) -> Result<Header, BadHeader> {
    for ip in [client.ip(), destination.ip()] {
        let ip = ip.to_canonical();
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(BadHeader::Address(ip));
        }
    }
    Ok(Header::Proxied(ProxiedAddresses {
        client: canonical(client),
        destination: canonical(destination),
    }))
}

#[cfg(test)]
mod tests;
