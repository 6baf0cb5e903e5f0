//! Passive data ports: which of them is whose.
//!
//! The listeners are opened once and serve every session. A session *leases* a port for its client: the next connection
//! that is the client's is handed to the session, and the lease is over. One port is enough for any number of sessions.
//! Sessions of different addresses are told apart by address; sessions of one address by the TLS session that their
//! client resumes, which the ClientHello names; and where it names none they take turns (`turns` has the rules).
//! Whoever connects without a lease is a stranger and is reset; the listener goes on.

mod receive;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::listen::{self, Acceptor};
use crate::observe::metrics::Metrics;
use crate::tls::hello::{self, Hello};
use crate::tls::{SessionId, Sessions};

use receive::Balancers;
use turns::{Arrival, Decision, LeaseId, Turns};
pub use turns::{Demand, Mark};

/// The passive ports of one configuration. Listeners that two configurations have in common are shared between them.
#[derive(Debug)]
pub struct PassivePorts {
    /// By the address of the control listener; each has all ports of the range.
    by_address: HashMap<IpAddr, Ports>,
    desk: Arc<Desk>,
}

/// All ports on one address.
#[derive(Debug)]
struct Ports {
    open: Arc<[Arc<Port>]>,
    addresses: Arc<[SocketAddr]>,
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
    place: Place,
    port: SocketAddr,
    arrivals: mpsc::Receiver<Caller>,
    /// A reload may take the port out of the configuration, but not from under this lease.
    _open: Arc<[Arc<Port>]>,
}

/// Who a lease is for.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// The client's address, in canonical form.
    pub client: IpAddr,
    /// How its connection is told from those of other sessions of the address.
    pub mark: Mark,
    /// What its connection has to show.
    pub demand: Demand,
}

/// Somebody at a leased port.
#[derive(Debug)]
pub enum Caller {
    /// The session's connection, as far as it can be told before its handshake.
    Arrived(Arrived),
    /// Somebody who did not name the session, and has been reset. The lease goes on.
    TurnedAway,
}

/// A data connection of a client.
#[derive(Debug)]
pub struct Arrived {
    /// The connection.
    pub stream: TcpStream,
    /// What has been read of it already: its ClientHello, or nothing.
    pub read: Vec<u8>,
}

/// One listening port.
#[derive(Debug)]
struct Port {
    /// With its real number.
    address: SocketAddr,
    balancers: Arc<Balancers>,
    accepting: AbortHandle,
}

/// Where leases are asked for and connections are brought together with them.
#[derive(Debug)]
struct Desk {
    state: Mutex<DeskState>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct DeskState {
    turns: Turns,
    waiting: HashMap<LeaseId, Waiting>,
    /// By client, the connections that have yet to say whose they are, the oldest in front.
    undecided: HashMap<IpAddr, VecDeque<Undecided>>,
}

/// A connection whose ClientHello is awaited; dropping this resets it.
#[derive(Debug)]
struct Undecided {
    number: u64,
    _hearing: oneshot::Sender<()>,
}

/// How a lease's session is told.
#[derive(Debug)]
struct Waiting {
    granted: Option<oneshot::Sender<SocketAddr>>,
    arrivals: mpsc::Sender<Caller>,
}

/// A lease's place at the desk, held or in the queue; dropping it gives it up.
#[derive(Debug)]
struct Place {
    desk: Arc<Desk>,
    client: IpAddr,
    lease: LeaseId,
}

/// Opens passive ports and keeps what all of them share.
#[derive(Debug)]
pub struct PassiveListeners {
    /// Every port that is open, by the address that was asked for: a session may still hold one that the configuration
    /// in force has no more, and a later one has again.
    open: HashMap<SocketAddr, Opened>,
    desk: Arc<Desk>,
}

/// A port that has been opened, and the task that owns its listener: when that has ended, the address is free again.
#[derive(Debug)]
struct Opened {
    port: Weak<Port>,
    receiving: JoinHandle<()>,
}

impl PassiveListeners {
    /// None yet. `sessions` knows which TLS session is whose.
    pub fn new(sessions: Arc<Sessions>, metrics: Arc<Metrics>) -> Self {
        Self {
            open: HashMap::new(),
            desk: Arc::new(Desk {
                state: Mutex::default(),
                sessions,
                metrics,
            }),
        }
    }

