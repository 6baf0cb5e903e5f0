//! The backend's data connection: we connect to it, or in active mode it connects to us.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::control::BackendConnection;
use crate::base::task::Task;
use crate::ftp::address::AnnouncedEndpoint;
use crate::net::connect;
use crate::net::proxy_header::{Origin, ProxiedAddresses, RelayedClient, write};

/// The endpoint of the backend's data connection.
#[derive(Debug)]
pub enum DataEndpoint {
    /// Portcullis connects to the backend.
    Passive {
        /// The port that it has announced, at its control connection's address.
        to: SocketAddr,
        /// The address announced with it, which is never connected to.
        announced: Option<Ipv4Addr>,
        /// The PROXY header that it begins with, if the backend expects one.
        header: Option<Vec<u8>>,
    },
    /// The backend connects to the address sent to it.
    Active {
        /// The listener.
        listener: TcpListener,
        /// The address of its control connection: from there and from nowhere else.
        from: IpAddr,
    },
}

/// A data connection to or from a backend that is being established.
#[derive(Debug)]
pub enum PendingConnection {
    /// Portcullis connects to the backend.
    Connecting {
        /// The address.
        target: DialTarget,
        /// Resolves with the connection.
        connection: Task<io::Result<TcpStream>>,
    },
    /// The backend connects to Portcullis.
    Listening {
        /// Our listener.
        listener: TcpListener,
        /// The only address to accept from.
        from: IpAddr,
    },
}

/// A data connection for which the transfer command may be sent.
#[derive(Debug)]
pub enum ReadyConnection {
    /// The connection is established.
    Connected(TcpStream),
    /// The backend connects only after it has received the command.
    Listening {
        /// Our listener.
        listener: TcpListener,
        /// The only address to accept from.
        from: IpAddr,
    },
}

/// The endpoint to dial; the log shows the dialled address, and the announced one.
#[derive(Debug)]
pub struct DialTarget {
    to: SocketAddr,
    announced: Option<Ipv4Addr>,
}

impl BackendConnection {
    /// The port that the backend has announced for this origin, at the address of its control connection.
    ///
    /// As if the client had connected to that very port: libunftp knows by it whose connection it is. The client's own data
    /// connection is not there yet, so that its port is the one of its control connection.
    ///
    /// # Errors
    /// That of `getpeername(2)`, if the control connection is lost.
    pub fn passive_endpoint(
        &self,
        announced: AnnouncedEndpoint,
        origin: Origin<'_>,
    ) -> io::Result<DataEndpoint> {
        Ok(DataEndpoint::Passive {
            to: SocketAddr::new(self.peer()?, announced.port),
            announced: announced.address,
            header: self.header(origin, announced.port),
        })
    }

    /// The port that the backend was sent by PORT.
    ///
    /// # Errors
    /// That of `getpeername(2)`, if the control connection is lost.
    pub fn active_endpoint(&self, listener: TcpListener) -> io::Result<DataEndpoint> {
        let from = self.peer()?;
        Ok(DataEndpoint::Active { listener, from })
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

    /// The PROXY header of a data connection to this port; `None` if the backend expects none there.
    fn header(&self, origin: Origin<'_>, port: u16) -> Option<Vec<u8>> {
        let expected = self.backend.settings.proxy_protocol;
        let expected = expected.filter(|expected| expected.data)?;
        let origin = match origin {
            Origin::Proxy => Origin::Proxy,
            Origin::Client(client) => Origin::Client(RelayedClient {
                addresses: ProxiedAddresses {
                    destination: SocketAddr::new(client.addresses.destination.ip(), port),
                    ..client.addresses
                },
                // The TLS of the client's data connection isn't known yet.
                tls: None,
                ..client
            }),
        };
        Some(write::header(expected.version, origin))
    }

    fn peer(&self) -> io::Result<IpAddr> {
        Ok(self.stream().socket().peer_addr()?.ip())
    }
}

impl PendingConnection {
    /// Right after the backend's 227 or 229: vsftpd, ProFTPD and Pure-FTPd send no 150 before they have the connection.
    pub fn start(port: DataEndpoint, time_limit: Duration) -> Self {
        match port {
            DataEndpoint::Passive {
                to,
                announced,
                header,
            } => Self::Connecting {
                target: DialTarget { to, announced },
                connection: Task::spawn(connect::data_to_backend(to, header, time_limit)),
            },
            DataEndpoint::Active { listener, from } => Self::Listening { listener, from },
        }
    }

    /// A pending connection whose task panics.
    #[cfg(test)]
    pub fn panicking() -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::Connecting {
            target: DialTarget {
                to: nowhere,
                announced: None,
            },
            connection: Task::spawn(async { panic!("as a bug would") }),
        }
    }

    /// Waits for it; `Err(None)` if a task has panicked.
    pub async fn ready(self) -> Result<ReadyConnection, Option<(DialTarget, io::Error)>> {
        match self {
            Self::Listening { listener, from } => Ok(ReadyConnection::Listening { listener, from }),
            Self::Connecting {
                target,
                mut connection,
            } => match connection.join().await {
                Some(Ok(socket)) => Ok(ReadyConnection::Connected(socket)),
                Some(Err(error)) => Err(Some((target, error))),
                None => Err(None),
            },
        }
    }
}

impl ReadyConnection {
    /// The connection, once the command has been sent, unless it `timed_out`.
    ///
    /// # Errors
    /// If the backend has not connected by then: that of `accept(2)` if this machine could not accept the connection.
    pub async fn connection(self, timed_out: impl Future<Output = ()>) -> io::Result<TcpStream> {
        match self {
            Self::Connected(socket) => Ok(socket),
            Self::Listening { listener, from } => {
                connect::data_from_backend(&listener, from, timed_out).await
            }
        }
    }
}

impl fmt::Display for DialTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

impl DialTarget {
    /// The address that the backend has named in its 227, if it differs from the one that is dialled.
    pub fn announced_elsewhere(&self) -> Option<SocketAddr> {
        let announced = IpAddr::V4(self.announced?);
        let elsewhere = announced != self.to.ip().to_canonical();
        elsewhere.then(|| SocketAddr::new(announced, self.to.port()))
    }
}
