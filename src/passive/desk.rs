//! Where leases are asked for, and connections are brought together with them.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::observe::metrics::Metrics;
use crate::tls::{SessionId, Sessions};

use super::hear::hear;
use super::turns::{Arrival, Decision, LeaseId, Turns};
use super::{Arrived, Caller, Tenant};

/// One for all ports, so that a reload, which opens and closes some, leaves every lease in its place.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    sessions: Arc<Sessions>,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub turns: Turns,
    pub waiting: HashMap<LeaseId, Waiting>,
    /// By client, the connections that have yet to say whose they are, the oldest in front.
    undecided: HashMap<IpAddr, VecDeque<Undecided>>,
    /// By port, who came to it last from an address that nobody waited for. One for each port at most.
    strangers: HashMap<SocketAddr, Stranger>,
    /// How many leases there have been, and how many connections that had to say whose they are: the next one's number.
    leases: u64,
    hearings: u64,
}

/// A connection whose ClientHello is awaited; dropping this ends its [`Hearing`].
#[derive(Debug)]
struct Undecided {
    number: u64,
    port: SocketAddr,
    _keep: oneshot::Sender<()>,
}

/// Somebody at a port who was nobody's client.
#[derive(Debug, Clone, Copy)]
struct Stranger {
    from: IpAddr,
    /// How many leases there had been by then.
    after: u64,
}

/// The time that an undecided connection has to say whose it is.
struct Hearing {
    number: u64,
    patience: Duration,
    /// Resolves when others need the place.
    over: oneshot::Receiver<()>,
}

/// How a lease's session is told.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Until the lease has its port.
    grant: Option<oneshot::Sender<SocketAddr>>,
    arrival: mpsc::Sender<Caller>,
    /// How many connections at its port may be its own.
    undecided: watch::Sender<usize>,
    /// Whether others of its address wait for a port.
    wanted: watch::Sender<bool>,
}

/// A lease's place at the desk, held or in the queue; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Place {
    desk: Arc<Desk>,
    tenant: Tenant,
    lease: LeaseId,
}

/// What the session of a lease hears.
pub(super) struct Asked {
    pub place: Place,
    /// The port, once it is the lease's turn.
    pub granted: oneshot::Receiver<SocketAddr>,
    /// Who came to that port.
    pub arrivals: mpsc::Receiver<Caller>,
    /// How many there are who have yet to say whose they are.
    pub undecided: watch::Receiver<usize>,
    /// Whether others of the address wait for a port.
    pub wanted: watch::Receiver<bool>,
}

