//! The writing side of a data connection: takes the bytes of a file, and is ended in order or not at all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::net::delivery::Ends;
use crate::net::stream::Stream;

/// A data connection that the bytes go to.
#[derive(Debug)]
pub struct Sink(Stream);

impl Sink {
    /// A sink without TLS.
    pub fn plain(socket: TcpStream) -> Self {
        Self(Stream::Plain(socket))
    }

    /// A sink over a connection whose handshake is done.
    pub fn over(stream: Stream) -> Self {
        Self(stream)
    }

    /// Performs the handshake with a backend.
    ///
    /// # Errors
    /// What went wrong in the handshake, with rustls' own error within; the peer has been sent an alert.
    pub async fn to_backend(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let stream = TlsConnector::from(config).connect(name, socket).await?;
        Ok(Self(Stream::ToBackend(Box::new(stream))))
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        self.0.is_tls()
    }

    /// Which connection it is; none if that is over.
    pub fn ends(&self) -> Option<Ends> {
        Ends::of(self.0.socket())
    }

    /// How the TLS session came about.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.0.handshake_kind()
    }

    /// The certificates that a client has shown; in a resumed session, those of its full handshake.
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        self.0.client_certificates()
    }

    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    /// rustls keeps what the socket did not take at once: until this is done, it is not with the kernel.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }

    /// See [`Stream::finish`].
    ///
    /// # Errors
    /// If the peer no longer takes what was written, or has reset the connection since.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.0.finish().await
    }

    /// See [`Stream::drain`].
    ///
    /// # Errors
    /// If the peer resets the connection.
    pub async fn drain(&mut self) -> io::Result<()> {
        self.0.drain().await
    }
}

impl Drop for Sink {
    /// An upload that is broken off has never read from its backend, which may have sent tickets.
    fn drop(&mut self) {
        self.0.keep_tickets();
    }
}
