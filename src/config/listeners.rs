//! The listeners of a configuration file: which addresses and ports can be combined, and the load balancers in front of
//! them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::acme::challenge_location;
use super::error::Fault;
use super::location::{Location, PathStep, steps};
use super::{AcmeChallenge, Listener, Passive, file, scalar};

/// The listeners as written, if clients can connect to each of them.
pub(super) fn resolve(written: &[file::Listener]) -> Result<Vec<Listener>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(steps!["listeners"]),
            "no listener, so no client could connect",
            "write at least one, such as `- {address: 0.0.0.0:21, tls: explicit}`",
        ));
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.len());
    for (index, listener) in written.iter().enumerate() {
        let address = listener.address.0;
        if let Some(other) = listeners
            .iter()
            .find(|other| overlap(other.address, address))
        {
            return Err(Fault::new(
                Location::Value(steps!["listeners", index, "address"]),
                format!("{address} is taken: another listener has {}", other.address),
                "give each listener an address and port of its own; 0.0.0.0 is every IPv4 address, \
                 and [::] every IPv6 address",
            ));
        }
        let proxy_protocol = listener.proxy_protocol.as_ref();
        listeners.push(Listener {
            address,
            tls: listener.tls,
            proxy_protocol: proxy_protocol
                .map(|written| trusted(&written.trusted, index))
                .transpose()?,
        });
    }
    Ok(listeners)
}

/// The balancers of listener number `listener`. A host in these networks can claim any client address.
fn trusted(written: &[scalar::Network], listener: usize) -> Result<Arc<[IpNet]>, Fault> {
    let path = || steps!["listeners", listener, "proxy_protocol", "trusted"];
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(path()),
            "no network is trusted, so every connection to this listener would be closed",
            "write the networks or addresses of your load balancers, such as [10.0.0.0/28]",
        ));
    }
    for (index, network) in written.iter().enumerate() {
        if network.0.prefix_len() == 0 {
            let location = path().into_iter().chain([PathStep::from(index)]).collect();
            return Err(Fault::new(
                Location::Value(location),
                format!(
                    "{} trusts every host: any host that reaches this listener could claim any client address",
                    network.0
                ),
                "write the networks or addresses of your load balancers alone",
            ));
        }
    }
    Ok(written.iter().map(|network| network.0).collect())
}

/// Passive ports are listened on at every address, so nothing else may have one.
pub(super) fn refuse_shared_ports(
    listeners: &[Listener],
    passive: &Passive,
    admin: SocketAddr,
    passive_written: bool,
) -> Result<(), Fault> {
    let is_passive = |port: u16| port != 0 && passive.ports.contains(&port);
    let range = format!("{}-{}", passive.ports.start(), passive.ports.end());
    for (index, listener) in listeners.iter().enumerate() {
        let location = Location::Value(steps!["listeners", index, "address"]);
        if is_passive(listener.address.port()) {
            return Err(Fault::new(
                location,
                format!(
                    "port {} is in passive.ports ({range}) too",
                    listener.address.port()
                ),
                "choose a port outside that range, or other passive ports",
            ));
        }
        if overlap(listener.address, admin) {
            return Err(Fault::new(
                location,
                format!("{} is taken: admin.address is {admin}", listener.address),
                "give the listener and the admin endpoint ports of their own",
            ));
        }
    }
    if is_passive(admin.port()) {
        let location = if passive_written {
            steps!["passive", "ports"]
        } else {
            steps!["admin", "address"]
        };
        return Err(Fault::new(
            Location::Value(location),
            format!(
                "port {} is in both admin.address and passive.ports ({range})",
                admin.port()
            ),
            "choose passive ports that nothing else uses",
        ));
    }
    Ok(())
}

/// A challenge is answered beside everything else that is listened on.
pub(super) fn refuse_challenge_at(
    challenge: &AcmeChallenge,
    listeners: &[Listener],
    passive: &Passive,
    admin: Option<SocketAddr>,
) -> Result<(), Fault> {
    let Some(address) = challenge.address() else {
        return Ok(());
    };
    let others = listeners.iter().map(|one| ("a listener", one.address));
    let mut others = others.chain(admin.map(|address| ("admin.address", address)));
    let taken = others
        .find(|(_, other)| overlap(*other, address))
        .map(|(what, other)| format!("{address} is taken: {what} is {other}"));
    let in_passive = passive.ports.contains(&address.port()).then(|| {
        let (first, last) = (passive.ports.start(), passive.ports.end());
        format!(
            "port {} is in passive.ports ({first}-{last}) too",
            address.port()
        )
    });
    match taken.or(in_passive) {
        None => Ok(()),
        Some(message) => Err(Fault::new(
            challenge_location(challenge),
            message,
            "give the challenge an address and port of its own",
        )),
    }
}

/// Whether the operating system would refuse one of the two. Port 0 is another port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether listening on `wildcard` takes `address` too: 0.0.0.0 does for IPv4, and [::], as listeners are opened
/// here, for IPv6 alone.
pub(super) fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && wildcard.is_ipv6() == address.is_ipv6()
}

#[cfg(test)]
mod tests {
    #[test]
    fn listeners_overlap_as_the_operating_system_sees_it() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (
                one.parse().expect("an address"),
                other.parse().expect("an address"),
            );
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        assert!(overlap("0.0.0.0:21", "10.0.0.1:21"));
        assert!(!overlap("[::]:21", "0.0.0.0:21"));
        assert!(overlap("[::]:21", "[fd00::1]:21"));
        assert!(overlap("[::ffff:10.0.0.1]:21", "10.0.0.1:21"));
        assert!(!overlap("0.0.0.0:21", "[fd00::1]:21"));
        assert!(!overlap("10.0.0.1:21", "10.0.0.2:21"));
        assert!(!overlap("0.0.0.0:0", "0.0.0.0:0"));
        assert!(!overlap("0.0.0.0:21", "0.0.0.0:990"));
    }
}
