//! Listening sockets, and accepting from them through thick and thin.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::inherited::InheritedSockets;
use super::liveness::{Liveness, LivenessHandle};

/// Connections that the kernel may complete before they are accepted.
const BACKLOG: i32 = 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// How long after a failure an [`Acceptor`] that is still failing has failed again.
pub const FAILS_AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// Opens a listener. An IPv6 listener takes IPv6 clients only, so that `0.0.0.0` and `[::]` can be listed side by side
/// and each client address has one form.
///
/// # Errors
/// Those of `bind(2)` and `listen(2)`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Connections of a former run in TIME_WAIT must not keep a new one from starting.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets on a listener of another process what [`bind`] sets on its own. Options that can't be set any more have to be
/// right already: whether IPv6 takes IPv4 as well.
///
/// # Errors
/// Those of `setsockopt(2)` and `listen(2)`.
pub(super) fn prepare(listener: &StdTcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    // Connections inherit it, and in TIME_WAIT must not keep a later listener from starting.
    socket.set_reuse_address(true)?;
    // No other process is to get a part of the connections.
    socket.set_reuse_port(false)?;
    socket.set_nonblocking(true)?;
    // Changes the backlog of one that listens.
    socket.listen(BACKLOG)
}

/// Opens listeners: takes those that the service manager holds from it, and binds the others.
#[derive(Debug, Default)]
pub struct Opener {
    inherited: InheritedSockets,
    /// If a watchdog wants to know.
    liveness: Option<Arc<Liveness>>,
}

impl Opener {
    /// An opener with these sockets of a service manager, and for its watchdog if it has one.
    pub fn new(inherited: InheritedSockets, liveness: Option<Arc<Liveness>>) -> Self {
        Self {
            inherited,
            liveness,
        }
    }

    /// The sockets of the service manager.
    pub fn inherited(&self) -> &InheritedSockets {
        &self.inherited
    }

    /// A listener at this address.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`, and of `dup(2)` for one that is held.
    pub fn open(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.inherited.tcp(address) {
            Some(lent) => lent,
            None => bind(address),
        }
    }

    /// For the task that accepts from it, which stands for clients being served at `address`.
    pub fn acceptor(&self, listener: TcpListener, address: SocketAddr) -> Acceptor {
        let liveness = self.liveness.as_ref().map(|it| it.register(address));
        Acceptor::new(listener).with_liveness(liveness)
    }
}

/// Advice where an address can't be listened on, to follow the error; empty where the error says enough.
pub fn bind_error_hint(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; `ss -tanp 'sport = :{port}'` shows what uses it: another program (use another port for one of the two), a Portcullis that \
             still drains (wait until it exits), a listener of this process on another address (restart instead of reloading), or an \
             outgoing connection (reserve the port: sysctl net.ipv4.ip_local_reserved_ports={port})"
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "; ports below 1024 need CAP_NET_BIND_SERVICE, which deploy/systemd grants, or sysctl \
             net.ipv4.ip_unprivileged_port_start={port}"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "; no interface of this machine has the address {}, which is configured for a listener (`listeners`) or the admin endpoint",
            address.ip()
        ),
        _ => String::new(),
    }
}

/// Whether accepting fails at the moment: of failures in a row, of which there may be hundreds a minute, one is worth a line.
#[derive(Debug, Default)]
pub struct AcceptFailures {
    failing: bool,
}

impl AcceptFailures {
    /// Counts one more failure; returns whether it is the first one in a row.
    pub fn is_first(&mut self) -> bool {
        !std::mem::replace(&mut self.failing, true)
    }

    /// A connection has been accepted.
    pub fn end(&mut self) {
        self.failing = false;
    }
}

/// The pauses between attempts that fail for as long as this machine lacks something: each twice as long as the one before.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

impl Pause {
    /// The next one.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(MAX_PAUSE);
    }
}

/// Accepts from one listener; survives every error.
///
/// With no file descriptor free, accept(2) fails at once for as long as the client waits; without a pause that is a
/// busy loop of millions of failures a second.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    pause: Pause,
    /// Of the task that calls [`Acceptor::accept`], if a watchdog wants to know whether it does.
    liveness: Option<LivenessHandle>,
}

impl Acceptor {
    /// Accepts from this listener.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            pause: Pause::default(),
            liveness: None,
        }
    }

    /// Makes the task that accepts answer liveness probes while it waits.
    pub fn with_liveness(self, liveness: Option<LivenessHandle>) -> Self {
        Self { liveness, ..self }
    }

    /// The next connection, or the error that prevented it. After an error the next call waits as long as it should.
    ///
    /// # Errors
    /// Those of `accept(2)`: no reason to stop calling.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepting = accept_one(&self.listener, &mut self.pause);
        match &mut self.liveness {
            None => accepting.await,
            Some(liveness) => tokio::select! {
                biased;
                never = liveness.answer() => match never {},
                accepted = accepting => accepted,
            },
        }
    }
}

/// Accepts once; after an error that concerns all connections, it returns that behind a pause.
async fn accept_one(
    listener: &TcpListener,
    pause: &mut Pause,
) -> io::Result<(TcpStream, SocketAddr)> {
    match listener.accept().await {
        Ok(accepted) => {
            *pause = Pause::default();
            Ok(accepted)
        }
        Err(error) if concerns_one_connection(&error) => Err(error),
        Err(error) => {
            pause.wait().await;
            Err(error)
        }
    }
}

/// Whether an error of `accept(2)` is that of the connection, and the next one may be accepted at once.
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
