//! The rules of `ipSecurity`, of which the first one that has an address counts, as a list of what is allowed and one of what is
//! taken from that.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets};

use super::model::{Access, AddressRules};

/// `clients` of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// All clients.
    Everybody,
    /// No client.
    Nobody,
    /// The clients of `allow`, or all if there is no such list, but for those of `deny`.
    Some {
        /// The networks whose clients are allowed.
        allow: Option<Vec<IpNet>>,
        /// The networks whose clients are denied.
        deny: Vec<IpNet>,
    },
}

/// Addresses from the first to the last one.
type Span = (u32, u32);

/// Networks that allow exactly the clients whom these rules allow. Clients with IPv6 addresses are in no rule.
pub fn clients(rules: &AddressRules) -> Clients {
    let denied = spans_of(rules, Access::Denied);
    let allowed = spans_of(rules, Access::Allowed);
    match rules.unlisted {
        Access::Allowed if denied.is_empty() => return Clients::Everybody,
        Access::Denied if allowed.is_empty() => return Clients::Nobody,
        Access::Allowed | Access::Denied => {}
    }
    let as_written = |access| {
        let rules = rules.rules.iter().filter(|rule| rule.access == access);
        let mut networks: Vec<Ipv4Net> = rules.map(|rule| rule.network).collect();
        networks.sort_unstable();
        networks.dedup();
        networks
    };
    let (allow, deny) = match rules.unlisted {
        Access::Denied => {
            let (allow, deny) = (as_written(Access::Allowed), as_written(Access::Denied));
            let deny: Vec<Ipv4Net> = deny
                .into_iter()
                .filter(|denied| allow.iter().any(|allowed| allowed.contains(denied)))
                .collect();
            // As people have written it, where that says the same.
            if minus(&united(&allow), &united(&deny)) == allowed {
                (Some(allow), deny)
            } else {
                (Some(networks(&allowed)), Vec::new())
            }
        }
        Access::Allowed => {
            let deny = as_written(Access::Denied);
            if united(&deny) == denied {
                (None, deny)
            } else {
                (None, networks(&denied))
            }
        }
    };
    let wide = |networks: Vec<Ipv4Net>| networks.into_iter().map(IpNet::V4).collect();
    Clients::Some {
        allow: allow.map(wide),
        deny: wide(deny),
    }
}

/// The addresses that are allowed, or denied, in all.
fn spans_of(rules: &AddressRules, wanted: Access) -> Vec<Span> {
    let mut left = vec![(0, u32::MAX)];
    let mut found = Vec::new();
    for rule in &rules.rules {
        let (start, end) = span(&rule.network);
        if rule.access == wanted {
            let common = left
                .iter()
                .map(|(first, last)| (start.max(*first), end.min(*last)));
            found.extend(common.filter(|(first, last)| first <= last));
        }
        left = minus(&left, &[(start, end)]);
    }
    if rules.unlisted == wanted {
        found.extend(left);
    }
    merged(found)
}

fn span(network: &Ipv4Net) -> Span {
    (network.network().into(), network.broadcast().into())
}

fn united(networks: &[Ipv4Net]) -> Vec<Span> {
    merged(networks.iter().map(span).collect())
}

