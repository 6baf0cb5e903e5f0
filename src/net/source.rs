//! The reading side of a relay.
//!
//! rustls reads its connection in pieces of 4 KiB, five system calls for each record of a large file, each of which may
//! wake the sender. So of a TLS connection that is a source as much is read as there is, and rustls is fed from memory.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{ConnectionCommon, SideData};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::stream::Stream;

/// A stream that is read to its end, in large pieces.
#[derive(Debug)]
pub(super) struct Source<'a> {
    stream: &'a mut Stream,
    ahead: ReadAhead,
}

impl<'a> Source<'a> {
    pub(super) fn new(stream: &'a mut Stream) -> Self {
        Self {
            stream,
            ahead: ReadAhead::default(),
        }
    }

    /// Reads what there is, at most what `into` takes; `Ok(0)` is the end: close_notify, or FIN without TLS.
    ///
    /// # Errors
    /// `UnexpectedEof` at a FIN under TLS without close_notify, when all before it has been read.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.stream {
            Stream::Plain(socket) => poll_read(socket, context, into),
            Stream::ToClient(stream) => {
                let (socket, tls) = stream.get_mut();
                self.ahead.poll_read(socket, tls, context, into)
            }
            Stream::ToBackend(stream) => {
                let (socket, tls) = stream.get_mut();
                self.ahead.poll_read(socket, tls, context, into)
            }
        }
    }
}

/// What was read from a socket and rustls has not taken yet.
#[derive(Debug, Default)]
struct ReadAhead {
    buffer: Vec<u8>,
    /// Which part of the buffer that is.
    start: usize,
    end: usize,
}

impl ReadAhead {
    fn poll_read<S: SideData>(
        &mut self,
        socket: &mut TcpStream,
        tls: &mut ConnectionCommon<S>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        while filled < into.len() {
            match tls.reader().read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // rustls says so again when what came before is delivered.
                Err(_) if filled > 0 => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if self.start == self.end {
                match self.poll_fill(socket, context) {
                    Poll::Pending if filled > 0 => break,
                    filling => ready!(filling)?,
                }
            }
            // Nothing was read at the socket's end, and then rustls takes that for the end, too.
            self.start += tls.read_tls(&mut &self.buffer[self.start..self.end])?;
            let processed = tls.process_new_packets();
            if tls.wants_write() {
                // An alert, or the answer to a key update; what the socket doesn't take is sent by the next flush.
                let _ = tls.write_tls(&mut AtOnce(socket));
            }
            processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Poll::Ready(Ok(filled))
    }

    fn poll_fill(
        &mut self,
        socket: &mut TcpStream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end == self.buffer.len() && self.end < LARGEST_READ {
            self.buffer.resize((self.end * 2).max(FIRST_READ), 0);
        }
        self.start = 0;
        self.end = 0;
        self.end = ready!(poll_read(socket, context, &mut self.buffer))?;
        Poll::Ready(Ok(()))
    }
}

fn poll_read(
    socket: &mut TcpStream,
    context: &mut Context<'_>,
    into: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut into = ReadBuf::new(into);
    ready!(Pin::new(socket).poll_read(context, &mut into))?;
    Poll::Ready(Ok(into.filled().len()))
}

/// Writes what a socket takes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One record, with room for what follows it.
const FIRST_READ: usize = 20 * 1024;

/// Where files are large.
const LARGEST_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::{TlsAcceptor, TlsConnector, client};

    use super::*;
    use crate::tls;

    static VERSIONS: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS12, &rustls::version::TLS13];

    /// A client under TLS, and what we see of it.
    async fn client(
        version: &'static SupportedProtocolVersion,
    ) -> (client::TlsStream<TcpStream>, Stream) {
        let identity = rcgen::generate_simple_self_signed(vec!["ftp.test".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(identity.cert.der().clone()).unwrap();
        let ours = ServerConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![identity.cert.der().clone()],
                PrivateKeyDer::try_from(identity.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let theirs = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let (client, ours) = tokio::try_join!(
            TlsConnector::from(Arc::new(theirs))
                .connect(ServerName::try_from("ftp.test").unwrap(), socket),
            TlsAcceptor::from(Arc::new(ours)).accept(accepted),
        )
        .unwrap();
        (client, Stream::ToClient(Box::new(ours)))
    }

    /// What a source gives until its end, and the error in place of an end.
    async fn read_to_end(stream: &mut Stream, piece: usize) -> (Vec<u8>, io::Result<()>) {
        let mut source = Source::new(stream);
        let mut piece = vec![0; piece];
        let mut all = Vec::new();
        loop {
            match poll_fn(|context| source.poll_read(context, &mut piece)).await {
                Ok(0) => return (all, Ok(())),
                Ok(count) => all.extend_from_slice(&piece[..count]),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    fn file(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_file_arrives_whole_in_pieces_of_any_size_and_close_notify_is_its_end() {
        let file = file(1 << 20);
        for version in VERSIONS {
            for piece in [1000, 16 * 1024, 100_000] {
                let (mut client, mut ours) = client(version).await;
                let sending = async {
                    client.write_all(&file).await.unwrap();
                    client.shutdown().await.unwrap();
                };
                let ((), (received, end)) = tokio::join!(sending, read_to_end(&mut ours, piece));
                assert!(received == file);
                end.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn an_end_without_close_notify_is_told_after_the_last_byte() {
        for version in VERSIONS {
            let (mut client, mut ours) = client(version).await;
            client.write_all(b"half a file").await.unwrap();
            client.flush().await.unwrap();
            client.get_mut().0.shutdown().await.unwrap();
            let (received, end) = read_to_end(&mut ours, 4096).await;
            assert_eq!(received, b"half a file");
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_client_may_change_its_keys_in_the_middle_of_a_file() {
        let (mut client, mut ours) = client(&rustls::version::TLS13).await;
        let half = file(100_000);
        let sending = async {
            client.write_all(&half).await.unwrap();
            client.get_mut().1.refresh_traffic_keys().unwrap();
            client.write_all(&half).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), (received, end)) = tokio::join!(sending, read_to_end(&mut ours, 4096));
        assert!(received == [&half[..], &half[..]].concat());
        end.unwrap();
    }

    #[tokio::test]
    async fn a_forged_record_is_an_error_here_and_an_alert_there() {
        for version in VERSIONS {
            let (mut client, mut ours) = client(version).await;
            client
                .get_mut()
                .0
                .write_all(b"\x17\x03\x03\x00\x20 not what the key would have made")
                .await
                .unwrap();
            let (received, end) = read_to_end(&mut ours, 4096).await;
            assert_eq!(received, b"");
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
            let told = client.read(&mut [0]).await.unwrap_err().to_string();
            assert!(told.contains("BadRecordMac"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_reset_is_an_error_of_its_own() {
        for version in VERSIONS {
            let (client, mut ours) = client(version).await;
            crate::net::options::data(client.get_ref().0).unwrap();
            drop(client);
            let (_, end) = read_to_end(&mut ours, 4096).await;
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
    }
}
