//! Passive data ports: which of them is whose.
//!
//! The listeners are opened once and serve every session. A session *leases* a port for its client's address: the next
//! connection from that address to that port is the session's, and the lease is over. One port is enough for any
//! number of sessions from different addresses; a second session from the same address takes another port, or waits its
//! turn for a moment. Whoever connects without a lease is a stranger and is reset; the listener goes on.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::net::listen::{self, Acceptor};
use crate::net::options;
use crate::observe::metrics::Metrics;

/// The passive ports of one configuration. Listeners that two configurations have in common are shared between them.
#[derive(Debug)]
pub struct PassivePorts {
    /// By the address of the control listener; each has all ports of the range.
    by_address: HashMap<IpAddr, Vec<Arc<Port>>>,
    turns: AtomicUsize,
}

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("the passive port {address} can't be opened: {source}")]
pub struct PortError {
    /// Where it should have listened.
    pub address: SocketAddr,
    /// Why it doesn't.
    pub source: io::Error,
}

/// A port that the client may connect to. Dropping it gives the port back.
#[derive(Debug)]
pub struct Lease {
    port: Arc<Port>,
    client: IpAddr,
    id: u64,
    arrival: oneshot::Receiver<TcpStream>,
}

/// One listening port and who may connect to it.
#[derive(Debug)]
struct Port {
    number: u16,
    leases: Arc<Leases>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Leases {
    by_client: Mutex<HashMap<IpAddr, Waiting>>,
    /// Woken whenever a lease on any port ends.
    freed: Arc<Notify>,
    metrics: Arc<Metrics>,
    in_use: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    session: oneshot::Sender<TcpStream>,
}

/// Opens passive ports and keeps what all of them share.
#[derive(Debug)]
pub struct PassiveListeners {
    /// Every port that is open, by the address that was asked for: a session may still hold one that the configuration
    /// in force has no more, and a later one has again.
    open: Mutex<HashMap<SocketAddr, Weak<Port>>>,
    freed: Arc<Notify>,
    in_use: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl PassiveListeners {
    /// None yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            open: Mutex::default(),
            freed: Arc::default(),
            in_use: Arc::default(),
            metrics,
        }
    }

    /// Opens `ports` on each of `addresses`, as far as they are not open already.
    ///
    /// # Errors
    /// If one of them can't be opened; those opened so far are closed again.
    pub fn open(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
        ports: &RangeInclusive<u16>,
    ) -> Result<PassivePorts, PortError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, port| port.strong_count() > 0);
        let mut by_address: HashMap<IpAddr, Vec<Arc<Port>>> = HashMap::new();
        for address in addresses {
            if by_address.contains_key(&address) {
                continue;
            }
            let mut opened = Vec::new();
            for number in ports.clone() {
                let asked_for = SocketAddr::new(address, number);
                let port = match open.get(&asked_for).and_then(Weak::upgrade) {
                    Some(port) => port,
                    None => self.open_port(asked_for)?,
                };
                open.insert(asked_for, Arc::downgrade(&port));
                opened.push(port);
            }
            by_address.insert(address, opened);
        }
        Ok(PassivePorts {
            by_address,
            turns: AtomicUsize::new(0),
        })
    }

    fn open_port(&self, address: SocketAddr) -> Result<Arc<Port>, PortError> {
        let fail = |source| PortError { address, source };
        let listener = listen::bind(address).map_err(fail)?;
        let number = listener.local_addr().map_err(fail)?.port();
        let leases = Arc::new(Leases {
            by_client: Mutex::default(),
            freed: Arc::clone(&self.freed),
            metrics: Arc::clone(&self.metrics),
            in_use: Arc::clone(&self.in_use),
        });
        let accepting =
            tokio::spawn(hand_out(Acceptor::new(listener), Arc::clone(&leases))).abort_handle();
        Ok(Arc::new(Port {
            number,
            leases,
            accepting,
        }))
    }
}

impl PassivePorts {
    /// Leases a port on the listener's address `local` to `client`, waiting up to `patience` for one to become free.
    pub async fn lease(&self, local: IpAddr, client: IpAddr, patience: Duration) -> Option<Lease> {
        let ports = self.by_address.get(&local)?;
        let freed = &ports.first()?.leases.freed;
        let waiting = async {
            loop {
                // Before the look, so that a port freed in between is not missed.
                let next = freed.notified();
                if let Some(lease) = self.lease_now(ports, client) {
                    return lease;
                }
                next.await;
            }
        };
        timeout(patience, waiting).await.ok()
    }

    fn lease_now(&self, ports: &[Arc<Port>], client: IpAddr) -> Option<Lease> {
        // Each time from another port on, so that a late connection for an old lease rarely meets a new one.
        let first = self.turns.fetch_add(1, Ordering::Relaxed);
        (0..ports.len())
            .find_map(|step| Lease::take(&ports[(first.wrapping_add(step)) % ports.len()], client))
    }

    /// The open ports, for the log: address and number of each.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self
            .by_address
            .iter()
            .flat_map(|(address, ports)| {
                ports
                    .iter()
                    .map(|port| SocketAddr::new(*address, port.number))
            })
            .collect();
        addresses.sort();
        addresses
    }
}

