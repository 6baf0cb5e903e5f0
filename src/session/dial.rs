//! The way to a backend: name, connection, greeting, TLS, until it is ready for USER.
//!
//! Nothing is sent in clear text to a backend that is configured with TLS but AUTH itself; there is no falling back, and
//! the backend's FEAT is not asked, since whoever sits on the way could have taken AUTH out of it. The error says how
//! far it went and why, for one log line and one metric.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::config::{Backend, BackendTls, ListenerTls, Timeouts};
use crate::ftp::reply::{BadReply, Class, Reply, ReplyParser};
use crate::net::connect;
use crate::net::control::ControlConnection;
use crate::net::deadline::timeout;
use crate::net::resolve::Resolver;
use crate::net::stream::Stream;
use crate::observe::log::shown;
use crate::observe::metrics::DialStage;
use crate::tls::{self, BackendSessionTls, BackendTlsClient, HandshakeFault};

/// A backend's control connection.
#[derive(Debug)]
pub struct BackendConnection {
    control: ControlConnection,
    replies: ReplyParser,
    /// Where it is.
    pub address: SocketAddr,
    /// What the data connections of this session have to use, too.
    pub tls: Option<BackendSessionTls>,
    /// The 230 in place of a greeting of a backend that asks nobody for a name.
    pub welcome: Option<Reply>,
}

