//! How a backend is asked for a data connection: as the client asks, then in the other way, then by PORT.
//!
//! A server may refuse one of them, hang up at it, or name a port that can't be reached (a firewall that opens only what
//! it reads in a 227). What it is asked next stands here; what has been learned of it outlives the session.

use crate::config::PassiveMode;
use crate::ftp::server::{Way, Ways};

/// What is known of a backend's data ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BackendPorts {
    pub mode: PassiveMode,
    /// Whether its control connection runs over IPv6, where PASV has no meaning.
    pub ipv6: bool,
    /// What it has refused, or what led to no port that could be reached, while another way was good.
    pub avoid: Ways,
}

impl BackendPorts {
    /// The next method to try, where the client has asked by `as_client` and these have been `tried` without success.
    ///
    /// What is to be avoided comes last: the server may have been mended.
    pub fn next(self, as_client: Way, tried: Ways) -> Option<Way> {
        let (first, second) = match as_client {
            Way::Pasv => (Way::Pasv, Way::Epsv),
            Way::Epsv | Way::Active => (Way::Epsv, Way::Pasv),
        };
        let auto = [first, second, Way::Active];
        let ways = match self.mode {
            PassiveMode::Auto => &auto[..],
            PassiveMode::Epsv => &[Way::Epsv],
            PassiveMode::Pasv => &[Way::Pasv],
            PassiveMode::Active => &[Way::Active],
        };
        let untried = || {
            let ways = ways.iter().copied();
            ways.filter(|way| !tried.has(*way) && (*way != Way::Pasv || !self.ipv6))
        };
        untried()
            .find(|way| !self.avoid.has(*way))
            .or_else(|| untried().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which a backend is asked that takes to none of the ways.
    fn order(ports: BackendPorts, as_client: Way) -> Vec<Way> {
        let mut tried = Ways::NONE;
        let mut order = Vec::new();
        while let Some(way) = ports.next(as_client, tried) {
            tried = tried.and(way);
            order.push(way);
        }
        order
    }

    const AUTO: BackendPorts = BackendPorts {
        mode: PassiveMode::Auto,
        ipv6: false,
        avoid: Ways::NONE,
    };

    #[test]
    fn a_backend_is_asked_as_the_client_asks_then_in_the_other_way_then_by_port() {
        let in_order = [
            (Way::Epsv, [Way::Epsv, Way::Pasv, Way::Active]),
            (Way::Pasv, [Way::Pasv, Way::Epsv, Way::Active]),
        ];
        for (as_client, expected) in in_order {
            assert_eq!(order(AUTO, as_client), expected);
        }
    }

    #[test]
    fn what_has_failed_before_is_tried_last() {
        let avoid = Ways::NONE.and(Way::Epsv);
        let ports = BackendPorts { avoid, ..AUTO };
        assert_eq!(order(ports, Way::Epsv), [Way::Pasv, Way::Active, Way::Epsv]);
        let avoid = avoid.and(Way::Pasv);
        let ports = BackendPorts { avoid, ..AUTO };
        assert_eq!(order(ports, Way::Pasv), [Way::Active, Way::Pasv, Way::Epsv]);
    }

    #[test]
    fn a_site_may_know_its_one_way_and_pasv_means_nothing_over_ipv6() {
        for (mode, only) in [
            (PassiveMode::Epsv, Way::Epsv),
            (PassiveMode::Pasv, Way::Pasv),
            (PassiveMode::Active, Way::Active),
        ] {
            for as_client in [Way::Epsv, Way::Pasv] {
                assert_eq!(order(BackendPorts { mode, ..AUTO }, as_client), [only]);
            }
        }
        let ipv6 = BackendPorts { ipv6: true, ..AUTO };
        assert_eq!(order(ipv6, Way::Pasv), [Way::Epsv, Way::Active]);
    }
}
