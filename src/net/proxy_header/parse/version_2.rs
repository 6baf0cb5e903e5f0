//! Version 2: a binary header (section 2.2).

use std::net::{IpAddr, SocketAddr};

use super::{BadHeader, Header, Parsed, proxied};

/// The most bytes that a header has.
pub const MAX_LEN: usize = FIXED + MAX_REST;

pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The length of the fixed part, up to where the addresses begin, in bytes.
pub const FIXED: usize = 16;
/// The longest addresses and extensions that are accepted, in bytes. The format allows 64 KiB; what balancers send, TLS details
/// included, stays below one.
pub const MAX_REST: usize = 2048;
pub const LOCAL: u8 = 0x20;
pub const PROXY: u8 = 0x21;
pub const UNSPECIFIED: u8 = 0x00;
pub const TCP_OVER_IPV4: u8 = 0x11;
pub const TCP_OVER_IPV6: u8 = 0x21;

/// Signature, version and command, protocol, length of the rest; then addresses, ports, and extensions (TLVs) that mean
/// nothing here.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., command, protocol, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_REST {
        return Err(BadHeader::TooLong);
    }
    if !matches!(command, LOCAL | PROXY) {
        return Err(BadHeader::Command(command));
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let header = match (command, protocol) {
        // A balancer's own connection may name any protocol or none.
        (LOCAL, _) | (_, UNSPECIFIED) => Header::Local,
        (_, TCP_OVER_IPV4) => addresses::<4>(rest)?,
        (_, TCP_OVER_IPV6) => addresses::<16>(rest)?,
        (_, other) => return Err(BadHeader::Protocol(other)),
    };
    Ok(Parsed::Complete {
        header,
        length: FIXED + length,
    })
}

/// Two addresses of `N` bytes, and two ports.
fn addresses<const N: usize>(bytes: &[u8]) -> Result<Header, BadHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (client, bytes) = next(bytes)?;
    let (destination, bytes) = next(bytes)?;
    let (client_port, bytes) = next(bytes)?;
    let (port, _) = next(bytes)?;
    let end = |address: [u8; N], port| SocketAddr::new(address.into(), u16::from_be_bytes(port));
    proxied(end(client, client_port), end(destination, port))
}

fn next<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadHeader> {
    let (field, rest) = bytes.split_first_chunk().ok_or(BadHeader::TooShort)?;
    Ok((*field, rest))
}
