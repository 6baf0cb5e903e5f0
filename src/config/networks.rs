//! Networks, and their members.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether one of these networks has the address, which may be an IPv4 one mapped into IPv6.
pub fn is_in_any(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
