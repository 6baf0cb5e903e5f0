//! Clients that begin the TLS handshake of their data connection before they send the transfer command.
//!
//! aioftp, ArxOne's and CoreFTP's libraries, and jlaffaye/ftp for years, wait for its end with the command. curl sends its other
//! commands only once a second until it is over. Most clients wait for the command's 150, and send nothing until then.
//!
//! Bytes that a client can be sent before the transfer is known are sent at once. In TLS 1.3 the client waits for no more,
//! and the rest of the handshake is done when the direction is known: the tickets that belong to it would cost an upload its
//! end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::orders::{Order, OrderReceiver};
use crate::net::deadline::input_timeout;
use crate::net::options;
use crate::net::stream::Stream;
use crate::outcome::Direction;
use crate::passive::DataConnection;
use crate::session::client_handshake;
use crate::tls::DataTls;
use crate::tls::binding::{ConnectionTls, Proof};

/// Parameters of a handshake that begins before the transfer command.
#[derive(Debug)]
pub struct EarlyHandshake {
    /// The TLS of the protection level at present, with the tickets of a download.
    pub tls: DataTls,
    /// Time limit of the handshake.
    pub time_limit: Duration,
}

/// A connection whose handshake has begun.
pub(super) struct EarlyConnection {
    tls: ConnectionTls,
    handshake: Handshake,
}

enum Handshake {
    /// The client is through with it, and its tickets are yet to be made.
    OverForClient(RestOfHandshake),
    /// The command came in the midst of it.
    Unfinished(RestOfHandshake),
    Done(Box<TlsStream<TcpStream>>),
}

type RestOfHandshake = Pin<Box<dyn Future<Output = io::Result<TlsStream<TcpStream>>> + Send>>;

impl EarlyHandshake {
    pub(super) async fn handshake(
        &self,
        arrived: DataConnection,
        orders: &OrderReceiver,
    ) -> io::Result<EarlyConnection> {
        let tls = self.tls.connection();
        let handshake = input_timeout(self.time_limit, proceed(arrived, &tls, orders)).await??;
        Ok(EarlyConnection { tls, handshake })
    }
}

/// As far as the client needs it before its command.
async fn proceed(
    arrived: DataConnection,
    tls: &ConnectionTls,
    orders: &OrderReceiver,
) -> io::Result<Handshake> {
    let begun = client_handshake::begin(arrived.stream, tls.config(), arrived.read).await?;
    if begun.is_over_for_client() {
        return Ok(Handshake::OverForClient(Box::pin(
            begun.finish_by_records(),
        )));
    }
    if begun.is_tls_1_3() {
        // Its tickets may come before the direction is known.
        tls.withhold_tickets();
    }
    let mut rest: RestOfHandshake = Box::pin(begun.finish_by_records());
    tokio::select! {
        biased;
        done = &mut rest => Ok(Handshake::Done(Box::new(done?))),
        () = orders.wait_for_order(Order::Open) => Ok(Handshake::Unfinished(rest)),
    }
}

impl EarlyConnection {
    /// Completes the handshake, for a transfer in this direction.
    pub(super) async fn finish(self, direction: Direction) -> io::Result<(Stream, Proof)> {
        let stream = match self.handshake {
            Handshake::OverForClient(rest) => {
                if direction == Direction::Upload {
                    self.tls.withhold_tickets();
                }
                Box::new(rest.await?)
            }
            Handshake::Unfinished(rest) => Box::new(rest.await?),
            Handshake::Done(stream) => stream,
        };
        let stream = Stream::ToClient(stream);
        // Its first data may wait for that, see `TlsSource::handshake`.
        let _ = options::quickack(stream.socket());
        let proof = (self.tls).proof(stream.handshake_kind(), stream.client_certificates());
        Ok((stream, proof))
    }
}

impl fmt::Debug for EarlyConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyConnection").finish_non_exhaustive()
    }
}
