//! The course of a connection: from its arrival through its ClientHello to its lease, or to its reset.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use super::super::{ConnectionId, Effect, LeaseId, PeekResult, ResetReason};
use super::{Claim, ClientLeases, Connection, GrantedLease, LeaseProgress};
use crate::tls::TicketOwner;

/// How many connections of one address may be unidentified, beside each lease's own and one stranger for each.
const SPARE_UNASSIGNED: usize = 64;

impl ClientLeases {
    pub fn on_connection(
        &mut self,
        id: ConnectionId,
        port: SocketAddr,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let arrived = self.next_sequence();
        if self.candidates(port, arrived).next().is_none() {
            let reason = match self.at(port).next() {
                Some(_) => ResetReason::Stranger,
                None => ResetReason::NoLease,
            };
            effects.push(Effect::Reset(id, reason));
            return self.on_stranger(port, arrived, now, effects);
        }
        self.count_unassigned(port, arrived, 1, effects);
        self.connections.push(Connection {
            id,
            port,
            arrived,
            claim: Claim::Pending,
        });
        self.evaluate(port, now, effects);
        if self
            .connections
            .iter()
            .any(|connection| connection.id == id)
        {
            effects.push(Effect::Peek(id));
        }
        self.bound(now, effects);
    }

    /// Bounds the number of unassigned connections. The lease that has most of them loses its latest one: a flood at one
    /// lease takes no slot from another's first connection, nor from its own first one.
    pub(super) fn bound(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.connections.len() <= SPARE_UNASSIGNED + 2 * self.leases.len() {
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
            self.refuse(latest, ResetReason::TooMany, now, effects);
        }
    }

    pub fn on_peeked(
        &mut self,
        id: ConnectionId,
        result: PeekResult,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(index) = self.position(id) else {
            return;
        };
        match result {
            // Any client can begin a session without an account, and it has no data connections: its name says nothing.
            PeekResult::Session(TicketOwner { account: None, .. }) => {
                self.unnamed(index, now, effects);
            }
            PeekResult::Session(owner) => self.named(index, &owner, now, effects),
            PeekResult::NoSession => self.unnamed(index, now, effects),
            PeekResult::Closed => self.ended(index, now, effects),
        }
    }

    pub(super) fn named(
        &mut self,
        index: usize,
        owner: &TicketOwner,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Connection {
            id, port, arrived, ..
        } = self.connections[index];
        let own = self.candidates(port, arrived).find(|held| {
            let cache = held.request.identity.cache();
            cache.is_some_and(|cache| cache.session() == owner.session)
        });
        if let Some(own) = own {
            let lease = own.id;
            match own.progress {
                // Any session of a program that shares its cache may be named on this one's connection.
                _ if !own.request.identity.is_named() && owner.cache.is_shared() => {
                    return self.unnamed(index, now, effects);
                }
                LeaseProgress::Pending => {
                    self.assign(index, lease, LeaseProgress::NamedBy(id), effects)
                }
                LeaseProgress::NamedBy(_) if !self.has_queued_behind(lease) => {
                    self.connections[index].claim = Claim::QueuedBehind(lease);
                }
                LeaseProgress::NamedBy(_) | LeaseProgress::Alone | LeaseProgress::Proven => {
                    self.dismiss(index, ResetReason::Stranger, effects);
                }
            }
            return self.evaluate(port, now, effects);
        }
        let sharing = self.candidates(port, arrived).find_map(|held| {
            let cache = held.request.identity.cache().copied()?;
            let known = cache.is_shared() && owner.cache.is_shared();
            let likely = owner.account == Some(held.request.account)
                && !cache.is_separate_from(&owner.cache);
            (!held.request.identity.is_named() && (known || likely)).then_some(cache.session())
        });
        match sharing {
            Some(one) => {
                let other = owner.session;
                effects.push(Effect::SharedCache { one, other });
                self.unnamed(index, now, effects);
            }
            // It belongs to that session, which doesn't expect it, or to none.
            None => {
                self.notify_refused(index, effects);
                self.dismiss(index, ResetReason::Stranger, effects);
                self.evaluate(port, now, effects);
            }
        }
    }

