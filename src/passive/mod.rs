//! Passive data ports, and their assignment to sessions.
//!
//! The listeners are opened once and serve every session. A session *leases* a port for its client, from PASV or EPSV
//! to the end of the transfer. One port is enough for any number of sessions: those of different addresses are
//! distinguished by address; those of one address by the TLS session that their client resumes, which the ClientHello
//! names; and where it names none they take turns. A connection that no lease waits for is reset. `lease_table` has the
//! rules.
//!
//! The path of a connection: `listeners` opens the port, `receive` accepts, `dispatcher` has `hello` read its
//! ClientHello where the address does not identify it, and assigns it to the lease.

mod dispatcher;
pub mod lease_table;
mod listeners;
mod receive;
mod sniff;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use dispatcher::{Dispatcher, Place};
pub use lease_table::{Doubt, Identity, LeaseRequest, Standing};
use lease_table::{LeaseEnd, Nearby};
use listeners::Port;
pub use listeners::{PassiveListeners, PortError};

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
}

/// A port that the client may connect to, for the task that waits there. The lease ends when this and its
/// [`LeaseHold`] are dropped, or before by the latter.
#[derive(Debug)]
pub struct Lease {
    place: Arc<Place>,
    port: SocketAddr,
    arrivals: mpsc::Receiver<Caller>,
    standing: watch::Receiver<Standing>,
    undecided: Undecided,
    wanted: Wanted,
    is_named: bool,
    /// A reload may take the port out of the configuration, but not from under this lease.
    open: Arc<[Arc<Port>]>,
}

/// The session's hold on a lease: dropping it ends the lease as that of a transfer that is not complete.
#[derive(Debug)]
pub struct LeaseHold {
    place: Arc<Place>,
    port: SocketAddr,
    standing: watch::Receiver<Standing>,
    undecided: Undecided,
    _open: Arc<[Arc<Port>]>,
}

/// Whether the connection that a lease was handed is certain to be its own.
#[derive(Debug, Clone)]
pub struct Certainty(watch::Receiver<Standing>);

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
pub enum Caller {
    /// The session's connection, as far as is known before its handshake.
    Arrived(Arrived),
    /// One that did not name the session where that is required, or closed before it sent anything, or is ambiguous. It
    /// has been reset, and the lease goes on.
    TurnedAway(Option<Doubt>),
}

/// The connections at a lease's port that may be its own, and are not identified yet.
#[derive(Debug, Clone)]
pub struct Undecided(watch::Receiver<Nearby>);

impl Undecided {
    /// Waits until there is one.
    pub async fn any(&mut self) {
        self.wait_for(|nearby| nearby.all > 0).await;
    }

    /// Waits until there is one that can belong to no other lease, or one that sends nothing for a while.
    pub async fn any_silent(&mut self, silence: Duration) {
        loop {
            self.any().await;
            let own = self.wait_for(|nearby| nearby.no_others > 0);
            if timeout(silence, own).await.is_ok() || self.0.borrow().all > 0 {
                return;
            }
        }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Nearby) -> bool) {
        if self.0.wait_for(wanted).await.is_err() {
            // The lease is over.
            std::future::pending().await
        }
    }
}

/// Whether other leases of the client's address wait for a port.
#[derive(Debug, Clone)]
pub struct Wanted(watch::Receiver<bool>);

impl Wanted {
    /// Waits until one does.
    pub async fn wanted(&mut self) {
        if self.0.wait_for(|wanted| *wanted).await.is_err() {
            // The lease is over.
            std::future::pending().await
        }
    }
}

/// A data connection of a client.
#[derive(Debug)]
pub struct Arrived {
    /// The connection.
    pub stream: TcpStream,
    /// What has been read of it already: its ClientHello, or nothing.
    pub read: Vec<u8>,
}

impl PassivePorts {
    /// Leases a port on the listener's address `local`, waiting up to `patience` for its turn.
    ///
    /// # Errors
    /// If none became free in that time.
    pub async fn lease(
        &self,
        local: IpAddr,
        request: LeaseRequest,
        patience: Duration,
    ) -> Result<Lease, NoPort> {
        let Some(ports) = self.by_address.get(&local) else {
            return Err(NoPort {
                needed: 1,
                ports: 0,
            });
        };
        let asked = self.dispatcher.ask(&ports.addresses, request);
        match timeout(patience, asked.granted).await {
            Ok(Ok((port, is_named))) => Ok(Lease {
                place: asked.place,
                port,
                arrivals: asked.arrivals,
                standing: asked.standing,
                undecided: Undecided(asked.undecided),
                wanted: Wanted(asked.wanted),
                is_named,
                open: Arc::clone(&ports.open),
            }),
            Ok(Err(_)) | Err(_) => Err(NoPort {
                needed: asked.place.taking_turns(),
                ports: ports.addresses.len(),
            }),
        }
    }

