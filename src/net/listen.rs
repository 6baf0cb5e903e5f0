//! Listening sockets, and accepting from them through thick and thin.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that the kernel may complete before they are accepted.
const BACKLOG: i32 = 1024;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(500);

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

/// What helps where an address can't be listened on, to stand behind the error; nothing where that says all.
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

/// Accepts from one listener; survives every error.
///
/// With no file descriptor free, accept(2) fails at once for as long as the client waits; without a pause that is a
/// busy loop of millions of failures a second.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    pause: Duration,
}

impl Acceptor {
    /// Accepts from this listener.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            pause: FIRST_PAUSE,
        }
    }

    /// The next connection, or the error that prevented it. After an error the next call waits as long as it should.
    ///
    /// # Errors
    /// Those of `accept(2)`: no reason to stop calling.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok(accepted) => {
                self.pause = FIRST_PAUSE;
                Ok(accepted)
            }
            Err(error) if concerns_one_connection(&error) => Err(error),
            Err(error) => {
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(MAX_PAUSE);
                Err(error)
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
