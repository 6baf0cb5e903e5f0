//! Opens the client's leg of a transfer: accepts its connection, does the handshake, and checks the proof that it is the
//! session's client.

use std::io;
use std::pin::pin;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::TransferContext;
use super::client_arrival::refused;
use super::client_connection::{
    AcceptedClient, ClientLeg, ClientProgress, PreparedClient, STRANGER_GRACE, connect_to_client,
};
use super::early::EarlyConnection;
use super::fault::FaultStage;
use super::leg::{LegEnd, secure, set_options, succeeded};
use super::orders::OrderReceiver;
use crate::net::deadline::elapsed;
use crate::outcome::{DataHandshake, Leg};
use crate::passive::{Ambiguity, DataConnection, Lease, LeaseEvent};
use crate::session::machine::DataFailure;
use crate::tls::client_hello::{self, ClientHello, HANDSHAKE_RECORD};
use crate::tls::{DataTls, Proof};

/// Whether a connection is there that may be the client's, or else what the last one failed with: the command of an upload
/// waits for that.
#[derive(Debug)]
pub(super) struct Presence {
    failure: watch::Sender<Option<DataFailure>>,
}

impl Presence {
    /// A presence that starts with a connection.
    pub fn new() -> Self {
        Self {
            failure: watch::Sender::new(None),
        }
    }

    /// Waits until a connection is there.
    ///
    /// # Errors
    /// If none follows a stranger in time.
    pub async fn wait(&self) -> Result<(), DataFailure> {
        let mut failure = self.failure.subscribe();
        let Some(stranger) = *failure.borrow() else {
            return Ok(());
        };
        match timeout(STRANGER_GRACE, failure.wait_for(Option::is_none)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(stranger),
        }
    }
}

/// Opens the client's leg.
pub(super) async fn open_client<E: LegEnd>(
    client: &mut ClientLeg,
    presence: &Presence,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    match client {
        ClientLeg::Prepared(PreparedClient::Passive(client)) => {
            // If it was the client itself, it should get its reply soon.
            let client_refused = async {
                let failure = refused(&mut client.arrival).await;
                stranger_grace(orders).await;
                failure
            };
            let accepted = tokio::select! {
                biased;
                accepted = client.task.join() => accepted.ok_or(DataFailure::Internal)??,
                failure = client_refused => return Err(failure),
            };
            authenticate(accepted, presence, tls, context, orders).await
        }
        ClientLeg::Accepted(accepted) => {
            let accepted = accepted.take().ok_or(DataFailure::Internal)?;
            authenticate(accepted, presence, tls, context, orders).await
        }
        ClientLeg::Prepared(PreparedClient::Active { to, from }) => {
            let arrived = connect_to_client(*to, *from, context).await?;
            secure_without_proof(arrived, tls, context, orders).await
        }
        ClientLeg::Connected(arrived) => {
            let arrived = arrived.take().ok_or(DataFailure::Internal)?;
            secure_without_proof(arrived, tls, context, orders).await
        }
    }
}

/// Performs the handshake with a client that is the right one whatever it presents: we have connected to the address that it
/// sent.
async fn secure_without_proof<E: LegEnd>(
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, context, orders).await?;
    match proof {
        Proof::OtherCertificate => Err(DataFailure::OtherCertificate),
        _ if tls.is_none_or(|tls| tls.accepts(proof)) => Ok(leg),
        _ => Err(DataFailure::NotResumed),
    }
}

