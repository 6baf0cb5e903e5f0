//! Every listening socket of the process: all are opened here, at start as at a reload, and all that a configuration needs
//! or none.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::StartError;
use crate::config::{Settings, TlsMode};
use crate::net::inherited::{BoundTo, InheritedSockets};
use crate::net::listen::Opener;
use crate::net::unix::{self, SocketName};
use crate::passive::{self, PassiveListeners, PassivePorts};

/// The sockets that are open.
#[derive(Debug)]
pub(super) struct Sockets {
    pub opener: Arc<Opener>,
    /// The passive listeners of every configuration that a session still holds.
    pub passive: PassiveListeners,
    pub listeners: Accepting,
    pub admin: Accepting,
    pub socket: Option<AdminSocket>,
}

/// The Unix socket for actions. Its task accepts until this is dropped.
#[derive(Debug)]
pub(super) struct AdminSocket {
    name: SocketName,
    _stop: oneshot::Sender<()>,
}

/// The sockets that a configuration listens on.
pub(super) struct OpenedSockets {
    pub passive: PassivePorts,
    pub new: NewListeners,
}

/// Listeners that were not open before. Nothing is accepted from them yet.
pub(super) struct NewListeners {
    pub listeners: Vec<BoundListener>,
    /// The admin endpoint's listener, with the address as configured.
    pub admin: Option<(SocketAddr, TcpListener)>,
    pub socket: Option<(UnixListener, SocketName)>,
}

/// A listener that is open.
pub(super) struct BoundListener {
    /// The address as configured.
    pub address: SocketAddr,
    pub tls: TlsMode,
    pub socket: TcpListener,
}

impl Sockets {
    /// Sockets of which none is open yet; all are to be opened by `opener`, as those of `passive`.
    pub fn new(passive: PassiveListeners, opener: Arc<Opener>) -> Self {
        Self {
            opener,
            passive,
            listeners: Accepting::default(),
            admin: Accepting::default(),
            socket: None,
        }
    }

    /// Opens what `settings` need and isn't open.
    ///
    /// # Errors
    /// If one can't be opened; those opened until then are closed again. At start also if the service manager holds one that they
    /// don't need.
    pub async fn open(&mut self, settings: &Settings) -> Result<OpenedSockets, StartError> {
        // Nothing is served yet.
        let is_start = self.listeners.0.is_empty();
        if is_start && let Some(unused) = self.unused(settings).into_iter().next() {
            return Err(unused.not_configured(&addresses(settings)).into());
        }
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
                    socket: self.bind("listener", listener.address)?,
                });
            }
        }
        let admin = match settings.admin.address {
            Some(address) if !self.admin.has(address) => {
                Some((address, self.bind("admin endpoint", address)?))
            }
            _ => None,
        };
        let socket = match &settings.admin.socket {
            Some(path) if !self.has_socket(path) => Some(self.bind_socket(path)?),
            _ => None,
        };
        let new = NewListeners {
            listeners,
            admin,
            socket,
        };
        Ok(OpenedSockets { passive, new })
    }

    /// The sockets of the service manager.
    pub fn inherited(&self) -> &InheritedSockets {
        self.opener.inherited()
    }

    /// The sockets of the service manager that `settings` don't need.
    pub fn unused(&self, settings: &Settings) -> Vec<BoundTo> {
        if self.inherited().count() == 0 {
            return Vec::new();
        }
        self.inherited()
            .not_among(&addresses(settings), settings.admin.socket.as_deref())
    }

    fn bind(&self, what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
        self.opener
            .open(address)
            .map_err(|source| StartError::Listen {
                what,
                address,
                source,
            })
    }

    fn bind_socket(&self, path: &Path) -> Result<(UnixListener, SocketName), StartError> {
        let bound = match self.inherited().unix(path) {
            Some(Ok(listener)) => Ok((listener, SocketName::of_another(path))),
            Some(Err(error)) => Err(error.into()),
            None => unix::bind(path),
        };
        bound.map_err(|source| StartError::Socket {
            path: path.to_owned(),
            source,
        })
    }

    fn has_socket(&self, path: &Path) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.name.path() == path && socket.name.is_there())
    }

    /// Runs the task that `serve` makes, which accepts from the Unix socket of this name until it is stopped, in place of the
    /// one before.
    pub fn start_socket<F>(
        &mut self,
        name: SocketName,
        serve: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(serve(stopped));
        self.socket = Some(AdminSocket { name, _stop: stop });
    }

    /// Closes the Unix socket, unless it is the one of this name.
    pub fn close_socket_but(&mut self, kept: Option<&Path>) {
        if !kept.is_some_and(|path| self.has_socket(path)) {
            self.socket = None;
        }
    }
}

/// Every address that a configuration has something listening at.
fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let listeners = settings.listeners.iter().map(|one| one.address);
    let hosts: Vec<_> = listeners.clone().map(|address| address.ip()).collect();
    listeners
        .chain(settings.admin.address)
        .chain(passive::bind_addresses(&hosts, &settings.passive.ports))
        .collect()
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

    /// Closes the listeners that are not `kept`; returns their addresses. They are free then, and the next reload may use them
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

    /// Closes all listeners. Once this has returned, none accepts.
    pub async fn close(&mut self) {
        self.close_all_but(|_| false).await;
    }
}
