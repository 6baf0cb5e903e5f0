//! A loopback address for each fixture, so that fixed ports never clash.
//!
//! Linux answers on all of 127.0.0.0/8. An address is claimed by listening on one port of it: the kernel lets no other
//! socket do that, in this process or another, until the claim is dropped.
//!
//! IPv6 has just the one loopback address: bind `[::1]:0` there and ask which port it became.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// An IPv4 loopback address that no other fixture has until this is dropped.
#[derive(Debug)]
pub struct Loopback {
    address: Ipv4Addr,
    _claim: TcpListener,
}

impl Loopback {
    /// Claims an address.
    ///
    /// # Panics
    /// If thousands in a row are taken.
    pub fn claim() -> Self {
        // Processes start at different places only to lose less time on addresses that are taken.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(2_654_435_761);
        for _ in 0..10_000 {
            let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let [_, b, c, d] = number.to_be_bytes();
            // 127.0.x.x is left to the machine's own services; the last byte avoids 0 and 255.
            let address = Ipv4Addr::new(127, b.max(1), c, d.clamp(1, 254));
            if let Ok(claim) = TcpListener::bind((address, CLAIM_PORT)) {
                return Self {
                    address,
                    _claim: claim,
                };
            }
        }
        panic!("no free loopback address: is port {CLAIM_PORT} taken on all addresses?");
    }

    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.address.into()
    }

    /// The address with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }
}

/// Above the ports of Linux for outgoing connections (32768-60999), and otherwise unused.
const CLAIM_PORT: u16 = 61_999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_held_at_the_same_time_never_share_an_address() {
        let claims: Vec<_> = (0..300).map(|_| Loopback::claim()).collect();
        let addresses: std::collections::BTreeSet<_> = claims.iter().map(Loopback::ip).collect();
        assert_eq!(addresses.len(), claims.len());
    }
}
