//! The data connection of a check, and the listing that goes over it.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::ports::MethodsLeft;
use super::{Check, CheckError};
use crate::backend::control::{BackendConnection, ReplyError};
use crate::backend::data::{DataEndpoint, PendingConnection, ReadyConnection};
use crate::backend::dial::DialBudget;
use crate::base::budget::Budget;
use crate::ftp::address;
use crate::ftp::port_methods::BackendPorts;
use crate::ftp::reply::{Class, MAX_PRELIMINARIES, Reply};
use crate::ftp::server::{BackendProtection, PortMethod};
use crate::net::deadline::{elapsed, input_timeout};
use crate::net::proxy_header::Origin;
use crate::net::stream::Stream;
use crate::tls::{self, BackendSessionTls};

/// How much of a listing is read. That much shows that data come through; the rest would only be load.
const LONGEST_LISTING: usize = 1024 * 1024;

/// A listing that was made.
pub(super) struct Listing {
    /// The bytes that have been read of it.
    pub bytes: usize,
    /// The reply after it; `None` if there was more of it than is read.
    pub reply: Option<Reply>,
}

impl Check<'_> {
    /// Opens the data connection for a listing, in the way that sessions do.
    pub(super) async fn open_data(
        &self,
        connection: &mut BackendConnection,
        total: Budget,
    ) -> Result<ReadyConnection, CheckError> {
        self.settle_protection(connection, total).await?;
        let mut failed = None;
        let mut methods = self.methods(connection);
        while let Some(method) = methods.next() {
            let opened = self.open_by(method, connection, total).await;
            methods.note(&opened);
            match opened {
                Ok(ready) => return Ok(ready),
                Err(error) => failed = Some(error),
            }
            if total.left().is_zero() {
                break;
            }
        }
        // There is a method at least.
        Err(failed.unwrap_or(CheckError::NoPort(ReplyError::Closed)))
    }

    /// Sends PBSZ and PROT, if the backend has not taken them before its login.
    pub(super) async fn settle_protection(
        &self,
        connection: &mut BackendConnection,
        total: Budget,
    ) -> Result<(), CheckError> {
        if connection.protection == BackendProtection::AfterLogin {
            connection.protection = BackendProtection::Settled;
            connection.protect(self.budget(total)).await?;
            if connection.protection == BackendProtection::AfterLogin {
                return Err(CheckError::Unprotected);
            }
        }
        Ok(())
    }

    /// The methods to ask this backend by.
    pub(super) fn methods(&self, connection: &BackendConnection) -> MethodsLeft {
        MethodsLeft::new(BackendPorts {
            mode: self.passive_mode,
            ipv6: connection.is_ipv6(),
            avoid: self.backend.avoided(Instant::now().into_std()),
        })
    }

    async fn open_by(
        &self,
        method: PortMethod,
        connection: &mut BackendConnection,
        total: Budget,
    ) -> Result<ReadyConnection, CheckError> {
        let endpoint = self.ask_by(method, connection, total).await?;
        self.connect_data(endpoint, total).await
    }

    /// Asks for a data connection in this way; returns where it goes or comes from.
    pub(super) async fn ask_by(
        &self,
        method: PortMethod,
        connection: &mut BackendConnection,
        total: Budget,
    ) -> Result<DataEndpoint, CheckError> {
        let endpoint = match method {
            PortMethod::Epsv | PortMethod::Pasv => {
                let line: &[u8] = match method {
                    PortMethod::Epsv => b"EPSV\r\n",
                    _ => b"PASV\r\n",
                };
                let reply = self.ask_for_port(connection, line, total).await?;
                let Some(announced) = address::announced(&reply) else {
                    return Err(CheckError::NoPort(ReplyError::Rejected(reply)));
                };
                connection.passive_endpoint(announced, Origin::Proxy)
            }
            PortMethod::Active => {
                let listening = connection.listen().await;
                let (listener, at) = listening.map_err(|cause| CheckError::DataConnect {
                    to: "a port of our own".to_owned(),
                    cause,
                })?;
                let line = address::active_command(at) + "\r\n";
                let reply = self.ask_for_port(connection, line.as_bytes(), total);
                let reply = reply.await?;
                if reply.class() != Class::Completion {
                    return Err(CheckError::NoPort(ReplyError::Rejected(reply)));
                }
                connection.active_endpoint(listener)
            }
        };
        endpoint.map_err(|error| CheckError::NoPort(ReplyError::of(&error)))
    }

    /// Connects to the announced data port, or prepares to be connected to.
    pub(super) async fn connect_data(
        &self,
        endpoint: DataEndpoint,
        total: Budget,
    ) -> Result<ReadyConnection, CheckError> {
        let to = match &endpoint {
            DataEndpoint::Passive { to, .. } => to.to_string(),
            DataEndpoint::Active { from, .. } => format!("us from {from}"),
        };
        let time_limit = self.step().min(total.left());
        let pending = PendingConnection::start(endpoint, time_limit);
        pending.ready().await.map_err(|failed| {
            let panicked = || io::Error::other("the connecting task has ended");
            let cause = failed.map_or_else(panicked, |(_, cause)| cause);
            CheckError::DataConnect { to, cause }
        })
    }

    async fn ask_for_port(
        &self,
        connection: &mut BackendConnection,
        line: &[u8],
        total: Budget,
    ) -> Result<Reply, CheckError> {
        let budget = self.budget(total);
        connection
            .ask(line, budget)
            .await
            .map_err(CheckError::NoPort)
    }

    /// Lists `path`, or else the directory that the login leads to, over the data connection, to the end of it and to the
    /// last reply. `ready` hears of the data connection once its handshake is done.
    pub(super) async fn list(
        &self,
        connection: &mut BackendConnection,
        data: ReadyConnection,
        path: Option<&str>,
        total: Budget,
        ready: impl FnOnce(&Stream),
    ) -> Result<Listing, CheckError> {
        let line = match path {
            Some(path) => [b"LIST ", path.as_bytes(), b"\r\n"].concat(),
            None => b"LIST\r\n".to_vec(),
        };
        if let Err(end) = connection.send(&line).await {
            return Err(CheckError::List(ReplyError::of(&end)));
        }
        let tls = connection.tls.clone();
        let step = self.step().min(total.left());
        // The handshake comes behind the command (servers wait with it until then), and meanwhile the control connection
        // may tell that there will be none.
        let mut bytes = 0;
        let from = match &data {
            ReadyConnection::Connected(_) => None,
            ReadyConnection::Listening { from, .. } => Some(*from),
        };
        let reading = async {
            let connected = data.connection(elapsed(step)).await;
            let socket = connected.map_err(|cause| match from {
                Some(from) => CheckError::DataAccept { from, cause },
                None => CheckError::DataBroke(cause),
            })?;
            let mut stream = input_timeout(step, start_tls(socket, tls))
                .await
                .unwrap_or(Err(CheckError::DataTimeout(step)))?;
            ready(&stream);
            read_to_end(&mut stream, step, &mut bytes).await?;
            // What the server makes of it is in its reply.
            let _ = stream.finish().await;
            Ok(())
        };
        let replying = async {
            let budget = DialBudget {
                timeouts: self.timeouts,
                total,
            };
            let mut preliminaries = 0;
            loop {
                let reply = connection.reply_within(budget).await;
                let reply = reply.map_err(CheckError::List)?;
                match reply.class() {
                    Class::Preliminary if preliminaries < MAX_PRELIMINARIES => preliminaries += 1,
                    Class::Completion => return Ok(reply),
                    _ => return Err(CheckError::List(ReplyError::Rejected(reply)).into()),
                }
            }
        };
        let reply = match tokio::try_join!(replying, reading) {
            Ok((reply, ())) => Some(reply),
            Err(Stop::Enough) => None,
            Err(Stop::Failed(error)) => return Err(error),
        };
        Ok(Listing { bytes, reply })
    }
}

