//! What a load balancer writes before a connection that it relays: headers of the PROXY protocol.

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
    let octets = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let rest = [
        octets(client),
        octets(destination),
        client.port().to_be_bytes().to_vec(),
        destination.port().to_be_bytes().to_vec(),
        b"\x04\x00\x05nihil".to_vec(),
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
