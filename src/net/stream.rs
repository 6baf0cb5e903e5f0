//! A connection, plain or under TLS, on either leg.

use std::io::{self, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ConnectionCommon, HandshakeKind, NamedGroup, ProtocolVersion, SideData};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{client, server};

use super::options;
use super::proxy_header::ClientTls;
use super::record_framing::RecordFraming;
use crate::config::TlsVersion;
use crate::outcome::KeyExchange;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// A connection without TLS.
    Plain(TcpStream),
    /// With TLS, and a client at the other end.
    ToClient(Box<server::TlsStream<TcpStream>>),
    /// With TLS, and a backend at the other end.
    ToBackend(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::ToClient(stream) => stream.get_ref().0,
            Self::ToBackend(stream) => stream.get_ref().0,
        }
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Whether the TLS handshake was full or a resumption.
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        match self {
            Self::Plain(_) => None,
            Self::ToClient(stream) => stream.get_ref().1.handshake_kind(),
            Self::ToBackend(stream) => stream.get_ref().1.handshake_kind(),
        }
    }

    /// Whether the TLS session resumes an earlier one.
    pub fn is_resumed(&self) -> bool {
        self.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate of a backend at the other end; in a resumed session, the one from its full handshake.
    pub fn backend_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.backend_chain().first()
    }

    /// The backend's certificate with those that it has sent after it; empty without TLS.
    pub fn backend_chain(&self) -> &[CertificateDer<'static>] {
        let chain = match self {
            Self::Plain(_) | Self::ToClient(_) => None,
            Self::ToBackend(stream) => stream.get_ref().1.peer_certificates(),
        };
        chain.unwrap_or_default()
    }

    /// The certificates that a client at the other end has shown; in a resumed session, those of its full handshake.
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        let chain = match self {
            Self::Plain(_) | Self::ToBackend(_) => None,
            Self::ToClient(stream) => stream.get_ref().1.peer_certificates(),
        };
        chain.unwrap_or_default()
    }

    /// The cipher suite, if TLS is on.
    pub fn cipher_suite(&self) -> Option<CipherSuite> {
        let suite = match self {
            Self::Plain(_) => None,
            Self::ToClient(stream) => stream.get_ref().1.negotiated_cipher_suite(),
            Self::ToBackend(stream) => stream.get_ref().1.negotiated_cipher_suite(),
        };
        Some(suite?.suite())
    }

    /// The group that the keys of a client's connection were agreed upon by; none without a full handshake.
    pub fn client_key_exchange(&self) -> Option<KeyExchange> {
        let Self::ToClient(stream) = self else {
            return None;
        };
        let group = stream.get_ref().1.negotiated_key_exchange_group()?;
        Some(key_exchange(group.name()))
    }

    /// The TLS version, if TLS is on.
    pub fn tls_version(&self) -> Option<TlsVersion> {
        let version = match self {
            Self::Plain(_) => None,
            Self::ToClient(stream) => stream.get_ref().1.protocol_version(),
            Self::ToBackend(stream) => stream.get_ref().1.protocol_version(),
        };
        match version? {
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::V1_3),
            // Older versions are not supported here.
            _ => Some(TlsVersion::V1_2),
        }
    }

    /// Version and cipher suite, if TLS is on and a client at the other end.
    pub fn client_tls(&self) -> Option<ClientTls> {
        let Self::ToClient(_) = self else {
            return None;
        };
        Some(ClientTls {
            version: self.tls_version()?,
            cipher_suite: self.cipher_suite()?,
        })
    }

    /// Ends our direction as a complete one: everything written is sent, then close_notify, then FIN.
    ///
    /// # Errors
    /// If the peer no longer takes what was written, or has reset the connection since.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.is_tls() {
            options::cork(self.socket())?;
        }
        match self {
            Self::Plain(_) => {}
            Self::ToClient(stream) => stream.get_mut().1.send_close_notify(),
            Self::ToBackend(stream) => stream.get_mut().1.send_close_notify(),
        }
        self.flush().await?;
        options::finish(self.socket())
    }

    /// Reads and throws away until the peer ends its direction or the connection.
    ///
    /// Closing a socket with bytes unread resets it, and that may destroy what the peer has not read yet. On a backend's
    /// connection the TLS 1.3 tickets come in this way, too.
    ///
    /// # Errors
    /// If the peer resets the connection.
    pub async fn drain(&mut self) -> io::Result<()> {
        let mut waste = [0; 1024];
        while self.read(&mut waste).await? > 0 {}
        // A reset behind the peer's FIN does not show in a read.
        self.socket().take_error()?.map_or(Ok(()), Err)
    }

    /// Reads as [`AsyncRead`] does, and follows in `framing` what rustls is fed for it; without TLS, nothing.
    ///
    /// # Errors
    /// As of a read; `UnexpectedEof` under TLS if the peer ends its direction without close_notify.
    pub(super) fn poll_read_records(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
        framing: &mut RecordFraming,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => {
                let mut into = ReadBuf::new(into);
                ready!(Pin::new(stream).poll_read(context, &mut into))?;
                Poll::Ready(Ok(into.filled().len()))
            }
            Self::ToClient(stream) => {
                let (socket, connection) = stream.get_mut();
                poll_read_records(socket, connection, context, into, framing)
            }
            Self::ToBackend(stream) => {
                let (socket, connection) = stream.get_mut();
                poll_read_records(socket, connection, context, into, framing)
            }
        }
    }

    /// Stores the TLS 1.3 tickets that a backend has sent so far, without waiting for any.
    ///
    /// For connections that are dropped without having been read: each ticket is good for one connection, so a session
    /// that leaves them unread runs out of them.
    pub fn keep_tickets(&mut self) {
        if let Self::ToBackend(stream) = self {
            let (socket, connection) = stream.get_mut();
            // One read holds more tickets than backends send. Other errors of this connection no longer matter.
            if let Ok(1..) = connection.read_tls(&mut NonBlocking(socket)) {
                let _ = connection.process_new_packets();
            }
        }
    }
}

