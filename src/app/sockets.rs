//! Every listening socket of the process: all are opened here, at start as at a reload, and all that a configuration needs
//! or none.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::StartError;
use crate::config::{Settings, TlsMode};
use crate::net::listen;
use crate::passive::{PassiveListeners, PassivePorts};

/// The sockets that are open.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Those of every configuration that a session still holds.
    pub passive: PassiveListeners,
    pub listeners: Accepting,
    pub admin: Accepting,
}

/// What a configuration listens on.
pub(super) struct OpenedSockets {
    pub passive: PassivePorts,
    pub new: NewListeners,
}

/// Listeners that were not open before. Nothing is accepted from them yet.
pub(super) struct NewListeners {
    pub listeners: Vec<BoundListener>,
    /// With the address as configured.
    pub admin: Option<(SocketAddr, TcpListener)>,
}

/// A listener that is open.
pub(super) struct BoundListener {
    /// As configured.
    pub address: SocketAddr,
    pub tls: TlsMode,
    pub socket: TcpListener,
}

impl Sockets {
    /// None is open yet.
    pub fn new(passive: PassiveListeners) -> Self {
        Self {
            passive,
            listeners: Accepting::default(),
            admin: Accepting::default(),
        }
    }

    /// Opens what `settings` need and isn't open.
    ///
    /// # Errors
    /// If one can't be opened; those opened until then are closed again.
    pub async fn open(&mut self, settings: &Settings) -> Result<OpenedSockets, StartError> {
        let addresses = settings.listeners.iter().map(|one| one.address.ip());
        let passive = self
            .passive
            .open(addresses, &settings.passive.ports)
            .await?;
        let mut listeners = Vec::new();
        for listener in &settings.listeners {
            if !self.listeners.has(listener.address) {
                listeners.push(BoundListener {
                    address: listener.address,
                    tls: listener.tls,
                    socket: bind("listener", listener.address)?,
                });
            }
        }
        let admin = if self.admin.has(settings.admin) {
            None
        } else {
            let socket = bind("admin endpoint", settings.admin)?;
            Some((settings.admin, socket))
        };
        let new = NewListeners { listeners, admin };
        Ok(OpenedSockets { passive, new })
    }
}

fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::bind(address).map_err(|source| StartError::Listen {
        what,
        address,
        source,
    })
}

/// By configured address, the tasks that accept; each owns its listener.
#[derive(Debug, Default)]
pub(super) struct Accepting(HashMap<SocketAddr, JoinHandle<()>>);

impl Accepting {
    fn has(&self, address: SocketAddr) -> bool {
        self.0.contains_key(&address)
    }

    /// Runs `task`, which accepts from the listener at `address`.
    pub fn start(&mut self, address: SocketAddr, task: impl Future<Output = ()> + Send + 'static) {
        self.0.insert(address, tokio::spawn(task));
    }

    /// Closes those that are not `kept`; returns their addresses. They are free then, and the next reload may use them
    /// again.
    pub async fn close_all_but(&mut self, kept: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        let mut closed = Vec::new();
        for (address, task) in self.0.extract_if(|address, _| !kept(*address)) {
            task.abort();
            let _ = task.await;
            closed.push(address);
        }
        closed
    }

    /// Closes all of them. Once this has returned, none accepts.
    pub async fn close(&mut self) {
        self.close_all_but(|_| false).await;
    }
}
