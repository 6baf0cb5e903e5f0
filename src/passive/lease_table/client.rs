//! The leases, the undecided connections and the resting ports of one client address.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    ConnectionId, Doubt, Effect, Heard, Identity, LeaseEnd, LeaseId, LeaseRequest, Nearby, Refused,
    Standing,
};
use crate::tls::Whose;

#[derive(Debug, Default)]
pub(super) struct Client {
    leases: Vec<Held>,
    /// Those that have yet to say whose they are, or whose word has yet to be settled; in the order of their arrival.
    connections: Vec<Connection>,
    rests: Vec<Rest>,
    /// Those that wait for a port, the first of them in front.
    queue: VecDeque<Queued>,
    /// When each port was last used.
    used: HashMap<SocketAddr, u64>,
    /// The last place in the order of grants, arrivals and ends.
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
    /// Another lease ended whose connection may yet come to the port, and be taken for this lease's.
    late_one_expected: bool,
    standing: Standing,
    nearby: Nearby,
    /// Whether others wait for a port, as far as its session has been told.
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
    /// Something that names no session that it could be told by.
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

    /// Whether other connections at the port can make its own one doubtful.
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

    /// Grants ports to the leases that can have one, first come, first served: none passes one that it could get in the way
    /// of, which would else wait for ever.
    pub fn grant(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.queue.is_empty() {
            return;
        }
        self.rests.retain(|rest| rest.until > now);
        self.withdraw_from_the_idle(now, effects);
        // The first one of either kind stands for those behind it, which come to be the first.
        let (mut first_alone, mut first_named) = (None::<LeaseRequest>, None::<LeaseRequest>);
        let mut index = 0;
        while let Some(queued) = self.queue.get(index) {
            let mut request = queued.request;
            let mut passed = first_alone.iter().chain(&first_named);
            let waits = passed.any(|other| request.conflicts_with(other));
            match (!waits).then(|| self.free_port(queued)).flatten() {
                Some(port) => {
                    let id = queued.id;
                    if let Identity::Resuming(cache) = request.identity
                        && self.is_vacant(port)
                    {
                        request.identity = Identity::Unproven(cache);
                    }
                    self.queue.remove(index);
                    let granted = self.next_moment();
                    self.used.insert(port, granted);
                    self.leases.push(Held {
                        id,
                        request,
                        port,
                        granted,
                        idle_since: Some(now),
                        progress: Progress::Pending,
                        another_came: false,
                        late_one_expected: false,
                        standing: Standing::Certain,
                        nearby: Nearby::default(),
                        wanted: false,
                    });
                    let named = request.identity.is_named();
                    effects.push(Effect::Granted {
                        lease: id,
                        port,
                        named,
                    });
                }
                None => {
                    let first = if request.identity.is_named() {
                        &mut first_named
                    } else {
                        &mut first_alone
                    };
                    first.get_or_insert(request);
                    index += 1;
                }
            }
        }
        self.ask_to_be_woken(now, effects);
    }

