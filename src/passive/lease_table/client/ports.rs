//! The assignment of ports to leases, and its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{
    Ambiguity, Attribution, Effect, Identity, LeaseId, LeaseRequest, UnassignedConnections,
};
use super::{ClientLeases, Cooldown, GrantedLease, LeaseProgress, QueuedRequest};

/// How long a client may have a port that another one waits for, if it has connected and begins no transfer. A distant
/// client connects and sends its command within two round trips.
const MAX_IDLE: Duration = Duration::from_secs(2);

/// The requests that have to wait, in front of those that come after them. The first one of each kind for the same ports stands
/// for those behind it, which become the first later.
#[derive(Debug, Default)]
struct Waiting(Vec<FirstWaiting>);

#[derive(Debug)]
struct FirstWaiting {
    kind: WaitingKind,
    request: LeaseRequest,
    ports: Arc<[SocketAddr]>,
    /// Whether one of its kind has waited for longer than a port cools down.
    is_overdue: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitingKind {
    Alone,
    Named,
    Required,
}

impl Waiting {
    fn add(&mut self, queued: &QueuedRequest, now: Instant) {
        let kind = match queued.request.identity {
            Identity::Named(_) | Identity::Resuming(_) => WaitingKind::Named,
            Identity::Required(_) => WaitingKind::Required,
            Identity::Address | Identity::Unproven(_) => WaitingKind::Alone,
        };
        let is_overdue =
            kind == WaitingKind::Alone && queued.since + queued.request.reuse_delay <= now;
        let is_same = |first: &&mut FirstWaiting| first.kind == kind && first.ports == queued.ports;
        match self.0.iter_mut().find(is_same) {
            Some(first) => first.is_overdue |= is_overdue,
            None => self.0.push(FirstWaiting {
                kind,
                request: queued.request,
                ports: Arc::clone(&queued.ports),
                is_overdue,
            }),
        }
    }

    /// The ports that others wait for which a lease with this request could keep from them. `delays_others` if it keeps those
    /// that are overdue from any port.
    fn kept_from(&self, request: &LeaseRequest, delays_others: bool) -> Vec<&Arc<[SocketAddr]>> {
        let waits_for_it = |first: &&FirstWaiting| {
            (first.is_overdue && delays_others) || request.conflicts_with(&first.request)
        };
        let first = self.0.iter().filter(waits_for_it);
        first.map(|first| &first.ports).collect()
    }
}

impl ClientLeases {
    /// Grants ports to the leases that can have one. Where that leaves some without, idle ones lose theirs.
    pub fn grant(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.queue.is_empty() {
            return;
        }
        self.cooldowns.retain(|cooldown| cooldown.until > now);
        self.grant_free(now, effects);
        if self.withdraw_idle(now, effects) {
            self.grant_free(now, effects);
        }
        self.schedule_wake(now, effects);
    }

    /// First come, first served: no lease overtakes an earlier one at a port where it could block it, which would otherwise wait
    /// without end. A named lease blocks one that depends on being alone only by
    /// ending without its connection, so that the port cools down: where that happens, named ones overtake the others for no
    /// longer than a port cools down.
    fn grant_free(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut waiting = Waiting::default();
        let mut index = 0;
        while let Some(queued) = self.queue.get(index) {
            let mut request = queued.request;
            let kept = waiting.kept_from(&request, self.delays_others(&request));
            match self.free_port(queued, &kept) {
                Some(port) => {
                    let id = queued.id;
                    if let Identity::Resuming(cache) = request.identity
                        && self.is_vacant(port)
                    {
                        request.identity = Identity::Unproven(cache);
                    }
                    self.queue.remove(index);
                    let granted = self.next_sequence();
                    self.used.insert(port, granted);
                    self.leases.push(GrantedLease {
                        id,
                        request,
                        port,
                        granted,
                        idle_since: Some(now),
                        progress: LeaseProgress::Pending,
                        saw_another: false,
                        late_one_expected: false,
                        attribution: Attribution::Certain,
                        unassigned: UnassignedConnections::default(),
                        own_was_closed: false,
                        contended: false,
                    });
                    let named = request.identity.is_named();
                    effects.push(Effect::Granted {
                        lease: id,
                        port,
                        named,
                    });
                }
                None => {
                    waiting.add(queued, now);
                    index += 1;
                }
            }
        }
    }

