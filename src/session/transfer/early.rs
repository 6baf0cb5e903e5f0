//! Clients that do the TLS handshake of their data connection before they send the transfer command: aioftp, ArxOne's and
//! CoreFTP's libraries, jlaffaye/ftp for years. Servers that begin TLS when the connection arrives get along with them
//! (pyftpdlib, FileZilla Server).
//!
//! Most clients wait for the command's 150, and say nothing until then, and some send the command and their ClientHello
//! at once. So nothing is done here but for a client that says its ClientHello of its own accord and then waits with
//! its command.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::time::sleep;

use super::client_leg::{AcceptedClient, ClientProgress, TLS_HANDSHAKE_RECORD, check_proof};
use super::fault::FaultStage;
use super::leg::{LegEnd, set_options};
use super::orders::OrderReceiver;
use super::{Order, TransferContext};
use crate::net::deadline::timeout;
use crate::net::options;
use crate::net::stream::Stream;
use crate::outcome::{DataHandshake, Leg};
use crate::passive::{DataConnection, Lease};
use crate::session::client_hello;
use crate::session::machine::DataFailure;
use crate::tls::DataTls;
use crate::tls::binding::Proof;

/// How much later than the ClientHello a transfer command may arrive.
const COMMAND_DELAY: Duration = Duration::from_millis(250);

/// What a handshake takes that begins before the transfer command: it can't be known whether tickets would do harm, so
/// there are none.
#[derive(Debug)]
pub struct EarlyHandshake {
    /// As PROT stands.
    pub tls: DataTls,
    /// How long it may take.
    pub time_limit: Duration,
    /// Whether the client is known to do so.
    pub timing: HandshakeTiming,
}

/// Whether a session's client does its handshakes before its commands. Once that is known, there is no wait for it each
/// time.
#[derive(Debug, Clone, Default)]
pub struct HandshakeTiming(Arc<AtomicBool>);

impl HandshakeTiming {
    fn is_early(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set_early(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct EarlyConnection {
    stream: Stream,
    proof: Proof,
}

impl AcceptedClient {
    /// Does the handshake, if the client begins it before its command.
    pub(super) async fn begin_early(&mut self, early: &EarlyHandshake, orders: &OrderReceiver) {
        let ClientProgress::Connected(arrived) = &self.progress else {
            return;
        };
        let mut first_byte = [0];
        let begins = async {
            match arrived.read.first() {
                Some(first) => *first == TLS_HANDSHAKE_RECORD,
                None => {
                    let peeked = arrived.stream.peek(&mut first_byte).await;
                    matches!(peeked, Ok(1..)) && first_byte[0] == TLS_HANDSHAKE_RECORD
                }
            }
        };
        let withholds_command = async {
            let begins = begins.await;
            if begins && !early.timing.is_early() {
                sleep(COMMAND_DELAY).await;
            }
            begins
        };
        let begins = tokio::select! {
            biased;
            // The transfer does it, with the tickets that are right for it.
            () = orders.wait_for_order(Order::Open) => false,
            begins = withholds_command => begins,
        };
        if !begins {
            return;
        }
        early.timing.set_early();
        let taken = std::mem::replace(
            &mut self.progress,
            ClientProgress::Early(Err(io::ErrorKind::Other.into())),
        );
        if let ClientProgress::Connected(arrived) = taken {
            self.progress = ClientProgress::Early(early.handshake(arrived).await);
        }
    }
}

impl EarlyHandshake {
    async fn handshake(&self, arrived: DataConnection) -> io::Result<EarlyConnection> {
        let connection = self.tls.connection();
        let accepting = client_hello::accept(arrived.stream, connection.config(), arrived.read);
        let stream = timeout(self.time_limit, accepting).await??;
        let stream = Stream::ToClient(Box::new(stream));
        // Its first data may wait for that, see `TlsSource::handshake`.
        let _ = options::quickack(stream.socket());
        let proof = connection.proof(stream.handshake_kind());
        Ok(EarlyConnection { stream, proof })
    }
}

/// Hands such a connection to its transfer, and reports its proof to the lease.
pub(super) fn adopt_early<E: LegEnd>(
    lease: &Lease,
    early: io::Result<EarlyConnection>,
    tls: Option<&DataTls>,
    context: &TransferContext,
) -> Result<E, DataFailure> {
    let outcome = match &early {
        Ok(early) if early.stream.handshake_kind() == Some(HandshakeKind::Resumed) => {
            DataHandshake::Resumed
        }
        Ok(_) => DataHandshake::Full,
        Err(_) => DataHandshake::Failed,
    };
    context.note_handshake(Leg::Client, outcome);
    // Without `tls`, PROT C has come since.
    let (Ok(EarlyConnection { stream, proof }), Some(tls)) = (
        early.map_err(|error| context.record_fault(Leg::Client, FaultStage::Handshake, &error)),
        tls,
    ) else {
        return Err(DataFailure::ClientHandshake);
    };
    check_proof(lease, proof, tls)?;
    set_options(stream.socket(), context);
    Ok(E::from_early(stream))
}
