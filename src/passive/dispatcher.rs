//! Takes lease requests and accepted connections, and executes what the [`LeaseTable`] decides.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::net::listen::FAILS_AGAIN_WITHIN;
use crate::observe::metrics::Metrics;
use crate::tls::SessionStore;

use super::lease_table::{
    Ambiguity, Attribution, ConnectionId, Effect, Identity, LeaseEnd, LeaseId, LeaseRequest,
    LeaseTable, PeekResult, ResetReason, UnassignedConnections,
};
use super::peek::{self, PeekedHello};
use super::{DataConnection, LeaseEvent};

/// Assigns the connections at all ports to leases. All ports share one dispatcher, so that a reload, which opens and closes some,
/// keeps every lease.
#[derive(Debug)]
pub(super) struct Dispatcher {
    state: Mutex<DispatcherState>,
    sessions: Arc<SessionStore>,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct DispatcherState {
    table: LeaseTable,
    leases: HashMap<LeaseId, LeaseChannels>,
    /// The connections whose ClientHello is being read, or that wait for a decision.
    connections: HashMap<ConnectionId, UnassignedConnection>,
    /// By port, the last connection from an address without a lease there. At most one for each port.
    strangers: HashMap<SocketAddr, Stranger>,
    /// When this machine last had nothing left to accept a connection at a port with. At most one for each port.
    shortages: HashMap<SocketAddr, Instant>,
    /// How many leases there have been, and how many connections: the next one's number.
    last_lease: u64,
    last_connection: u64,
}

/// A connection to a port from an address without a lease.
#[derive(Debug, Clone, Copy)]
struct Stranger {
    from: IpAddr,
    /// How many leases there had been by then.
    after: u64,
}

/// A connection that is not assigned to a lease yet.
#[derive(Debug)]
enum UnassignedConnection {
    /// The connection has just arrived, or its ClientHello has been read.
    Waiting(DataConnection),
    /// The connection's task reads its ClientHello. Dropping this ends the task and resets the connection.
    Peeking(oneshot::Sender<LeaseId>),
}

/// The channels to a lease's session.
#[derive(Debug)]
struct LeaseChannels {
    /// Present until the lease has its port.
    grant: Option<oneshot::Sender<(SocketAddr, bool)>>,
    event_sender: mpsc::Sender<LeaseEvent>,
    attribution: watch::Sender<Attribution>,
    /// The number of connections at the port that may be the lease's own.
    unassigned: watch::Sender<UnassignedConnections>,
    /// Whether others of its address wait for a port.
    contended: watch::Sender<bool>,
}

/// A lease's entry in the table, granted or in the queue; dropping it ends the lease.
#[derive(Debug)]
pub(super) struct LeaseHandle {
    dispatcher: Arc<Dispatcher>,
    client: IpAddr,
    lease: LeaseId,
}

/// The receiving ends for the session of a lease.
pub(super) struct PendingLease {
    pub handle: Arc<LeaseHandle>,
    /// The port when it is granted, and whether the lease only takes a connection that names its session.
    pub granted: oneshot::Receiver<(SocketAddr, bool)>,
    /// Connections to that port.
    pub events: mpsc::Receiver<LeaseEvent>,
    /// Whether the lease's connection is certain to be its own.
    pub attribution: watch::Receiver<Attribution>,
    /// How many connections may be the lease's own, and are not identified yet.
    pub unassigned: watch::Receiver<UnassignedConnections>,
    /// Whether others of the address wait for a port.
    pub contended: watch::Receiver<bool>,
}

impl Dispatcher {
    /// A dispatcher without leases. `sessions` maps TLS sessions to FTP sessions.
    pub fn new(sessions: Arc<SessionStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            sessions,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, DispatcherState> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A port has been opened.
    pub fn open(&self, port: SocketAddr) {
        self.state().table.open(port, Instant::now());
    }

    /// A connection at a port can't be accepted, and waits until this machine has the means again: for the lease that comes then
    /// it is a late one.
    pub fn on_shortage(&self, port: SocketAddr) {
        let now = Instant::now();
        let mut state = self.state();
        state.shortages.insert(port, now);
        state.table.open(port, now + FAILS_AGAIN_WITHIN);
    }

    /// Asks for one of `ports`.
    pub fn request(
        self: &Arc<Self>,
        ports: &Arc<[SocketAddr]>,
        request: LeaseRequest,
    ) -> PendingLease {
        let (grant, granted) = oneshot::channel();
        // One connection, and a few refusals before it: more of those carry no information.
        let (event_sender, events) = mpsc::channel(4);
        let (attribution, attribution_watch) = watch::channel(Attribution::Certain);
        let (unassigned, unassigned_watch) = watch::channel(UnassignedConnections::default());
        let (contended, contention_watch) = watch::channel(false);
        let mut state = self.state();
        state.last_lease += 1;
        let lease = LeaseId(state.last_lease);
        let channels = LeaseChannels {
            grant: Some(grant),
            event_sender,
            attribution,
            unassigned,
            contended,
        };
        state.leases.insert(lease, channels);
        let effects = state.table.request(lease, request, ports, Instant::now());
        self.apply(&mut state, request.client, &effects);
        let handle = Arc::new(LeaseHandle {
            dispatcher: Arc::clone(self),
            client: request.client,
            lease,
        });
        PendingLease {
            handle,
            granted,
            events,
            attribution: attribution_watch,
            unassigned: unassigned_watch,
            contended: contention_watch,
        }
    }

    /// Takes a connection that was accepted.
    pub fn on_connection(self: &Arc<Self>, stream: TcpStream, client: IpAddr, port: SocketAddr) {
        let mut state = self.state();
        state.last_connection += 1;
        let connection = ConnectionId(state.last_connection);
        let arrived = DataConnection {
            stream,
            read: Vec::new(),
        };
        let effects = state
            .table
            .on_connection(connection, client, port, Instant::now());
        if effects.contains(&Effect::Reset(connection, ResetReason::NoLease)) {
            let stranger = Stranger {
                from: client,
                after: state.last_lease,
            };
            state.strangers.insert(port, stranger);
        }
        state
            .connections
            .insert(connection, UnassignedConnection::Waiting(arrived));
        self.apply(&mut state, client, &effects);
    }

    /// Executes what the table has decided.
    fn apply(self: &Arc<Self>, state: &mut DispatcherState, client: IpAddr, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Granted { lease, port, named } => state.grant(lease, port, named),
                Effect::Peek(connection) => self.peek(state, client, connection),
                Effect::Unassigned(lease, unassigned) => {
                    if let Some(channels) = state.leases.get(&lease) {
                        channels.unassigned.send_replace(unassigned);
                    }
                }
                Effect::Contended(lease, contended) => {
                    if let Some(channels) = state.leases.get(&lease) {
                        channels.contended.send_replace(contended);
                    }
                }
                Effect::Assign { connection, lease } => state.assign(connection, lease),
                Effect::Reset(connection, refused) => {
                    // A client that sees the reset can see it counted.
                    self.count_refused(client, refused);
                    state.connections.remove(&connection);
                }
                Effect::Refused(lease, ambiguity) => {
                    if ambiguity.is_some() {
                        self.metrics.passive_ambiguous();
                    }
                    if let Some(channels) = state.leases.get(&lease) {
                        channels.refuse(ambiguity);
                    }
                }
                Effect::Attribution(lease, attribution) => {
                    match attribution {
                        Attribution::Ambiguous(
                            Ambiguity::AnotherConnection | Ambiguity::LateConnection,
                        ) => {
                            self.metrics.passive_ambiguous();
                        }
                        Attribution::Ambiguous(Ambiguity::Withdrawn)
                        | Attribution::Certain
                        | Attribution::Unsettled => {}
                    }
                    if let Some(channels) = state.leases.get(&lease) {
                        channels.attribution.send_replace(attribution);
                    }
                }
                Effect::SharedCache { one, other } => self.sessions.mark_shared_cache(one, other),
                Effect::WakeAt(client, at) => {
                    tokio::spawn(Arc::clone(self).wake(client, at));
                }
            }
        }
        self.metrics.passive_ports_in_use(state.table.pending());
    }

