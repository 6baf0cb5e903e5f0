//! Which session has which data port, and which lease a connection belongs to: all decisions about leases, without
//! sockets, tasks or a clock.
//!
//! Leases of different client addresses never meet. Leases of one address meet where there are more of them than ports.
//! How a lease's own connection is identified among others of the address is its [`Identity`]:
//!
//! | | a connection is its own if | on its port may be, until then |
//! |---|---|---|
//! | [`Identity::Address`] | it was alone | any number of named leases |
//! | [`Identity::Unproven`] | it names the session, or was alone | named leases of separate clients |
//! | [`Identity::Named`], and [`Identity::Resuming`] beside others | it names the session | leases of separate clients |
//! | [`Identity::Required`] | it names the session | named leases of separate clients |
//!
//! *To name* is to offer the FTP session's TLS session in the ClientHello, which the handshake then proves. *Alone* means
//! that no other connection of the address came to the port from the grant to the end of the transfer, but for those that
//! named other sessions, and that none was still to be expected: of a lease that is there as well, or of one that ended
//! without a connection that was certainly its own. After such a lease the port *cools down* for the address: for the lease's
//! `reuse_delay` it is only granted to leases that can't mistake the late connection for theirs.
//!
//! *Separate* clients keep their TLS sessions apart: those of two accounts, unless both have shown that they share a cache,
//! and those of one account if they have shown that they don't ([`ClientCache::is_separate_from`]). Clients that share a
//! cache present any entry of it, so a name says no more than the address does, and they hold a port until the transfer is
//! over.
//!
//! Input arrives by the methods of [`LeaseTable`]; what is to be done is returned as [`Effect`]s, in order.

mod client;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::SessionId;
use crate::tls::{ClientCache, LoginId, TicketOwner};

use client::ClientLeases;

/// Number of clients without leases of which it is remembered which ports they used last, some 5 KiB each where there are 64
/// ports.
const REMEMBERED_CLIENTS: usize = 1024;

/// A lease's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// A connection's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// How a lease's connection is identified among others of its client's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Identified by its address alone: it carries no TLS, or no TLS sessions are kept.
    Address,
    /// Identified by its TLS session perhaps, but the client has yet to show that it resumes.
    Unproven(ClientCache),
    /// Identified by its TLS session, which the client has resumed so far. Where no other lease is at the port nor expected
    /// there, it may be alone instead: Ruby's Net::FTP and rclone resume some of their connections.
    Resuming(ClientCache),
    /// Identified by its TLS session, which the client has to resume, and has resumed so far.
    Named(ClientCache),
    /// Identified by its TLS session, which the client has to resume, and has yet to show that it does. Its connection may name
    /// nothing, and would spoil a transfer at the port that depends on being alone.
    Required(ClientCache),
}

/// A request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The client's address, in canonical form.
    pub client: IpAddr,
    /// The account that is logged in.
    pub account: LoginId,
    /// How the lease's connection is identified among others of the address.
    pub identity: Identity,
    /// How long after the lease's end its connection may still arrive.
    pub reuse_delay: Duration,
}

/// The result of reading a connection's ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeekResult {
    /// The ClientHello offers this TLS session, which is live.
    Session(TicketOwner),
    /// The connection names no live session, or sent something else.
    NoSession,
    /// The connection closed before it sent anything.
    Closed,
}

/// Whether a lease's transfer may be reported complete, as far as its data connection is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// No known reason against it.
    Certain,
    /// Another connection has arrived that is not identified yet.
    Unsettled,
    /// The transfer may not be reported complete: the connection may be another transfer's.
    Ambiguous(Ambiguity),
}

/// Why a lease's connection is ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ambiguity {
    /// Another connection from the client's address arrived at the port.
    AnotherConnection,
    /// A connection of a lease that has ended may still arrive at the port.
    LateConnection,
    /// No connection is ambiguous: the client began no transfer, and another one waited for the port.
    Withdrawn,
}

