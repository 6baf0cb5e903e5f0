//! Clients that do the TLS handshake of their data connection before they send the transfer command: aioftp, ArxOne's and
//! CoreFTP's libraries, jlaffaye/ftp for years. Servers that begin TLS when the connection arrives get along with them
//! (pyftpdlib, FileZilla Server).
//!
//! Most clients wait for the command's 150, and say nothing until then, and some send the command and their ClientHello at
//! once. So nothing is done here but for a client that says its ClientHello of its own accord and then waits with its command.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::time::sleep;

use super::fault::Stage;
use super::legs::{Came, Guest, OpenLeg, Role, TLS_HANDSHAKE_RECORD, judge, set_stall_timeout};
use super::told::Told;
use super::{Legs, Order};
use crate::net::deadline::timeout;
use crate::net::options;
use crate::net::source::Source;
use crate::net::stream::Stream;
use crate::observe::metrics::{DataHandshake, Leg};
use crate::passive::{DataConnection, Lease};
use crate::session::client_hello;
use crate::session::machine::DataFailure;
use crate::tls::DataTls;
use crate::tls::binding::Proof;

/// What a handshake takes that begins before the transfer command: it can't be known whether tickets would do harm, so
/// there are none.
#[derive(Debug)]
pub struct EarlyHandshake {
    /// As PROT stands.
    pub tls: DataTls,
    /// How long it may take.
    pub patience: Duration,
    /// What the session's client is known for.
    pub habit: Habit,
}

/// Whether a session's client does its handshakes before its commands. Known, it need not wait until that shows each time.
#[derive(Debug, Clone, Default)]
pub struct Habit(Arc<AtomicBool>);

impl Habit {
    fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn shows(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(super) struct Early {
    stream: Stream,
    proof: Proof,
}

impl Guest {
    /// Does the handshake, if the client begins it before its command.
    pub(super) async fn begin_early(&mut self, early: &EarlyHandshake, told: &Told) {
        let Came::Connected(arrived) = &self.came else {
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
        let waits_with_its_command = async {
            let begins = begins.await;
            if begins && !early.habit.is_known() {
                sleep(ON_ITS_WAY).await;
            }
            begins
        };
        let begins = tokio::select! {
            biased;
            // The transfer does it, with the tickets that are right for it.
            () = told.ordered(Order::Open) => false,
            begins = waits_with_its_command => begins,
        };
        if !begins {
            return;
        }
        early.habit.shows();
        let taken = std::mem::replace(
            &mut self.came,
            Came::Early(Err(io::ErrorKind::Other.into())),
        );
        if let Came::Connected(arrived) = taken {
            self.came = Came::Early(early.handshake(arrived).await);
        }
    }
}

impl EarlyHandshake {
    async fn handshake(&self, arrived: DataConnection) -> io::Result<Early> {
        let connection = self.tls.connection();
        let accepting = client_hello::accept(arrived.stream, connection.config(), arrived.read);
        let stream = timeout(self.patience, accepting).await??;
        let stream = Stream::ToClient(Box::new(stream));
        // Its first data may wait for that, see `TlsSource::handshake`.
        let _ = options::quickack(stream.socket());
        let proof = connection.proof(stream.handshake_kind());
        Ok(Early { stream, proof })
    }
}

/// What such a connection is to the transfer that it turns out to be for, and to the lease of its port.
pub(super) fn take_over(
    lease: &Lease,
    early: io::Result<Early>,
    tls: Option<&DataTls>,
    legs: &Legs,
) -> Result<OpenLeg, DataFailure> {
    let outcome = match &early {
        Ok(early) if early.stream.handshake_kind() == Some(HandshakeKind::Resumed) => {
            DataHandshake::Resumed
        }
        Ok(_) => DataHandshake::Full,
        Err(_) => DataHandshake::Failed,
    };
    legs.metrics.data_handshake(Leg::Client, outcome);
    // Without `tls`, PROT C has come since.
    let (Ok(Early { stream, proof }), Some(tls)) = (
        early.map_err(|error| legs.broke(Leg::Client, Stage::Handshake, &error)),
        tls,
    ) else {
        return Err(DataFailure::ClientHandshake);
    };
    judge(lease, proof, tls)?;
    set_stall_timeout(stream.socket(), legs);
    Ok(match Role::of(Leg::Client, legs.direction) {
        Role::Source => OpenLeg::Source(Source::early(stream)),
        Role::Sink => OpenLeg::Sink(stream),
    })
}

/// How long a transfer command may be on its way behind the ClientHello.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
