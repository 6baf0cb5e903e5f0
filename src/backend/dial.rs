//! Connecting to a backend: name, connection, greeting, TLS, until it is ready for USER. Checks may stop before that.
//!
//! Nothing is sent in clear text to a backend that is configured with TLS but AUTH itself; there is no fallback, and
//! the backend's FEAT is not asked, since a man in the middle could have removed AUTH from it. The error says how far
//! it went and why, for one log line and one metric.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::control::{BackendConnection, ReplyError};
use super::site_backend::Backend;
use crate::base::budget::Budget;
use crate::base::text::rounded;
use crate::config::{Endpoint, Timeouts, TlsMode};
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::BackendProtection;
use crate::net::connect;
use crate::net::deadline::input_timeout;
use crate::net::proxy_header::{Origin, write};
use crate::net::resolve::{Resolver, Urgency};
use crate::net::stream::Stream;
use crate::outcome::DialStage;
use crate::tls::{self, BackendSessionTls, HandshakeFault};

/// How many 120 may come before the 220.
const MAX_DELAYS: u32 = 16;

/// How far connecting to a backend got, and what ended it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name can't be resolved: {0}")]
    Dns(#[source] io::Error),
    /// The connection failed.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// The greeting is no 2yz.
    #[error("no usable greeting: {0}")]
    Greeting(#[source] ReplyError),
    /// No 234 to AUTH TLS, nor to AUTH SSL.
    #[error("AUTH TLS was not accepted: {0}")]
    Auth(#[source] ReplyError),
    /// Clear text between 234 and the handshake.
    #[error("clear text after the reply to AUTH TLS: possible reply injection")]
    Injected,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] HandshakeFault),
    /// The handshake took too long.
    #[error("TLS handshake timed out after {}", rounded(.0))]
    HandshakeTimeout(Duration),
    /// The backend wants another certificate of ours, or one at all. In TLS 1.3 its alert comes after the handshake.
    #[error("{}: {alert}", if *.shown { "the backend refused the client certificate that it was shown" } else { "the backend requires a client certificate and was shown none" })]
    ClientCertificate {
        /// The backend's alert.
        #[source]
        alert: HandshakeFault,
        /// Whether the backend was shown a certificate.
        shown: bool,
    },
    /// PBSZ or PROT P refused.
    #[error("{command} was not accepted: {reason}")]
    Protection {
        /// The command sent.
        command: &'static str,
        /// The reply to it.
        #[source]
        reason: ReplyError,
    },
    /// The backend became ready for USER, and didn't answer it.
    #[error("USER was not answered: {0}")]
    User(#[source] ReplyError),
}

impl DialError {
    /// The stage that the dial got to, as a metric label.
    pub fn stage(&self) -> DialStage {
        match self {
            Self::Dns(_) => DialStage::Dns,
            Self::Connect(_) => DialStage::Connect,
            Self::Greeting(_) => DialStage::Greeting,
            Self::Auth(_) | Self::Injected => DialStage::Auth,
            Self::Handshake(fault) if fault.is_certificate() => DialStage::Certificate,
            Self::Handshake(_) | Self::HandshakeTimeout(_) | Self::ClientCertificate { .. } => {
                DialStage::Handshake
            }
            Self::Protection { .. } => DialStage::Protection,
            Self::User(_) => DialStage::User,
        }
    }

    /// Turns an alert about the client certificate that this backend was shown, or about a missing one, into
    /// [`Self::ClientCertificate`]; returns any other error as it is.
    fn or_client_certificate(self, backend: &Backend) -> Self {
        let shown = backend.shows_certificate();
        match self {
            Self::Handshake(alert)
            | Self::Greeting(ReplyError::Tls(alert))
            | Self::Protection {
                reason: ReplyError::Tls(alert),
                ..
            } if alert.misses_certificate() || (shown && alert.refuses_certificate()) => {
                Self::ClientCertificate { alert, shown }
            }
            other => other,
        }
    }
}

/// Time limits for connecting to a backend: of each step, and of all steps together.
#[derive(Debug, Clone, Copy)]
pub struct DialBudget<'a> {
    /// Time limits of the steps.
    pub timeouts: &'a Timeouts,
    /// Time limit until the backend is ready.
    pub total: Budget,
}

impl DialBudget<'_> {
    fn connect(self) -> Duration {
        self.clamp(self.timeouts.backend_connect)
    }

    fn reply(self) -> Duration {
        self.clamp(self.timeouts.backend_reply)
    }

    fn handshake(self) -> Duration {
        self.clamp(self.timeouts.tls_handshake)
    }

    fn clamp(self, step: Duration) -> Duration {
        step.min(self.total.left())
    }
}

/// The depth of a dial: the stage with which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The TCP connection is established.
    Connected,
    /// The greeting has come; the connection is still in clear text where AUTH would follow.
    Greeted,
    /// The backend is ready for USER.
    Ready,
}