/// Waits for the client at its port, until it `timed_out`. Where it has to name its session, other connections are
/// refused and the wait goes on: they may be attempts to replace it.
pub(super) async fn accept_client(
    mut lease: Lease,
    timed_out: impl Future<Output = DataFailure>,
    on_stranger: impl Fn(DataFailure),
) -> Result<AcceptedClient, DataFailure> {
    let unnamed_failure = if lease.is_named() {
        DataFailure::NotResumed
    } else {
        DataFailure::ClientHandshake
    };
    let attribution = lease.attribution();
    let mut ambiguous = pin!(attribution.ambiguous());
    let mut stranger = None;
    let mut timed_out = pin!(timed_out);
    loop {
        let event = tokio::select! {
            biased;
            event = lease.event() => event.ok_or(DataFailure::NoClient),
            ambiguity = &mut ambiguous => Err(failure_of(ambiguity)),
            failure = &mut timed_out => Err(failure),
        };
        match event {
            Ok(LeaseEvent::Connected(arrived)) => {
                let progress = ClientProgress::Connected(arrived);
                return Ok(AcceptedClient { lease, progress });
            }
            Ok(LeaseEvent::Refused(ambiguity)) => {
                let failure = ambiguity.map_or(unnamed_failure, failure_of);
                stranger = Some(failure);
                on_stranger(failure);
            }
            Err(failure) => {
                let could_accept = !lease.is_starved();
                // A connection from now on is too late.
                lease.end();
                return Err(match (stranger.unwrap_or(failure), lease.stranger()) {
                    (DataFailure::NoClient, _) if !could_accept => DataFailure::Shortage,
                    (DataFailure::NoClient, Some(other)) => DataFailure::OnlyFrom(other),
                    (failure, _) => failure,
                });
            }
        }
    }
}

/// Performs the handshake with the connection that came. Where the client has to name its session, a connection that isn't its
/// own is a stranger's, and the next one is accepted.
async fn authenticate<E: LegEnd>(
    accepted: AcceptedClient,
    presence: &Presence,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    let AcceptedClient {
        mut lease,
        mut progress,
    } = accepted;
    // One for all that follow the first stranger, with which it starts: strangers could keep connecting.
    let mut time_limit = pin!(async {
        stranger_grace(orders).await;
        sleep(context.timeouts.tls_handshake).await;
    });
    let mut stranger = None;
    loop {
        let secured = async {
            match progress {
                ClientProgress::Connected(arrived) => {
                    secure_leased(&lease, arrived, tls, context, orders).await
                }
                ClientProgress::Early(early) => adopt_early(&lease, early, tls, context).await,
            }
        };
        let secured = tokio::select! {
            biased;
            secured = secured => secured,
            failure = after(&mut time_limit, stranger) => return Err(failure),
        };
        let failure = match secured {
            Err(failure) if lease.is_named() => failure,
            done => return done,
        };
        stranger = Some(failure);
        presence.failure.send_replace(stranger);
        lease.reopen();
        let timed_out = async {
            stranger_grace(orders).await;
            failure
        };
        let next = tokio::select! {
            biased;
            next = accept_client(lease, timed_out, |_| {}) => next,
            failure = after(&mut time_limit, stranger) => return Err(failure),
        };
        AcceptedClient { lease, progress } = next.map_err(|_| failure)?;
        presence.failure.send_replace(None);
    }
}

/// The failure that a stranger was, when the time limit for the session's client to follow it is over.
async fn after(time_limit: impl Future<Output = ()>, stranger: Option<DataFailure>) -> DataFailure {
    match stranger {
        Some(failure) => {
            time_limit.await;
            failure
        }
        None => std::future::pending().await,
    }
}

/// Performs the handshake with a connection to a leased port, and checks its proof.
async fn secure_leased<E: LegEnd>(
    lease: &Lease,
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<E, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, context, orders).await?;
    if let Some(tls) = tls {
        check_proof(lease, proof, tls)?;
    }
    Ok(leg)
}

/// Hands a connection whose handshake began before the command to its transfer, and reports its proof to the lease.
async fn adopt_early<E: LegEnd>(
    lease: &Lease,
    early: io::Result<EarlyConnection>,
    tls: Option<&DataTls>,
    context: &TransferContext,
) -> Result<E, DataFailure> {
    // PROT C has come since, for a connection that the client has begun TLS on.
    let tls = tls.ok_or(DataFailure::UnexpectedTls)?;
    let finished = async { early?.finish(context.direction).await };
    let finished = timeout(context.timeouts.tls_handshake, finished).await;
    let finished = finished.map_err(io::Error::from).and_then(|done| done);
    let outcome = match &finished {
        Ok((stream, _)) => succeeded(stream.handshake_kind()),
        Err(_) => DataHandshake::Failed,
    };
    context.note_handshake(Leg::Client, outcome);
    let (stream, proof) = finished.map_err(|error| {
        context.record_fault(Leg::Client, FaultStage::Handshake, &error);
        DataFailure::ClientHandshake
    })?;
    check_proof(lease, proof, tls)?;
    set_options(stream.socket(), context);
    Ok(E::from_early(stream))
}

