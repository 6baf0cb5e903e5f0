//! The assignment of ports to leases, and its time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::{
    Ambiguity, Attribution, Effect, Identity, LeaseId, LeaseRequest, UnassignedConnections,
};
use super::{ClientLeases, Cooldown, GrantedLease, LeaseProgress, QueuedRequest};

/// How long a client may have a port that another one waits for, if it has connected and begins no transfer. A distant
/// client connects and sends its command within two round trips.
const MAX_IDLE: Duration = Duration::from_secs(2);

impl ClientLeases {
    /// Grants ports to the leases that can have one, first come, first served: no lease overtakes an earlier one that
    /// it could block, which would otherwise wait without end. A named lease blocks one that depends on being alone only by
    /// ending without its connection, so that the port cools down: where that happens, named ones overtake the others for no
    /// longer than a port cools down.
    pub fn grant(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.queue.is_empty() {
            return;
        }
        self.cooldowns.retain(|cooldown| cooldown.until > now);
        self.withdraw_idle(now, effects);
        // The first request of each kind stands for those behind it, which become the first later.
        let [mut first_alone, mut first_named, mut first_required] = [None::<LeaseRequest>; 3];
        let mut is_overdue = false;
        let mut index = 0;
        while let Some(queued) = self.queue.get(index) {
            let mut request = queued.request;
            let mut passed = first_alone
                .iter()
                .chain(&first_named)
                .chain(&first_required);
            let waits = (is_overdue && self.delays_others(&request))
                || passed.any(|other| request.conflicts_with(other));
            match (!waits).then(|| self.free_port(queued)).flatten() {
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
                    let first = match request.identity {
                        Identity::Named(_) | Identity::Resuming(_) => &mut first_named,
                        Identity::Required(_) => &mut first_required,
                        Identity::Address | Identity::Unproven(_) => {
                            is_overdue |= queued.since + request.reuse_delay <= now;
                            &mut first_alone
                        }
                    };
                    first.get_or_insert(request);
                    index += 1;
                }
            }
        }
        self.schedule_wake(now, effects);
    }

    /// Whether granting the request may keep those that depend on being alone waiting: a named one does by ending without its
    /// connection, and some do that now.
    fn delays_others(&self, request: &LeaseRequest) -> bool {
        let was_named = |cooldown: &Cooldown| cooldown.former.identity.is_named();
        !request.identity.is_named() || self.cooldowns.iter().any(was_named)
    }

    /// Ends the leases that the first one in the queue waits for, if their clients have connected and begun no transfer for
    /// a while: an idle neighbour would keep all others of the address from a port.
    pub(super) fn withdraw_idle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(first) = self.queue.front() else {
            return;
        };
        let is_idle = |held: &&GrantedLease| {
            held.idle_since.is_some_and(|since| since + MAX_IDLE <= now)
                && first.ports.contains(&held.port)
                && first.request.conflicts_with(&held.request)
                && held.progress == LeaseProgress::Alone
        };
        let idle: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(is_idle)
            .map(|held| held.id)
            .collect();
        for id in idle {
            self.withdraw(id, Ambiguity::Withdrawn, now, effects);
        }
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
        if self.wakes_at.is_none_or(|wakes_at| until < wakes_at) {
            self.wakes_at = Some(until);
            effects.push(Effect::WakeAt(client, until));
        }
    }

    /// A port that nothing else of the address uses, or else one where the lease can be distinguished from the others;
    /// the least recently used one of several.
    pub(super) fn free_port(&self, queued: &QueuedRequest) -> Option<SocketAddr> {
        let QueuedRequest {
            id, request, ports, ..
        } = queued;
        // From a different one on for each lease, so that late connections of one address rarely meet another's.
        let first = usize::try_from(id.0).unwrap_or_default() % ports.len().max(1);
        let rotated = ports.iter().cycle().skip(first).take(ports.len()).copied();
        rotated
            .filter(|port| self.allows(*port, *id, request))
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
