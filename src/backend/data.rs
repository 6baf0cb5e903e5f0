//! The backend's data connection: we connect to it, or in active mode it connects to us.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::control::BackendConnection;
use crate::base::task::Task;
use crate::ftp::address::Announced;
use crate::net::connect;

/// Where the backend's data connection comes from.
#[derive(Debug)]
pub enum BackendPort {
    /// We connect.
    Passive {
        /// The port that it has announced, at its control connection's address.
        to: SocketAddr,
        /// The address announced with it, which is never connected to.
        announced: Option<Ipv4Addr>,
    },
    /// The backend connects to the address sent to it.
    Active {
        /// There.
        listener: TcpListener,
        /// The address of its control connection: from there and from nowhere else.
        from: IpAddr,
    },
}

/// A backend's data connection that is on its way.
#[derive(Debug)]
pub enum Approach {
    /// We connect.
    Connecting {
        /// To where.
        target: Target,
        /// Resolves with the connection.
        connection: Task<io::Result<TcpStream>>,
    },
    /// It connects.
    Listening {
        /// To there.
        listener: TcpListener,
        /// From there.
        from: IpAddr,
    },
}

/// One that the transfer's command may be said for.
#[derive(Debug)]
pub enum Reached {
    /// It is connected.
    Connected(TcpStream),
    /// It comes only behind the command.
    Awaited {
        /// To there.
        listener: TcpListener,
        /// From there.
        from: IpAddr,
    },
}

/// For the log: what was connected to, and what the backend had said.
#[derive(Debug)]
pub struct Target {
    to: SocketAddr,
    announced: Option<Ipv4Addr>,
}

impl BackendConnection {
    /// The port that the backend has announced, at the address of its control connection; `None` if that is lost.
    pub fn announced_port(&self, announced: Announced) -> Option<BackendPort> {
        Some(BackendPort::Passive {
            to: SocketAddr::new(self.peer()?, announced.port),
            announced: announced.address,
        })
    }

    /// The port that the backend was sent by PORT; `None` if its control connection is lost.
    pub fn own_port(&self, listener: TcpListener) -> Option<BackendPort> {
        let from = self.peer()?;
        Some(BackendPort::Active { listener, from })
    }

    /// Listens for a data connection from the backend, at the address that its control connection has here; the
    /// returned address is the one for PORT.
    ///
    /// # Errors
    /// Those of `getsockname(2)`, `bind(2)` and `listen(2)`.
    pub async fn listen(&self) -> io::Result<(TcpListener, SocketAddr)> {
        let local = self.stream().socket().local_addr()?;
        connect::listen_for_backend(local.ip()).await
    }

    fn peer(&self) -> Option<IpAddr> {
        Some(self.stream().socket().peer_addr().ok()?.ip())
    }
}

impl Approach {
    /// Right after the backend's 227 or 229: vsftpd, ProFTPD and Pure-FTPd send no 150 before they have the connection.
    pub fn to(port: BackendPort, patience: Duration) -> Self {
        match port {
            BackendPort::Passive { to, announced } => Self::Connecting {
                target: Target { to, announced },
                connection: Task::spawn(async move {
                    timeout(patience, connect::data_to_backend(to)).await?
                }),
            },
            BackendPort::Active { listener, from } => Self::Listening { listener, from },
        }
    }

    /// One whose task panics.
    #[cfg(test)]
    pub fn panicking() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::Connecting {
            target: Target {
                to: nowhere,
                announced: None,
            },
            connection: Task::spawn(async { panic!("as a bug would") }),
        }
    }

    /// Waits for it; `Err(None)` if a task has panicked.
    pub async fn reach(self) -> Result<Reached, Option<(Target, io::Error)>> {
        match self {
            Self::Listening { listener, from } => Ok(Reached::Awaited { listener, from }),
            Self::Connecting {
                target,
                mut connection,
            } => match connection.join().await {
                Some(Ok(socket)) => Ok(Reached::Connected(socket)),
                Some(Err(error)) => Err(Some((target, error))),
                None => Err(None),
            },
        }
    }
}

impl Reached {
    /// The connection, once the command is out, unless the backend `stays_away`.
    ///
    /// # Errors
    /// If the backend stays away, or those of `accept(2)`.
    pub async fn connection(self, stays_away: impl Future<Output = ()>) -> io::Result<TcpStream> {
        match self {
            Self::Connected(socket) => Ok(socket),
            Self::Awaited { listener, from } => tokio::select! {
                biased;
                accepted = connect::data_from_backend(&listener, from) => accepted,
                () = stays_away => Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

impl Target {
    /// What the backend has named in its 227, if that is another address.
    pub fn named_elsewhere(&self) -> Option<SocketAddr> {
        let announced = IpAddr::V4(self.announced?);
        let elsewhere = announced != self.to.ip().to_canonical();
        elsewhere.then(|| SocketAddr::new(announced, self.to.port()))
    }
}
