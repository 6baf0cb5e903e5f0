//! The TLS handshake with a client, whose ClientHello is read, and rewritten, before rustls sees it.

use std::io;
use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::record_framing::{HEADER, body_length};
use crate::tls::client_hello::{self, ClientHello, USUAL_HELLO};
use crate::tls::hello_rewrite::{self, HelloRewrite};

/// A ClientHello that rustls accepts, and what was rewritten in it.
pub(super) struct RewrittenHello {
    pub hello: Vec<u8>,
    pub rewrite: HelloRewrite,
}

/// Reads a ClientHello, of which `read` has been read already. Anything else is left for rustls to refuse.
///
/// # Errors
/// Those of `recv(2)`; `UnexpectedEof` if the client ends the connection.
pub(super) async fn read_hello(
    socket: &mut TcpStream,
    read: Vec<u8>,
) -> io::Result<RewrittenHello> {
    let mut hello = read;
    hello.reserve(USUAL_HELLO);
    while hello.is_empty() || client_hello::read(&hello) == ClientHello::Incomplete {
        if socket.read_buf(&mut hello).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let rewrite = hello_rewrite::rewrite(&mut hello);
    Ok(RewrittenHello { hello, rewrite })
}

/// A handshake in which the client has been sent our first flight.
pub(super) struct BegunHandshake {
    socket: TcpStream,
    config: Arc<ServerConfig>,
    connection: ServerConnection,
}

impl BegunHandshake {
    /// Whether the client is sent tickets behind its end of the handshake, and not as a part of it.
    pub fn is_tls_1_3(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether the client is through with it as soon as that flight has arrived, and goes on: in TLS 1.3, but for a flight that
    /// asks for another ClientHello.
    pub fn is_over_for_client(&self) -> bool {
        self.is_tls_1_3()
            && self.connection.handshake_kind() != Some(HandshakeKind::FullWithHelloRetryRequest)
    }

    /// Completes the handshake as [`finish`](Self::finish) does, but reads nothing after the client's last record of it: a source
    /// that follows has to know where records begin. That takes two reads for each.
    ///
    /// # Errors
    /// Those of [`accept`].
    pub async fn finish_by_records(mut self) -> io::Result<TlsStream<TcpStream>> {
        while self.connection.is_handshaking() {
            let mut header = [0; HEADER];
            self.socket.read_exact(&mut header).await?;
            let mut record = header.to_vec();
            record.resize(HEADER + body_length(header), 0);
            self.socket.read_exact(&mut record[HEADER..]).await?;
            let taken = take_up(&mut self.connection, &record);
            // A flight of ours, tickets, or an alert.
            let answer = pending_records(&mut self.connection)?;
            self.socket.write_all(&answer).await?;
            taken?;
        }
        self.finish().await
    }

    /// Completes the handshake. The client's tickets are made then.
    ///
    /// # Errors
    /// Those of [`accept`].
    pub async fn finish(self) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.config)
            .accept_with(self.socket, |new| *new = self.connection)
            .await
    }
}

/// Performs the handshake with a client, of which `read` has been read already.
///
/// # Errors
/// What went wrong, with rustls' own error within; the client has been sent an alert.
pub(super) async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
    read: Vec<u8>,
) -> io::Result<TlsStream<TcpStream>> {
    begin(socket, config, read).await?.finish().await
}

/// Performs the handshake up to and including our first flight.
///
/// # Errors
/// Those of [`accept`].
pub(super) async fn begin(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    read: Vec<u8>,
) -> io::Result<BegunHandshake> {
    let RewrittenHello { hello, rewrite } = read_hello(&mut socket, read).await?;
    let config = rewrite.config(config);
    let mut connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
    let taken = take_up(&mut connection, &hello);
    let mut flight = pending_records(&mut connection)?;
    if taken.is_ok() {
        rewrite.answer(&mut flight);
    }
    // Our first flight, or an alert.
    socket.write_all(&flight).await?;
    taken?;
    Ok(BegunHandshake {
        socket,
        config,
        connection,
    })
}

/// All that is to be sent to the client now.
fn pending_records(connection: &mut ServerConnection) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut records)?;
    }
    Ok(records)
}

/// Feeds a handshake the bytes that have been read already.
fn take_up(connection: &mut ServerConnection, mut read: &[u8]) -> io::Result<()> {
    while !read.is_empty() {
        connection.read_tls(&mut read)?;
        connection
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}
