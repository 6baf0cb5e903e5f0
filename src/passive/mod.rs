//! Passive data ports: which of them is whose.
//!
//! The listeners are opened once and serve every session. A session *leases* a port for its client: the next connection
//! that is the client's is handed to the session, and the lease is over. One port is enough for any number of sessions.
//! Sessions of different addresses are told apart by address; sessions of one address by the TLS session that their
//! client resumes, which the ClientHello names; and where it names none they take turns (`turns` has the rules).
//! Whoever connects without a lease is a stranger and is reset; the listener goes on.
//!
//! The way of a connection: `listeners` opens the port, `receive` accepts, `hear` reads whose it is where that has to be
//! asked, and `desk` brings it together with the lease.

mod desk;
mod hear;
mod listeners;
mod receive;
mod turns;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::tls::SessionId;

use desk::{Desk, Place};
use listeners::Port;
pub use listeners::{PassiveListeners, PortError};
pub use turns::{Demand, Mark, Tenant};

/// The passive ports of one configuration. Listeners that two configurations have in common are shared between them.
#[derive(Debug)]
pub struct PassivePorts {
    /// By the address of the control listener; each has all ports of the range, those of a wildcard perhaps.
    by_address: HashMap<IpAddr, Ports>,
    desk: Arc<Desk>,
}

/// All ports on one address, or on all of them.
#[derive(Debug, Clone)]
struct Ports {
    open: Arc<[Arc<Port>]>,
    addresses: Arc<[SocketAddr]>,
}

/// A port that the client may connect to. Dropping it gives the port back.
#[derive(Debug)]
pub struct Lease {
    place: Place,
    port: SocketAddr,
    arrivals: mpsc::Receiver<Caller>,
    undecided: Undecided,
    wanted: Wanted,
    /// A reload may take the port out of the configuration, but not from under this lease.
    _open: Arc<[Arc<Port>]>,
}

/// Somebody at a leased port.
#[derive(Debug)]
pub enum Caller {
    /// The session's connection, as far as it can be told before its handshake.
    Arrived(Arrived),
    /// Somebody who did not name the session, and has been reset. The lease goes on.
    TurnedAway,
}

/// How many connections there are at a lease's port that may be its own, and have yet to say whose they are.
#[derive(Debug, Clone)]
pub struct Undecided(watch::Receiver<usize>);

impl Undecided {
    /// Waits until there is one that stays so for a while.
    pub async fn somebody_silent(&mut self, silence: Duration) {
        loop {
            if self.0.wait_for(|count| *count > 0).await.is_err() {
                // The lease is over.
                return std::future::pending().await;
            }
            sleep(silence).await;
            if *self.0.borrow() > 0 {
                return;
            }
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
    pub async fn lease(&self, local: IpAddr, tenant: Tenant, patience: Duration) -> Option<Lease> {
        let ports = self.by_address.get(&local)?;
        let asked = self.desk.ask(&ports.addresses, tenant);
        let port = timeout(patience, asked.granted).await.ok()?.ok()?;
        Some(Lease {
            place: asked.place,
            port,
            arrivals: asked.arrivals,
            undecided: Undecided(asked.undecided),
            wanted: Wanted(asked.wanted),
            _open: Arc::clone(&ports.open),
        })
    }

    /// Where the ports are open that belong to the listener's address `local`: there, or at all addresses.
    pub fn place(&self, local: IpAddr) -> IpAddr {
        self.by_address
            .get(&local)
            .and_then(|ports| ports.addresses.first())
            .map_or(local, SocketAddr::ip)
    }

    /// From now on, a connection to the ports on the listener's address `local` that comes from one of the networks
    /// `balancers` has to begin with a PROXY header, which says whose it is.
    pub fn put_behind(&self, local: IpAddr, balancers: Vec<IpNet>) {
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

    /// Whether somebody is there of whom it isn't known whose connection it is.
    pub fn undecided(&self) -> Undecided {
        self.undecided.clone()
    }

    /// Whether somebody else waits for a port.
    pub fn wanted(&self) -> Wanted {
        self.wanted.clone()
    }

    /// Waits for somebody to connect; `None` if nobody can any more. May be cancelled.
    pub async fn caller(&mut self) -> Option<Caller> {
        self.arrivals.recv().await
    }

    /// Who has come to the port last since it was leased, from an address that no lease there is for.
    pub fn stranger(&self) -> Option<IpAddr> {
        self.place.stranger(self.port)
    }

    /// The connection that arrived was a stranger's: waits for another one, which has to name `session`. False if the
    /// port is somebody else's by now.
    pub fn again(&mut self, session: SessionId) -> bool {
        self.place.again(self.port, session)
    }
}

#[cfg(test)]
mod tests;
