//! The reading side of a data connection: the bytes of a file, in large pieces, and how they end.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::buffered_source::BufferedSource;
use super::tls_source::TlsSource;
use crate::net::options;
use crate::net::stream::Stream;

/// Enough for a listing or a small file.
const FIRST_PIECE: usize = 16 * 1024;

/// Four TLS records. More saves system calls, but then the bytes are out of the CPU's cache when they are used again.
const LARGEST_PIECE: usize = 64 * 1024;

/// The source of a transfer's bytes.
#[derive(Debug)]
pub enum Source {
    /// A source without TLS.
    Plain(PlainSource),
    /// With TLS, and a client at the other end: an upload.
    FromClient(Box<TlsSource<UnbufferedServerConnection>>),
    /// With TLS, and a client whose handshake was done before the direction of the transfer was known.
    FromBufferedClient(Box<BufferedSource>),
    /// With TLS, and a backend at the other end: a download or a listing.
    FromBackend(Box<TlsSource<UnbufferedClientConnection>>),
}

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEnd {
    /// The source ended with close_notify: complete, and authenticated as such.
    CloseNotify,
    /// The source ended with FIN, without TLS.
    Fin,
    /// With FIN under TLS but without close_notify: the peer crashed, a man in the middle truncated it, or it is a
    /// server that never sends close_notify.
    Unclean,
}

/// Result of filling the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// Bytes are there to be taken.
    Bytes,
    /// The source has ended.
    End(SourceEnd),
}

/// The bytes that have arrived at a source and are not in its buffer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread {
    /// How many bytes that is, as they come: under TLS, encrypted.
    pub bytes: u64,
    /// Whether the end has arrived behind them.
    pub has_ended: bool,
}

impl Source {
    /// A source without TLS; `read` has been read already.
    pub fn plain(socket: TcpStream, read: Vec<u8>) -> Self {
        let filled = read.len();
        let mut buffer = read;
        buffer.resize(filled.max(FIRST_PIECE), 0);
        Self::Plain(PlainSource {
            socket,
            buffer,
            filled,
            full: false,
        })
    }

