//! The client's ClientHello, read before rustls sees it, and the handshake that follows.

use std::io;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::client_hello::{self, ClientHello};
use crate::tls::hello_rewrite::{self, HelloRewrite};

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 2048;

/// A ClientHello that rustls accepts, and what was rewritten in it.
pub(super) struct RewrittenHello {
    pub hello: Vec<u8>,
    pub rewrite: HelloRewrite,
}

/// Reads a ClientHello, of which `read` has been read already. Anything else is left for rustls to refuse.
///
/// # Errors
/// Those of `recv(2)`; `UnexpectedEof` if the client ends the connection.
pub(super) async fn read(socket: &mut TcpStream, read: Vec<u8>) -> io::Result<RewrittenHello> {
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

/// Does the handshake with a client, of which `read` has been read already.
///
/// # Errors
/// What went wrong, with rustls' own error within; the client has been sent an alert.
pub(super) async fn accept(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    read: Vec<u8>,
) -> io::Result<TlsStream<TcpStream>> {
    let RewrittenHello { hello, rewrite } = self::read(&mut socket, read).await?;
    let config = rewrite.config(config);
    let mut connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
    let taken = take_up(&mut connection, &hello);
    let mut flight = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut flight)?;
    }
    if taken.is_ok() {
        rewrite.answer(&mut flight);
    }
    // Our first flight, or an alert.
    socket.write_all(&flight).await?;
    taken?;
    TlsAcceptor::from(config)
        .accept_with(socket, |new| *new = connection)
        .await
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
