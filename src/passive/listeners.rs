//! Opening the ports, and keeping open those that a reload has in common with what was before.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};

use tokio::task::{AbortHandle, JoinHandle};

use crate::net::listen::{self, Opener};
use crate::observe::metrics::Metrics;
use crate::tls::SessionStore;

use super::balancers::{Balancers, Trusted};
use super::dispatcher::Dispatcher;
use super::receive;
use super::{PassivePorts, Ports};

/// Opens passive ports and keeps what all of them share.
#[derive(Debug)]
pub struct PassiveListeners {
    /// Every port that is open, by the address that was asked for: a session may still hold one that the configuration
    /// in force has no more, and a later one has again.
    open: HashMap<SocketAddr, Opened>,
    opener: Arc<Opener>,
    dispatcher: Arc<Dispatcher>,
}

/// A port that has been opened, and the task that owns its listener: when that has ended, the address is free again.
#[derive(Debug)]
struct Opened {
    port: Weak<Port>,
    receiving: JoinHandle<()>,
}

/// A listening port. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Port {
    /// The address with its real port number.
    address: SocketAddr,
    pub balancers: Arc<Balancers>,
    accepting: AbortHandle,
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the passive port {address} can't be opened: {source}{}", listen::bind_error_hint(*address, source))]
pub struct PortError {
    /// The address that the listener should have.
    pub address: SocketAddr,
    /// The operating system's error.
    pub source: io::Error,
}

impl PassiveListeners {
    /// Listeners of which none is open yet. `sessions` maps TLS sessions to FTP sessions.
    pub fn new(sessions: Arc<SessionStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            open: HashMap::new(),
            opener: Arc::default(),
            dispatcher: Arc::new(Dispatcher::new(sessions, metrics)),
        }
    }

    /// Sets the opener of its ports.
    pub fn opened_by(self, opener: Arc<Opener>) -> Self {
        Self { opener, ..self }
    }

    /// Opens `ports` on each of `addresses`, as far as they are not open already. Where a wildcard is among them, or is
    /// open still, its ports are those of every address of its family: the operating system allows no others beside
    /// them.
    ///
    /// # Errors
    /// If one of them can't be opened; those opened so far are closed again.
    pub async fn open(
        &mut self,
        addresses: impl IntoIterator<Item = IpAddr>,
        ports: &RangeInclusive<u16>,
    ) -> Result<PassivePorts, PortError> {
        self.open
            .retain(|_, opened| !opened.receiving.is_finished());
        let addresses: Vec<IpAddr> = addresses.into_iter().collect();
        let mut by_address: HashMap<IpAddr, Ports> = HashMap::new();
        for address in &addresses {
            let bind_address = bind_address(*address, &addresses);
            let shared = match by_address.get(&bind_address) {
                Some(opened) => opened.clone(),
                None => self.ports(bind_address, ports).await?,
            };
            by_address.insert(bind_address, shared.clone());
            by_address.insert(*address, shared);
        }
        Ok(PassivePorts {
            by_address,
            dispatcher: Arc::clone(&self.dispatcher),
        })
    }

    /// All of `numbers` at one address.
    async fn ports(
        &mut self,
        bind_address: IpAddr,
        numbers: &RangeInclusive<u16>,
    ) -> Result<Ports, PortError> {
        let mut opened = Vec::new();
        for number in numbers.clone() {
            opened.push(self.port(SocketAddr::new(bind_address, number)).await?);
        }
        Ok(Ports {
            addresses: opened.iter().map(|port| port.address).collect(),
            open: opened.into(),
            trusted: Trusted::default(),
        })
    }

    async fn port(&mut self, requested: SocketAddr) -> Result<Arc<Port>, PortError> {
        let wildcard = SocketAddr::new(wildcard_of(requested.ip()), requested.port());
        if requested.port() != 0
            && let Some(open) = self.open.get(&wildcard)
            && let Some(port) = open.port.upgrade()
        {
            return Ok(port);
        }
        if let Some(former) = self.open.remove(&requested) {
            if let Some(port) = former.port.upgrade() {
                self.open.insert(requested, former);
                return Ok(port);
            }
            // Its last user has just dropped it, and its listener closes a moment later.
            former.receiving.abort();
            let _ = former.receiving.await;
        }
        let (port, receiving) = self.open_port(requested)?;
        let opened = Opened {
            port: Arc::downgrade(&port),
            receiving,
        };
        self.open.insert(requested, opened);
        Ok(port)
    }

    fn open_port(&self, requested: SocketAddr) -> Result<(Arc<Port>, JoinHandle<()>), PortError> {
        let fail = |source| PortError {
            address: requested,
            source,
        };
        let listener = self.opener.open(requested).map_err(fail)?;
        let number = listener.local_addr().map_err(fail)?.port();
        let address = SocketAddr::new(requested.ip(), number);
        self.dispatcher.open(address);
        let balancers = Arc::<Balancers>::default();
        let receiving = receive::receive(
            self.opener.acceptor(listener, address),
            address,
            Arc::clone(&balancers),
            Arc::clone(&self.dispatcher),
        );
        let receiving = tokio::spawn(receiving);
        let port = Arc::new(Port {
            address,
            balancers,
            accepting: receiving.abort_handle(),
        });
        Ok((port, receiving))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Every address at which `ports` of these `addresses` are opened.
pub fn bind_addresses(addresses: &[IpAddr], ports: &RangeInclusive<u16>) -> Vec<SocketAddr> {
    let hosts = addresses.iter().map(|it| bind_address(*it, addresses));
    let hosts: BTreeSet<IpAddr> = hosts.collect();
    hosts
        .into_iter()
        .flat_map(|host| ports.clone().map(move |port| SocketAddr::new(host, port)))
        .collect()
}

/// The address at which the ports of an address are bound: the wildcard, if that is among all `addresses`.
fn bind_address(address: IpAddr, addresses: &[IpAddr]) -> IpAddr {
    let wildcard = wildcard_of(address);
    if addresses.contains(&wildcard) {
        wildcard
    } else {
        address
    }
}

/// All addresses of the same family.
fn wildcard_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
