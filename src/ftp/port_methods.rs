//! The order of methods to ask a backend for a data connection: the client's, then the other passive one, then PORT. Checks ask
//! in it as well.
//!
//! A server may refuse one of them, hang up at it, or name a port that can't be reached (a firewall that opens only what it reads
//! in a 227). The next method to ask by is chosen here; what has been learned of the backend outlives the session.

use super::server::{PortMethod, PortMethods};
use crate::config::PassiveMode;

/// Properties of a backend's data ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendPorts {
    /// The passive mode that the site is configured with.
    pub mode: PassiveMode,
    /// Whether the backend's control connection runs over IPv6, where PASV has no meaning.
    pub ipv6: bool,
    /// The methods that the backend has refused, or that led to no port that could be reached, while another one was good.
    pub avoid: PortMethods,
}

impl BackendPorts {
    /// The next method to try, where the client has asked by `as_client` and these have been `tried` without success.
    ///
    /// Avoided methods are tried last: the server may have been repaired.
    pub fn next(self, as_client: PortMethod, tried: PortMethods) -> Option<PortMethod> {
        let (first, second) = match as_client {
            PortMethod::Pasv => (PortMethod::Pasv, PortMethod::Epsv),
            PortMethod::Epsv | PortMethod::Active => (PortMethod::Epsv, PortMethod::Pasv),
        };
        let auto = [first, second, PortMethod::Active];
        let methods = match self.mode {
            PassiveMode::Auto => &auto[..],
            PassiveMode::Epsv => &[PortMethod::Epsv],
            PassiveMode::Pasv => &[PortMethod::Pasv],
            PassiveMode::Active => &[PortMethod::Active],
        };
        let untried = || {
            let methods = methods.iter().copied();
            methods
                .filter(|method| !tried.has(*method) && (*method != PortMethod::Pasv || !self.ipv6))
        };
        untried()
            .find(|method| !self.avoid.has(*method))
            .or_else(|| untried().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order in which a backend is asked that takes to none of the ways.
    fn order(ports: BackendPorts, as_client: PortMethod) -> Vec<PortMethod> {
        let mut tried = PortMethods::NONE;
        let mut order = Vec::new();
        while let Some(method) = ports.next(as_client, tried) {
            tried = tried.and(method);
            order.push(method);
        }
        order
    }

    const AUTO: BackendPorts = BackendPorts {
        mode: PassiveMode::Auto,
        ipv6: false,
        avoid: PortMethods::NONE,
    };

    #[test]
    fn a_backend_is_asked_as_the_client_asks_then_in_the_other_way_then_by_port() {
        let in_order = [
            (
                PortMethod::Epsv,
                [PortMethod::Epsv, PortMethod::Pasv, PortMethod::Active],
            ),
            (
                PortMethod::Pasv,
                [PortMethod::Pasv, PortMethod::Epsv, PortMethod::Active],
            ),
        ];
        for (as_client, expected) in in_order {
            assert_eq!(order(AUTO, as_client), expected);
        }
    }

    #[test]
    fn what_has_failed_before_is_tried_last() {
        let avoid = PortMethods::NONE.and(PortMethod::Epsv);
        let ports = BackendPorts { avoid, ..AUTO };
        assert_eq!(
            order(ports, PortMethod::Epsv),
            [PortMethod::Pasv, PortMethod::Active, PortMethod::Epsv]
        );
        let avoid = avoid.and(PortMethod::Pasv);
        let ports = BackendPorts { avoid, ..AUTO };
        assert_eq!(
            order(ports, PortMethod::Pasv),
            [PortMethod::Active, PortMethod::Pasv, PortMethod::Epsv]
        );
    }

    #[test]
    fn a_site_may_know_its_one_way_and_pasv_means_nothing_over_ipv6() {
        for (mode, only) in [
            (PassiveMode::Epsv, PortMethod::Epsv),
            (PassiveMode::Pasv, PortMethod::Pasv),
            (PassiveMode::Active, PortMethod::Active),
        ] {
            for as_client in [PortMethod::Epsv, PortMethod::Pasv] {
                assert_eq!(order(BackendPorts { mode, ..AUTO }, as_client), [only]);
            }
        }
        let ipv6 = BackendPorts { ipv6: true, ..AUTO };
        assert_eq!(
            order(ipv6, PortMethod::Pasv),
            [PortMethod::Epsv, PortMethod::Active]
        );
    }
}