/// Receives each completed stage of a dial, in order.
pub trait Progress {
    /// Called when this stage is complete, with its result.
    fn done(&mut self, stage: DialStage, seen: Seen<'_>);
}

/// The result of a stage of a dial.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// The name's addresses, in the order in which they are tried.
    Addresses(&'a [SocketAddr]),
    /// The address that the connection goes to.
    Connected(SocketAddr),
    /// The backend's reply: its greeting, or the one to AUTH.
    Reply(&'a Reply),
    /// A connection whose handshake is done.
    Handshake(&'a Stream),
    /// PBSZ and PROT were sent.
    Protection(BackendProtection),
}

/// For logins, which only want to know of the end.
impl Progress for () {
    fn done(&mut self, _: DialStage, _: Seen<'_>) {}
}

/// Connects to a backend and makes it ready for USER. Where it expects PROXY headers, its connection begins with one, which
/// names the origin.
///
/// # Errors
/// See [`DialError`]; the connection is closed then.
pub async fn dial(
    backend: &Arc<Backend>,
    resolver: &Arc<Resolver>,
    origin: Origin<'_>,
    budget: DialBudget<'_>,
) -> Result<BackendConnection, DialError> {
    dial_to(Depth::Ready, backend, resolver, origin, budget, &mut ()).await
}

/// As [`dial`], so far.
///
/// # Errors
/// See [`DialError`]; the connection is closed then.
pub async fn dial_to(
    depth: Depth,
    backend: &Arc<Backend>,
    resolver: &Arc<Resolver>,
    origin: Origin<'_>,
    budget: DialBudget<'_>,
    progress: &mut impl Progress,
) -> Result<BackendConnection, DialError> {
    let dial = Dial {
        backend,
        resolver,
        origin,
        budget,
    };
    dial.run(depth, progress)
        .await
        .map_err(|error| error.or_client_certificate(backend))
}

/// The parameters of a dial.
pub(super) struct Dial<'a> {
    pub backend: &'a Arc<Backend>,
    resolver: &'a Arc<Resolver>,
    origin: Origin<'a>,
    pub budget: DialBudget<'a>,
}

impl Dial<'_> {
    async fn run(
        &self,
        depth: Depth,
        progress: &mut impl Progress,
    ) -> Result<BackendConnection, DialError> {
        let (socket, address) = self.connect(progress).await?;
        if depth == Depth::Connected {
            return Ok(self.in_clear(socket, address));
        }
        let Some(tls) = &self.backend.tls else {
            let mut connection = self.in_clear(socket, address);
            connection.take_greeting(self.budget, progress).await?;
            return Ok(connection);
        };
        let mut connection = match tls.start {
            TlsMode::Implicit => {
                let tls = tls.client.session();
                let stream = self.handshake(socket, &tls).await?;
                progress.done(DialStage::Handshake, Seen::Handshake(&stream));
                let mut connection =
                    BackendConnection::new(self.backend, stream, address, Some(tls));
                connection.take_greeting(self.budget, progress).await?;
                connection
            }
            TlsMode::Explicit => {
                let mut connection = self.in_clear(socket, address);
                // A login without TLS counts for nothing after AUTH (RFC 4217 §4).
                connection.take_greeting(self.budget, progress).await?;
                if depth == Depth::Greeted {
                    return Ok(connection);
                }
                self.start_tls(connection, &tls.client, progress).await?
            }
        };
        if depth == Depth::Ready {
            connection.protect(self.budget).await?;
            let protection = Seen::Protection(connection.protection);
            progress.done(DialStage::Protection, protection);
        }
        Ok(connection)
    }

    /// Establishes the TCP connection, which begins with a PROXY header where the backend expects one.
    async fn connect(
        &self,
        progress: &mut impl Progress,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let Endpoint { host, port } = &self.backend.server.endpoint;
        let began = Instant::now();
        let connecting = self.budget.connect();
        let known = &self.backend.server.addresses;
        let addresses = if known.is_empty() {
            // A name server that doesn't answer is another fault than a backend that doesn't.
            let urgency = match self.origin {
                Origin::Client(_) => Urgency::Awaited,
                Origin::Proxy => Urgency::Background,
            };
            input_timeout(connecting, self.resolver.resolve(host, *port, urgency))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(DialError::Dns)?
        } else {
            known.iter().map(|ip| SocketAddr::new(*ip, *port)).collect()
        };
        progress.done(DialStage::Dns, Seen::Addresses(&addresses));
        let left = connecting.saturating_sub(began.elapsed());
        let mut socket = connect::control(&addresses, left)
            .await
            .map_err(DialError::Connect)?;
        if let Some(expected) = self.backend.settings.proxy_protocol {
            let header = write::header(expected.version, self.origin);
            // It fits into the empty buffer of a new socket.
            let sent = input_timeout(self.budget.connect(), socket.write_all(&header)).await;
            sent.unwrap_or_else(|late| Err(late.into()))
                .map_err(DialError::Connect)?;
        }
        let address = socket.peer_addr().map_err(DialError::Connect)?;
        progress.done(DialStage::Connect, Seen::Connected(address));
        Ok((socket, address))
    }

    fn in_clear(&self, socket: TcpStream, address: SocketAddr) -> BackendConnection {
        BackendConnection::new(self.backend, Stream::Plain(socket), address, None)
    }

    /// Connects once more, up to the greeting.
    pub(super) async fn reconnect(&self) -> Result<BackendConnection, DialError> {
        let (socket, address) = self.connect(&mut ()).await?;
        let mut connection = self.in_clear(socket, address);
        connection.take_greeting(self.budget, &mut ()).await?;
        Ok(connection)
    }

    pub(super) async fn handshake(
        &self,
        socket: TcpStream,
        tls: &BackendSessionTls,
    ) -> Result<Stream, DialError> {
        let time_limit = self.budget.handshake();
        let connecting = TlsConnector::from(tls.config()).connect(tls.server_name(), socket);
        match input_timeout(time_limit, connecting).await {
            Ok(Ok(stream)) => Ok(Stream::ToBackend(Box::new(stream))),
            Ok(Err(error)) => Err(DialError::Handshake(tls::classify_error(&error))),
            Err(_) => Err(DialError::HandshakeTimeout(time_limit)),
        }
    }
}

impl BackendConnection {
    /// Waits for the greeting, and keeps its 230 if the backend has logged the client in already.
    async fn take_greeting(
        &mut self,
        budget: DialBudget<'_>,
        progress: &mut impl Progress,
    ) -> Result<(), DialError> {
        let greeting = self.greeting(budget).await?;
        progress.done(DialStage::Greeting, Seen::Reply(&greeting));
        self.welcome = matches!(greeting.number(), 230 | 232).then_some(greeting);
        Ok(())
    }

    async fn greeting(&mut self, budget: DialBudget<'_>) -> Result<Reply, DialError> {
        let mut delays = 0;
        loop {
            let reply = self
                .reply_within(budget)
                .await
                .map_err(DialError::Greeting)?;
            match (reply.number(), reply.class()) {
                // "Ready in nnn minutes": hardly a client survives one, so it's waited out here.
                (120, _) if delays < MAX_DELAYS => delays += 1,
                // Clients look at the first digit alone, so there are servers that greet with 200 or 214.
                (_, Class::Completion) => return Ok(reply),
                _ => return Err(DialError::Greeting(ReplyError::Rejected(reply))),
            }
        }
    }

    /// Private data connections, whatever the client's are.
    pub(super) async fn protect(&mut self, budget: DialBudget<'_>) -> Result<(), DialError> {
        for (command, line) in [("PBSZ 0", &b"PBSZ 0\r\n"[..]), ("PROT P", b"PROT P\r\n")] {
            let reason = match self.ask(line, budget).await {
                Ok(reply) if reply.class() == Class::Completion => continue,
                Ok(reply) if wants_login_first(&reply) => {
                    self.protection = BackendProtection::AfterLogin;
                    return Ok(());
                }
                Ok(reply) => ReplyError::Rejected(reply),
                Err(reason) => reason,
            };
            return Err(DialError::Protection { command, reason });
        }
        Ok(())
    }

    /// Sends a line and waits for the reply to it.
    pub(super) async fn ask(
        &mut self,
        line: &[u8],
        budget: DialBudget<'_>,
    ) -> Result<Reply, ReplyError> {
        if let Err(end) = self.send(line).await {
            return Err(self
                .pending_tls_error(budget)
                .await
                .unwrap_or(ReplyError::of(&end)));
        }
        self.reply_within(budget).await
    }

    /// The TLS error, if any, that has arrived from a backend to which nothing more can be sent: in TLS 1.3 the alert of a
    /// backend that has closed the connection for our certificate may have been received already.
    async fn pending_tls_error(&mut self, budget: DialBudget<'_>) -> Option<ReplyError> {
        let _ = input_timeout(budget.reply(), self.fill()).await;
        match self.next_reply() {
            Err(error @ ReplyError::Tls(_)) => Some(error),
            _ => None,
        }
    }

    /// Waits for a reply.
    pub(super) async fn reply_within(
        &mut self,
        budget: DialBudget<'_>,
    ) -> Result<Reply, ReplyError> {
        let receiving = async {
            loop {
                if let Some(reply) = self.next_reply()? {
                    return Ok(reply);
                }
                self.fill().await;
            }
        };
        let time_limit = budget.reply();
        if let Ok(received) = input_timeout(time_limit, receiving).await {
            return received;
        }
        Err(match self.partial_reply() {
            Some(received) => ReplyError::Incomplete(time_limit, received),
            None => ReplyError::TimedOut(time_limit),
        })
    }
}

/// Whether PBSZ or PROT was sent too early: 530 is "not logged in", 503 "bad sequence of commands" (RFC 959 §4.2.2).
/// Any other refusal is final.
fn wants_login_first(reply: &Reply) -> bool {
    matches!(reply.number(), 503 | 530)
}