    /// Performs the handshake with a client, of which `read` has been read already. `amend` is given our first records before
    /// they go out.
    ///
    /// # Errors
    /// What went wrong in the handshake, with rustls' own error within; the peer has been sent an alert.
    pub async fn from_client(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        read: &[u8],
        amend: impl Fn(&mut Vec<u8>),
    ) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let source = TlsSource::handshake(socket, connection, read, amend).await?;
        Ok(Self::FromClient(Box::new(source)))
    }

    /// Performs the handshake with a backend.
    ///
    /// # Errors
    /// As [`Source::from_client`].
    pub async fn from_backend(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
        let source = TlsSource::handshake(socket, connection, &[], |_| {}).await?;
        Ok(Self::FromBackend(Box::new(source)))
    }

    /// Over a connection whose handshake is done, that could as well have become a sink.
    /// Nothing may have been read of it behind its last whole record.
    pub fn buffered(stream: Stream) -> Self {
        Self::FromBufferedClient(Box::new(BufferedSource::new(stream, FIRST_PIECE)))
    }

    /// Whether the TLS handshake was full or a resumption.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        match self {
            Self::Plain(_) => None,
            Self::FromClient(source) => source.handshake_kind(),
            Self::FromBufferedClient(source) => source.stream().handshake_kind(),
            Self::FromBackend(source) => source.handshake_kind(),
        }
    }

    /// The certificates that a client has shown; in a resumed session, those of its full handshake.
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) | Self::FromBackend(_) => &[],
            Self::FromClient(source) => source.client_certificates(),
            Self::FromBufferedClient(source) => source.stream().client_certificates(),
        }
    }

    /// Waits until there are bytes, or no more.
    ///
    /// # Errors
    /// Those of `recv(2)`, and what is wrong with a peer's TLS records: given after the last byte that was right.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        match self {
            Self::Plain(source) => source.poll_fill(context),
            Self::FromClient(source) => source.poll_fill(context),
            Self::FromBufferedClient(source) => source.poll_fill(context),
            Self::FromBackend(source) => source.poll_fill(context),
        }
    }

    /// As [`Source::poll_fill`], with at most this many bytes where their number is up to us: TLS comes in whole records.
    pub(super) fn poll_fill_at_most(
        &mut self,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Fill>> {
        match self {
            Self::Plain(source) => source.poll_fill_at_most(most, context),
            Self::FromClient(_) | Self::FromBufferedClient(_) | Self::FromBackend(_) => {
                self.poll_fill(context)
            }
        }
    }

    /// The bytes that are there.
    pub(super) fn buffer(&self) -> &[u8] {
        match self {
            Self::Plain(source) => source.buffer(),
            Self::FromClient(source) => source.buffer(),
            Self::FromBufferedClient(source) => source.buffer(),
            Self::FromBackend(source) => source.buffer(),
        }
    }

    /// All of [`Source::buffer`] has been taken.
    pub(super) fn consume(&mut self) {
        match self {
            Self::Plain(source) => source.filled = 0,
            Self::FromClient(source) => source.consume(),
            Self::FromBufferedClient(source) => source.consume(),
            Self::FromBackend(source) => source.consume(),
        }
    }

    /// The bytes that have arrived and are not in [`Source::buffer`] yet.
    pub(super) fn unread(&self) -> Unread {
        let socket = self.socket();
        // First, so that behind an end there are all bytes.
        let ready = pin!(socket.ready(Interest::READABLE));
        let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
        let has_ended = matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed());
        // Errors of the socket show when it is read.
        let bytes = rustix::io::ioctl_fionread(socket).unwrap_or(0);
        let undecrypted = match self {
            Self::FromClient(source) => source.undecrypted(),
            Self::FromBackend(source) => source.undecrypted(),
            Self::Plain(_) | Self::FromBufferedClient(_) => 0,
        };
        Unread {
            bytes: bytes + undecrypted as u64,
            has_ended,
        }
    }

    /// Whether bytes may have left the socket, and be neither in the buffer nor in [`Source::unread`].
    pub(super) fn hides_arrivals(&self) -> bool {
        matches!(self, Self::FromBufferedClient(_))
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(source) => &source.socket,
            Self::FromClient(source) => source.socket(),
            Self::FromBufferedClient(source) => source.stream().socket(),
            Self::FromBackend(source) => source.socket(),
        }
    }

    /// Reads and throws away until the peer ends its direction or the connection; false if more than `most` bytes come before.
    pub async fn drain(&mut self, most: u64) -> bool {
        let mut drained = 0;
        while let Ok(Fill::Bytes) = poll_fn(|context| self.poll_fill(context)).await {
            drained += self.buffer().len() as u64;
            if drained > most {
                return false;
            }
            self.consume();
        }
        true
    }

    /// Ends our direction in order, after the end of the other one: close_notify under TLS, then FIN.
    ///
    /// # Errors
    /// If the peer has reset the connection.
    pub async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(source) => options::finish(&source.socket),
            Self::FromClient(source) => source.finish().await,
            Self::FromBufferedClient(source) => source.finish().await,
            Self::FromBackend(source) => source.finish().await,
        }
    }
}

/// A source without TLS.
#[derive(Debug)]
pub struct PlainSource {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// The bytes in `buffer`.
    filled: usize,
    /// Whether the last read filled the buffer: then there may be more.
    full: bool,
}

impl PlainSource {
    /// The bytes that are there.
    pub fn buffer(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Reads more behind the buffered bytes; false at the end, or if the buffer is full.
    pub(super) fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let spare = &mut self.buffer[self.filled..];
        let count = ready!(poll_read(&mut self.socket, context, spare))?;
        self.filled += count;
        Poll::Ready(Ok(count > 0))
    }

    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        if self.filled == 0 {
            if self.full && self.buffer.len() < LARGEST_PIECE {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            self.filled = ready!(poll_read(&mut self.socket, context, &mut self.buffer))?;
            self.full = self.filled == self.buffer.len();
        }
        Poll::Ready(Ok(self.fill()))
    }

    fn poll_fill_at_most(
        &mut self,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Fill>> {
        if self.filled == 0 {
            if self.buffer.len() < most {
                self.buffer.resize(most.min(LARGEST_PIECE), 0);
            }
            let most = most.min(self.buffer.len());
            let into = &mut self.buffer[..most];
            self.filled = ready!(poll_read(&mut self.socket, context, into))?;
        }
        Poll::Ready(Ok(self.fill()))
    }

    fn fill(&self) -> Fill {
        match self.filled {
            0 => Fill::End(SourceEnd::Fin),
            _ => Fill::Bytes,
        }
    }
}

/// Reads the bytes that have arrived, at most as many as `into` takes.
pub(super) fn poll_read(
    socket: &mut TcpStream,
    context: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(into);
    ready!(Pin::new(socket).poll_read(context, &mut into))?;
    Poll::Ready(Ok(into.filled().len()))
}
