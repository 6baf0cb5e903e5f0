//! The networks that a site serves.

use std::net::IpAddr;

use ipnet::IpNet;

/// The networks from which a site may be used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientRules {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

/// Why no client could log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShutOut {
    /// No network is allowed.
    NoneAllowed,
    /// Each allowed network lies within a denied one; the first of them does in this one.
    AllDenied {
        /// The allowed network.
        allowed: IpNet,
        /// The denied network, which is no smaller.
        denied: IpNet,
    },
}

impl ClientRules {
    /// Clients of `allow`, or all if there is no such list, but for those of `deny`.
    ///
    /// # Errors
    /// If that is no client.
    pub fn new(allow: Option<Vec<IpNet>>, deny: Vec<IpNet>) -> Result<Self, ShutOut> {
        let everybody = || {
            let both = [IpAddr::from([0; 4]), IpAddr::from([0; 16])];
            both.into_iter().filter_map(|any| IpNet::new(any, 0).ok())
        };
        let denier_of = |allowed: &IpNet| {
            let denied = deny.iter().find(|denied| denied.contains(allowed))?;
            Some((*allowed, *denied))
        };
        let admitted: Vec<IpNet> = allow.clone().unwrap_or_else(|| everybody().collect());
        let denied: Option<Vec<_>> = admitted.iter().map(denier_of).collect();
        match denied.as_deref() {
            None => Ok(Self {
                allow: allow.unwrap_or_default(),
                deny,
            }),
            Some([]) => Err(ShutOut::NoneAllowed),
            Some([(allowed, denied), ..]) => Err(ShutOut::AllDenied {
                allowed: *allowed,
                denied: *denied,
            }),
        }
    }

    /// Whether a client at this address, which may be an IPv4 one mapped into IPv6, may log in.
    pub fn admit(&self, client: IpAddr) -> bool {
        if self.allow.is_empty() && self.deny.is_empty() {
            return true;
        }
        let client = client.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        (self.allow.is_empty() || is_in(&self.allow)) && !is_in(&self.deny)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|one| one.parse().unwrap()).collect()
    }

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> Result<ClientRules, ShutOut> {
        ClientRules::new(allow.map(networks), networks(deny))
    }

    fn admits(rules: &ClientRules, client: &str) -> bool {
        rules.admit(client.parse().unwrap())
    }

    #[test]
    fn without_rules_everybody_may_log_in() {
        for client in ["192.0.2.1", "2001:db8::1"] {
            assert!(admits(&ClientRules::default(), client));
            assert!(admits(&rules(None, &[]).unwrap(), client));
        }
    }

    #[test]
    fn what_is_denied_is_taken_from_what_is_allowed() {
        let rules = rules(Some(&["10.0.0.0/8", "2001:db8::/32"]), &["10.9.0.0/16"]).unwrap();
        for (client, may) in [
            ("10.1.2.3", true),
            ("10.9.2.3", false),
            ("192.0.2.1", false),
            ("2001:db8::5", true),
            ("2001:db9::5", false),
            ("::ffff:10.1.2.3", true),
            ("::ffff:10.9.2.3", false),
        ] {
            assert_eq!(admits(&rules, client), may, "{client}");
        }
    }

    #[test]
    fn what_is_denied_alone_leaves_the_rest() {
        let rules = rules(None, &["10.9.0.0/16"]).unwrap();
        assert!(admits(&rules, "10.8.0.1") && admits(&rules, "::1"));
        assert!(!admits(&rules, "10.9.0.1"));
    }

    #[test]
    fn networks_that_shut_everybody_out_are_refused() {
        assert_eq!(rules(Some(&[]), &[]), Err(ShutOut::NoneAllowed));
        assert!(rules(None, &["0.0.0.0/0", "::/0"]).is_err());
        assert!(rules(None, &["0.0.0.0/0"]).is_ok(), "IPv6 is left");
        let all_denied = rules(
            Some(&["10.1.0.0/16", "10.2.0.0/16"]),
            &["192.168.0.0/16", "10.0.0.0/8"],
        );
        let [allowed, denied] = ["10.1.0.0/16", "10.0.0.0/8"].map(|it| it.parse().unwrap());
        assert_eq!(all_denied, Err(ShutOut::AllDenied { allowed, denied }));
        assert!(rules(Some(&["10.0.0.0/8"]), &["10.1.0.0/16"]).is_ok());
    }
}