    fn peek(
        self: &Arc<Self>,
        state: &mut DispatcherState,
        client: IpAddr,
        connection: ConnectionId,
    ) {
        if let Some(UnassignedConnection::Waiting(arrived)) = state.connections.remove(&connection)
        {
            let (assignment, decided) = oneshot::channel();
            state
                .connections
                .insert(connection, UnassignedConnection::Peeking(assignment));
            tokio::spawn(Arc::clone(self).run_peek(connection, client, arrived, decided));
        }
    }

    /// Reads the connection's ClientHello, unless the connection is assigned in the meantime.
    async fn run_peek(
        self: Arc<Self>,
        connection: ConnectionId,
        client: IpAddr,
        mut arrived: DataConnection,
        mut decided: oneshot::Receiver<LeaseId>,
    ) {
        let peeked = tokio::select! {
            biased;
            decided = &mut decided => {
                if let Ok(lease) = decided
                    && let Some(channels) = self.state().leases.get(&lease)
                {
                    channels.assign(arrived);
                }
                return;
            }
            peeked = peek::read_client_hello(&mut arrived) => peeked,
        };
        let result = match peeked {
            PeekedHello::Names(names) => self
                .sessions
                .owner_of(&names)
                .map_or(PeekResult::NoSession, PeekResult::Session),
            PeekedHello::Closed => PeekResult::Closed,
        };
        let mut state = self.state();
        // It may have been decided in this very moment.
        match state.connections.get_mut(&connection) {
            Some(unassigned) => *unassigned = UnassignedConnection::Waiting(arrived),
            None => {
                if let Ok(lease) = decided.try_recv()
                    && let Some(channels) = state.leases.get(&lease)
                {
                    channels.assign(arrived);
                }
                return;
            }
        }
        let effects = state
            .table
            .on_peeked(connection, client, result, Instant::now());
        self.apply(&mut state, client, &effects);
    }

