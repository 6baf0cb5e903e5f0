//! Reads the ClientHello of a new data connection: the TLS sessions that it names identify the lease.

use tokio::io::AsyncReadExt;

use super::DataConnection;
use crate::tls::client_hello::{self, ClientHello, HANDSHAKE_RECORD, USUAL_HELLO};

/// The result of reading the first bytes of a connection.
pub(super) enum SniffedHello {
    /// A ClientHello that offers TLS sessions of these names, or something else, which names none.
    Names(Vec<Vec<u8>>),
    /// It closed before that.
    Closed,
}

/// Reads a ClientHello and the names in it. Bytes that don't begin one stay unread, since they may begin a file.
/// There is no time limit here: the caller may cancel it, and the connection is lost then.
pub(super) async fn read_client_hello(arrived: &mut DataConnection) -> SniffedHello {
    let DataConnection { stream, read } = arrived;
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => return SniffedHello::Names(Vec::new()),
        Ok(_) | Err(_) => return SniffedHello::Closed,
    }
    read.reserve(USUAL_HELLO);
    loop {
        match stream.read_buf(read).await {
            Ok(1..) => {}
            // The bytes before are no ClientHello, and may be a file.
            Ok(0) => return SniffedHello::Names(Vec::new()),
            Err(_) => return SniffedHello::Closed,
        }
        match client_hello::read(read) {
            ClientHello::Incomplete => {}
            ClientHello::Names(names) => return SniffedHello::Names(names),
            ClientHello::Other => return SniffedHello::Names(Vec::new()),
        }
    }
}