/// The addresses of `spans`, in order, with touching and overlapping spans merged into one.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::new();
    for (first, last) in spans {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The addresses of `spans` that aren't in `taken`; both in order.
fn minus(spans: &[Span], taken: &[Span]) -> Vec<Span> {
    let mut left = Vec::new();
    for (first, last) in spans {
        let mut next = Some(*first);
        for (start, end) in taken
            .iter()
            .filter(|(start, end)| end >= first && start <= last)
        {
            if let Some(from) = next.filter(|from| from < start) {
                left.push((from, start - 1));
            }
            next = end.checked_add(1).filter(|after| after <= last);
        }
        left.extend(next.map(|from| (from, *last)));
    }
    left
}

/// The fewest networks that have these addresses and no others.
fn networks(spans: &[Span]) -> Vec<Ipv4Net> {
    let networks = spans
        .iter()
        .flat_map(|(first, last)| Ipv4Subnets::new(Ipv4Addr::from(*first), (*last).into(), 0));
    networks.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::AddressRule;
    use super::*;
    use crate::policy::ClientRules;

    /// `+10.0.0.0/8` allows, `-10.0.0.0/8` denies; the last word is for the others.
    fn rules(text: &str) -> AddressRules {
        let access = |text: &str| match text.starts_with('+') {
            true => Access::Allowed,
            false => Access::Denied,
        };
        let mut words: Vec<&str> = text.split(' ').collect();
        let unlisted = access(words.pop().expect("a last word"));
        let rules = words.into_iter().map(|word| AddressRule {
            network: word[1..].parse().expect("a network"),
            access: access(word),
        });
        AddressRules {
            rules: rules.collect(),
            unlisted,
        }
    }

    fn shown(text: &str) -> String {
        let list = |networks: Vec<IpNet>| {
            let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
            networks.join(" ")
        };
        match clients(&rules(text)) {
            Clients::Everybody => "everybody".to_owned(),
            Clients::Nobody => "nobody".to_owned(),
            Clients::Some { allow: None, deny } => format!("all but {}", list(deny)),
            Clients::Some {
                allow: Some(allow),
                deny,
            } => format!("{} but {}", list(allow), list(deny)),
        }
    }

    #[test]
    fn the_first_rule_that_has_an_address_counts() {
        for (rules, expected) in [
            ("+", "everybody"),
            ("-", "nobody"),
            ("+10.0.0.0/8 +", "everybody"),
            ("-10.0.0.0/8 -", "nobody"),
            ("-0.0.0.0/0 +10.0.0.0/8 -", "nobody"),
            ("+0.0.0.0/0 -", "0.0.0.0/0 but "),
            ("-10.0.0.0/8 +", "all but 10.0.0.0/8"),
            ("+10.0.0.0/8 -", "10.0.0.0/8 but "),
            ("-10.9.0.0/16 +10.0.0.0/8 -", "10.0.0.0/8 but 10.9.0.0/16"),
            ("-192.0.2.0/24 +10.0.0.0/8 -", "10.0.0.0/8 but "),
            ("+10.0.0.0/8 -10.9.0.0/16 -", "10.0.0.0/8 but "),
            // One host of a network that is denied.
            (
                "+10.0.0.1/32 -10.0.0.0/30 +",
                "all but 10.0.0.0/32 10.0.0.2/31",
            ),
            (
                "+10.0.0.1/32 -10.0.0.0/30 +10.0.0.0/29 -",
                "10.0.0.1/32 10.0.0.4/30 but ",
            ),
            // IPv6 is left.
            ("-0.0.0.0/0 +", "all but 0.0.0.0/0"),
        ] {
            assert_eq!(shown(rules), expected, "{rules}");
        }
    }

    fn allowed(rules: &AddressRules, address: Ipv4Addr) -> bool {
        let mut all = rules.rules.iter();
        let first = all.find(|rule| rule.network.contains(&address));
        first.map_or(rules.unlisted, |rule| rule.access) == Access::Allowed
    }

    proptest! {
        #[test]
        fn the_same_clients_are_allowed(
            written in proptest::collection::vec((0_u32..64, 24_u8..=32, any::<bool>()), 0..8),
            others in any::<bool>(),
            probed in 0_u32..64,
        ) {
            let access = |allowed| if allowed { Access::Allowed } else { Access::Denied };
            // All in one /26, so that they meet.
            let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
            let rules = AddressRules {
                rules: written.into_iter().map(|(host, prefix, may)| AddressRule {
                    network: Ipv4Net::new((base + host).into(), prefix).expect("a prefix").trunc(),
                    access: access(may),
                }).collect(),
                unlisted: access(others),
            };
            for address in [Ipv4Addr::from(base + probed), Ipv4Addr::new(192, 0, 2, 1)] {
                let expected = allowed(&rules, address);
                match clients(&rules) {
                    Clients::Everybody => prop_assert!(expected),
                    Clients::Nobody => prop_assert!(!expected),
                    Clients::Some { allow, deny } => {
                        let policy = ClientRules::new(allow, deny).expect("some client may log in");
                        prop_assert_eq!(policy.admit(address.into()), expected);
                    }
                }
            }
        }
    }
}