/// How far the way to a backend led, and what ended it.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name can't be resolved: {0}")]
    Dns(#[source] io::Error),
    /// No connection.
    #[error("no connection: {0}")]
    Connect(#[source] io::Error),
    /// No 220.
    #[error("no usable greeting: {0}")]
    Greeting(#[source] NoReply),
    /// No 234 to AUTH TLS.
    #[error("AUTH TLS was not accepted: {0}")]
    Auth(#[source] NoReply),
    /// Clear text between 234 and the handshake.
    #[error("clear text after the reply to AUTH TLS: somebody may be injecting replies")]
    Injected,
    /// The handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] HandshakeFault),
    /// The handshake took too long.
    #[error("TLS handshake not done after {0:?}")]
    HandshakeTimeout(Duration),
    /// PBSZ or PROT P refused.
    #[error("{command} was not accepted: {reason}")]
    Protection {
        /// What was sent.
        command: &'static str,
        /// What came back.
        #[source]
        reason: NoReply,
    },
}

/// Why there is no usable reply.
#[derive(Debug, thiserror::Error)]
pub enum NoReply {
    /// Nothing in time.
    #[error("no reply after {0:?}")]
    TimedOut(Duration),
    /// The backend closed the connection.
    #[error("the backend closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection to the backend broke: {0}")]
    Broken(io::ErrorKind),
    /// What came is no reply.
    #[error("not an FTP reply: {0}")]
    Malformed(#[from] BadReply),
    /// Another reply than is needed.
    #[error("the backend said {:?}", shown(.0.bytes().trim_ascii_end()))]
    Unwelcome(Reply),
}

impl NoReply {
    /// Of a connection that ended, or that takes nothing any more.
    pub(super) fn of(end: io::Error) -> Self {
        match end.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Broken(kind),
        }
    }
}

impl DialError {
    /// The metric's word for how far it went.
    pub fn stage(&self) -> DialStage {
        match self {
            Self::Dns(_) => DialStage::Dns,
            Self::Connect(_) => DialStage::Connect,
            Self::Greeting(_) => DialStage::Greeting,
            Self::Auth(_) | Self::Injected => DialStage::Auth,
            Self::Handshake(fault) if fault.is_certificate() => DialStage::Certificate,
            Self::Handshake(_) | Self::HandshakeTimeout(_) => DialStage::Handshake,
            Self::Protection { .. } => DialStage::Protection,
        }
    }
}

/// How long the way to a backend may take: each step by itself, and all of them together.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'a> {
    /// For the steps.
    pub timeouts: &'a Timeouts,
    /// When the backend has to be ready.
    pub by: Instant,
}

impl Patience<'_> {
    fn connect(self) -> Duration {
        self.at_most(self.timeouts.backend_connect)
    }

    fn reply(self) -> Duration {
        self.at_most(self.timeouts.backend_reply)
    }

    fn handshake(self) -> Duration {
        self.at_most(self.timeouts.tls_handshake)
    }

    fn at_most(self, step: Duration) -> Duration {
        step.min(self.by.saturating_duration_since(Instant::now()))
    }
}

/// Connects to a backend and makes it ready for USER.
///
/// # Errors
/// See [`DialError`]; the connection is closed then.
pub async fn dial(
    backend: &Backend,
    tls: Option<&BackendTlsClient>,
    resolver: &Arc<Resolver>,
    patience: Patience<'_>,
) -> Result<BackendConnection, DialError> {
    let began = Instant::now();
    let connecting = patience.connect();
    // A name server that doesn't answer is another fault than a backend that doesn't.
    let addresses = timeout(connecting, resolver.resolve(&backend.host, backend.port))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(DialError::Dns)?;
    let left = connecting.saturating_sub(began.elapsed());
    let socket = connect::control(&addresses, left)
        .await
        .map_err(DialError::Connect)?;
    let address = socket.peer_addr().map_err(DialError::Connect)?;

    let (Some(client), Some(settings)) = (tls, &backend.tls) else {
        let mut connection = BackendConnection::new(Stream::Plain(socket), address, None);
        connection.welcome = connection.greeting(patience).await?;
        return Ok(connection);
    };
    let session = client.session();
    let mut connection = secure(socket, address, session, settings, patience).await?;
    connection.protect(patience).await?;
    Ok(connection)
}

/// Greeting and handshake, in the order that the kind of TLS demands.
async fn secure(
    socket: TcpStream,
    address: SocketAddr,
    tls: BackendSessionTls,
    settings: &BackendTls,
    patience: Patience<'_>,
) -> Result<BackendConnection, DialError> {
    match settings.start {
        ListenerTls::Implicit => {
            let stream = handshake(socket, &tls, patience).await?;
            let mut connection = BackendConnection::new(stream, address, Some(tls));
            connection.welcome = connection.greeting(patience).await?;
            Ok(connection)
        }
        ListenerTls::Explicit => {
            let mut connection = BackendConnection::new(Stream::Plain(socket), address, None);
            // A login without TLS counts for nothing after AUTH (RFC 4217 §4).
            let _ = connection.greeting(patience).await?;
            // Only 234 means TLS (RFC 4217 §4.2); after anything else a password would go out in clear text.
            let reply = connection
                .ask(b"AUTH TLS\r\n", patience)
                .await
                .and_then(|reply| {
                    if reply.number() == 234 {
                        Ok(())
                    } else {
                        Err(NoReply::Unwelcome(reply))
                    }
                });
            reply.map_err(DialError::Auth)?;
            let socket = connection
                .control
                .into_clear_socket()
                .map_err(|_| DialError::Injected)?;
            let stream = handshake(socket, &tls, patience).await?;
            Ok(BackendConnection::new(stream, address, Some(tls)))
        }
    }
}

async fn handshake(
    socket: TcpStream,
    tls: &BackendSessionTls,
    patience: Patience<'_>,
) -> Result<Stream, DialError> {
    let patience = patience.handshake();
    let connecting = TlsConnector::from(tls.config()).connect(tls.server_name(), socket);
    match timeout(patience, connecting).await {
        Ok(Ok(stream)) => Ok(Stream::ToBackend(Box::new(stream))),
        Ok(Err(error)) => Err(DialError::Handshake(tls::explain(&error))),
        Err(_) => Err(DialError::HandshakeTimeout(patience)),
    }
}

impl BackendConnection {
    fn new(stream: Stream, address: SocketAddr, tls: Option<BackendSessionTls>) -> Self {
        Self {
            control: ControlConnection::with_backend(stream),
            replies: ReplyParser::default(),
            address,
            tls,
            welcome: None,
        }
    }

    /// Waits until the backend is ready; gives its 230 if it has let the client in already.
    async fn greeting(&mut self, patience: Patience<'_>) -> Result<Option<Reply>, DialError> {
        let mut delays = 0;
        loop {
            let reply = self
                .reply_within(patience)
                .await
                .map_err(DialError::Greeting)?;
            match reply.number() {
                // "Ready in nnn minutes": hardly a client survives one, so it's waited out here.
                120 if delays < MAX_DELAYS => delays += 1,
                220 => return Ok(None),
                230 => return Ok(Some(reply)),
                _ => return Err(DialError::Greeting(NoReply::Unwelcome(reply))),
            }
        }
    }

    /// Private data connections, whatever the client's are.
    async fn protect(&mut self, patience: Patience<'_>) -> Result<(), DialError> {
        for (command, line) in [("PBSZ 0", &b"PBSZ 0\r\n"[..]), ("PROT P", b"PROT P\r\n")] {
            let reply = self
                .ask(line, patience)
                .await
                .and_then(|reply| match reply.class() {
                    Class::Completion => Ok(()),
                    _ => Err(NoReply::Unwelcome(reply)),
                });
            reply.map_err(|reason| DialError::Protection { command, reason })?;
        }
        Ok(())
    }

    async fn ask(&mut self, line: &[u8], patience: Patience<'_>) -> Result<Reply, NoReply> {
        self.send(line).await.map_err(NoReply::of)?;
        self.reply_within(patience).await
    }

    async fn reply_within(&mut self, patience: Patience<'_>) -> Result<Reply, NoReply> {
        let receiving = async {
            loop {
                let line = self.control.line().await.map_err(NoReply::of)?;
                if let Some(reply) = self.replies.push(line)? {
                    return Ok(reply);
                }
            }
        };
        let patience = patience.reply();
        timeout(patience, receiving)
            .await
            .unwrap_or(Err(NoReply::TimedOut(patience)))
    }

    /// The control connection's stream.
    pub fn stream(&self) -> &Stream {
        self.control.stream()
    }

    /// Takes the next whole reply that has arrived.
    ///
    /// # Errors
    /// If what came is no reply, or the connection is over.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, NoReply> {
        while let Some(line) = self.control.next_line() {
            if let Some(reply) = self.replies.push(line)? {
                return Ok(Some(reply));
            }
        }
        if self.control.line_is_too_long() {
            // It may have no end.
            Err(BadReply::LineTooLong.into())
        } else if let Some(end) = self.control.end() {
            Err(NoReply::of(end.into()))
        } else {
            Ok(None)
        }
    }

    /// Waits for more of a reply. May be cancelled.
    pub async fn fill(&mut self) {
        self.control.fill().await;
    }

    /// Sends a line.
    ///
    /// # Errors
    /// If the backend is gone or takes nothing.
    pub async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.control.send(line).await
    }

    /// Ends the connection in order.
    pub async fn close(self) {
        self.control.close().await;
    }
}

/// How many 120 may come before the 220.
const MAX_DELAYS: u32 = 16;
