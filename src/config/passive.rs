//! The passive data ports of a configuration file, and the address and ports announced to clients.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::error::{Fault, quoted};
use super::location::{Location, PathStep, steps};
use super::{Announced, AnnouncedAddress, AnnouncedTo, HostName, Passive, file, scalar};

/// Below the ports from which Linux and others take those of outgoing connections (32768 to 60999 on Linux): one of these
/// on a passive port would make a start fail.
const DEFAULT_PORTS: RangeInclusive<u16> = 30_000..=30_063;

/// A client connects until it learns that its transfer is over: for the round trip of a distant one, and for a lost reply
/// that is repeated after a second (RFC 6298 §2).
const DEFAULT_REUSE_DELAY: Duration = Duration::from_secs(2);

/// What the section says, with its defaults.
pub(super) fn resolve(written: file::Passive) -> Result<Passive, Fault> {
    let path = steps!["passive"];
    let ports = written.ports.map_or(DEFAULT_PORTS, |ports| ports.0);
    let address = match &written.address {
        None => AnnouncedAddress::Control,
        Some(text) => announced_address(text, &path)?,
    };
    let announced = Announced {
        address,
        ports: announced_ports(written.announced_ports, &ports, &path)?,
    };
    let mut by_client = Vec::new();
    for (index, rule) in written
        .by_client
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let path = steps!["passive", "by_client", index];
        by_client.push(AnnouncedTo {
            networks: networks(&rule.networks, &by_client, &path)?,
            announced: Announced {
                address: announced_address(&rule.address, &path)?,
                ports: announced_ports(rule.announced_ports, &ports, &path)?,
            },
        });
    }
    Ok(Passive {
        ports,
        announced,
        by_client,
        reuse_delay: written
            .reuse_delay
            .map_or(DEFAULT_REUSE_DELAY, |delay| delay.0),
    })
}

/// Whether a client can connect to it: 0/8 is "this network", 224/4 and above are groups and reserved (RFC 6890).
pub fn is_reachable(address: Ipv4Addr) -> bool {
    (1..224).contains(&address.octets()[0])
}

fn announced_address(text: &str, path: &[PathStep]) -> Result<AnnouncedAddress, Fault> {
    // 10.0.0.256 is a typing error, and would be looked up in DNS.
    let numeric = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let address = match text.parse::<Ipv4Addr>() {
        Ok(address) => is_reachable(address).then_some(AnnouncedAddress::Ip(address)),
        Err(_) if text == "control" => Some(AnnouncedAddress::Control),
        Err(_) if numeric(text) => None,
        Err(_) => HostName::parse(text.as_bytes()).map(AnnouncedAddress::Name),
    };
    address.ok_or_else(|| {
        Fault::new(
            Location::Value(below(path, &["address".into()])),
            format!(
                "{} isn't an IPv4 address that clients can connect to, nor a name for one",
                quoted(text)
            ),
            "write the address that clients reach this machine by, such as 203.0.113.10, a name that resolves to it, \
             or `control` for the address that the client connected to",
        )
    })
}

fn announced_ports(
    written: Option<scalar::PortRange>,
    ports: &RangeInclusive<u16>,
    path: &[PathStep],
) -> Result<Option<RangeInclusive<u16>>, Fault> {
    let Some(scalar::PortRange(announced)) = written else {
        return Ok(None);
    };
    match misfit(&announced, ports) {
        None => Ok(Some(announced)),
        Some(Misfit { message, help }) => {
            let location = Location::Value(below(path, &["announced_ports".into()]));
            Err(Fault::new(location, message, help))
        }
    }
}

/// One port or a range, as people write it.
#[derive(Debug)]
pub struct Ports<'a>(pub &'a RangeInclusive<u16>);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        write!(f, "{first}")?;
        if first != last {
            write!(f, "-{last}")?;
        }
        Ok(())
    }
}

/// Why some ports can't be announced, and what to write instead.
pub(super) struct Misfit {
    pub message: String,
    pub help: String,
}

/// Why these ports can't be announced for `ports`: there have to be as many, one for each in their order.
pub(super) fn misfit(
    announced: &RangeInclusive<u16>,
    ports: &RangeInclusive<u16>,
) -> Option<Misfit> {
    let fault = |message: String, help: String| Some(Misfit { message, help });
    if *ports.start() == 0 {
        return fault(
            "the operating system chooses which port is listened on, so none can be announced for it".to_owned(),
            "give `passive.ports` other numbers than 0".to_owned(),
        );
    }
    if *announced.start() == 0 {
        return fault(
            "no client can connect to port 0".to_owned(),
            "write the ports that clients connect to".to_owned(),
        );
    }
    if announced.len() != ports.len() {
        let help = match announced.start().checked_add(ports.end() - ports.start()) {
            Some(last) => format!("write {}", Ports(&(*announced.start()..=last))),
            None => "begin with a lower port".to_owned(),
        };
        return fault(
            format!(
                "not as many ports as `passive.ports` has ({}): {} instead of {}",
                Ports(ports),
                announced.len(),
                ports.len()
            ),
            help,
        );
    }
    None
}

/// The networks of a rule, none of which an earlier rule has already.
fn networks(
    written: &[scalar::Network],
    earlier: &[AnnouncedTo],
    path: &[PathStep],
) -> Result<Vec<IpNet>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(below(path, &["networks".into()])),
            "no network, so this rule would apply to no client",
            "write the networks of the clients, such as [10.0.0.0/8]",
        ));
    }
    let networks: Vec<IpNet> = written.iter().map(|network| network.0).collect();
    for (index, network) in networks.iter().enumerate() {
        let covering = earlier
            .iter()
            .flat_map(|rule| &rule.networks)
            .find(|other| other.contains(network));
        if let Some(other) = covering {
            return Err(Fault::new(
                Location::Value(below(path, &["networks".into(), index.into()])),
                format!("{network} would never apply: an earlier rule has {other}"),
                "put the smaller network first",
            ));
        }
    }
    Ok(networks)
}

fn below(path: &[PathStep], steps: &[PathStep]) -> Vec<PathStep> {
    [path, steps].concat()
}
