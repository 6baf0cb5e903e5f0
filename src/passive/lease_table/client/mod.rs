//! The leases, the unassigned connections and the ports that cool down of one client address, and the life of a lease from its
//! request to its end.

mod connections;
mod evaluate;
mod ports;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Attribution, ConnectionId, Effect, Identity, LeaseEnd, LeaseId, LeaseRequest,
    UnassignedConnections,
};

#[derive(Debug, Default)]
pub(super) struct ClientLeases {
    leases: Vec<GrantedLease>,
    /// Connections that are not identified, or not assigned yet; in the order of their arrival.
    connections: Vec<Connection>,
    cooldowns: Vec<Cooldown>,
    /// The requests that wait for a port, the first of them in front.
    queue: VecDeque<QueuedRequest>,
    /// When each port was last used.
    used: HashMap<SocketAddr, u64>,
    /// The last number in the order of grants, arrivals and ends.
    sequence: u64,
    /// For when calls of [`ClientLeases::wake`] have been asked for, and are yet to come.
    wakes: BTreeSet<Instant>,
    /// Since when the client has had nothing here, if it hasn't: its key among those.
    pub quiet_since: Option<u64>,
}

/// A lease that has a port.
#[derive(Debug)]
struct GrantedLease {
    id: LeaseId,
    request: LeaseRequest,
    port: SocketAddr,
    granted: u64,
    /// Since when the client has had the port without a transfer; `None` once the transfer has begun.
    idle_since: Option<Instant>,
    progress: LeaseProgress,
    /// A connection arrived at the port that may have been the lease's own, and was not accepted.
    saw_another: bool,
    /// Whether another lease ended whose connection may still arrive at the port, and be taken for this lease's.
    late_one_expected: bool,
    attribution: Attribution,
    unassigned: UnassignedConnections,
    /// A connection that could only be its own has come, and was closed before it sent anything.
    own_was_closed: bool,
    /// Whether others wait for a port, as last reported to its session.
    contended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseProgress {
    /// No connection is the lease's yet.
    Pending,
    /// A connection has named the lease's session, and has yet to prove it.
    NamedBy(ConnectionId),
    /// A connection is the lease's own because of its address alone.
    Alone,
    /// The lease's connection has proven to be its own: other connections to the port don't change that.
    Proven,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    id: ConnectionId,
    port: SocketAddr,
    arrived: u64,
    claim: Claim,
}

/// The session that a connection claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Pending,
    /// No TLS session by which it could be identified.
    Unnamed,
    /// The session of this lease, to which another connection was handed before.
    QueuedBehind(LeaseId),
}

/// A port at which the connection of a lease that has ended may still arrive.
#[derive(Debug)]
struct Cooldown {
    port: SocketAddr,
    former: LeaseRequest,
    until: Instant,
    /// Whether the former lease's transfer was refused and its one connection has come, as far as can be known. A later one may
    /// yet be its own, which the client has closed by now: that does no handshake, but to a session in clear text it would be the
    /// end of a file.
    is_closed: bool,
}

#[derive(Debug)]
struct QueuedRequest {
    id: LeaseId,
    request: LeaseRequest,
    since: Instant,
    /// Any of them will do.
    ports: Arc<[SocketAddr]>,
}

impl GrantedLease {
    /// Whether a connection that arrives can be its own.
    fn expects(&self) -> bool {
        matches!(
            self.progress,
            LeaseProgress::Pending | LeaseProgress::NamedBy(_)
        )
    }

    /// Whether the lease's one connection seems to have come, though it may have sent nothing: lftp and FileZilla wait for the
    /// 150.
    fn has_seen_its_own(&self) -> bool {
        matches!(
            self.progress,
            LeaseProgress::NamedBy(_) | LeaseProgress::Alone
        ) || self.own_was_closed
            || self.unassigned.exclusive > 0
    }

    /// Whether other connections at the port can make its own one ambiguous.
    fn depends_on_being_alone(&self) -> bool {
        !self.request.identity.is_named() && self.progress != LeaseProgress::Proven
    }
}

impl ClientLeases {
    pub fn is_quiet(&self) -> bool {
        self.leases.is_empty() && self.queue.is_empty() && self.connections.is_empty()
    }

    /// How many leases have a port and no connection.
    pub fn pending(&self) -> usize {
        let pending = |held: &&GrantedLease| held.progress == LeaseProgress::Pending;
        self.leases.iter().filter(pending).count()
    }

    /// Whether no late connection is to be expected at any port.
    pub fn has_cooled_down(&self, now: Instant) -> bool {
        self.cooldowns.iter().all(|cooldown| cooldown.until <= now)
    }

    /// How many leases hold or wait for one of these ports that no other of them can have at the same time.
    pub fn exclusive_leases(&self, ports: &[SocketAddr]) -> usize {
        let held = self
            .leases
            .iter()
            .filter(|held| held.depends_on_being_alone() && ports.contains(&held.port));
        let is_one_of_them = |queued: &&QueuedRequest| *queued.ports == *ports;
        held.count() + self.queue.iter().filter(is_one_of_them).count()
    }