fn key_exchange(group: NamedGroup) -> KeyExchange {
    match group {
        NamedGroup::X25519MLKEM768 => KeyExchange::X25519MlKem768,
        NamedGroup::X25519 => KeyExchange::X25519,
        NamedGroup::secp256r1 => KeyExchange::Secp256r1,
        NamedGroup::secp384r1 => KeyExchange::Secp384r1,
        _ => KeyExchange::Other,
    }
}

/// Reads and writes a socket without waiting: only what it holds or takes at once.
struct NonBlocking<'a>(&'a TcpStream);

impl io::Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for NonBlocking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

fn poll_read_records<D: SideData>(
    socket: &TcpStream,
    connection: &mut ConnectionCommon<D>,
    context: &mut Context<'_>,
    into: &mut [u8],
    framing: &mut RecordFraming,
) -> Poll<io::Result<usize>> {
    loop {
        match connection.reader().read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return Poll::Ready(read),
        }
        ready!(socket.poll_read_ready(context))?;
        match connection.read_tls(&mut Followed { socket, framing }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Poll::Ready(Err(error)),
        }
        let processed = connection.process_new_packets();
        // An alert, or the answer to a new key. What the socket doesn't take now goes out with what is written next.
        while connection.wants_write() && connection.write_tls(&mut NonBlocking(socket)).is_ok() {}
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
}

/// Reads a socket, following the records of what has arrived.
struct Followed<'a> {
    socket: &'a TcpStream,
    framing: &'a mut RecordFraming,
}

impl io::Read for Followed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.try_read(into)?;
        self.framing.advance(&into[..count]);
        Ok(count)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::ToClient(stream) => Pin::new(stream).poll_read(context, into),
            Self::ToBackend(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::ToClient(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::ToBackend(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::ToClient(stream) => Pin::new(stream).poll_flush(context),
            Self::ToBackend(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::ToClient(stream) => Pin::new(stream).poll_shutdown(context),
            Self::ToBackend(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::fixtures::ends;

    #[tokio::test]
    async fn clear_text_behind_our_close_notify_is_an_error_and_no_panic() {
        let (ours, theirs) = ends().await;
        let mut ours = Stream::ToBackend(Box::new(ours));
        ours.finish().await.unwrap();
        // vsftpd's last word where a process of it fails.
        let (mut socket, _) = theirs.into_inner();
        socket.write_all(b"500 OOPS: child died\r\n").await.unwrap();
        let error = ours.drain().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn each_group_that_is_offered_has_a_name_of_its_own() {
        let offered = &crate::tls::provider().kx_groups;
        let names: Vec<String> = offered
            .iter()
            .map(|group| key_exchange(group.name()).as_str().to_owned())
            .collect();
        let expected: Vec<String> = offered
            .iter()
            .map(|group| format!("{:?}", group.name()).to_lowercase())
            .collect();
        assert_eq!(names, expected);
        assert_eq!(key_exchange(NamedGroup::X448), KeyExchange::Other);
    }
}
