//! Reading whose connection it is: the ClientHello, as far as the names in it.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::net::deadline::timeout;
use crate::tls::hello::{self, Hello};

use super::Arrived;

/// Reads a ClientHello and the names in it; `None` if the client doesn't come to say it in this time.
pub(super) async fn hear(
    mut stream: TcpStream,
    patience: Duration,
) -> Option<(Arrived, Vec<Vec<u8>>)> {
    let mut read = Vec::with_capacity(USUAL_HELLO);
    let reading = async {
        loop {
            if stream.read_buf(&mut read).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            match hello::read(&read) {
                Hello::Incomplete => {}
                Hello::Names(names) => return Ok(names),
                Hello::Other => return Ok(Vec::new()),
            }
        }
    };
    let names = timeout(patience, reading).await.ok()?.ok()?;
    Some((Arrived { stream, read }, names))
}

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 4096;