    pub fn request(
        &mut self,
        id: LeaseId,
        request: LeaseRequest,
        ports: &Arc<[SocketAddr]>,
        now: Instant,
    ) {
        self.queue.push_back(QueuedRequest {
            id,
            request,
            since: now,
            ports: Arc::clone(ports),
        });
    }

    /// A connection of a lease of an earlier process may arrive at this port until then.
    pub fn cool_down_since_opened(
        &mut self,
        port: SocketAddr,
        until: Instant,
        request: &LeaseRequest,
    ) {
        let former = LeaseRequest {
            identity: Identity::Address,
            ..*request
        };
        let is_known = |cooldown: &Cooldown| {
            cooldown.port == port && cooldown.until >= until && cooldown.former == former
        };
        if !self.cooldowns.iter().any(is_known) {
            self.cooldowns.push(Cooldown {
                port,
                former,
                until,
                is_closed: false,
            });
        }
    }

    pub fn wake(&mut self, now: Instant) {
        self.wakes.retain(|at| *at > now);
    }

    fn at(&self, port: SocketAddr) -> impl Iterator<Item = &GrantedLease> {
        self.leases.iter().filter(move |held| held.port == port)
    }

    fn lease(&self, id: LeaseId) -> Option<&GrantedLease> {
        self.leases.iter().find(|held| held.id == id)
    }

    fn lease_mut(&mut self, id: LeaseId) -> Option<&mut GrantedLease> {
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
        held.request.identity = match identity {
            // It was granted as one that takes a connection which names nothing, and one may have been taken. What names
            // the session proves that it is its own; all else still has to be alone.
            Identity::Named(cache) | Identity::Resuming(cache) | Identity::Required(cache)
                if !held.request.identity.is_named() =>
            {
                Identity::Unproven(cache)
            }
            identity => identity,
        };
        let (port, request) = (held.port, held.request);
        let is_distinguishable = self.allows(port, id, &request);
        if let Some(held) = self.lease_mut(id) {
            // It would have got another port.
            held.late_one_expected |= !is_distinguishable;
        }
        self.evaluate(port, now, effects);
    }

    pub fn proven(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
        let Some(held) = self.lease_mut(id) else {
            return;
        };
        let is_proof = match held.progress {
            LeaseProgress::NamedBy(_) => true,
            // It was taken for being alone, and has resumed after all: PROT has changed since PASV. Programs that share a
            // cache resume any session of theirs.
            LeaseProgress::Alone => {
                let cache = held.request.identity.cache();
                cache.is_some_and(|cache| !cache.is_shared())
            }
            LeaseProgress::Pending | LeaseProgress::Proven => false,
        };
        if is_proof {
            held.progress = LeaseProgress::Proven;
            let port = held.port;
            self.evaluate(port, now, effects);
        }
    }

    pub fn unproven(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
        let another_named_it = self.has_queued_behind(id);
        if let Some(held) = self.lease_mut(id)
            && held.depends_on_being_alone()
        {
            held.saw_another |= another_named_it;
            held.progress = LeaseProgress::Alone;
            let port = held.port;
            self.evaluate(port, now, effects);
        }
    }

    pub fn reopen(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(held) = self.lease_mut(id) else {
            return;
        };
        held.progress = LeaseProgress::Pending;
        let behind = |connection: &Connection| connection.claim == Claim::QueuedBehind(id);
        if let Some(index) = self.connections.iter().position(behind) {
            let named = LeaseProgress::NamedBy(self.connections[index].id);
            self.assign(index, id, named, effects);
        }
    }

    pub fn end(&mut self, id: LeaseId, end: LeaseEnd, now: Instant, effects: &mut Vec<Effect>) {
        self.queue.retain(|queued| queued.id != id);
        let Some(index) = self.leases.iter().position(|held| held.id == id) else {
            return;
        };
        let ended = self.leases.remove(index);
        let ended_at = self.next_sequence();
        self.used.insert(ended.port, ended_at);
        let had_its_own = ended.progress == LeaseProgress::Proven
            || (ended.progress == LeaseProgress::Alone && end == LeaseEnd::Complete);
        if !had_its_own {
            for held in self
                .leases
                .iter_mut()
                .filter(|held| held.port == ended.port)
            {
                held.late_one_expected |= held.progress != LeaseProgress::Alone
                    && held.request.accepts_late_connection_of(&ended.request);
            }
            self.cooldowns.push(Cooldown {
                port: ended.port,
                former: ended.request,
                until: now + ended.request.reuse_delay,
                is_closed: end == LeaseEnd::Refused && ended.has_seen_its_own(),
            });
        }
        self.evaluate(ended.port, now, effects);
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Reports to each lease with a port when others begin or cease to wait for that one or others that would do.
    pub fn notify_contention(&mut self, effects: &mut Vec<Effect>) {
        let mut wanted: Vec<&Arc<[SocketAddr]>> = Vec::new();
        for queued in &self.queue {
            if !wanted.contains(&&queued.ports) {
                wanted.push(&queued.ports);
            }
        }
        for held in &mut self.leases {
            let contended = wanted.iter().any(|ports| ports.contains(&held.port));
            if held.contended != contended {
                held.contended = contended;
                effects.push(Effect::Contended(held.id, contended));
            }
        }
    }
}
