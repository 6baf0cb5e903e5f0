//! Takes lease requests and accepted connections, and executes what the [`LeaseTable`] decides.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::observe::metrics::Metrics;
use crate::tls::SessionStore;

use super::sniff::{self, Said};
use super::lease_table::{
    ConnectionId, Doubt, Effect, Heard, Identity, LeaseEnd, LeaseId, LeaseRequest, LeaseTable,
    Nearby, Refused, Standing,
};
use super::{Arrived, Caller};

/// One for all ports, so that a reload, which opens and closes some, keeps every lease.
#[derive(Debug)]
pub(super) struct Dispatcher {
    state: Mutex<State>,
    sessions: Arc<SessionStore>,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct State {
    table: LeaseTable,
    leases: HashMap<LeaseId, Waiting>,
    /// The connections whose ClientHello is being read, or that wait for a decision.
    connections: HashMap<ConnectionId, Undecided>,
    /// By port, the last connection from an address without a lease there. At most one for each port.
    strangers: HashMap<SocketAddr, Stranger>,
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
enum Undecided {
    /// It has just arrived, or its ClientHello has been read.
    Here(Arrived),
    /// Its task reads what it says. Dropping this ends the task and resets the connection.
    Listening(oneshot::Sender<LeaseId>),
}

/// The channels to a lease's session.
#[derive(Debug)]
struct Waiting {
    /// Until the lease has its port.
    grant: Option<oneshot::Sender<(SocketAddr, bool)>>,
    arrival: mpsc::Sender<Caller>,
    standing: watch::Sender<Standing>,
    /// How many connections at its port may be its own.
    undecided: watch::Sender<Nearby>,
    /// Whether others of its address wait for a port.
    wanted: watch::Sender<bool>,
}

/// A lease's entry in the table, granted or in the queue; dropping it ends the lease.
#[derive(Debug)]
pub(super) struct Place {
    dispatcher: Arc<Dispatcher>,
    client: IpAddr,
    lease: LeaseId,
}

/// The receiving ends for the session of a lease.
pub(super) struct Asked {
    pub place: Arc<Place>,
    /// The port, once it is the lease's turn, and whether the lease only takes a connection that names its session.
    pub granted: oneshot::Receiver<(SocketAddr, bool)>,
    /// Which connections came to that port.
    pub arrivals: mpsc::Receiver<Caller>,
    /// Whether the lease's connection is certain to be its own.
    pub standing: watch::Receiver<Standing>,
    /// How many connections may be the lease's own, and are not identified yet.
    pub undecided: watch::Receiver<Nearby>,
    /// Whether others of the address wait for a port.
    pub wanted: watch::Receiver<bool>,
}

impl Dispatcher {
    /// Without leases. `sessions` maps TLS sessions to FTP sessions.
    pub fn new(sessions: Arc<SessionStore>, metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            sessions,
            metrics,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one of `ports`.
    pub fn ask(self: &Arc<Self>, ports: &Arc<[SocketAddr]>, request: LeaseRequest) -> Asked {
        let (grant, granted) = oneshot::channel();
        // One connection, and a few refusals before it: more of those carry no information.
        let (arrival, arrivals) = mpsc::channel(4);
        let (standing, stands) = watch::channel(Standing::Certain);
        let (undecided, is_undecided) = watch::channel(Nearby::default());
        let (wanted, is_wanted) = watch::channel(false);
        let mut state = self.state();
        state.last_lease += 1;
        let lease = LeaseId(state.last_lease);
        let waiting = Waiting {
            grant: Some(grant),
            arrival,
            standing,
            undecided,
            wanted,
        };
        state.leases.insert(lease, waiting);
        let effects = state.table.ask(lease, request, ports, Instant::now());
        self.apply(&mut state, request.client, &effects);
        let place = Arc::new(Place {
            dispatcher: Arc::clone(self),
            client: request.client,
            lease,
        });
        Asked {
            place,
            granted,
            arrivals,
            standing: stands,
            undecided: is_undecided,
            wanted: is_wanted,
        }
    }

    /// A connection was accepted.
    pub fn arrive(self: &Arc<Self>, stream: TcpStream, client: IpAddr, port: SocketAddr) {
        let mut state = self.state();
        state.last_connection += 1;
        let connection = ConnectionId(state.last_connection);
        let arrived = Arrived {
            stream,
            read: Vec::new(),
        };
        let effects = state.table.arrive(connection, client, port, Instant::now());
        if effects.contains(&Effect::Reset(connection, Refused::Stranger)) {
            let stranger = Stranger {
                from: client,
                after: state.last_lease,
            };
            state.strangers.insert(port, stranger);
        }
        state
            .connections
            .insert(connection, Undecided::Here(arrived));
        self.apply(&mut state, client, &effects);
    }

    /// Does what the table has decided.
    fn apply(self: &Arc<Self>, state: &mut State, client: IpAddr, effects: &[Effect]) {
        for effect in effects {
            match *effect {
                Effect::Granted { lease, port, named } => state.grant(lease, port, named),
                Effect::Hear(connection) => self.listen_to(state, client, connection),
                Effect::Undecided(lease, nearby) => {
                    if let Some(waiting) = state.leases.get(&lease) {
                        waiting.undecided.send_replace(nearby);
                    }
                }
                Effect::Wanted(lease, wanted) => {
                    if let Some(waiting) = state.leases.get(&lease) {
                        waiting.wanted.send_replace(wanted);
                    }
                }
                Effect::Hand { connection, lease } => state.hand(connection, lease),
                Effect::Reset(connection, refused) => {
                    // A client that sees the reset can see it counted.
                    self.count_refused(client, refused);
                    state.connections.remove(&connection);
                }
                Effect::TurnedAway(lease, doubt) => {
                    if doubt.is_some() {
                        self.metrics.passive_ambiguous();
                    }
                    if let Some(waiting) = state.leases.get(&lease) {
                        waiting.turned_away(doubt);
                    }
                }
                Effect::Standing(lease, standing) => {
                    match standing {
                        Standing::Ambiguous(Doubt::AnotherConnection | Doubt::LateConnection) => {
                            self.metrics.passive_ambiguous();
                        }
                        Standing::Ambiguous(Doubt::Withdrawn)
                        | Standing::Certain
                        | Standing::Unsettled => {}
                    }
                    if let Some(waiting) = state.leases.get(&lease) {
                        waiting.standing.send_replace(standing);
                    }
                }
                Effect::ShareACache { one, other } => self.sessions.mark_shared_cache(one, other),
                Effect::WakeAt(client, at) => {
                    tokio::spawn(Arc::clone(self).wake(client, at));
                }
            }
        }
        self.metrics.passive_ports_in_use(state.table.pending());
    }

    fn listen_to(self: &Arc<Self>, state: &mut State, client: IpAddr, connection: ConnectionId) {
        if let Some(Undecided::Here(arrived)) = state.connections.remove(&connection) {
            let (whose, decided) = oneshot::channel();
            state
                .connections
                .insert(connection, Undecided::Listening(whose));
            tokio::spawn(Arc::clone(self).listen(connection, client, arrived, decided));
        }
    }

    /// Reads the connection's ClientHello, unless the connection is assigned in the meantime.
    async fn listen(
        self: Arc<Self>,
        connection: ConnectionId,
        client: IpAddr,
        mut arrived: Arrived,
        mut decided: oneshot::Receiver<LeaseId>,
    ) {
        let said = tokio::select! {
            biased;
            decided = &mut decided => {
                if let Ok(lease) = decided
                    && let Some(waiting) = self.state().leases.get(&lease)
                {
                    waiting.hand(arrived);
                }
                return;
            }
            said = sniff::read(&mut arrived) => said,
        };
        let heard = match said {
            Said::Names(names) => self
                .sessions
                .owner_of(&names)
                .map_or(Heard::Unnamed, Heard::Named),
            Said::Nothing => Heard::Nothing,
        };
        let mut state = self.state();
        // It may have been decided in this very moment.
        match state.connections.get_mut(&connection) {
            Some(undecided) => *undecided = Undecided::Here(arrived),
            None => {
                if let Ok(lease) = decided.try_recv()
                    && let Some(waiting) = state.leases.get(&lease)
                {
                    waiting.hand(arrived);
                }
                return;
            }
        }
        let effects = state.table.heard(connection, client, heard, Instant::now());
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

    fn count_refused(&self, client: IpAddr, refused: Refused) {
        match refused {
            Refused::Stranger | Refused::TooMany => self.metrics.passive_stranger(),
            Refused::TooLate => {}
        }
        tracing::debug!(%client, reason = refused.as_str(), "data connection reset");
    }
}

impl State {
    fn grant(&mut self, lease: LeaseId, port: SocketAddr, named: bool) {
        if let Some(grant) = self
            .leases
            .get_mut(&lease)
            .and_then(|waiting| waiting.grant.take())
        {
            // A session that has given up in this moment drops its handle next.
            let _ = grant.send((port, named));
        }
    }

    fn hand(&mut self, connection: ConnectionId, lease: LeaseId) {
        match self.connections.remove(&connection) {
            Some(Undecided::Here(arrived)) => {
                if let Some(waiting) = self.leases.get(&lease) {
                    waiting.hand(arrived);
                }
            }
            Some(Undecided::Listening(whose)) => {
                // If it has ended just now, its task checks the state next and finds nothing.
                let _ = whose.send(lease);
            }
            None => {}
        }
    }
}

impl Waiting {
    fn turned_away(&self, doubt: Option<Doubt>) {
        // The last slot is for the expected connection.
        if self.arrival.capacity() > 1 {
            let _ = self.arrival.try_send(Caller::TurnedAway(doubt));
        }
    }

    fn hand(&self, arrived: Arrived) {
        // The session may have given up in this moment; then the connection is dropped, which resets it.
        let _ = self.arrival.try_send(Caller::Arrived(arrived));
    }
}

impl Place {
    /// See [`Lease::stranger`](super::Lease::stranger).
    pub fn stranger(&self, port: SocketAddr) -> Option<IpAddr> {
        let state = self.dispatcher.state();
        let stranger = state.strangers.get(&port)?;
        let came_since = stranger.after >= self.lease.0;
        (came_since && stranger.from != self.client).then_some(stranger.from)
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

    /// See [`Lease::again`](super::Lease::again).
    pub fn again(&self) {
        let mut state = self.dispatcher.state();
        let effects = state.table.again(self.client, self.lease, Instant::now());
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

    /// How many leases of the address hold or wait for a port that no other of them can have.
    pub fn taking_turns(&self) -> usize {
        self.dispatcher.state().table.taking_turns(self.client)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end(LeaseEnd::Incomplete);
    }
}

impl Refused {
    /// Its text in the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "no session expects it",
            Self::TooLate => "its transfer may have ended already",
            Self::TooMany => "too many unidentified connections from this address",
        }
    }
}