/// Why a listing is not read on.
enum Stop {
    /// [`LONGEST_LISTING`] has come.
    Enough,
    /// The listing failed.
    Failed(CheckError),
}

impl From<CheckError> for Stop {
    fn from(error: CheckError) -> Self {
        Self::Failed(error)
    }
}

async fn start_tls(
    socket: TcpStream,
    tls: Option<BackendSessionTls>,
) -> Result<Stream, CheckError> {
    let Some(tls) = tls else {
        return Ok(Stream::Plain(socket));
    };
    let connecting = TlsConnector::from(tls.config()).connect(tls.server_name(), socket);
    match connecting.await {
        Ok(stream) => Ok(Stream::ToBackend(Box::new(stream))),
        Err(error) => Err(CheckError::DataHandshake(tls::classify_error(&error))),
    }
}

/// Reads to the end, counting into `bytes`.
async fn read_to_end(stream: &mut Stream, step: Duration, bytes: &mut usize) -> Result<(), Stop> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = input_timeout(step, stream.read(&mut buffer)).await;
        match read.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(0) => return Ok(()),
            // IIS ends its data connections without close_notify.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(count) => {
                *bytes += count;
                if *bytes > LONGEST_LISTING {
                    return Err(Stop::Enough);
                }
            }
            Err(error) => return Err(CheckError::DataBroke(error).into()),
        }
    }
}
