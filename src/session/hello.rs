//! The client's ClientHello, read before rustls sees it, and the handshake that follows.

use std::io;
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::dialect::{self, Dialect};
use crate::tls::hello::{self, Hello};

/// A ClientHello in the form in which rustls takes it, and what the client asked for in it.
pub(super) struct Translated {
    pub hello: Vec<u8>,
    pub dialect: Dialect,
}

/// Reads a ClientHello, of which `read` has been read already. Anything else is left for rustls to refuse.
///
/// # Errors
/// Those of `recv(2)`; `UnexpectedEof` if the client ends the connection.
pub(super) async fn read(socket: &mut TcpStream, read: Vec<u8>) -> io::Result<Translated> {
    let mut hello = read;
    hello.reserve(USUAL_HELLO);
    while hello.is_empty() || hello::read(&hello) == Hello::Incomplete {
        if socket.read_buf(&mut hello).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let dialect = dialect::translate(&mut hello);
    Ok(Translated { hello, dialect })
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
    let Translated { hello, dialect } = self::read(&mut socket, read).await?;
    let config = dialect.config(config);
    let mut connection = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
    let taken = take_up(&mut connection, &hello);
    let mut flight = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut flight)?;
    }
    if taken.is_ok() {
        dialect.answer(&mut flight);
    }
    // Our first flight, or an alert.
    socket.write_all(&flight).await?;
    taken?;
    TlsAcceptor::from(config)
        .accept_with(socket, |new| *new = connection)
        .await
}

/// Gives a handshake the bytes of it that have been read already.
fn take_up(connection: &mut ServerConnection, mut read: &[u8]) -> io::Result<()> {
    while !read.is_empty() {
        connection.read_tls(&mut read)?;
        connection
            .process_new_packets()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 2048;