    async fn wake(self: Arc<Self>, client: IpAddr, at: Instant) {
        tokio::time::sleep_until(at.into()).await;
        let mut state = self.state();
        let effects = state.table.wake(client, Instant::now());
        self.apply(&mut state, client, &effects);
    }

    /// Whether there is neither a lease nor an unassigned connection.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.leases.is_empty() && state.connections.is_empty()
    }

    fn count_refused(&self, client: IpAddr, refused: ResetReason) {
        match refused {
            ResetReason::NoLease | ResetReason::Stranger | ResetReason::TooMany => {
                self.metrics.passive_stranger()
            }
            ResetReason::TooLate => {}
        }
        tracing::debug!(%client, reason = refused.as_str(), "data connection reset");
    }
}

impl DispatcherState {
    fn grant(&mut self, lease: LeaseId, port: SocketAddr, named: bool) {
        if let Some(grant) = self
            .leases
            .get_mut(&lease)
            .and_then(|channels| channels.grant.take())
        {
            // A session that has given up in this moment drops its handle next.
            let _ = grant.send((port, named));
        }
    }

    fn assign(&mut self, connection: ConnectionId, lease: LeaseId) {
        match self.connections.remove(&connection) {
            Some(UnassignedConnection::Waiting(arrived)) => {
                if let Some(channels) = self.leases.get(&lease) {
                    channels.assign(arrived);
                }
            }
            Some(UnassignedConnection::Peeking(assignment)) => {
                // If it has ended just now, its task checks the state next and finds nothing.
                let _ = assignment.send(lease);
            }
            None => {}
        }
    }
}

impl LeaseChannels {
    fn refuse(&self, ambiguity: Option<Ambiguity>) {
        // The last slot is for the expected connection.
        if self.event_sender.capacity() > 1 {
            let _ = self.event_sender.try_send(LeaseEvent::Refused(ambiguity));
        }
    }

    fn assign(&self, arrived: DataConnection) {
        // The session may have given up in this moment; then the connection is dropped, which resets it.
        let _ = self.event_sender.try_send(LeaseEvent::Connected(arrived));
    }
}

impl LeaseHandle {
    /// See [`Lease::stranger`](super::Lease::stranger).
    pub fn stranger(&self, port: SocketAddr) -> Option<IpAddr> {
        let state = self.dispatcher.state();
        let stranger = state.strangers.get(&port)?;
        let is_recent = stranger.after >= self.lease.0;
        (is_recent && stranger.from != self.client).then_some(stranger.from)
    }

    /// See [`Lease::is_starved`](super::Lease::is_starved).
    pub fn is_starved(&self, port: SocketAddr) -> bool {
        let state = self.dispatcher.state();
        let last = state.shortages.get(&port);
        last.is_some_and(|last| last.elapsed() < FAILS_AGAIN_WITHIN)
    }

    /// See [`Lease::proven`](super::Lease::proven).
    pub fn proven(&self) {
        let mut state = self.dispatcher.state();
        let effects = state.table.proven(self.client, self.lease, Instant::now());
        self.dispatcher.apply(&mut state, self.client, &effects);
    }

    /// See [`Lease::unproven`](super::Lease::unproven).
    pub fn unproven(&self) {
        let mut state = self.dispatcher.state();
        let effects = state
            .table
            .unproven(self.client, self.lease, Instant::now());
        self.dispatcher.apply(&mut state, self.client, &effects);
    }

    /// See [`LeaseHold::begin`](super::LeaseHold::begin).
    pub fn begin(&self) {
        self.dispatcher.state().table.begin(self.client, self.lease);
    }

    /// See [`LeaseHold::identify`](super::LeaseHold::identify).
    pub fn identify(&self, identity: Identity) {
        let mut state = self.dispatcher.state();
        let now = Instant::now();
        let effects = state.table.identify(self.client, self.lease, identity, now);
        self.dispatcher.apply(&mut state, self.client, &effects);
    }

    /// See [`Lease::reopen`](super::Lease::reopen).
    pub fn reopen(&self) {
        let mut state = self.dispatcher.state();
        let effects = state.table.reopen(self.client, self.lease, Instant::now());
        self.dispatcher.apply(&mut state, self.client, &effects);
    }

    /// Ends the lease, unless it has ended.
    pub fn end(&self, end: LeaseEnd) {
        let mut state = self.dispatcher.state();
        if state.leases.remove(&self.lease).is_none() {
            return;
        }
        let effects = state
            .table
            .end(self.client, self.lease, end, Instant::now());
        self.dispatcher.apply(&mut state, self.client, &effects);
    }

    /// How many leases of the address hold or wait for one of these ports that no other of them can have.
    pub fn exclusive_leases(&self, ports: &[SocketAddr]) -> usize {
        let state = self.dispatcher.state();
        state.table.exclusive_leases(self.client, ports)
    }
}

impl Drop for LeaseHandle {
    fn drop(&mut self) {
        self.end(LeaseEnd::Incomplete);
    }
}

impl ResetReason {
    /// The reason's text in the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoLease => "no session of this address has the port",
            Self::Stranger => "no session expects it",
            Self::TooLate => "its transfer may have ended already",
            Self::TooMany => "too many unidentified connections from this address",
        }
    }
}
