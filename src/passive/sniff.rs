//! Reads the ClientHello of a new data connection: the TLS sessions that it names identify the lease.

use tokio::io::AsyncReadExt;

use super::Arrived;
use crate::tls::client_hello::{self, ClientHello};

/// What a connection said first.
pub(super) enum Said {
    /// A ClientHello that offers TLS sessions of these names, or something else, which names none.
    Names(Vec<Vec<u8>>),
    /// It ended before that.
    Nothing,
}

/// Reads a ClientHello and the names in it. What isn't the beginning of one stays unread, since it may be that of a file.
/// How long that may take is for others to say: it can be cancelled, and the connection is lost then.
pub(super) async fn read(arrived: &mut Arrived) -> Said {
    let Arrived { stream, read } = arrived;
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => return Said::Names(Vec::new()),
        Ok(_) | Err(_) => return Said::Nothing,
    }
    read.reserve(USUAL_HELLO);
    loop {
        match stream.read_buf(read).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Said::Nothing,
        }
        match client_hello::read(read) {
            ClientHello::Incomplete => {}
            ClientHello::Names(names) => return Said::Names(names),
            ClientHello::Other => return Said::Names(Vec::new()),
        }
    }
}

/// The first byte of a ClientHello: record type 22.
const HANDSHAKE_RECORD: u8 = 0x16;

/// Bytes that hold nearly every ClientHello.
const USUAL_HELLO: usize = 4096;