/// An effect to execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The lease has its port.
    Granted {
        /// The lease.
        lease: LeaseId,
        /// The port.
        port: SocketAddr,
        /// Whether the lease only takes a connection that names its session.
        named: bool,
    },
    /// Read the connection's ClientHello, then call [`LeaseTable::on_peeked`].
    Peek(ConnectionId),
    /// The number of connections that may be the lease's own, and are not identified yet, has changed.
    Unassigned(LeaseId, UnassignedConnections),
    /// Whether another lease of the address waits for a port has changed.
    Contended(LeaseId, bool),
    /// The connection is the lease's, as far as can be said before its handshake.
    Assign {
        /// The connection.
        connection: ConnectionId,
        /// The lease that it belongs to.
        lease: LeaseId,
    },
    /// The connection is to be reset.
    Reset(ConnectionId, ResetReason),
    /// A connection was reset that did not name the lease's session, or closed before it sent anything, and could only
    /// have been meant for this lease; or one that is ambiguous.
    Refused(LeaseId, Option<Ambiguity>),
    /// The attribution of the lease's transfer has changed.
    Attribution(LeaseId, Attribution),
    /// A connection of `one` has presented a TLS session of `other`.
    SharedCache {
        /// The session whose lease the connection came for.
        one: SessionId,
        /// The session that it named.
        other: SessionId,
    },
    /// [`LeaseTable::wake`] is to be called for this client then.
    WakeAt(IpAddr, Instant),
}

/// How many unidentified connections there are at a lease's port that may be its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnassignedConnections {
    /// All unidentified connections that may be its own.
    pub all: usize,
    /// Connections that can be no other lease's.
    pub exclusive: usize,
}

impl UnassignedConnections {
    /// Whether there is any unidentified connection, and whether there is any that can be no other lease's.
    fn is_there(self) -> (bool, bool) {
        (self.all > 0, self.exclusive > 0)
    }
}

/// Why a connection is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The connection's address has no lease at the port.
    NoLease,
    /// The connection can't be meant for any lease.
    Stranger,
    /// The lease that it may have been meant for is over.
    TooLate,
    /// Too many connections from the address are unidentified.
    TooMany,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The transfer was reported complete.
    Complete,
    /// The backend would not begin the transfer, as the client was told: it closes its connection before it asks for another
    /// port.
    Refused,
    /// The transfer ended in any other way.
    Incomplete,
}

/// The leases of all clients.
#[derive(Debug, Default)]
pub struct LeaseTable {
    clients: HashMap<IpAddr, ClientLeases>,
    /// Clients that have nothing at the moment, oldest first, of which is remembered which ports they used last.
    quiet: BTreeMap<u64, IpAddr>,
    /// How many leases have a port and no connection.
    pending: usize,
    /// The last key of `quiet`.
    sequence: u64,
    /// When each port was opened. A process before this one may have leased it, and that lease's connection be on its way.
    opened: HashMap<SocketAddr, Instant>,
}

impl LeaseTable {
    /// A port has been opened, or will accept what has come meanwhile: for every address it cools down as after a lease that ended
    /// without its connection.
    pub fn open(&mut self, port: SocketAddr, now: Instant) {
        self.opened.insert(port, now);
    }

    /// Asks for one of `ports`. The grant is an effect of this or of a later call.
    pub fn request(
        &mut self,
        lease: LeaseId,
        request: LeaseRequest,
        ports: &Arc<[SocketAddr]>,
        now: Instant,
    ) -> Vec<Effect> {
        self.opened
            .retain(|_, opened| *opened + request.reuse_delay > now);
        let client = self.clients.entry(request.client).or_default();
        if !self.opened.is_empty() {
            for port in ports.iter() {
                if let Some(opened) = self.opened.get(port) {
                    client.cool_down_since_opened(*port, *opened + request.reuse_delay, &request);
                }
            }
        }
        if let Some(since) = client.quiet_since.take() {
            self.quiet.remove(&since);
        }
        self.change(request.client, now, |client, _| {
            client.request(lease, request, ports, now);
        })
    }

    /// A connection of `address` arrived at `port`.
    pub fn on_connection(
        &mut self,
        connection: ConnectionId,
        address: IpAddr,
        port: SocketAddr,
        now: Instant,
    ) -> Vec<Effect> {
        if !self.clients.contains_key(&address) {
            return vec![Effect::Reset(connection, ResetReason::NoLease)];
        }
        self.change(address, now, |client, effects| {
            client.on_connection(connection, port, now, effects);
        })
    }