    /// Opens `ports` on each of `addresses`, as far as they are not open already.
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
        let mut by_address = HashMap::new();
        for address in addresses {
            if by_address.contains_key(&address) {
                continue;
            }
            let mut opened = Vec::new();
            for number in ports.clone() {
                let asked_for = SocketAddr::new(address, number);
                opened.push(self.port(asked_for).await?);
            }
            let ports = Ports {
                addresses: opened.iter().map(|port| port.address).collect(),
                open: opened.into(),
            };
            by_address.insert(address, ports);
        }
        Ok(PassivePorts {
            by_address,
            desk: Arc::clone(&self.desk),
        })
    }

    async fn port(&mut self, asked_for: SocketAddr) -> Result<Arc<Port>, PortError> {
        if let Some(former) = self.open.remove(&asked_for) {
            if let Some(port) = former.port.upgrade() {
                self.open.insert(asked_for, former);
                return Ok(port);
            }
            // Its last user has just gone, and a moment later its listener has, too.
            former.receiving.abort();
            let _ = former.receiving.await;
        }
        let (port, receiving) = self.open_port(asked_for)?;
        let opened = Opened {
            port: Arc::downgrade(&port),
            receiving,
        };
        self.open.insert(asked_for, opened);
        Ok(port)
    }

    fn open_port(&self, asked_for: SocketAddr) -> Result<(Arc<Port>, JoinHandle<()>), PortError> {
        let fail = |source| PortError {
            address: asked_for,
            source,
        };
        let listener = listen::bind(asked_for).map_err(fail)?;
        let number = listener.local_addr().map_err(fail)?.port();
        let address = SocketAddr::new(asked_for.ip(), number);
        let balancers = Arc::<Balancers>::default();
        let receiving = receive::receive(
            Acceptor::new(listener),
            address,
            Arc::clone(&balancers),
            Arc::clone(&self.desk),
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

impl PassivePorts {
    /// Leases a port on the listener's address `local`, waiting up to `patience` for its turn.
    pub async fn lease(&self, local: IpAddr, tenant: Tenant, patience: Duration) -> Option<Lease> {
        let ports = self.by_address.get(&local)?;
        let (place, arrivals, granted) = self.desk.ask(&ports.addresses, tenant);
        let port = timeout(patience, granted).await.ok()?.ok()?;
        Some(Lease {
            place,
            port,
            arrivals,
            _open: Arc::clone(&ports.open),
        })
    }

    /// From now on, a connection to the ports on the listener's address `local` that comes from one of the networks
    /// `balancers` has to begin with a PROXY header, which says whose it is.
    pub fn put_behind(&self, local: IpAddr, balancers: Vec<IpNet>) {
        let balancers = Arc::new(balancers);
        for port in self
            .by_address
            .get(&local)
            .into_iter()
            .flat_map(|ports| ports.open.iter())
        {
            port.balancers.store(Arc::clone(&balancers));
        }
    }

    /// The open ports, for the log: address and number of each.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self
            .by_address
            .values()
            .flat_map(|ports| ports.addresses.iter().copied())
            .collect();
        addresses.sort();
        addresses
    }
}

impl Lease {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Waits for somebody to connect; `None` if nobody does in time.
    pub async fn caller(&mut self, deadline: Instant) -> Option<Caller> {
        timeout_at(deadline, self.arrivals.recv()).await.ok()?
    }

    /// The connection that arrived was a stranger's: waits for another one, which has to name `session`. False if the
    /// port is somebody else's by now.
    pub fn again(&mut self, session: SessionId) -> bool {
        self.place.desk.again(&self.place, self.port, session)
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, DeskState> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(
        self: &Arc<Self>,
        ports: &Arc<[SocketAddr]>,
        tenant: Tenant,
    ) -> (Place, mpsc::Receiver<Caller>, oneshot::Receiver<SocketAddr>) {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let lease = LeaseId(IDS.fetch_add(1, Ordering::Relaxed));
        let Tenant {
            client,
            mark,
            demand,
        } = tenant;
        let (grant, granted) = oneshot::channel();
        // One connection, and word of those who were turned away before it: of more than a few nobody needs to know.
        let (arrivals, callers) = mpsc::channel(4);
        let mut state = self.state();
        let mut waiting = Waiting {
            granted: Some(grant),
            arrivals,
        };
        if let Some(port) = state.turns.ask(client, lease, ports, mark, demand)
            && let Some(grant) = waiting.granted.take()
        {
            let _ = grant.send(port);
        }
        state.waiting.insert(lease, waiting);
        self.count(&state);
        drop(state);
        let place = Place {
            desk: Arc::clone(self),
            client,
            lease,
        };
        (place, callers, granted)
    }

    fn again(&self, place: &Place, port: SocketAddr, session: SessionId) -> bool {
        let mut state = self.state();
        let fits = state.turns.again(place.client, place.lease, port, session);
        self.count(&state);
        fits
    }

    /// Gives the port of a lease to those who wait for it.
    fn end(&self, state: &mut DeskState, client: IpAddr, lease: LeaseId) {
        for granted in state.turns.end(client, lease) {
            if let Some(waiting) = state.waiting.get_mut(&granted.lease)
                && let Some(grant) = waiting.granted.take()
            {
                // Whoever has given up in this very moment drops its place next.
                let _ = grant.send(granted.port);
            }
        }
        self.count(state);
    }

    /// Somebody connected.
    fn arrive(self: &Arc<Self>, stream: TcpStream, client: IpAddr, port: SocketAddr) {
        let mut state = self.state();
        match state.turns.arrive(client, port) {
            Arrival::Undecided => {
                let (number, dropped) = state.listen_to(client);
                let desk = Arc::clone(self);
                tokio::spawn(async move {
                    let heard = tokio::select! {
                        heard = hear(stream) => heard,
                        _ = dropped => None,
                    };
                    desk.state().heard(client, number);
                    match heard {
                        Some((arrived, names)) => desk.decide(arrived, client, port, &names),
                        None => desk.stranger(client),
                    }
                });
            }
            Arrival::Of(lease) => {
                let read = Vec::new();
                self.hand_over(&mut state, client, lease, Arrived { stream, read });
            }
            Arrival::Stranger => self.stranger(client),
        }
    }

    /// Somebody said who it is, as far as that can be said.
    fn decide(&self, arrived: Arrived, client: IpAddr, port: SocketAddr, names: &[Vec<u8>]) {
        let named = self.sessions.owner_of(names);
        let mut state = self.state();
        match state.turns.decide(client, port, named) {
            Decision::Of(lease) => self.hand_over(&mut state, client, lease, arrived),
            Decision::TurnedAway(lease) => {
                self.stranger(client);
                // The last place is for the connection that is waited for.
                if let Some(waiting) = state.waiting.get(&lease)
                    && waiting.arrivals.capacity() > 1
                {
                    let _ = waiting.arrivals.try_send(Caller::TurnedAway);
                }
            }
            Decision::Nobody => self.stranger(client),
        }
    }

    fn hand_over(&self, state: &mut DeskState, client: IpAddr, lease: LeaseId, arrived: Arrived) {
        self.end(state, client, lease);
        if let Some(waiting) = state.waiting.get(&lease) {
            // The session may have given up in this moment; then the connection is dropped, which resets it.
            let _ = waiting.arrivals.try_send(Caller::Arrived(arrived));
        }
    }

    fn stranger(&self, client: IpAddr) {
        self.metrics.passive_stranger();
        tracing::debug!(%client, "data connection of a stranger reset");
    }

    fn count(&self, state: &DeskState) {
        self.metrics.passive_ports_in_use(state.turns.held());
    }
}

impl DeskState {
    /// Makes room for one more connection that is to be listened to: those who have been silent longest have to go.
    fn listen_to(&mut self, client: IpAddr) -> (u64, oneshot::Receiver<()>) {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (hearing, dropped) = oneshot::channel();
        let at_most = self.turns.undecided_at_most(client).max(1);
        let undecided = self.undecided.entry(client).or_default();
        while undecided.len() >= at_most {
            undecided.pop_front();
        }
        undecided.push_back(Undecided {
            number,
            _hearing: hearing,
        });
        (number, dropped)
    }

    fn heard(&mut self, client: IpAddr, number: u64) {
        if let Some(undecided) = self.undecided.get_mut(&client) {
            undecided.retain(|one| one.number != number);
            if undecided.is_empty() {
                self.undecided.remove(&client);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.waiting.remove(&self.lease);
        self.desk.end(&mut state, self.client, self.lease);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Reads a ClientHello and the names in it; `None` if the client doesn't come to say it.
async fn hear(mut stream: TcpStream) -> Option<(Arrived, Vec<Vec<u8>>)> {
    let mut read = Vec::with_capacity(USUAL_HELLO);
    let reading = async {
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            match hello::read(&read) {
                Hello::Incomplete => {}
                Hello::Names(names) => return Ok(names),
                Hello::Other => return Ok(Vec::new()),
            }
        }
    };
    let names = timeout(HELLO_PATIENCE, reading).await.ok()?.ok()?;
    Some((Arrived { stream, read }, names))
}

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 4096;

/// How long a ClientHello may take. Python's and FileZilla's come only after the reply to the transfer command.
const HELLO_PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const MOMENT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    async fn one_port() -> (PassiveListeners, PassivePorts) {
        let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
        let ports = listeners.open([LOCAL], &(0..=0)).await.unwrap();
        (listeners, ports)
    }

    fn tenant(client: IpAddr, mark: Mark) -> Tenant {
        let demand = Demand::Nothing;
        Tenant {
            client,
            mark,
            demand,
        }
    }

    async fn lease(ports: &PassivePorts, client: IpAddr) -> Lease {
        let tenant = tenant(client, Mark::Address);
        ports.lease(LOCAL, tenant, LONG).await.expect("a port")
    }

    async fn no_lease(ports: &PassivePorts, client: IpAddr) -> bool {
        let tenant = tenant(client, Mark::Address);
        ports.lease(LOCAL, tenant, MOMENT).await.is_none()
    }

    async fn connect_from(from: &str, port: u16) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(from.parse().unwrap(), 0))
            .unwrap();
        socket.connect((LOCAL, port).into()).await.unwrap()
    }

    async fn arrival(lease: &mut Lease) -> Arrived {
        match lease.caller(Instant::now() + LONG).await {
            Some(Caller::Arrived(arrived)) => arrived,
            other => panic!("{other:?}"),
        }
    }

    async fn is_reset(mut stream: TcpStream) -> bool {
        let end = stream.read(&mut [0; 1]).await;
        end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    #[tokio::test]
    async fn a_lease_brings_the_connection_of_its_client() {
        let (_listeners, ports) = one_port().await;
        let mut lease = lease(&ports, LOCAL).await;
        let client = connect_from("127.0.0.1", lease.port()).await;
        let arrived = arrival(&mut lease).await.stream;
        assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
    }

    #[tokio::test]
    async fn clients_of_different_addresses_share_one_port() {
        let (_listeners, ports) = one_port().await;
        let mut first = lease(&ports, LOCAL).await;
        let mut second = lease(&ports, "127.0.0.2".parse().unwrap()).await;
        assert_eq!(first.port(), second.port());
        let client = connect_from("127.0.0.2", second.port()).await;
        let arrived = arrival(&mut second).await.stream;
        assert_eq!(arrived.peer_addr().unwrap(), client.local_addr().unwrap());
        assert!(first.caller(Instant::now() + MOMENT).await.is_none());
    }

    #[tokio::test]
    async fn a_second_lease_of_the_same_address_waits_for_the_first_to_be_used() {
        let (_listeners, ports) = one_port().await;
        let first = lease(&ports, LOCAL).await;
        assert!(no_lease(&ports, LOCAL).await);
        let port = first.port();
        let (_second, _client) =
            tokio::join!(lease(&ports, LOCAL), connect_from("127.0.0.1", port));
    }

    #[tokio::test]
    async fn a_dropped_lease_frees_its_port_and_one_given_up_in_the_queue_leaves_nothing() {
        let (_listeners, ports) = one_port().await;
        let held = lease(&ports, LOCAL).await;
        for _ in 0..3 {
            assert!(no_lease(&ports, LOCAL).await);
        }
        drop(held);
        drop(lease(&ports, LOCAL).await);
        assert_eq!(ports.desk.state().turns.held(), 0);
        assert!(ports.desk.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_stranger_is_reset_and_the_lease_stays() {
        let (_listeners, ports) = one_port().await;
        let mut lease = lease(&ports, LOCAL).await;
        for _ in 0..3 {
            assert!(is_reset(connect_from("127.0.0.3", lease.port()).await).await);
        }
        let _client = connect_from("127.0.0.1", lease.port()).await;
        arrival(&mut lease).await;
    }

    #[tokio::test]
    async fn a_connection_that_names_nobody_is_turned_away_where_a_name_is_demanded() {
        let (_listeners, ports) = one_port().await;
        let tenant = Tenant {
            demand: Demand::Name,
            ..tenant(LOCAL, Mark::Unproven(SessionId(1)))
        };
        let mut lease = ports.lease(LOCAL, tenant, LONG).await.unwrap();
        for _ in 0..20 {
            let mut stranger = connect_from("127.0.0.1", lease.port()).await;
            stranger.write_all(b"no ClientHello").await.unwrap();
            assert!(is_reset(stranger).await);
        }
        let told = lease.caller(Instant::now() + LONG).await;
        assert!(matches!(told, Some(Caller::TurnedAway)));
    }

    #[tokio::test]
    async fn who_says_nothing_makes_room_for_who_does() {
        let (_listeners, ports) = one_port().await;
        let tenant = Tenant {
            demand: Demand::Name,
            ..tenant(LOCAL, Mark::Unproven(SessionId(1)))
        };
        let mut lease = ports.lease(LOCAL, tenant, LONG).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..50 {
            silent.push(connect_from("127.0.0.1", lease.port()).await);
        }
        let mut speaking = connect_from("127.0.0.1", lease.port()).await;
        speaking.write_all(b"no ClientHello").await.unwrap();
        let told = lease.caller(Instant::now() + LONG).await;
        assert!(matches!(told, Some(Caller::TurnedAway)));
        assert!(is_reset(silent.swap_remove(0)).await);
        drop(silent);
    }

    #[tokio::test]
    async fn what_was_read_of_a_connection_comes_with_it() {
        let (_listeners, ports) = one_port().await;
        let named = tenant(LOCAL, Mark::Named(SessionId(1)));
        let unproven = tenant(LOCAL, Mark::Unproven(SessionId(2)));
        let _named = ports.lease(LOCAL, named, LONG).await.unwrap();
        let mut lease = ports.lease(LOCAL, unproven, LONG).await.unwrap();
        let mut client = connect_from("127.0.0.1", lease.port()).await;
        client.write_all(b"no ClientHello").await.unwrap();
        assert_eq!(arrival(&mut lease).await.read, b"no ClientHello");
    }

    #[tokio::test]
    async fn a_reload_keeps_the_ports_that_stay_or_come_back() {
        let (mut listeners, former) = one_port().await;
        let mut lease = lease(&former, LOCAL).await;
        let number = lease.port();
        let later = listeners.open([LOCAL], &(0..=0)).await.unwrap();
        drop(former);
        assert_eq!(later.addresses(), [SocketAddr::new(LOCAL, number)]);
        let _client = connect_from("127.0.0.1", number).await;
        arrival(&mut lease).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_port_that_was_given_up_a_moment_ago_can_be_opened_again() {
        let mut listeners = PassiveListeners::new(Arc::default(), Arc::default());
        // Another test's connection may have any number on 127.0.0.1, and another process this test.
        let [.., high, low] = std::process::id().to_be_bytes();
        let own = IpAddr::from([127, 88, high, low]);
        for _ in 0..200 {
            let ports = listeners.open([own], &(50_000..=50_000)).await;
            drop(ports.expect("nobody else has it"));
        }
    }
}
