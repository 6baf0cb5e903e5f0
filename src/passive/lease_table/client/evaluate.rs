//! Deciding what can be decided at a port: which unnamed connection belongs to a lease because it was alone, and which
//! lease has become ambiguous.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::{
    Ambiguity, Attribution, ConnectionId, Effect, Identity, LeaseEnd, LeaseId, ResetReason,
};
use super::{Claim, ClientLeases, Connection, GrantedLease, LeaseProgress};

impl ClientLeases {
    /// Decides whatever can be decided at a port now.
    pub(super) fn evaluate(&mut self, port: SocketAddr, now: Instant, effects: &mut Vec<Effect>) {
        self.dismiss_unexpected(port, effects);
        let dependent = self.at(port).filter(|held| held.depends_on_being_alone());
        // There is one, unless one of them became so after its grant.
        let dependent: Vec<LeaseId> = dependent.map(|held| held.id).collect();
        for id in dependent {
            self.evaluate_lease(id, now, effects);
        }
    }

    pub(super) fn dismiss_unexpected(&mut self, port: SocketAddr, effects: &mut Vec<Effect>) {
        let expecting = self.at(port).filter(|held| held.expects());
        let first = expecting.map(|held| held.granted).min();
        let is_over = |connection: &Connection| {
            connection.port == port && first.is_none_or(|first| connection.arrived < first)
        };
        while let Some(index) = self.connections.iter().position(is_over) {
            let Connection { arrived, claim, .. } = self.connections[index];
            // Or else the lease that it may have been meant for has ended.
            let saw_others = self.at(port).any(|held| held.granted < arrived);
            let refused = if saw_others {
                ResetReason::Stranger
            } else {
                ResetReason::TooLate
            };
            self.dismiss(index, refused, effects);
            // One that has named a session can't belong to another lease.
            if !matches!(claim, Claim::QueuedBehind(_)) {
                self.mark_stranger(port, arrived);
            }
        }
    }

    /// A lease that takes a connection that was alone: whether there is one, and whether the one that it has still was.
    pub(super) fn evaluate_lease(&mut self, id: LeaseId, now: Instant, effects: &mut Vec<Effect>) {
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
        let ambiguity = if held.saw_another {
            Some(Ambiguity::AnotherConnection)
        } else if held.late_one_expected {
            Some(Ambiguity::LateConnection)
        } else if others.iter().filter(|(_, could)| *could).count() > 1 {
            Some(Ambiguity::AnotherConnection)
        } else {
            None
        };
        let attribution = match (held.progress, others.as_slice(), ambiguity) {
            (LeaseProgress::Alone, _, Some(ambiguity)) => Attribution::Ambiguous(ambiguity),
            (LeaseProgress::Alone, [], None) => Attribution::Certain,
            (LeaseProgress::Alone, _, None) => Attribution::Unsettled,
            // Its name may yet prove that it is its own.
            (LeaseProgress::NamedBy(_) | LeaseProgress::Proven, _, _) => Attribution::Certain,
            (LeaseProgress::Pending, _, Some(ambiguity)) => {
                if held.request.identity == Identity::Address {
                    Attribution::Ambiguous(ambiguity)
                } else {
                    let unnamed = others.iter().filter(|(_, could)| *could);
                    let unnamed: Vec<ConnectionId> = unnamed.map(|(id, _)| *id).collect();
                    self.refuse_unnamed(id, &unnamed, ambiguity, effects);
                    Attribution::Certain
                }
            }
            (LeaseProgress::Pending, _, None) => {
                // Others that are there may still name their sessions.
                let own = others.iter().find(|(_, could)| *could);
                if let Some(index) = own.and_then(|(own, _)| self.position(*own)) {
                    self.assign(index, id, LeaseProgress::Alone, effects);
                    return self.evaluate_lease(id, now, effects);
                }
                Attribution::Certain
            }
        };
        if let Attribution::Ambiguous(ambiguity) = attribution {
            return self.withdraw(id, ambiguity, now, effects);
        }
        if let Some(held) = self.lease_mut(id)
            && held.attribution != attribution
        {
            held.attribution = attribution;
            effects.push(Effect::Attribution(id, attribution));
        }
    }

    /// Resets connections that name no session: it is unknown whether one of them is the lease's. One that names its
    /// session may still come.
    pub(super) fn refuse_unnamed(
        &mut self,
        lease: LeaseId,
        unnamed: &[ConnectionId],
        ambiguity: Ambiguity,
        effects: &mut Vec<Effect>,
    ) {
        for id in unnamed {
            if let Some(index) = self.position(*id) {
                effects.push(Effect::Refused(lease, Some(ambiguity)));
                self.dismiss(index, ResetReason::Stranger, effects);
            }
        }
        if let Some(held) = self.lease_mut(lease) {
            held.saw_another |= !unnamed.is_empty();
        }
    }

    /// Ends a lease that expects no connection any more.
    pub(super) fn withdraw(
        &mut self,
        id: LeaseId,
        ambiguity: Ambiguity,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Attribution(id, Attribution::Ambiguous(ambiguity)));
        self.end(id, LeaseEnd::Incomplete, now, effects);
    }

    /// The connections that may be the lease's own, as far as is known: those that arrived at its port since its grant.
    pub(super) fn others_of(&self, held: &GrantedLease) -> impl Iterator<Item = &Connection> {
        let (port, granted) = (held.port, held.granted);
        self.connections.iter().filter(move |connection| {
            connection.port == port
                && connection.arrived > granted
                && !matches!(connection.claim, Claim::QueuedBehind(_))
        })
    }
}

/// Whether a connection has sent all that it needs to be the lease's for being alone.
fn could_be_taken(connection: &Connection, held: &GrantedLease) -> bool {
    connection.claim == Claim::Unnamed || held.request.identity == Identity::Address
}
