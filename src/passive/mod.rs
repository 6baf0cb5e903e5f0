//! Passive data ports, and their assignment to sessions.
//!
//! The listeners are opened once and serve every session. A session *leases* a port for its client, from PASV or EPSV
//! to the end of the transfer. One port is enough for any number of sessions: those of different addresses are
//! distinguished by address; those of one address by the TLS session that their client resumes, which the ClientHello
//! names; and where it names none they take turns. A connection that no lease waits for is reset. `lease_table` has the
//! rules.
//!
//! The path of a connection: `listeners` opens the port, `receive` accepts, `dispatcher` has `peek` read its
//! ClientHello where the address does not identify it, and assigns it to the lease.

mod balancers;
mod dispatcher;
pub mod lease_table;
mod listeners;
mod peek;
mod receive;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use balancers::Trusted;
use dispatcher::{Dispatcher, LeaseHandle};
pub use lease_table::{Ambiguity, Attribution, Identity, LeaseRequest};
use lease_table::{LeaseEnd, UnassignedConnections};
use listeners::Port;
pub use listeners::{PassiveListeners, PortError, bind_addresses};

/// The passive ports of one configuration. Listeners that two configurations have in common are shared between them.
#[derive(Debug)]
pub struct PassivePorts {
    /// By the address of the control listener; each has all ports of the range, those of a wildcard perhaps.
    by_address: HashMap<IpAddr, Ports>,
    dispatcher: Arc<Dispatcher>,
}

/// All ports on one address, or on all of them.
#[derive(Debug, Clone)]
struct Ports {
    open: Arc<[Arc<Port>]>,
    addresses: Arc<[SocketAddr]>,
    /// The balancers in front of them.
    trusted: Trusted,
}

/// A port that the client may connect to, for the task that waits there. The lease ends when this and its
/// [`LeaseHold`] are dropped, or before by the latter.
#[derive(Debug)]
pub struct Lease {
    handle: Arc<LeaseHandle>,
    port: SocketAddr,
    events: mpsc::Receiver<LeaseEvent>,
    attribution: watch::Receiver<Attribution>,
    unassigned: Unassigned,
    contended: Contention,
    is_named: bool,
    /// A reload may take the port out of the configuration, but not from under this lease.
    open: Arc<[Arc<Port>]>,
}

/// The session's hold on a lease: dropping it ends the lease as that of a transfer that is not complete.
#[derive(Debug)]
pub struct LeaseHold {
    handle: Arc<LeaseHandle>,
    port: SocketAddr,
    attribution: watch::Receiver<Attribution>,
    unassigned: Unassigned,
    contended: Contention,
    _open: Arc<[Arc<Port>]>,
}

/// Whether the connection that a lease was handed is certain to be its own.
#[derive(Debug, Clone)]
pub struct AttributionWatch(watch::Receiver<Attribution>);

/// No port became free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoPort {
    /// How many leases of the client's address hold or wait for a port that no other of them can have at the same time.
    pub needed: usize,
    /// How many ports there are.
    pub ports: usize,
}

/// A connection at a leased port.
#[derive(Debug)]
pub enum LeaseEvent {
    /// The session's connection, as far as is known before its handshake.
    Connected(DataConnection),
    /// A connection that did not name the session where that is required, or closed before it sent anything, or is ambiguous. It
    /// has been reset, and the lease goes on.
    Refused(Option<Ambiguity>),
}

/// The connections at a lease's port that may be its own, and are not identified yet.
#[derive(Debug, Clone)]
pub struct Unassigned(watch::Receiver<UnassignedConnections>);

impl Unassigned {
    /// Whether there is an unassigned connection now.
    pub fn is_any(&self) -> bool {
        self.0.borrow().all > 0
    }

    /// Waits until there is an unassigned connection.
    pub async fn any(&mut self) {
        self.wait_for(|unassigned| unassigned.all > 0).await;
    }

