//! Reads the ClientHello of a new data connection: the TLS sessions that it names identify the lease.

use tokio::io::AsyncReadExt;

use super::DataConnection;
use crate::tls::client_hello::{self, ClientHello, HANDSHAKE_RECORD, USUAL_HELLO};

/// The result of reading the first bytes of a connection.
pub(super) enum PeekedHello {
    /// A ClientHello that offers TLS sessions of these names, or something else, which names none.
    Names(Vec<Vec<u8>>),
    /// The connection closed before that.
    Closed,
}

/// Reads a ClientHello and the names in it. Bytes that don't begin one stay unread, since they may begin a file.
/// There is no time limit here: the caller may cancel it, and the connection is lost then.
pub(super) async fn read_client_hello(arrived: &mut DataConnection) -> PeekedHello {
    let DataConnection { stream, read } = arrived;
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first[0] == HANDSHAKE_RECORD => {}
        Ok(1) => return PeekedHello::Names(Vec::new()),
        Ok(_) | Err(_) => return PeekedHello::Closed,
    }
    read.reserve(USUAL_HELLO);
    loop {
        match stream.read_buf(read).await {
            Ok(1..) => {}
            // What came before is no ClientHello, and may be a file.
            Ok(0) => return PeekedHello::Names(Vec::new()),
            Err(_) => return PeekedHello::Closed,
        }
        match client_hello::read(read) {
            ClientHello::Incomplete => {}
            ClientHello::Names(names) => return PeekedHello::Names(names),
            ClientHello::Other => return PeekedHello::Names(Vec::new()),
        }
    }
}