    /// Whether granting the request may keep those that depend on being alone waiting: a named one does by ending without its
    /// connection, and some do that now.
    fn delays_others(&self, request: &LeaseRequest) -> bool {
        let was_named = |cooldown: &Cooldown| cooldown.former.identity.is_named();
        !request.identity.is_named() || self.cooldowns.iter().any(was_named)
    }

    /// Ends the leases that the first one in the queue for these ports waits for, if their clients have connected and begun no
    /// transfer for a while: an idle neighbour would keep all others of the address from a port. Returns whether there were any.
    fn withdraw_idle(&mut self, now: Instant, effects: &mut Vec<Effect>) -> bool {
        let mut first: Vec<&QueuedRequest> = Vec::new();
        for queued in &self.queue {
            if first.iter().all(|other| other.ports != queued.ports) {
                first.push(queued);
            }
        }
        let is_idle = |held: &&GrantedLease| {
            held.idle_since.is_some_and(|since| since + MAX_IDLE <= now)
                && held.progress == LeaseProgress::Alone
                && first.iter().any(|first| {
                    first.ports.contains(&held.port) && first.request.conflicts_with(&held.request)
                })
        };
        let idle: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(is_idle)
            .map(|held| held.id)
            .collect();
        for id in &idle {
            self.withdraw(*id, Ambiguity::Withdrawn, now, effects);
        }
        !idle.is_empty()
    }

    pub(super) fn schedule_wake(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(client) = self.queue.front().map(|queued| queued.request.client) else {
            return;
        };
        let cooled_down = self.cooldowns.iter().map(|cooldown| cooldown.until);
        let idle = self
            .leases
            .iter()
            .filter(|held| held.progress == LeaseProgress::Alone);
        let idle = idle.filter_map(|held| held.idle_since);
        let idle_too_long = idle.map(|since| since + MAX_IDLE);
        // One that has been idle for longer blocks no other.
        let to_come = cooled_down.chain(idle_too_long).filter(|at| *at > now);
        let Some(until) = to_come.min() else {
            return;
        };
        // One that comes before asks for the next one.
        if self.wakes.first().is_none_or(|next| until < *next) {
            self.wakes.insert(until);
            effects.push(Effect::WakeAt(client, until));
        }
    }

    /// A port that nothing else of the address uses, or else one where the lease can be distinguished from the others;
    /// the least recently used one of several. None that is `kept` for others.
    fn free_port(&self, queued: &QueuedRequest, kept: &[&Arc<[SocketAddr]>]) -> Option<SocketAddr> {
        let QueuedRequest {
            id, request, ports, ..
        } = queued;
        if kept.contains(&ports) {
            return None;
        }
        let is_kept = |port: &SocketAddr| kept.iter().any(|kept| kept.contains(port));
        // From a different one on for each lease, so that late connections of one address rarely meet another's.
        let first = usize::try_from(id.0).unwrap_or_default() % ports.len().max(1);
        let rotated = ports.iter().cycle().skip(first).take(ports.len()).copied();
        rotated
            .filter(|port| !is_kept(port) && self.allows(*port, *id, request))
            .min_by_key(|port| (!self.is_vacant(*port), self.used.get(port)))
    }

    /// Whether a lease with this request can be distinguished from the others at a port, and from late connections
    /// there.
    pub(super) fn allows(&self, port: SocketAddr, id: LeaseId, request: &LeaseRequest) -> bool {
        // One that has named its session may be a stranger's that has seen the name on the wire.
        let mistaken = |held: &GrantedLease| {
            held.id != id
                && held.progress != LeaseProgress::Proven
                && request.conflicts_with(&held.request)
        };
        let late = |cooldown: &Cooldown| {
            request.accepts_late_connection_of(&cooldown.former)
                && !(cooldown.is_closed && request.is_of_the_session_of(&cooldown.former))
        };
        !self.at(port).any(mistaken) && !self.cooling_down(port).any(late)
    }

    pub(super) fn is_vacant(&self, port: SocketAddr) -> bool {
        self.at(port)
            .all(|held| held.progress == LeaseProgress::Proven)
            && self.cooling_down(port).next().is_none()
    }

    pub(super) fn cooling_down(&self, port: SocketAddr) -> impl Iterator<Item = &Cooldown> {
        self.cooldowns
            .iter()
            .filter(move |cooldown| cooldown.port == port)
    }
}
