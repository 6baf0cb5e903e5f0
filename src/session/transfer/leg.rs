//! Operations that both legs of a transfer have in common while they are opened.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::net::TcpStream;

use super::TransferContext;
use crate::net::data::sink::Sink;
use crate::net::data::source::Source;
use crate::net::options;
use crate::net::stream::Stream;
use crate::outcome::{DataHandshake, Leg};
use crate::session::client_handshake::{self, RewrittenHello};
use crate::session::machine::DataFailure;

/// How much of a refused upload is read and thrown away: what a client has sent before it could have its reply.
const MAX_REFUSED_BYTES: u64 = 1 << 20;

/// The result of opening a leg: the source of the bytes, or their sink.
pub(super) trait LegEnd: Sized + Send + 'static {
    /// Without TLS; `read` has been read already, which is part of a file only where this is its source.
    fn plain(socket: TcpStream, read: Vec<u8>) -> Self;

    /// Performs the handshake with a client, of which `read` has been read already.
    async fn to_client(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        read: Vec<u8>,
    ) -> io::Result<Self>;

    /// Performs the handshake with a backend.
    fn to_backend(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> impl Future<Output = io::Result<Self>> + Send + 'static;

    /// Over a connection whose handshake was done before the direction of the transfer was known.
    fn from_early(stream: Stream) -> Self;

    /// How the TLS session came about.
    fn handshake_kind(&self) -> Option<HandshakeKind>;

    /// The certificates that a client has shown.
    fn client_certificates(&self) -> &[CertificateDer<'static>];

    /// Closes the leg after the backend has refused the transfer, so that the client can still read the reply.
    async fn close_after_refusal(self);
}

impl LegEnd for Source {
    fn plain(socket: TcpStream, read: Vec<u8>) -> Self {
        Self::plain(socket, read)
    }

    async fn to_client(
        mut socket: TcpStream,
        config: Arc<ServerConfig>,
        read: Vec<u8>,
    ) -> io::Result<Self> {
        let RewrittenHello { hello, rewrite } =
            client_handshake::read_hello(&mut socket, read).await?;
        let config = rewrite.config(config);
        let answer = |records: &mut Vec<u8>| rewrite.answer(records);
        Self::from_client(socket, config, &hello, answer).await
    }

    async fn to_backend(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Self::from_backend(socket, config, name).await
    }

    fn from_early(stream: Stream) -> Self {
        Self::buffered(stream)
    }

    fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.handshake_kind()
    }

    fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.client_certificates()
    }

    /// Reads and throws away until the client ends its side; what it sends on and on, it will not read its reply in time.
    async fn close_after_refusal(mut self) {
        if self.drain(MAX_REFUSED_BYTES).await {
            // It has nothing to lose by our end in order, and may wait for that.
            let _ = self.finish().await;
        }
    }
}

impl LegEnd for Sink {
    fn plain(socket: TcpStream, _: Vec<u8>) -> Self {
        Self::plain(socket)
    }

    async fn to_client(
        socket: TcpStream,
        config: Arc<ServerConfig>,
        read: Vec<u8>,
    ) -> io::Result<Self> {
        let stream = client_handshake::accept(socket, config, read).await?;
        Ok(Self::over(Stream::ToClient(Box::new(stream))))
    }

    async fn to_backend(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        Self::to_backend(socket, config, name).await
    }

    fn from_early(stream: Stream) -> Self {
        Self::over(stream)
    }

    fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.handshake_kind()
    }

    fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.client_certificates()
    }

    /// A client that reads its file before its reply is not to wait for the end of it.
    async fn close_after_refusal(self) {}
}

/// Performs a handshake, unless it is `too_late` first, and counts its result.
pub(super) async fn secure<E: LegEnd>(
    handshake: impl Future<Output = io::Result<E>>,
    too_late: impl Future<Output = DataFailure>,
    leg: Leg,
    context: &TransferContext,
) -> Result<io::Result<E>, DataFailure> {
    let done = tokio::select! {
        biased;
        done = handshake => Ok(done),
        failure = too_late => Err(failure),
    };
    let result = match &done {
        Ok(Ok(end)) => succeeded(end.handshake_kind()),
        Ok(Err(_)) | Err(_) => DataHandshake::Failed,
    };
    context.note_handshake(leg, result);
    done
}

/// The result that a successful handshake of this kind counts as.
pub(super) fn succeeded(kind: Option<HandshakeKind>) -> DataHandshake {
    match kind {
        Some(HandshakeKind::Resumed) => DataHandshake::Resumed,
        _ => DataHandshake::Full,
    }
}

impl TransferContext {
    /// Notes that a handshake has ended.
    pub(super) fn note_handshake(&self, leg: Leg, result: DataHandshake) {
        self.metrics.data_handshake(leg, result);
        if leg == Leg::Client {
            self.stats.note_handshake(result);
        }
    }
}

/// Sets what a transfer's sockets need beyond what every data connection has.
pub(super) fn set_options(socket: &TcpStream, context: &TransferContext) {
    // If the peer has reset it already, the handshake or the first byte shows it.
    let timeouts = &context.timeouts;
    let _ = options::set_stall_timeout(socket, timeouts.data_idle.max(timeouts.backend_reply));
    if let Some(limits) = &context.limits {
        limits.set_buffer(socket);
    }
}