    /// Waits until there is an unassigned connection that can belong to no other lease, or one that sends nothing for a while.
    pub async fn exclusive_or_silent(&mut self, silence: Duration) {
        loop {
            self.any().await;
            let own = self.wait_for(|unassigned| unassigned.exclusive > 0);
            if timeout(silence, own).await.is_ok() || self.0.borrow().all > 0 {
                return;
            }
        }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&UnassignedConnections) -> bool) {
        if self.0.wait_for(wanted).await.is_err() {
            // The lease is over.
            std::future::pending().await
        }
    }
}

/// Whether other leases of the client's address wait for a port.
#[derive(Debug, Clone)]
pub struct Contention(watch::Receiver<bool>);

impl Contention {
    /// Waits until another lease waits for a port.
    pub async fn contended(&mut self) {
        if self.0.wait_for(|contended| *contended).await.is_err() {
            // The lease is over.
            std::future::pending().await
        }
    }
}

/// A data connection of a client.
#[derive(Debug)]
pub struct DataConnection {
    /// The connection.
    pub stream: TcpStream,
    /// The bytes that have been read of it already: its ClientHello, or none.
    pub read: Vec<u8>,
}

impl DataConnection {
    /// The connection's first byte, which may have been read; `None` if it closes before that.
    pub async fn first_byte(&self) -> Option<u8> {
        if let Some(first) = self.read.first() {
            return Some(*first);
        }
        let mut first = [0];
        let peeked = self.stream.peek(&mut first).await;
        matches!(peeked, Ok(1..)).then_some(first[0])
    }
}

impl PassivePorts {
    /// Leases a port on the listener's address `local`, waiting up to `time_limit` for its turn.
    ///
    /// # Errors
    /// If none became free in that time.
    pub async fn lease(
        &self,
        local: IpAddr,
        request: LeaseRequest,
        time_limit: Duration,
    ) -> Result<Lease, NoPort> {
        let Some(ports) = self.by_address.get(&local) else {
            return Err(NoPort {
                needed: 1,
                ports: 0,
            });
        };
        let pending = self.dispatcher.request(&ports.addresses, request);
        match timeout(time_limit, pending.granted).await {
            Ok(Ok((port, is_named))) => Ok(Lease {
                handle: pending.handle,
                port,
                events: pending.events,
                attribution: pending.attribution,
                unassigned: Unassigned(pending.unassigned),
                contended: Contention(pending.contended),
                is_named,
                open: Arc::clone(&ports.open),
            }),
            Ok(Err(_)) | Err(_) => Err(NoPort {
                needed: pending.handle.exclusive_leases(&ports.addresses),
                ports: ports.addresses.len(),
            }),
        }
    }

    /// The address at which the ports of the listener's address `local` are open: `local` itself, or the wildcard.
    pub fn bound_address(&self, local: IpAddr) -> IpAddr {
        self.by_address
            .get(&local)
            .and_then(|ports| ports.addresses.first())
            .map_or(local, SocketAddr::ip)
    }

    /// From now on, and as long as this configuration is in use, a connection to the ports on the listener's address `local` from
    /// one of the networks `balancers` begins with a PROXY header.
    pub fn set_trusted_proxies(&mut self, local: IpAddr, balancers: Vec<IpNet>) {
        if let Some(ports) = self.by_address.get_mut(&local) {
            ports.trusted = Arc::new(balancers);
            for port in ports.open.iter() {
                port.balancers.add(&ports.trusted);
            }
        }
    }

    /// The open ports, for the log: address and number of each.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self
            .by_address
            .values()
            .flat_map(|ports| ports.addresses.iter().copied())
            .collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

impl Lease {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// A hold on the lease for the session.
    pub fn hold(&self) -> LeaseHold {
        LeaseHold {
            handle: Arc::clone(&self.handle),
            port: self.port,
            attribution: self.attribution.clone(),
            unassigned: self.unassigned.clone(),
            contended: self.contended.clone(),
            _open: Arc::clone(&self.open),
        }
    }