    /// The result of the [`Effect::Peek`] for this connection.
    pub fn on_peeked(
        &mut self,
        connection: ConnectionId,
        address: IpAddr,
        result: PeekResult,
        now: Instant,
    ) -> Vec<Effect> {
        self.change(address, now, |client, effects| {
            client.on_peeked(connection, result, now, effects);
        })
    }

    /// The transfer for which the lease was asked for has begun.
    pub fn begin(&mut self, address: IpAddr, lease: LeaseId) {
        if let Some(client) = self.clients.get_mut(&address) {
            client.begin(lease);
        }
    }

    /// The lease's connection will be identified in another way than requested: PROT has changed.
    pub fn identify(
        &mut self,
        address: IpAddr,
        lease: LeaseId,
        identity: Identity,
        now: Instant,
    ) -> Vec<Effect> {
        self.change(address, now, |client, effects| {
            client.identify(lease, identity, now, effects);
        })
    }

    /// The handshake of the lease's connection has resumed its session.
    pub fn proven(&mut self, address: IpAddr, lease: LeaseId, now: Instant) -> Vec<Effect> {
        self.change(address, now, |client, effects| {
            client.proven(lease, now, effects);
        })
    }

    /// The handshake of the lease's connection was a full one: it belongs to the lease only if it was alone.
    pub fn unproven(&mut self, address: IpAddr, lease: LeaseId, now: Instant) -> Vec<Effect> {
        self.change(address, now, |client, effects| {
            client.unproven(lease, now, effects);
        })
    }

    /// The connection of a named lease was not its client's: the next one is waited for.
    pub fn reopen(&mut self, address: IpAddr, lease: LeaseId, now: Instant) -> Vec<Effect> {
        self.change(address, now, |client, effects| {
            client.reopen(lease, effects)
        })
    }

    /// Ends a lease, granted or not. Ending it twice changes nothing.
    pub fn end(
        &mut self,
        address: IpAddr,
        lease: LeaseId,
        end: LeaseEnd,
        now: Instant,
    ) -> Vec<Effect> {
        let effects = self.change(address, now, |client, effects| {
            client.end(lease, end, now, effects);
        });
        self.remember(address, now);
        effects
    }

    /// The time of an [`Effect::WakeAt`].
    pub fn wake(&mut self, address: IpAddr, now: Instant) -> Vec<Effect> {
        self.change(address, now, |client, _| client.wake(now))
    }

    /// How many leases of one address hold or wait for one of these ports that no other of them can have at the same time.
    pub fn exclusive_leases(&self, address: IpAddr, ports: &[SocketAddr]) -> usize {
        self.clients
            .get(&address)
            .map_or(0, |client| client.exclusive_leases(ports))
    }

    /// How many leases of all clients have a port and no connection.
    pub fn pending(&self) -> usize {
        self.pending
    }

    fn change(
        &mut self,
        address: IpAddr,
        now: Instant,
        change: impl FnOnce(&mut ClientLeases, &mut Vec<Effect>),
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(client) = self.clients.get_mut(&address) {
            let before = client.pending();
            change(client, &mut effects);
            client.grant(now, &mut effects);
            client.notify_contention(&mut effects);
            self.pending = self.pending + client.pending() - before;
        }
        effects
    }

    /// Remembers the ports that a client used last when it has no more leases, and drops those of clients that have had
    /// none for longer.
    fn remember(&mut self, address: IpAddr, now: Instant) {
        if let Some(client) = self.clients.get_mut(&address)
            && client.is_quiet()
            && client.quiet_since.is_none()
        {
            self.sequence += 1;
            client.quiet_since = Some(self.sequence);
            self.quiet.insert(self.sequence, address);
        }
        while self.quiet.len() > REMEMBERED_CLIENTS
            && let Some((since, oldest)) = self.quiet.first_key_value()
            && self
                .clients
                .get(oldest)
                .is_none_or(|client| client.has_cooled_down(now))
        {
            let (since, oldest) = (*since, *oldest);
            self.quiet.remove(&since);
            self.clients.remove(&oldest);
        }
    }
}
