//! What a load balancer writes before a connection that it relays, and a server behind it reads: headers of the PROXY
//! protocol.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

/// A header of version 1.
pub fn v1(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        client.ip(),
        destination.ip(),
        client.port(),
        destination.port()
    )
    .into_bytes()
}

/// A header of version 2, with an extension that says nothing (PP2_TYPE_NOOP).
pub fn v2(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    v2_with(client, destination, &[(0x04, b"nihil")])
}

/// A header of version 2, with these extensions: their types and values.
pub fn v2_with(client: SocketAddr, destination: SocketAddr, extensions: &[(u8, &[u8])]) -> Vec<u8> {
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let rest = [
        octets(client),
        octets(destination),
        client.port().to_be_bytes().to_vec(),
        destination.port().to_be_bytes().to_vec(),
        extensions
            .iter()
            .flat_map(|(kind, value)| extension(*kind, value))
            .collect(),
    ];
    let protocol = if client.is_ipv4() { 0x11 } else { 0x21 };
    v2_of(0x21, protocol, &rest.concat())
}

/// A header of version 2 with this version and command, protocol and rest.
pub fn v2_of(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("at most 64 KiB");
    let fixed = [command, protocol];
    [
        &b"\r\n\r\n\0\r\nQUIT\n"[..],
        &fixed,
        &length.to_be_bytes(),
        rest,
    ]
    .concat()
}

/// One extension (TLV) of version 2.
pub fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("at most 64 KiB");
    [&[kind][..], &length.to_be_bytes(), value].concat()
}

/// Takes a header of either version off a connection, and not a byte more.
///
/// # Errors
/// If the connection ends before it does, or begins with something else.
pub fn take(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut header = vec![0; 8];
    from.read_exact(&mut header)?;
    if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte)?;
            header.extend(byte);
        }
        return Ok(header);
    }
    let mut rest = [0; 8];
    from.read_exact(&mut rest)?;
    header.extend(rest);
    if !header.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        return Err(io::Error::other("no PROXY header"));
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
    from.read_exact(&mut rest)?;
    header.extend(rest);
    Ok(header)
}
