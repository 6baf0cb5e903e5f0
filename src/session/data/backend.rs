//! The backend's data connection: we connect to it, or in active mode it connects to us.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Task;
use super::told::Told;
use crate::net::connect;
use crate::session::machine::DataFailure;

/// Where the backend's data connection comes from.
#[derive(Debug)]
pub enum BackendPort {
    /// We connect.
    Passive {
        /// The port that it has announced, at its control connection's address.
        to: SocketAddr,
        /// The address that it has announced with it, which nobody connects to.
        announced: Option<Ipv4Addr>,
    },
    /// It connects to where it has been told to.
    Active {
        /// There.
        listener: TcpListener,
        /// The address of its control connection: from there and from nowhere else.
        from: IpAddr,
    },
}

/// A backend's data connection that is on its way.
#[derive(Debug)]
pub(super) enum Approach {
    Connecting {
        target: Target,
        connection: Task<io::Result<TcpStream>>,
    },
    Listening {
        listener: TcpListener,
        from: IpAddr,
    },
}

/// One that the transfer's command may be said for.
#[derive(Debug)]
pub(super) enum Reached {
    Connected(TcpStream),
    /// It comes only behind the command.
    Awaited {
        listener: TcpListener,
        from: IpAddr,
    },
}

/// For the log: what was connected to, and what the backend had said.
#[derive(Debug)]
pub(super) struct Target {
    to: SocketAddr,
    announced: Option<Ipv4Addr>,
}

impl Approach {
    /// Right after the backend's 227 or 229: vsftpd, ProFTPD and Pure-FTPd send no 150 before the connection is there.
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
    /// The connection, once the command is out. Until its 1yz the backend has the time that it has for a reply: it may
    /// connect before that or after it.
    pub async fn connection(self, told: &Told) -> Result<TcpStream, DataFailure> {
        match self {
            Self::Connected(socket) => Ok(socket),
            Self::Awaited { listener, from } => tokio::select! {
                biased;
                accepted = connect::data_from_backend(&listener, from) => {
                    accepted.map_err(|_| DataFailure::NoBackend)
                }
                () = told.backend_stays_away() => Err(DataFailure::NoBackend),
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
