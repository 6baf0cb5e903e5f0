//! The address and port numbers that clients are sent for passive ports. Behind NAT they differ from those listened on.
//!
//! An address may be given as a name. It is looked up before the first client asks, and periodically by a task of the
//! process; a failed lookup changes nothing. So an address is always known, and no reply waits for a name server.

mod name;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::time::Instant;

use crate::config::{self, AnnouncedAddress, HostName, Passive, is_in_any};

use name::LOOKUP_TIMEOUT;
pub use name::{AnnouncedName, LookupChange, LookupError, LookupResult};

/// The addresses and ports that clients are sent for data connections, by client address. Default: the address that the client
/// connected to, and unchanged port numbers.
#[derive(Debug, Default)]
pub struct Announcements {
    /// The first port that is listened on.
    first: u16,
    default: Announcement,
    by_client: Vec<(Vec<IpNet>, Announcement)>,
}

#[derive(Debug, Default)]
struct Announcement {
    address: AddressSource,
    ports: Option<RangeInclusive<u16>>,
}

#[derive(Debug, Default)]
enum AddressSource {
    #[default]
    Control,
    Ip(Ipv4Addr),
    Name(Arc<AnnouncedName>),
}

impl Announcements {
    /// Looks all names up, in five seconds at most.
    ///
    /// # Errors
    /// If one of them has no address by then.
    pub async fn new<F>(
        passive: &Passive,
        look_up: impl Fn(HostName) -> F,
    ) -> Result<Self, LookupError>
    where
        F: Future<Output = LookupResult>,
    {
        // For all of them, or a start and a reload would take longer the more names there are.
        let by = Instant::now() + LOOKUP_TIMEOUT;
        let mut by_client = Vec::new();
        for rule in &passive.by_client {
            let announced = Announcement::new(&rule.announced, &look_up, by).await?;
            by_client.push((rule.networks.clone(), announced));
        }
        Ok(Self {
            first: *passive.ports.start(),
            default: Announcement::new(&passive.announced, &look_up, by).await?,
            by_client,
        })
    }

    /// The address for a 227 reply to `client`; `None`: the one that it connected to.
    pub fn address(&self, client: IpAddr) -> Option<Ipv4Addr> {
        match &self.announcement(client).address {
            AddressSource::Control => None,
            AddressSource::Ip(address) => Some(*address),
            AddressSource::Name(name) => Some(name.address()),
        }
    }

    /// The number by which `client` reaches the port that is `listened` on.
    pub fn port(&self, client: IpAddr, listened: u16) -> u16 {
        let announced = self.announcement(client).ports.as_ref();
        announced
            .and_then(|ports| ports.start().checked_add(listened.checked_sub(self.first)?))
            .unwrap_or(listened)
    }

    /// Every announced name, for its periodic lookup.
    pub fn names(&self) -> impl Iterator<Item = &Arc<AnnouncedName>> {
        let by_client = self.by_client.iter().map(|(_, announced)| announced);
        by_client
            .chain([&self.default])
            .filter_map(|announced| match &announced.address {
                AddressSource::Name(name) => Some(name),
                AddressSource::Control | AddressSource::Ip(_) => None,
            })
    }

    fn announcement(&self, client: IpAddr) -> &Announcement {
        self.by_client
            .iter()
            .find(|(networks, _)| is_in_any(client, networks))
            .map_or(&self.default, |(_, announced)| announced)
    }
}

impl Announcement {
    async fn new<F>(
        announced: &config::Announced,
        look_up: &impl Fn(HostName) -> F,
        by: Instant,
    ) -> Result<Self, LookupError>
    where
        F: Future<Output = LookupResult>,
    {
        Ok(Self {
            address: match &announced.address {
                AnnouncedAddress::Control => AddressSource::Control,
                AnnouncedAddress::Ip(address) => AddressSource::Ip(*address),
                AnnouncedAddress::Name(name) => AddressSource::Name(Arc::new(
                    AnnouncedName::new(name.clone(), look_up, by).await?,
                )),
            },
            ports: announced.ports.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
