//! The leases, the undecided connections and the resting ports of one client address, and the life of a lease from its request
//! to its end.

mod connections;
mod ports;
mod settle;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{ConnectionId, Effect, Identity, LeaseEnd, LeaseId, LeaseRequest, Nearby, Standing};

#[derive(Debug, Default)]
pub(super) struct Client {
    leases: Vec<Held>,
    /// Connections that are not identified, or not assigned yet; in the order of their arrival.
    connections: Vec<Connection>,
    rests: Vec<Rest>,
    /// Those that wait for a port, the first of them in front.
    queue: VecDeque<Queued>,
    /// When each port was last used.
    used: HashMap<SocketAddr, u64>,
    /// The last number in the order of grants, arrivals and ends.
    moment: u64,
    /// For when a call of [`Client::wake`] has been asked for.
    wakes_at: Option<Instant>,
    /// Since when the client has had nothing here, if it hasn't: its key among those.
    pub quiet_since: Option<u64>,
}

/// A lease that has a port.
#[derive(Debug)]
struct Held {
    id: LeaseId,
    request: LeaseRequest,
    port: SocketAddr,
    granted: u64,
    /// Since when its client has had the port without a transfer; none once that has begun.
    idle_since: Option<Instant>,
    progress: Progress,
    /// A connection came to the port that may have been the lease's own, and was not taken.
    another_came: bool,
    /// Another lease ended whose connection may still arrive at the port, and be taken for this lease's.
    late_one_expected: bool,
    standing: Standing,
    nearby: Nearby,
    /// Whether others wait for a port, as last reported to its session.
    wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No connection is the lease's yet.
    Pending,
    /// One has named its session, and has yet to prove it.
    NamedBy(ConnectionId),
    /// One is its own because of its address alone.
    Alone,
    /// Its connection has proven to be its own: nothing that comes to the port changes that.
    Proven,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    id: ConnectionId,
    port: SocketAddr,
    arrived: u64,
    word: Word,
}

/// What a connection has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    None,
    /// No TLS session by which it could be identified.
    Unnamed,
    /// The session of this lease, to which another connection was handed before.
    Behind(LeaseId),
}

/// A port at which the connection of a lease that has ended may still arrive.
#[derive(Debug)]
struct Rest {
    port: SocketAddr,
    former: LeaseRequest,
    until: Instant,
}

#[derive(Debug)]
struct Queued {
    id: LeaseId,
    request: LeaseRequest,
    /// Any of them will do.
    ports: Arc<[SocketAddr]>,
}

impl Held {
    /// Whether a connection that arrives can be its own.
    fn expects(&self) -> bool {
        matches!(self.progress, Progress::Pending | Progress::NamedBy(_))
    }

    /// Whether other connections at the port can make its own one ambiguous.
    fn depends_on_being_alone(&self) -> bool {
        !self.request.identity.is_named() && self.progress != Progress::Proven
    }
}

impl Client {
    pub fn is_quiet(&self) -> bool {
        self.leases.is_empty() && self.queue.is_empty() && self.connections.is_empty()
    }

    /// How many leases have a port and no connection.
    pub fn pending(&self) -> usize {
        let pending = |held: &&Held| held.progress == Progress::Pending;
        self.leases.iter().filter(pending).count()
    }

    /// Whether no late connection is to be expected at any port.
    pub fn has_rested(&self, now: Instant) -> bool {
        self.rests.iter().all(|rest| rest.until <= now)
    }

    pub fn taking_turns(&self) -> usize {
        let held = self
            .leases
            .iter()
            .filter(|held| held.depends_on_being_alone());
        held.count() + self.queue.len()
    }

    pub fn ask(&mut self, id: LeaseId, request: LeaseRequest, ports: &Arc<[SocketAddr]>) {
        let ports = Arc::clone(ports);
        self.queue.push_back(Queued { id, request, ports });
    }

    pub fn wake(&mut self) {
        self.wakes_at = None;
    }

    fn at(&self, port: SocketAddr) -> impl Iterator<Item = &Held> {
        self.leases.iter().filter(move |held| held.port == port)
    }

    fn lease(&self, id: LeaseId) -> Option<&Held> {
        self.leases.iter().find(|held| held.id == id)
    }

    fn lease_mut(&mut self, id: LeaseId) -> Option<&mut Held> {
        self.leases.iter_mut().find(|held| held.id == id)
    }

    /// The transfer for which the port was asked for has begun.
    pub fn begin(&mut self, id: LeaseId) {
        if let Some(held) = self.lease_mut(id) {
            held.idle_since = None;
        }
    }

    pub fn identify(
        &mut self,
        id: LeaseId,
        identity: Identity,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(held) = self.lease_mut(id) else {
            return;
        };
        held.request.identity = identity;
        let (port, request) = (held.port, held.request);
        let is_told_apart = self.allows(port, id, &request);
        if let Some(held) = self.lease_mut(id) {
            // It would have got another port.
            held.late_one_expected |= !is_told_apart;
        }
        self.settle(port, now, effects);
    }

    pub fn proven(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
        let Some(held) = self.lease_mut(id) else {
            return;
        };
        if let Progress::NamedBy(_) = held.progress {
            held.progress = Progress::Proven;
            let port = held.port;
            self.settle(port, now, effects);
        }
    }

    pub fn unproven(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
        let another_named_it = self.is_waited_behind(id);
        if let Some(held) = self.lease_mut(id)
            && held.depends_on_being_alone()
        {
            held.another_came |= another_named_it;
            held.progress = Progress::Alone;
            let port = held.port;
            self.settle(port, now, effects);
        }
    }

    pub fn again(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(held) = self.lease_mut(id) else {
            return;
        };
        held.progress = Progress::Pending;
        let behind = |connection: &Connection| connection.word == Word::Behind(id);
        if let Some(index) = self.connections.iter().position(behind) {
            let named = Progress::NamedBy(self.connections[index].id);
            self.hand(index, id, named, effects);
        }
    }

    pub fn end(&mut self, id: LeaseId, end: LeaseEnd, now: Instant, effects: &mut Vec<Effect>) {
        self.queue.retain(|queued| queued.id != id);
        let Some(index) = self.leases.iter().position(|held| held.id == id) else {
            return;
        };
        let ended = self.leases.remove(index);
        let ended_at = self.next_moment();
        self.used.insert(ended.port, ended_at);
        let had_its_own = ended.progress == Progress::Proven
            || (ended.progress == Progress::Alone && end == LeaseEnd::Complete);
        if !had_its_own {
            for held in self
                .leases
                .iter_mut()
                .filter(|held| held.port == ended.port)
            {
                held.late_one_expected |= held.progress != Progress::Alone
                    && held.request.could_take_for_its_own(&ended.request);
            }
            self.rests.push(Rest {
                port: ended.port,
                former: ended.request,
                until: now + ended.request.reuse_delay,
            });
        }
        self.settle(ended.port, now, effects);
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Reports to each lease with a port when others begin or cease to wait for one.
    pub fn tell_whether_wanted(&mut self, effects: &mut Vec<Effect>) {
        let wanted = !self.queue.is_empty();
        for held in self.leases.iter_mut().filter(|held| held.wanted != wanted) {
            held.wanted = wanted;
            effects.push(Effect::Wanted(held.id, wanted));
        }
    }
}