impl Lease {
    fn take(port: &Arc<Port>, client: IpAddr) -> Option<Self> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let mut by_client = port.leases.lock();
        if by_client.contains_key(&client) {
            return None;
        }
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let (session, arrival) = oneshot::channel();
        by_client.insert(client, Waiting { id, session });
        drop(by_client);
        port.leases.count(1);
        Some(Self {
            port: Arc::clone(port),
            client,
            id,
            arrival,
        })
    }

    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Waits for the client.
    pub async fn connection(&mut self, patience: Duration) -> Option<TcpStream> {
        timeout(patience, &mut self.arrival).await.ok()?.ok()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut by_client = self.port.leases.lock();
        // It may be another session's by now.
        if by_client
            .get(&self.client)
            .is_some_and(|waiting| waiting.id == self.id)
        {
            by_client.remove(&self.client);
            drop(by_client);
            self.port.leases.released();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Waiting>> {
        // Every change is a single insertion or removal, so a panic elsewhere leaves the map whole.
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn released(&self) {
        self.count(-1);
        self.freed.notify_waiters();
    }

    fn count(&self, change: isize) {
        self.in_use.fetch_add(change as usize, Ordering::Relaxed);
        self.metrics
            .passive_ports_in_use(self.in_use.load(Ordering::Relaxed));
    }
}

/// Gives each connection to the session that has a lease for it.
async fn hand_out(mut acceptor: Acceptor, leases: Arc<Leases>) {
    loop {
        let (stream, peer) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                leases.metrics.accept_error();
                tracing::warn!(%error, "data connection not accepted");
                continue;
            }
        };
        // Armed before anything else: a stranger is reset by being dropped.
        if options::data(&stream).is_err() {
            continue;
        }
        let waiting = leases.lock().remove(&peer.ip().to_canonical());
        match waiting {
            Some(waiting) => {
                leases.released();
                // The session may have given up in this very moment; then the connection is dropped.
                let _ = waiting.session.send(stream);
            }
            None => {
                leases.metrics.passive_stranger();
                tracing::debug!(%peer, "data connection from a stranger reset");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::AsyncReadExt;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const MOMENT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    fn one_port() -> (PassiveListeners, PassivePorts) {
        let listeners = PassiveListeners::new(Arc::default());
        let ports = listeners.open([LOCAL], &(0..=0)).unwrap();
        (listeners, ports)
    }

    async fn connect_from(from: &str, port: u16) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(from.parse().unwrap(), 0))
            .unwrap();
        socket.connect((LOCAL, port).into()).await.unwrap()
    }

    #[tokio::test]
    async fn a_lease_brings_the_connection_of_its_client() {
        let (_listeners, ports) = one_port();
        let mut lease = ports.lease(LOCAL, LOCAL, LONG).await.unwrap();
        let client = connect_from("127.0.0.1", lease.port()).await;
        let arrived = lease.connection(LONG).await.unwrap();
        assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn clients_of_different_addresses_share_one_port() {
        let (_listeners, ports) = one_port();
        let mut first = ports.lease(LOCAL, LOCAL, LONG).await.unwrap();
        let mut second = ports
            .lease(LOCAL, "127.0.0.2".parse().unwrap(), LONG)
            .await
            .unwrap();
        assert_eq!(first.port(), second.port());
        let client = connect_from("127.0.0.2", second.port()).await;
        let arrived = second.connection(LONG).await.unwrap();
        assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
        assert!(first.connection(MOMENT).await.is_none());
    }

    #[tokio::test]
    async fn a_second_lease_of_the_same_address_waits_for_the_first_to_be_used() {
        let (_listeners, ports) = one_port();
        let first = ports.lease(LOCAL, LOCAL, LONG).await.unwrap();
        assert!(ports.lease(LOCAL, LOCAL, MOMENT).await.is_none());
        let port = first.port();
        let (second, _client) = tokio::join!(
            ports.lease(LOCAL, LOCAL, LONG),
            connect_from("127.0.0.1", port)
        );
        assert!(second.is_some());
    }

    #[tokio::test]
    async fn a_dropped_lease_frees_its_port() {
        let (_listeners, ports) = one_port();
        drop(ports.lease(LOCAL, LOCAL, LONG).await.unwrap());
        assert!(ports.lease(LOCAL, LOCAL, MOMENT).await.is_some());
    }

    #[tokio::test]
    async fn a_stranger_is_reset_and_the_lease_stays() {
        let (_listeners, ports) = one_port();
        let mut lease = ports.lease(LOCAL, LOCAL, LONG).await.unwrap();
        for _ in 0..3 {
            let mut stranger = connect_from("127.0.0.3", lease.port()).await;
            let end = stranger.read(&mut [0; 1]).await;
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        let _client = connect_from("127.0.0.1", lease.port()).await;
        assert!(lease.connection(LONG).await.is_some());
    }

    #[tokio::test]
    async fn a_reload_keeps_the_ports_that_stay_or_come_back() {
        let (listeners, former) = one_port();
        let mut lease = former.lease(LOCAL, LOCAL, LONG).await.unwrap();
        let number = lease.port();
        let later = listeners.open([LOCAL], &(0..=0)).unwrap();
        drop(former);
        assert_eq!(later.addresses(), [SocketAddr::new(LOCAL, number)]);
        let _client = connect_from("127.0.0.1", number).await;
        assert!(lease.connection(LONG).await.is_some());
    }
}
