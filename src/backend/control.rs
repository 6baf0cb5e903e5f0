//! A backend's control connection: replies in, lines out.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::site_backend::{Backend, BackendSlot};
use crate::base::text::{escape, escape_lines, rounded};
use crate::ftp::reply::{BadReply, PartialReply, Reply, ReplyParser};
use crate::ftp::server::BackendProtection;
use crate::net::control::ControlConnection;
use crate::net::stream::Stream;
use crate::tls::{self, BackendSessionTls, HandshakeFault};

/// How long no further line may arrive after a reply whose last code differs from its first, before it counts as
/// complete. Longer than the gap between the packets of one reply.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// A backend's control connection.
#[derive(Debug)]
pub struct BackendConnection {
    control: ControlConnection,
    replies: ReplyParser,
    /// The backend at the other end.
    pub backend: Arc<Backend>,
    /// The backend's address.
    pub address: SocketAddr,
    /// The TLS session and settings that this session's data connections have to use as well; `None` in clear text.
    pub tls: Option<BackendSessionTls>,
    /// The 230 sent in place of a greeting, by a backend that requires no login.
    pub welcome: Option<Reply>,
    /// Whether the backend still has to be sent PBSZ and PROT for private data connections.
    pub protection: BackendProtection,
    /// The session's slot at the backend, held until the connection is closed.
    slot: Option<BackendSlot>,
    /// Until when a further line may come of a reply that ends with another code than it began with; after that the reply counts
    /// as complete.
    settled_at: Option<Instant>,
}

/// Why no usable reply was received.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// No reply came in time.
    #[error("no reply after {}", rounded(.0))]
    TimedOut(Duration),
    /// A reply began, but was not complete in time.
    #[error("no reply after {}, but {}", rounded(.0), .1)]
    Incomplete(Duration, ShownPartialReply),
    /// The backend closed the connection.
    #[error("the backend closed the connection")]
    Closed,
    /// The connection broke.
    #[error("the connection to the backend broke: {0}")]
    Broken(io::ErrorKind),
    /// The connection broke because TLS failed.
    #[error("the connection to the backend broke: {0}")]
    Tls(HandshakeFault),
    /// The received bytes are not a reply.
    #[error("not an FTP reply: {0}")]
    Malformed(#[from] BadReply),
    /// A reply came, but not one that is usable here.
    #[error("the backend said {:?}", escape_lines(.0.bytes()))]
    Rejected(Reply),
}

/// Bytes from the backend that are not a complete reply, formatted for the log.
#[derive(Debug)]
pub struct ShownPartialReply(PartialReply);

impl fmt::Display for ShownPartialReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            PartialReply::Unterminated(line) => {
                write!(f, "an unfinished one: {:?}", escape(line))
            }
            PartialReply::Stray(line) => write!(f, "a line without a code: {:?}", escape(line)),
        }
    }
}

impl ReplyError {
    /// The error of a connection that ended, or that accepts no more bytes.
    pub fn of(end: &io::Error) -> Self {
        match end.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::InvalidData => Self::Tls(tls::classify_error(end)),
            kind => Self::Broken(kind),
        }
    }
}

impl BackendConnection {
    pub(super) fn new(
        backend: &Arc<Backend>,
        stream: Stream,
        address: SocketAddr,
        tls: Option<BackendSessionTls>,
    ) -> Self {
        Self {
            control: ControlConnection::with_backend(stream),
            replies: ReplyParser::default(),
            backend: Arc::clone(backend),
            address,
            tls,
            welcome: None,
            protection: BackendProtection::Settled,
            slot: None,
            settled_at: None,
        }
    }

    /// Holds the slot for as long as it is there.
    pub(super) fn hold(&mut self, slot: BackendSlot) {
        self.slot = Some(slot);
    }

    /// The connection's socket, to start TLS on it; `None` if bytes have been received beyond the replies read so far: a man in
    /// the middle may have injected them.
    pub(super) fn into_clear_socket(self) -> Option<TcpStream> {
        self.control.into_clear_socket().ok()
    }

    /// The bytes received from the backend that are not a reply, or not a complete one.
    pub fn partial_reply(&self) -> Option<ShownPartialReply> {
        self.replies.partial_reply().map(ShownPartialReply)
    }

    /// The control connection's stream.
    pub fn stream(&self) -> &Stream {
        self.control.stream()
    }

    /// Whether the connection runs over IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.address.ip().to_canonical().is_ipv6()
    }

    /// Takes the next whole reply that has arrived.
    ///
    /// # Errors
    /// If the received bytes are not a reply, or the connection is closed.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.control.next_line() {
            if let Some(reply) = self.replies.push(line)? {
                return Ok(Some(reply));
            }
        }
        if self.control.line_is_too_long() {
            // It may have no end.
            return Err(BadReply::LineTooLong.into());
        }
        let end = self.control.end();
        if self.replies.may_end_with_other_code() {
            let now = Instant::now();
            let settled_at = *self.settled_at.get_or_insert(now + SETTLE_TIME);
            if (end.is_some() || settled_at <= now)
                && let Some(reply) = self.replies.take_reply_with_other_code()
            {
                self.settled_at = None;
                return Ok(Some(reply));
            }
        }
        match end {
            Some(end) => Err(ReplyError::of(&end)),
            None => Ok(None),
        }
    }

    /// Waits for more of a reply, or until the received lines count as one. May be cancelled.
    pub async fn fill(&mut self) {
        let Some(settled_at) = self.settled_at else {
            return self.control.fill().await;
        };
        tokio::select! {
            biased;
            () = self.control.fill() => self.settled_at = None,
            () = sleep_until(settled_at) => {}
        }
    }

    /// Sends a line.
    ///
    /// # Errors
    /// If the backend is gone or does not read.
    pub async fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.control.send(line).await
    }

    /// Ends the connection in order.
    pub async fn close(self) {
        self.control.close().await;
        drop(self.slot);
    }
}
