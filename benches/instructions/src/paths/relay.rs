//! The byte pump, over loopback sockets, in plain and with TLS on either side.
//!
//! Valgrind counts nothing of the kernel's, so what is counted is the loop, the runtime and the cryptography. A piece is
//! sent when the last one has arrived; otherwise the kernel would decide how many reads there are. The other ends of the
//! connections do no cryptography while it counts.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use portcullis::base::SessionId;
use portcullis::config::{BackendTls, ExpectedName, TlsMode, TlsVersion, Verify};
use portcullis::net::data::relay::relay;
use portcullis::net::data::sink::Sink;
use portcullis::net::data::source::{Source, SourceEnd};
use portcullis::net::stream::Stream;
use portcullis::tls::{BackendTlsClient, ServerTls, SessionTls};
use rustls::{ClientConnection, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tls::certificates;
use crate::valgrind::counted_from_here;

/// The content of one TLS record.
const PIECE: usize = 16 * 1024;
/// What TLS 1.3 adds to it: header, content type, tag.
const SEALED: usize = PIECE + 5 + 1 + 16;
const PIECES_OF_A_MIB: usize = 1024 * 1024 / PIECE;

/// Neither leg under TLS.
pub fn plain(mib: u32) -> io::Result<()> {
    let runtime = runtime()?;
    let (backend, source) = runtime.block_on(connection())?;
    let (client, sink) = runtime.block_on(connection())?;
    let pieces = pieces(mib);
    let ends = Ends {
        from: backend,
        to: client,
        arriving: PIECE,
    };
    pump(
        &runtime,
        Source::plain(source, Vec::new()),
        Sink::plain(sink),
        ends,
        &pieces,
    );
    Ok(())
}

/// A download, from a plain backend to a client under TLS.
pub fn to_tls(mib: u32) -> io::Result<()> {
    let runtime = runtime()?;
    let (backend, source) = runtime.block_on(connection())?;
    let (client, _, sink) = runtime.block_on(tls_connection(async |socket, config| {
        let stream = TlsAcceptor::from(config).accept(socket).await?;
        Ok(Sink::over(Stream::ToClient(Box::new(stream))))
    }))?;
    let pieces = pieces(mib);
    let ends = Ends {
        from: backend,
        to: client,
        arriving: SEALED,
    };
    pump(
        &runtime,
        Source::plain(source, Vec::new()),
        sink,
        ends,
        &pieces,
    );
    Ok(())
}

/// An upload, from a client under TLS to a plain backend.
pub fn from_tls(mib: u32) -> io::Result<()> {
    let runtime = runtime()?;
    let (client, mut sealing, source) =
        runtime.block_on(tls_connection(async |socket, config| {
            Source::from_client(socket, config, &[], |_| {}).await
        }))?;
    let (backend, sink) = runtime.block_on(connection())?;
    let mut sealed = Vec::new();
    for piece in pieces(mib) {
        sealing.writer().write_all(&piece)?;
        let mut record = Vec::new();
        while sealing.wants_write() {
            sealing.write_tls(&mut record)?;
        }
        assert_eq!(record.len(), SEALED);
        sealed.push(record);
    }
    let ends = Ends {
        from: client,
        to: backend,
        arriving: PIECE,
    };
    pump(&runtime, source, Sink::plain(sink), ends, &sealed);
    Ok(())
}

/// The other ends of the two connections.
struct Ends {
    from: TcpStream,
    to: TcpStream,
    /// How many bytes come of a piece.
    arriving: usize,
}

fn pump(runtime: &Runtime, mut source: Source, mut sink: Sink, mut ends: Ends, pieces: &[Vec<u8>]) {
    let moved = AtomicU64::new(0);
    let mut arrived = vec![0; ends.arriving];
    counted_from_here(1, &mut || {
        runtime.block_on(async {
            let patience = Duration::from_secs(60);
            let relayed = relay(&mut source, &mut sink, &patience, &moved);
            let fed = async {
                for piece in pieces {
                    ends.from.write_all(piece).await?;
                    ends.to.read_exact(&mut arrived).await?;
                }
                ends.from.shutdown().await
            };
            let (relayed, fed) = tokio::join!(relayed, fed);
            fed.expect("the connections hold");
            // Nobody says close_notify here.
            let end = relayed.map(|ended| ended.end);
            assert!(matches!(end, Ok(SourceEnd::Fin | SourceEnd::Unclean)));
        });
    });
}

fn pieces(mib: u32) -> Vec<Vec<u8>> {
    let count = usize::try_from(mib).expect("a few MiB") * PIECES_OF_A_MIB;
    vec![vec![b'x'; PIECE]; count]
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Both ends of a loopback connection.
async fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (theirs, ours) = tokio::join!(
        TcpStream::connect(listener.local_addr()?),
        listener.accept()
    );
    let (theirs, (ours, _)) = (theirs?, ours?);
    theirs.set_nodelay(true)?;
    ours.set_nodelay(true)?;
    Ok((theirs, ours))
}

/// A client's connection after its handshake: the socket and the secrets at the other end, and ours.
async fn tls_connection<T>(
    accept: impl AsyncFnOnce(TcpStream, Arc<ServerConfig>) -> io::Result<T>,
) -> io::Result<(TcpStream, ClientConnection, T)> {
    let server = ServerTls::new(certificates()?, TlsVersion::V1_3);
    // Without tickets, which would arrive among the data.
    let server = SessionTls::new(&server, None, SessionId(1));
    let client = BackendTlsClient::new(&BackendTls {
        start: TlsMode::Implicit,
        verify: Verify::None,
        server_name: ExpectedName::Is("bench.test".to_owned()),
        max_version: TlsVersion::V1_3,
        client_certificate: None,
    })
    .map_err(io::Error::other)?
    .session();

    let (theirs, ours) = connection().await?;
    let connector = TlsConnector::from(client.config());
    let (theirs, ours) = tokio::join!(
        connector.connect(client.server_name(), theirs),
        accept(ours, server.control()),
    );
    let (socket, secrets) = theirs?.into_inner();
    Ok((socket, secrets, ours?))
}