    /// Where the ports are open that belong to the listener's address `local`: there, or at all addresses.
    pub fn bound_address(&self, local: IpAddr) -> IpAddr {
        self.by_address
            .get(&local)
            .and_then(|ports| ports.addresses.first())
            .map_or(local, SocketAddr::ip)
    }

    /// From now on, a connection to the ports on the listener's address `local` from one of the networks `balancers`
    /// has to begin with a PROXY header.
    pub fn set_trusted_proxies(&self, local: IpAddr, balancers: Vec<IpNet>) {
        let balancers = Arc::new(balancers);
        for port in self
            .by_address
            .get(&local)
            .into_iter()
            .flat_map(|ports| ports.open.iter())
        {
            port.balancers.store(Arc::clone(&balancers));
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
            place: Arc::clone(&self.place),
            port: self.port,
            standing: self.standing.clone(),
            undecided: self.undecided.clone(),
            _open: Arc::clone(&self.open),
        }
    }

    /// The connections that may be its own.
    pub fn undecided(&self) -> Undecided {
        self.undecided.clone()
    }

    /// Whether another lease of the address waits for a port.
    pub fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    /// Waits for a connection; `None` if none can come any more. May be cancelled.
    pub async fn caller(&mut self) -> Option<Caller> {
        self.arrivals.recv().await
    }

    /// The last address without a lease there that has connected to the port since it was leased.
    pub fn stranger(&self) -> Option<IpAddr> {
        self.place.stranger(self.port)
    }

    /// Whether only a connection that resumes the session may be taken.
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Whether the lease's connection is its own.
    pub fn certainty(&self) -> Certainty {
        Certainty(self.standing.clone())
    }

    /// The handshake of the connection that arrived has resumed the session: others at the port don't matter any more.
    pub fn proven(&self) {
        self.place.proven();
    }

    /// The handshake of the connection that arrived was a full one: it has to have been alone.
    pub fn unproven(&self) {
        self.place.unproven();
    }

    /// No connection is expected any more.
    pub fn end(&self) {
        self.place.end(LeaseEnd::Incomplete);
    }

    /// The connection that arrived was not the client's: waits for another one that names the session.
    pub fn again(&self) {
        self.place.again();
    }
}

impl LeaseHold {
    /// The port's number.
    pub fn port(&self) -> u16 {
        self.port.port()
    }

    /// Whether the lease's connection is its own.
    pub fn certainty(&self) -> Certainty {
        Certainty(self.standing.clone())
    }

    /// The connections that may be the lease's own.
    pub fn undecided(&self) -> Undecided {
        self.undecided.clone()
    }

    /// The transfer for which the port was asked for has begun.
    pub fn begin(&self) {
        self.place.begin();
    }

    /// The data connection will be identified in another way than the lease was requested with.
    pub fn identify(&self, identity: Identity) {
        self.place.identify(identity);
    }

    /// Ends the lease of a transfer that has been reported complete.
    pub fn complete(&self) {
        self.place.end(LeaseEnd::Complete);
    }
}

impl Certainty {
    /// Resolves if the connection is ambiguous.
    pub async fn doubted(&self) -> Doubt {
        let mut standing = self.0.clone();
        loop {
            let now = *standing.borrow_and_update();
            match now {
                Standing::Ambiguous(doubt) => return doubt,
                Standing::Certain | Standing::Unsettled => {}
            }
            if standing.changed().await.is_err() {
                // The lease is over, and its transfer with it.
                return std::future::pending().await;
            }
        }
    }

    /// Waits while other connections to the port are not identified yet.
    ///
    /// # Errors
    /// If the connection is ambiguous.
    pub async fn settled(&self) -> Result<(), Doubt> {
        let mut standing = self.0.clone();
        let settled = standing.wait_for(|standing| *standing != Standing::Unsettled);
        match settled.await.map(|standing| *standing) {
            Ok(Standing::Ambiguous(doubt)) => Err(doubt),
            Ok(Standing::Certain | Standing::Unsettled) => Ok(()),
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        self.place.end(LeaseEnd::Incomplete);
    }
}

#[cfg(test)]
mod tests;