/// Whether a connection to a leased port is the client's, by what its handshake has proven.
fn check_proof(lease: &Lease, proof: Proof, tls: &DataTls) -> Result<(), DataFailure> {
    match proof {
        Proof::SameClient => {
            lease.proven();
            Ok(())
        }
        Proof::OtherSession => Err(DataFailure::AnotherConnection),
        Proof::OtherCertificate => Err(DataFailure::OtherCertificate),
        Proof::None if lease.is_named() || !tls.accepts(proof) => Err(DataFailure::NotResumed),
        Proof::None => {
            lease.unproven();
            Ok(())
        }
    }
}

pub(super) fn failure_of(ambiguity: Ambiguity) -> DataFailure {
    match ambiguity {
        Ambiguity::AnotherConnection => DataFailure::AnotherConnection,
        Ambiguity::LateConnection => DataFailure::LateConnection,
        Ambiguity::Withdrawn => DataFailure::PortWithdrawn,
    }
}

/// Resolves when the right client should have connected after a wrong connection.
async fn stranger_grace(orders: &OrderReceiver) {
    // It may have connected long ago, and send nothing before the backend's reply.
    let _ = orders.transfer_started().await;
    sleep(STRANGER_GRACE).await;
}

async fn secure_client<E: LegEnd>(
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<(E, Proof), DataFailure> {
    set_options(&arrived.stream, context);
    let Some(tls) = tls else {
        let DataConnection { stream, read } = arrived;
        // PROT C after a PASV under PROT P, or a file that begins like TLS, beside another session at the port.
        return match client_hello::read(&read) {
            ClientHello::Names(_) => Err(DataFailure::UnexpectedTls),
            ClientHello::Incomplete | ClientHello::Other => {
                Ok((E::plain(stream, read), Proof::None))
            }
        };
    };
    if let Err(failure) = begins_tls(&arrived, context, orders).await {
        if !orders.is_refused() {
            context.note_handshake(Leg::Client, DataHandshake::Failed);
        }
        return Err(failure);
    }
    let too_late = async {
        elapsed(context.timeouts.tls_handshake).await;
        DataFailure::ClientHandshake
    };
    let connection = tls.connection();
    let DataConnection { stream, read } = arrived;
    let handshake = E::to_client(stream, connection.config(), read);
    let leg = match secure(handshake, too_late, Leg::Client, context).await? {
        Ok(leg) => leg,
        Err(error) => {
            context.record_fault(Leg::Client, FaultStage::Handshake, &error);
            return Err(DataFailure::ClientHandshake);
        }
    };
    let proof = connection.proof(leg.handshake_kind(), leg.client_certificates());
    Ok((leg, proof))
}

/// Waits until the client begins its handshake.
async fn begins_tls(
    connection: &DataConnection,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<(), DataFailure> {
    let failure = async {
        match orders.transfer_started().await {
            Ok(()) => elapsed(context.silence).await,
            Err(failure) => return failure,
        }
        DataFailure::ClientSilent
    };
    tokio::select! {
        biased;
        first = connection.first_byte() => match first {
            // It waited for the 150 that has not come.
            None if orders.is_refused() => Err(DataFailure::NoClient),
            Some(other) if other != HANDSHAKE_RECORD => Err(DataFailure::ClientClearText),
            // Its end, or what is wrong with it, shows in the handshake.
            _ => Ok(()),
        },
        failure = failure => Err(failure),
    }
}
