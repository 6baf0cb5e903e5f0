//! The load balancers in front of a port, by every configuration that a session still holds: a reload that adds or removes one
//! is for new sessions, and the data connections of those that run come as before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ipnet::IpNet;

use crate::net::proxy_header::is_trusted;

/// The networks of the balancers by one configuration.
pub(super) type Trusted = Arc<Vec<IpNet>>;

/// The load balancers in front of a port, by the configurations in use.
#[derive(Debug, Default)]
pub(super) struct Balancers(Mutex<Vec<Weak<Vec<IpNet>>>>);

/// Whether a connection begins with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderRule {
    /// The connection comes from a client, without a header.
    None,
    /// The connection may come from a balancer, or be that of a session from before that balancer was configured.
    Optional,
    /// The connection comes from a balancer, with a header.
    Required,
}

impl Balancers {
    /// A configuration trusts these, for as long as it is in use.
    pub fn add(&self, trusted: &Trusted) {
        let mut lists = self.lists();
        lists.retain(|list| list.strong_count() > 0);
        lists.push(Arc::downgrade(trusted));
    }

    /// The rule for how a connection from `peer` begins.
    pub fn rule_for(&self, peer: SocketAddr) -> HeaderRule {
        let lists = self.lists();
        let trusting = lists
            .iter()
            .filter_map(Weak::upgrade)
            .map(|trusted| is_trusted(peer, &trusted));
        let rules = trusting.map(|is_trusted| match is_trusted {
            true => HeaderRule::Required,
            false => HeaderRule::None,
        });
        let unanimous = |one, other| {
            if one == other {
                one
            } else {
                HeaderRule::Optional
            }
        };
        rules.reduce(unanimous).unwrap_or(HeaderRule::None)
    }

    fn lists(&self) -> MutexGuard<'_, Vec<Weak<Vec<IpNet>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balancer_is_one_by_every_configuration_that_is_in_use() {
        let balancers = Balancers::default();
        let trusted = |networks: &[&str]| -> Trusted {
            let networks = networks.iter().map(|it| it.parse().expect("a network"));
            Arc::new(networks.collect())
        };
        let rule = |address: &str| balancers.rule_for(SocketAddr::new(address.parse().unwrap(), 9));
        assert_eq!(rule("10.0.0.1"), HeaderRule::None);

        let former = trusted(&["10.0.0.1/32"]);
        balancers.add(&former);
        assert_eq!(rule("10.0.0.1"), HeaderRule::Required);
        assert_eq!(rule("10.0.0.2"), HeaderRule::None);

        let current = trusted(&["10.0.0.2/32"]);
        balancers.add(&current);
        assert_eq!(rule("10.0.0.1"), HeaderRule::Optional);
        assert_eq!(rule("10.0.0.2"), HeaderRule::Optional);
        assert_eq!(rule("10.0.0.3"), HeaderRule::None);

        // The last session of the former configuration has ended.
        drop(former);
        assert_eq!(rule("10.0.0.1"), HeaderRule::None);
        assert_eq!(rule("10.0.0.2"), HeaderRule::Required);
    }
}