    /// Ends the leases that the first one in the queue waits for, if their clients have connected and begun no transfer for
    /// a while: an idle neighbour would keep all others of the address from a port.
    fn withdraw_from_the_idle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(first) = self.queue.front() else {
            return;
        };
        let is_idle = |held: &&Held| {
            held.idle_since
                .is_some_and(|since| since + IDLE_AT_MOST <= now)
                && first.ports.contains(&held.port)
                && first.request.conflicts_with(&held.request)
                && held.progress == Progress::Alone
        };
        let idle: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(is_idle)
            .map(|held| held.id)
            .collect();
        for id in idle {
            self.give_up(id, Doubt::Withdrawn, now, effects);
        }
    }

    fn ask_to_be_woken(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(client) = self.queue.front().map(|queued| queued.request.client) else {
            return;
        };
        let rested = self.rests.iter().map(|rest| rest.until);
        let idle = self
            .leases
            .iter()
            .filter(|held| held.progress == Progress::Alone);
        let idle = idle.filter_map(|held| held.idle_since);
        let idle_too_long = idle.map(|since| since + IDLE_AT_MOST);
        // One that has been idle for longer is in nobody's way.
        let to_come = rested.chain(idle_too_long).filter(|at| *at > now);
        let Some(until) = to_come.min() else {
            return;
        };
        if self.wakes_at.is_none_or(|wakes_at| until < wakes_at) {
            self.wakes_at = Some(until);
            effects.push(Effect::WakeAt(client, until));
        }
    }

    pub fn wake(&mut self) {
        self.wakes_at = None;
    }

    /// A port that nothing else of the address uses, or else one where the lease is told from the others; of several the
    /// one whose last use by the address is longest ago.
    fn free_port(&self, queued: &Queued) -> Option<SocketAddr> {
        let Queued { id, request, ports } = queued;
        // From a different one on for each lease, so that late connections of one address rarely meet another's.
        let first = usize::try_from(id.0).unwrap_or_default() % ports.len().max(1);
        let turned = ports.iter().cycle().skip(first).take(ports.len()).copied();
        turned
            .filter(|port| self.allows(*port, *id, request))
            .min_by_key(|port| (!self.is_vacant(*port), self.used.get(port)))
    }

    /// Whether a lease with this request can be told from the others at a port, and from what may come late there.
    fn allows(&self, port: SocketAddr, id: LeaseId, request: &LeaseRequest) -> bool {
        // One that has named its session may be a stranger's that has seen the name on the wire.
        let mistaken = |held: &Held| {
            held.id != id
                && held.progress != Progress::Proven
                && request.conflicts_with(&held.request)
        };
        let late = |rest: &Rest| request.could_take_for_its_own(&rest.former);
        !self.at(port).any(mistaken) && !self.resting(port).any(late)
    }

    fn is_vacant(&self, port: SocketAddr) -> bool {
        self.at(port).all(|held| held.progress == Progress::Proven)
            && self.resting(port).next().is_none()
    }

    fn at(&self, port: SocketAddr) -> impl Iterator<Item = &Held> {
        self.leases.iter().filter(move |held| held.port == port)
    }

    /// The leases that a connection can be meant for which arrived then: those that had their port by that time, and wait.
    fn candidates(&self, port: SocketAddr, arrived: u64) -> impl Iterator<Item = &Held> {
        self.at(port)
            .filter(move |held| held.expects() && held.granted < arrived)
    }

    /// The only one of them, if there is no other.
    fn only_candidate(&self, port: SocketAddr, arrived: u64) -> Option<LeaseId> {
        let mut candidates = self.candidates(port, arrived);
        let first = candidates.next()?;
        candidates.next().is_none().then_some(first.id)
    }

    fn resting(&self, port: SocketAddr) -> impl Iterator<Item = &Rest> {
        self.rests.iter().filter(move |rest| rest.port == port)
    }

    fn lease(&self, id: LeaseId) -> Option<&Held> {
        self.leases.iter().find(|held| held.id == id)
    }

    fn lease_mut(&mut self, id: LeaseId) -> Option<&mut Held> {
        self.leases.iter_mut().find(|held| held.id == id)
    }

    pub fn arrive(
        &mut self,
        id: ConnectionId,
        port: SocketAddr,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let arrived = self.next_moment();
        if self.candidates(port, arrived).next().is_none() {
            effects.push(Effect::Reset(id, Refused::Stranger));
            return self.stranger_at(port, arrived, now, effects);
        }
        self.count_undecided(port, arrived, 1, effects);
        self.connections.push(Connection {
            id,
            port,
            arrived,
            word: Word::None,
        });
        self.settle(port, now, effects);
        if self
            .connections
            .iter()
            .any(|connection| connection.id == id)
        {
            effects.push(Effect::Hear(id));
        }
        self.bound(now, effects);
    }

    /// Keeps the undecided connections to a number. The lease that has most of them loses its latest one: a flood at one
    /// lease takes no place from another's first connection, nor from the first of its own.
    fn bound(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.connections.len() <= SPARE_UNDECIDED + 2 * self.leases.len() {
            return;
        }
        let charged_to = |connection: &Connection| {
            let candidates = self.candidates(connection.port, connection.arrived);
            candidates.map(|held| (held.granted, held.id)).max()
        };
        let mut counts: HashMap<(u64, LeaseId), usize> = HashMap::new();
        for lease in self.connections.iter().filter_map(charged_to) {
            *counts.entry(lease).or_default() += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(lease, count)| (*count, *lease));
        let latest = self
            .connections
            .iter()
            .rposition(|connection| charged_to(connection) == most.map(|(lease, _)| lease));
        if let Some(latest) = latest {
            self.turn_away(latest, Refused::TooMany, now, effects);
        }
    }

    pub fn heard(
        &mut self,
        id: ConnectionId,
        heard: Heard,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.position(id) else {
            return;
        };
        match heard {
            Heard::Named(whose) => self.named(index, &whose, now, effects),
            Heard::Unnamed => self.unnamed(index, now, effects),
            Heard::Nothing => self.ended(index, now, effects),
        }
    }

    fn named(&mut self, index: usize, whose: &Whose, now: Instant, effects: &mut Vec<Effect>) {
        let Connection {
            id, port, arrived, ..
        } = self.connections[index];
        let own = self.candidates(port, arrived).find(|held| {
            let cache = held.request.identity.cache();
            cache.is_some_and(|cache| cache.session() == whose.session)
        });
        if let Some(own) = own {
            let lease = own.id;
            match own.progress {
                // Any session of a program that shares its cache may be named on this one's connection.
                _ if !own.request.identity.is_named() && whose.cache.is_shared() => {
                    return self.unnamed(index, now, effects);
                }
                Progress::Pending => self.hand(index, lease, Progress::NamedBy(id), effects),
                Progress::NamedBy(_) if !self.is_waited_behind(lease) => {
                    self.connections[index].word = Word::Behind(lease);
                }
                Progress::NamedBy(_) | Progress::Alone | Progress::Proven => {
                    self.dismiss(index, Refused::Stranger, effects);
                }
            }
            return self.settle(port, now, effects);
        }
        let sharing = self.candidates(port, arrived).find_map(|held| {
            let cache = held.request.identity.cache().copied()?;
            let known = cache.is_shared() && whose.cache.is_shared();
            // It may have yet to log in.
            let likely = whose
                .account
                .is_none_or(|account| account == held.request.account)
                && !cache.is_separate_from(&whose.cache);
            (!held.request.identity.is_named() && (known || likely)).then_some(cache.session())
        });
        match sharing {
            Some(one) => {
                let other = whose.session;
                effects.push(Effect::ShareACache { one, other });
                self.unnamed(index, now, effects);
            }
            // It belongs to that session, which doesn't wait for it, or to nobody.
            None => {
                self.tell_turned_away(index, effects);
                self.dismiss(index, Refused::Stranger, effects);
                self.settle(port, now, effects);
            }
        }
    }

    fn unnamed(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect>) {
        let connection = &mut self.connections[index];
        connection.word = Word::Unnamed;
        let (port, arrived, id) = (connection.port, connection.arrived, connection.id);
        let takes_unnamed = |held: &Held| !held.request.identity.is_named();
        if self.candidates(port, arrived).any(takes_unnamed) {
            return self.settle(port, now, effects);
        }
        if let Some(index) = self.position(id) {
            self.tell_turned_away(index, effects);
            self.turn_away(index, Refused::Stranger, now, effects);
        }
    }

    /// The connection ended without a word. It may have been the client's, who is told if no other one comes.
    fn ended(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect>) {
        self.tell_turned_away(index, effects);
        self.turn_away(index, Refused::Stranger, now, effects);
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

    /// Decides whatever can be decided at a port now.
    fn settle(&mut self, port: SocketAddr, now: Instant, effects: &mut Vec<Effect>) {
        self.dismiss_those_that_nobody_expects(port, effects);
        let dependent = self.at(port).filter(|held| held.depends_on_being_alone());
        // There is one, unless one of them became so after its grant.
        let dependent: Vec<LeaseId> = dependent.map(|held| held.id).collect();
        for id in dependent {
            self.settle_lease(id, now, effects);
        }
    }

    fn dismiss_those_that_nobody_expects(&mut self, port: SocketAddr, effects: &mut Vec<Effect>) {
        let expecting = self.at(port).filter(|held| held.expects());
        let first = expecting.map(|held| held.granted).min();
        let is_over = |connection: &Connection| {
            connection.port == port && first.is_none_or(|first| connection.arrived < first)
        };
        while let Some(index) = self.connections.iter().position(is_over) {
            let Connection { arrived, word, .. } = self.connections[index];
            // Or else the lease that it may have been meant for has ended.
            let others_came = self.at(port).any(|held| held.granted < arrived);
            let refused = if others_came {
                Refused::Stranger
            } else {
                Refused::TooLate
            };
            self.dismiss(index, refused, effects);
            // One that has named a session is no other lease's.
            if !matches!(word, Word::Behind(_)) {
                self.mark_stranger(port, arrived);
            }
        }
    }

    /// A lease that takes a connection that was alone: whether there is one, and whether the one that it has still was.
    fn settle_lease(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
        let Some(held) = self.lease(id) else {
            return;
        };
        // Another lease that waits, and was there first, may be what a connection is for.
        let others_waiting = self
            .at(held.port)
            .filter(|other| other.id != id && other.expects());
        let first = others_waiting.map(|other| other.granted).min();
        let others: Vec<(ConnectionId, bool)> = self
            .others_of(held)
            .map(|connection| {
                let could = could_be_taken(connection, held)
                    && first.is_none_or(|first| connection.arrived < first);
                (connection.id, could)
            })
            .collect();
        let doubt = if held.another_came {
            Some(Doubt::AnotherConnection)
        } else if held.late_one_expected {
            Some(Doubt::LateConnection)
        } else if others.iter().filter(|(_, could)| *could).count() > 1 {
            Some(Doubt::AnotherConnection)
        } else {
            None
        };
        let standing = match (held.progress, others.as_slice(), doubt) {
            (Progress::Alone, _, Some(doubt)) => Standing::Ambiguous(doubt),
            (Progress::Alone, [], None) => Standing::Certain,
            (Progress::Alone, _, None) => Standing::Unsettled,
            // Its name may yet prove that it is its own.
            (Progress::NamedBy(_) | Progress::Proven, _, _) => Standing::Certain,
            (Progress::Pending, _, Some(doubt)) => {
                if held.request.identity == Identity::Address {
                    Standing::Ambiguous(doubt)
                } else {
                    let unnamed = others.iter().filter(|(_, could)| *could);
                    let unnamed: Vec<ConnectionId> = unnamed.map(|(id, _)| *id).collect();
                    self.refuse_unnamed(id, &unnamed, doubt, effects);
                    Standing::Certain
                }
            }
            (Progress::Pending, _, None) => {
                // Others that are there may still name their sessions.
                let own = others.iter().find(|(_, could)| *could);
                if let Some(index) = own.and_then(|(own, _)| self.position(*own)) {
                    self.hand(index, id, Progress::Alone, effects);
                    return self.settle_lease(id, now, effects);
                }
                Standing::Certain
            }
        };
        if let Standing::Ambiguous(doubt) = standing {
            return self.give_up(id, doubt, now, effects);
        }
        if let Some(held) = self.lease_mut(id)
            && held.standing != standing
        {
            held.standing = standing;
            effects.push(Effect::Standing(id, standing));
        }
    }

    /// Resets connections that name nothing: nothing tells whether one of them is the lease's. One that names its session
    /// may still come.
    fn refuse_unnamed(
        &mut self,
        lease: LeaseId,
        unnamed: &[ConnectionId],
        doubt: Doubt,
        effects: &mut Vec<Effect>,
    ) {
        for id in unnamed {
            if let Some(index) = self.position(*id) {
                effects.push(Effect::TurnedAway(lease, Some(doubt)));
                self.dismiss(index, Refused::Stranger, effects);
            }
        }
        if let Some(held) = self.lease_mut(lease) {
            held.another_came |= !unnamed.is_empty();
        }
    }

    /// Ends a lease of which nothing can come any more.
    fn give_up(&mut self, id: LeaseId, doubt: Doubt, now: Instant, effects: &mut Vec<Effect>) {
        effects.push(Effect::Standing(id, Standing::Ambiguous(doubt)));
        self.end(id, LeaseEnd::Incomplete, now, effects);
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// The connections that may be the lease's own, as far as they have said: those that came to its port since its grant.
    fn others_of(&self, held: &Held) -> impl Iterator<Item = &Connection> {
        let (port, granted) = (held.port, held.granted);
        self.connections.iter().filter(move |connection| {
            connection.port == port
                && connection.arrived > granted
                && !matches!(connection.word, Word::Behind(_))
        })
    }

    fn hand(
        &mut self,
        index: usize,
        lease: LeaseId,
        progress: Progress,
        effects: &mut Vec<Effect>,
    ) {
        let connection = self.connections.remove(index);
        if let Some(held) = self.lease_mut(lease) {
            held.progress = progress;
        }
        effects.push(Effect::Hand {
            connection: connection.id,
            lease,
        });
        self.count_undecided(connection.port, connection.arrived, -1, effects);
    }

    /// Tells the leases that a connection may be meant for that there is one, or is none any more.
    fn count_undecided(
        &mut self,
        port: SocketAddr,
        arrived: u64,
        change: isize,
        effects: &mut Vec<Effect>,
    ) {
        let only = self.only_candidate(port, arrived);
        let candidates = self.leases.iter_mut();
        let candidates =
            candidates.filter(|held| held.port == port && held.expects() && held.granted < arrived);
        for held in candidates {
            let before = held.nearby;
            held.nearby.all = before.all.saturating_add_signed(change);
            if only == Some(held.id) {
                held.nearby.no_others = before.no_others.saturating_add_signed(change);
            }
            if held.nearby.is_there() != before.is_there() {
                effects.push(Effect::Undecided(held.id, held.nearby));
            }
        }
    }

    /// Tells each lease that has a port if whether others wait for one has changed.
    pub fn tell_whether_wanted(&mut self, effects: &mut Vec<Effect>) {
        let wanted = !self.queue.is_empty();
        for held in self.leases.iter_mut().filter(|held| held.wanted != wanted) {
            held.wanted = wanted;
            effects.push(Effect::Wanted(held.id, wanted));
        }
    }

    /// Resets a connection that can't have been meant for a lease that depends on being alone.
    fn dismiss(&mut self, index: usize, refused: Refused, effects: &mut Vec<Effect>) {
        let connection = self.connections.remove(index);
        effects.push(Effect::Reset(connection.id, refused));
        self.count_undecided(connection.port, connection.arrived, -1, effects);
    }

    /// Resets a connection that may have been meant for one.
    fn turn_away(
        &mut self,
        index: usize,
        refused: Refused,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let (port, arrived) = (
            self.connections[index].port,
            self.connections[index].arrived,
        );
        self.dismiss(index, refused, effects);
        self.stranger_at(port, arrived, now, effects);
    }

    fn stranger_at(
        &mut self,
        port: SocketAddr,
        arrived: u64,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.mark_stranger(port, arrived);
        self.settle(port, now, effects);
    }

    fn mark_stranger(&mut self, port: SocketAddr, arrived: u64) {
        for held in &mut self.leases {
            if held.port == port && held.granted < arrived && held.depends_on_being_alone() {
                held.another_came = true;
            }
        }
    }

    /// Tells the lease that a connection was turned away, if it could have been meant for no other.
    fn tell_turned_away(&self, index: usize, effects: &mut Vec<Effect>) {
        let Connection { port, arrived, .. } = self.connections[index];
        if let Some(only) = self.only_candidate(port, arrived) {
            effects.push(Effect::TurnedAway(only, None));
        }
    }

    fn is_waited_behind(&self, lease: LeaseId) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.word == Word::Behind(lease))
    }

    fn position(&self, id: ConnectionId) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.id == id)
    }
}

/// Whether a connection has said all that it needs to be the lease's for being alone.
fn could_be_taken(connection: &Connection, held: &Held) -> bool {
    connection.word == Word::Unnamed || held.request.identity == Identity::Address
}

/// How long a client may have a port that another one waits for, if it has connected and begins no transfer. A distant
/// client connects and sends its command within two round trips.
const IDLE_AT_MOST: Duration = Duration::from_secs(2);

/// How many connections of one address may leave it open whose they are, beside each lease's own and one stranger for each.
const SPARE_UNDECIDED: usize = 64;
