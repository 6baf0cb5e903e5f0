//! Socket addresses in the form in which they are compared and shown.

use std::net::SocketAddr;

/// With an IPv4 address in place of an IPv6 one that maps it (RFC 4291 §2.5.5.2), and without flow label and zone.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