    pub(super) fn unnamed(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect>) {
        let connection = &mut self.connections[index];
        connection.claim = Claim::Unnamed;
        let (port, arrived, id) = (connection.port, connection.arrived, connection.id);
        let takes_unnamed = |held: &GrantedLease| !held.request.identity.is_named();
        if self.candidates(port, arrived).any(takes_unnamed) {
            return self.evaluate(port, now, effects);
        }
        if let Some(index) = self.position(id) {
            self.notify_refused(index, effects);
            self.refuse(index, ResetReason::Stranger, now, effects);
        }
    }

    /// The connection closed before it sent anything. It may have been the client's, and its session reports that if no
    /// other one arrives.
    pub(super) fn ended(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect>) {
        let Connection { port, arrived, .. } = self.connections[index];
        if let Some(only) = self.only_candidate(port, arrived)
            && let Some(held) = self.lease_mut(only)
        {
            held.own_was_closed = true;
        }
        self.notify_refused(index, effects);
        self.refuse(index, ResetReason::Stranger, now, effects);
    }

    pub(super) fn assign(
        &mut self,
        index: usize,
        lease: LeaseId,
        progress: LeaseProgress,
        effects: &mut Vec<Effect>,
    ) {
        let connection = self.connections.remove(index);
        effects.push(Effect::Assign {
            connection: connection.id,
            lease,
        });
        // While the lease still expects it, or it would count there for ever.
        self.count_unassigned(connection.port, connection.arrived, -1, effects);
        if let Some(held) = self.lease_mut(lease) {
            held.progress = progress;
        }
    }

    /// Updates the leases that a connection may be meant for: one more, or one less unassigned connection.
    pub(super) fn count_unassigned(
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
            let before = held.unassigned;
            held.unassigned.all = before.all.saturating_add_signed(change);
            if only == Some(held.id) {
                held.unassigned.exclusive = before.exclusive.saturating_add_signed(change);
            }
            if held.unassigned.is_there() != before.is_there() {
                effects.push(Effect::Unassigned(held.id, held.unassigned));
            }
        }
    }

    /// Resets a connection that can't have been meant for a lease that depends on being alone.
    pub(super) fn dismiss(
        &mut self,
        index: usize,
        refused: ResetReason,
        effects: &mut Vec<Effect>,
    ) {
        let connection = self.connections.remove(index);
        effects.push(Effect::Reset(connection.id, refused));
        self.count_unassigned(connection.port, connection.arrived, -1, effects);
    }

    /// Resets a connection that may have been meant for one.
    pub(super) fn refuse(
        &mut self,
        index: usize,
        refused: ResetReason,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let (port, arrived) = (
            self.connections[index].port,
            self.connections[index].arrived,
        );
        self.dismiss(index, refused, effects);
        self.on_stranger(port, arrived, now, effects);
    }

    pub(super) fn on_stranger(
        &mut self,
        port: SocketAddr,
        arrived: u64,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.mark_stranger(port, arrived);
        self.evaluate(port, now, effects);
    }

    pub(super) fn mark_stranger(&mut self, port: SocketAddr, arrived: u64) {
        for held in &mut self.leases {
            if held.port == port && held.granted < arrived && held.depends_on_being_alone() {
                held.saw_another = true;
            }
        }
    }

    /// Tells the lease that a connection was refused, if it could only have been meant for that lease.
    pub(super) fn notify_refused(&self, index: usize, effects: &mut Vec<Effect>) {
        let Connection { port, arrived, .. } = self.connections[index];
        if let Some(only) = self.only_candidate(port, arrived) {
            effects.push(Effect::Refused(only, None));
        }
    }

    pub(super) fn has_queued_behind(&self, lease: LeaseId) -> bool {
        self.connections
            .iter()
            .any(|connection| connection.claim == Claim::QueuedBehind(lease))
    }

    pub(super) fn position(&self, id: ConnectionId) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.id == id)
    }

    /// The leases that a connection can be meant for which arrived then: those that had their port by that time, and
    /// expect one.
    pub(super) fn candidates(
        &self,
        port: SocketAddr,
        arrived: u64,
    ) -> impl Iterator<Item = &GrantedLease> {
        self.at(port)
            .filter(move |held| held.expects() && held.granted < arrived)
    }

    /// The only lease that a connection can be meant for, see [`candidates`](Self::candidates); `None` if there is none or more.
    pub(super) fn only_candidate(&self, port: SocketAddr, arrived: u64) -> Option<LeaseId> {
        let mut candidates = self.candidates(port, arrived);
        let first = candidates.next()?;
        candidates.next().is_none().then_some(first.id)
    }
}