    /// The connections that may be its own.
    pub fn unassigned(&self) -> Unassigned {
        self.unassigned.clone()
    }

    /// Whether another lease of the address waits for a port.
    pub fn contention(&self) -> Contention {
        self.contended.clone()
    }

    /// Waits for a connection; `None` if none is expected any more. May be cancelled.
    pub async fn event(&mut self) -> Option<LeaseEvent> {
        self.events.recv().await
    }

    /// The last address without a lease there that has connected to the port since it was leased.
    pub fn stranger(&self) -> Option<IpAddr> {
        self.handle.stranger(self.port)
    }

    /// Whether this machine has nothing left to accept a connection at the port with, so that the client may have connected.
    pub fn is_starved(&self) -> bool {
        self.handle.is_starved(self.port)
    }

    /// Whether only a connection that resumes the session may be taken.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Whether the lease's connection is its own.
    pub fn attribution(&self) -> AttributionWatch {
        AttributionWatch(self.attribution.clone())
    }

    /// The handshake of the connection that arrived has resumed the session: others at the port don't matter any more.
    pub fn proven(&self) {
        self.handle.proven();
    }

    /// The handshake of the connection that arrived was a full one: it has to have been alone.
    pub fn unproven(&self) {
        self.handle.unproven();
    }

    /// No connection is expected any more.
    pub fn end(&self) {
        self.handle.end(LeaseEnd::Incomplete);
    }

    /// The connection that arrived was not the client's: waits for another one that names the session.
    pub fn reopen(&self) {
        self.handle.reopen();
    }
}

impl LeaseHold {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Whether the lease's connection is its own.
    pub fn attribution(&self) -> AttributionWatch {
        AttributionWatch(self.attribution.clone())
    }

    /// The connections that may be the lease's own.
    pub fn unassigned(&self) -> Unassigned {
        self.unassigned.clone()
    }

    /// Whether another lease of the address waits for a port.
    pub fn contention(&self) -> Contention {
        self.contended.clone()
    }

    /// The transfer for which the port was asked for has begun.
    pub fn begin(&self) {
        self.handle.begin();
    }

    /// The data connection will be identified in another way than the lease was requested with.
    pub fn identify(&self, identity: Identity) {
        self.handle.identify(identity);
    }

    /// Ends the lease of a transfer that the backend has refused, which its client knows.
    pub fn refused(&self) {
        self.handle.end(LeaseEnd::Refused);
    }

    /// Ends the lease of a transfer that has been reported complete.
    pub fn complete(&self) {
        self.handle.end(LeaseEnd::Complete);
    }
}

impl AttributionWatch {
    /// Resolves if the connection is ambiguous.
    pub async fn ambiguous(&self) -> Ambiguity {
        let mut attribution = self.0.clone();
        loop {
            let now = *attribution.borrow_and_update();
            match now {
                Attribution::Ambiguous(ambiguity) => return ambiguity,
                Attribution::Certain | Attribution::Unsettled => {}
            }
            if attribution.changed().await.is_err() {
                // The lease is over, and its transfer with it.
                return std::future::pending().await;
            }
        }
    }

    /// Waits while other connections to the port are not identified yet.
    ///
    /// # Errors
    /// If the connection is ambiguous.
    pub async fn decided(&self) -> Result<(), Ambiguity> {
        let mut attribution = self.0.clone();
        let decided = attribution.wait_for(|attribution| *attribution != Attribution::Unsettled);
        match decided.await.map(|attribution| *attribution) {
            Ok(Attribution::Ambiguous(ambiguity)) => Err(ambiguity),
            Ok(Attribution::Certain | Attribution::Unsettled) => Ok(()),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        self.handle.end(LeaseEnd::Incomplete);
    }
}

#[cfg(test)]
mod tests;
