//! AUTH and the handshake after it, with servers that are not ready for TLS when they reply to AUTH.
//!
//! Such a server takes a ClientHello that follows at once for a command, and replies to it in clear text: libunftp 0.24, whose
//! reply and whose wait for TLS are two tasks. Nothing shows when the server is ready: so the next connection waits between the
//! reply and the handshake, and the delay that was long enough is remembered for the backend.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::control::{BackendConnection, ReplyError};
use super::dial::{Dial, DialBudget, DialError, Progress, Seen};
use crate::ftp::reply::{Class, Reply};
use crate::outcome::DialStage;
use crate::tls::{BackendTlsClient, HandshakeFault};

/// The delays between the reply to AUTH and the handshake, each for a server that is not ready after the one before. Less than a
/// millisecond is enough unless the server's machine is busy.
const DELAYS: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
];

impl Dial<'_> {
    /// Starts TLS on a connection that has been greeted, or on a further one if the server was not ready for it.
    pub(super) async fn start_tls(
        &self,
        greeted: BackendConnection,
        client: &BackendTlsClient,
        progress: &mut impl Progress,
    ) -> Result<BackendConnection, DialError> {
        let learned = self.backend.tls_delay();
        let mut delay = learned;
        let (mut socket, mut address) = self.request_tls(greeted, progress).await?;
        loop {
            sleep(delay.min(self.budget.total.left())).await;
            let tls = client.session();
            let failure = match self.handshake(socket, &tls).await {
                Ok(stream) => {
                    if delay > learned {
                        self.backend.learn_tls_delay(delay);
                    }
                    progress.done(DialStage::Handshake, Seen::Handshake(&stream));
                    let tls = Some(tls);
                    return Ok(BackendConnection::new(self.backend, stream, address, tls));
                }
                Err(failure) => failure,
            };
            let longer = DELAYS.into_iter().find(|longer| *longer > delay);
            delay = match (&failure, longer) {
                (DialError::Handshake(HandshakeFault::NotTls), Some(longer)) => longer,
                _ => return Err(failure),
            };
            let again = self.reconnect().await?;
            (socket, address) = self.request_tls(again, &mut ()).await?;
        }
    }

    /// Sends AUTH; returns the socket, to start TLS on it.
    async fn request_tls(
        &self,
        mut connection: BackendConnection,
        progress: &mut impl Progress,
    ) -> Result<(TcpStream, SocketAddr), DialError> {
        let accepted = connection
            .auth(self.budget)
            .await
            .map_err(DialError::Auth)?;
        let address = connection.address;
        let socket = connection.into_clear_socket().ok_or(DialError::Injected)?;
        progress.done(DialStage::Auth, Seen::Reply(&accepted));
        Ok((socket, address))
    }
}

impl BackendConnection {
    /// Sends AUTH TLS. Only 234 means TLS (RFC 4217 §4.2); after any other code a password would be sent in clear text.
    async fn auth(&mut self, budget: DialBudget<'_>) -> Result<Reply, ReplyError> {
        let reply = self.ask(b"AUTH TLS\r\n", budget).await?;
        if reply.number() == 234 {
            return Ok(reply);
        }
        // Servers from before RFC 4217 know SSL alone, which asks for the same handshake.
        if reply.class() == Class::PermanentFailure {
            let second = self.ask(b"AUTH SSL\r\n", budget).await?;
            if second.number() == 234 {
                return Ok(second);
            }
        }
        Err(ReplyError::Rejected(reply))
    }
}