impl Desk {
    /// Nobody is there yet. `sessions` knows which TLS session is whose.
    pub fn new(sessions: Arc<Sessions>, metrics: Arc<Metrics>) -> Self {
        Self {
            state: Mutex::default(),
            sessions,
            metrics,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one of `ports`.
    pub fn ask(self: &Arc<Self>, ports: &Arc<[SocketAddr]>, tenant: Tenant) -> Asked {
        let (grant, granted) = oneshot::channel();
        // One connection, and word of those who were turned away before it: of more than a few nobody needs to know.
        let (arrival, arrivals) = mpsc::channel(4);
        let (undecided, is_undecided) = watch::channel(0);
        let (wanted, is_wanted) = watch::channel(false);
        let mut waiting = Waiting {
            grant: Some(grant),
            arrival,
            undecided,
            wanted,
        };
        let mut state = self.state();
        let lease = state.next_lease();
        if let Some(port) = state.turns.ask(lease, tenant, ports) {
            waiting.grant(port);
        }
        state.waiting.insert(lease, waiting);
        state.tell_whether_wanted(tenant.client);
        self.count(&state);
        let place = Place {
            desk: Arc::clone(self),
            tenant,
            lease,
        };
        Asked {
            place,
            granted,
            arrivals,
            undecided: is_undecided,
            wanted: is_wanted,
        }
    }

    /// Gives the port of a lease to those who wait for it.
    fn end(&self, state: &mut State, client: IpAddr, lease: LeaseId) {
        for granted in state.turns.end(client, lease) {
            if let Some(waiting) = state.waiting.get_mut(&granted.lease) {
                waiting.grant(granted.port);
            }
        }
        state.tell_whether_wanted(client);
        self.count(state);
    }

    /// Somebody connected.
    pub fn arrive(self: &Arc<Self>, stream: TcpStream, client: IpAddr, port: SocketAddr) {
        let mut state = self.state();
        match state.turns.arrive(client, port) {
            Arrival::Undecided(patience) => {
                let hearing = state.listen_to(client, port, patience);
                tokio::spawn(Arc::clone(self).ask_whose(stream, client, port, hearing));
            }
            Arrival::Of(lease) => {
                let read = Vec::new();
                self.hand_over(&mut state, client, lease, Arrived { stream, read });
            }
            Arrival::Stranger => {
                let after = state.leases;
                let stranger = Stranger {
                    from: client,
                    after,
                };
                state.strangers.insert(port, stranger);
                self.stranger(client);
            }
        }
    }

    /// Reads whose connection it is, unless others need its place in the meantime.
    async fn ask_whose(
        self: Arc<Self>,
        stream: TcpStream,
        client: IpAddr,
        port: SocketAddr,
        hearing: Hearing,
    ) {
        let heard = tokio::select! {
            heard = hear(stream, hearing.patience) => heard,
            _ = hearing.over => None,
        };
        match heard {
            Some((arrived, names)) => self.decide(arrived, client, port, &names),
            None => self.stranger(client),
        }
        self.state().heard(client, port, hearing.number);
    }

    /// Somebody said who it is, as far as that can be said.
    fn decide(&self, arrived: Arrived, client: IpAddr, port: SocketAddr, names: &[Vec<u8>]) {
        let named = self.sessions.whose(names);
        let mut state = self.state();
        match state.turns.decide(client, port, named) {
            Decision::Of(lease) => self.hand_over(&mut state, client, lease, arrived),
            Decision::TurnedAway(lease) => {
                self.stranger(client);
                if let Some(waiting) = state.waiting.get(&lease) {
                    waiting.turned_away();
                }
            }
            Decision::Nobody => self.stranger(client),
        }
    }

    fn hand_over(&self, state: &mut State, client: IpAddr, lease: LeaseId, arrived: Arrived) {
        self.end(state, client, lease);
        if let Some(waiting) = state.waiting.get(&lease) {
            waiting.hand_over(arrived);
        }
    }

    fn stranger(&self, client: IpAddr) {
        self.metrics.passive_stranger();
        tracing::debug!(%client, "data connection of a stranger reset");
    }

    fn count(&self, state: &State) {
        self.metrics.passive_ports_in_use(state.turns.held());
    }
}

impl State {
    fn next_lease(&mut self) -> LeaseId {
        self.leases += 1;
        LeaseId(self.leases)
    }

    /// Makes room for one more connection that is to be listened to: those who have been silent longest have to go.
    fn listen_to(&mut self, client: IpAddr, port: SocketAddr, patience: Duration) -> Hearing {
        self.hearings += 1;
        let number = self.hearings;
        let (keep, over) = oneshot::channel();
        let at_most = self.turns.undecided_at_most(client).max(1);
        let undecided = self.undecided.entry(client).or_default();
        while undecided.len() >= at_most {
            undecided.pop_front();
        }
        undecided.push_back(Undecided {
            number,
            port,
            _keep: keep,
        });
        self.tell_of_undecided(client, port);
        Hearing {
            number,
            patience,
            over,
        }
    }

    fn heard(&mut self, client: IpAddr, port: SocketAddr, number: u64) {
        if let Some(undecided) = self.undecided.get_mut(&client) {
            undecided.retain(|one| one.number != number);
            if undecided.is_empty() {
                self.undecided.remove(&client);
            }
        }
        self.tell_of_undecided(client, port);
    }

    /// Tells the leases at a port how many connections there may be theirs.
    fn tell_of_undecided(&self, client: IpAddr, port: SocketAddr) {
        let undecided = self.undecided.get(&client);
        let count = undecided.map_or(0, |all| all.iter().filter(|one| one.port == port).count());
        for lease in self.turns.leases_at(client, port) {
            if let Some(waiting) = self.waiting.get(&lease) {
                waiting.undecided.send_replace(count);
            }
        }
    }

    /// Tells the leases of a client whether others of it wait for a port.
    fn tell_whether_wanted(&self, client: IpAddr) {
        let wanted = self.turns.has_queue(client);
        for lease in self.turns.leases_of(client) {
            if let Some(waiting) = self.waiting.get(&lease) {
                waiting
                    .wanted
                    .send_if_modified(|was| std::mem::replace(was, wanted) != wanted);
            }
        }
    }
}

impl Waiting {
    fn grant(&mut self, port: SocketAddr) {
        if let Some(grant) = self.grant.take() {
            // Whoever has given up in this very moment drops its place next.
            let _ = grant.send(port);
        }
    }

    fn turned_away(&self) {
        // The last place is for the connection that is waited for.
        if self.arrival.capacity() > 1 {
            let _ = self.arrival.try_send(Caller::TurnedAway);
        }
    }

    fn hand_over(&self, arrived: Arrived) {
        // The session may have given up in this moment; then the connection is dropped, which resets it.
        let _ = self.arrival.try_send(Caller::Arrived(arrived));
    }
}

impl Place {
    /// See [`Lease::stranger`](super::Lease::stranger).
    pub fn stranger(&self, port: SocketAddr) -> Option<IpAddr> {
        let state = self.desk.state();
        let stranger = state.strangers.get(&port)?;
        let came_since = stranger.after >= self.lease.0;
        (came_since && stranger.from != self.tenant.client).then_some(stranger.from)
    }

    /// See [`Lease::again`](super::Lease::again).
    pub fn again(&self, port: SocketAddr, session: SessionId) -> bool {
        let mut state = self.desk.state();
        let fits = state.turns.again(self.tenant, self.lease, port, session);
        self.desk.count(&state);
        fits
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.waiting.remove(&self.lease);
        self.desk.end(&mut state, self.tenant.client, self.lease);
    }
}
