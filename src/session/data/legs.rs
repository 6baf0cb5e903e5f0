//! Opens the two legs of a transfer: connection, handshake, and the proof that it is the session's client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::client_arrival::refused;
use super::early::{self, EarlyConnection};
use super::fault::FaultStage;
use super::orders::OrderReceiver;
use super::transfer::failure_of;
use super::{PreparedClient, TransferContext};
use crate::ftp::command::Direction;
use crate::net::deadline::elapsed;
use crate::net::source::Source;
use crate::net::stream::Stream;
use crate::net::{connect, options};
use crate::observe::metrics::{DataHandshake, Leg};
use crate::passive::{DataConnection, Lease, LeaseEvent};
use crate::session::client_hello::{self, RewrittenHello};
use crate::session::machine::DataFailure;
use crate::tls::{DataTls, Proof};

/// The first byte of a ClientHello: record type 22.
pub(super) const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// How long the right client is awaited after a wrong connection to its port, once the backend has begun.
pub(super) const STRANGER_GRACE: Duration = Duration::from_secs(3);

/// The connections of both legs, as far as they are open.
#[derive(Debug, Default)]
pub(super) struct OpenLegs {
    pub(super) client: Option<OpenLeg>,
    pub(super) backend: Option<OpenLeg>,
}

/// A leg that is ready for its bytes.
#[derive(Debug)]
pub(super) enum OpenLeg {
    Source(Source),
    Sink(Stream),
}

/// What a leg is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Source,
    Sink,
}

impl Role {
    pub(super) fn of(leg: Leg, direction: Direction) -> Self {
        match (leg, direction) {
            (Leg::Client, Direction::Upload)
            | (Leg::Backend, Direction::Download | Direction::Listing) => Self::Source,
            (Leg::Backend, Direction::Upload)
            | (Leg::Client, Direction::Download | Direction::Listing) => Self::Sink,
        }
    }
}

impl OpenLeg {
    fn plain(socket: TcpStream, role: Role) -> Self {
        match role {
            Role::Source => Self::Source(Source::plain(socket)),
            Role::Sink => Self::Sink(Stream::Plain(socket)),
        }
    }

    fn handshake_kind(&self) -> Option<HandshakeKind> {
        match self {
            Self::Source(source) => source.handshake_kind(),
            Self::Sink(sink) => sink.handshake_kind(),
        }
    }
}

/// A client that has connected, and the lease by which another connection can be accepted in its place.
#[derive(Debug)]
pub(super) struct AcceptedClient {
    lease: Lease,
    pub(super) progress: ClientProgress,
}

/// How far a client got before its transfer command.
#[derive(Debug)]
pub(super) enum ClientProgress {
    /// Connected.
    Connected(DataConnection),
    /// Through its handshake, or not.
    Early(io::Result<EarlyConnection>),
}

impl AcceptedClient {
    /// Its connection, if nothing has been read of TLS and answered there.
    pub(super) fn into_arrived(self) -> Option<DataConnection> {
        match self.progress {
            ClientProgress::Connected(arrived) => Some(arrived),
            ClientProgress::Early(_) => None,
        }
    }
}

impl Drop for OpenLegs {
    fn drop(&mut self) {
        // An upload that is broken off has never read from its backend.
        if let Some(OpenLeg::Sink(backend)) = &mut self.backend {
            backend.keep_tickets();
        }
    }
}

pub(super) async fn secure_backend(
    socket: TcpStream,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    set_stall_timeout(&socket, context);
    let role = Role::of(Leg::Backend, context.direction);
    let Some(tls) = &context.backend_tls else {
        return Ok(OpenLeg::plain(socket, role));
    };
    let handshake = async {
        let (config, name) = (tls.config(), tls.server_name());
        Ok(match role {
            Role::Source => OpenLeg::Source(Source::from_backend(socket, config, name).await?),
            Role::Sink => {
                let stream = TlsConnector::from(config).connect(name, socket).await?;
                OpenLeg::Sink(Stream::ToBackend(Box::new(stream)))
            }
        })
    };
    let too_late = async {
        if let Err(failure) = orders.transfer_started().await {
            return failure;
        }
        elapsed(context.timeouts.tls_handshake).await;
        DataFailure::BackendHandshake
    };
    match secure(handshake, too_late, Leg::Backend, context).await? {
        Ok(leg) => Ok(leg),
        Err(error) => {
            context.record_fault(Leg::Backend, FaultStage::Handshake, &error);
            Err(DataFailure::BackendHandshake)
        }
    }
}

/// Does a handshake, unless it is `too_late` first, and counts its result.
async fn secure(
    handshake: impl Future<Output = io::Result<OpenLeg>>,
    too_late: impl Future<Output = DataFailure>,
    leg: Leg,
    context: &TransferContext,
) -> Result<io::Result<OpenLeg>, DataFailure> {
    let done = tokio::select! {
        biased;
        done = handshake => Ok(done),
        failure = too_late => Err(failure),
    };
    let outcome = match &done {
        Ok(Ok(open)) => match open.handshake_kind() {
            Some(HandshakeKind::Resumed) => DataHandshake::Resumed,
            _ => DataHandshake::Full,
        },
        Ok(Err(_)) | Err(_) => DataHandshake::Failed,
    };
    context.metrics.data_handshake(leg, outcome);
    done
}

pub(super) async fn open_client(
    prepared: &mut PreparedClient,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    match prepared {
        PreparedClient::Passive {
            client_task,
            arrival,
            ..
        } => {
            // If it was the client itself, it should get its reply soon.
            let client_refused = async {
                let failure = refused(arrival).await;
                stranger_grace(orders).await;
                failure
            };
            let accepted = tokio::select! {
                biased;
                accepted = client_task.join() => accepted.ok_or(DataFailure::Internal)??,
                failure = client_refused => return Err(failure),
            };
            authenticate(accepted, tls, context, orders).await
        }
        PreparedClient::Active { to, from } => {
            let arrived = connect_to_client(*to, *from, context).await?;
            secure_without_proof(arrived, tls, context, orders).await
        }
        PreparedClient::Connected(arrived) => {
            let arrived = arrived.take().ok_or(DataFailure::Internal)?;
            secure_without_proof(arrived, tls, context, orders).await
        }
    }
}

/// Does the handshake with a client that is the right one whatever it presents: we have connected to where it said.
async fn secure_without_proof(
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, context, orders).await?;
    if tls.is_none_or(|tls| tls.accepts(proof)) {
        Ok(leg)
    } else {
        Err(DataFailure::NotResumed)
    }
}

/// Active mode.
pub(super) async fn connect_to_client(
    to: SocketAddr,
    from: IpAddr,
    context: &TransferContext,
) -> Result<DataConnection, DataFailure> {
    let connecting = connect::data_to_client(to, from);
    let connected = timeout(context.timeouts.data_connect, connecting).await;
    match connected.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => Ok(DataConnection {
            stream,
            read: Vec::new(),
        }),
        Err(error) => {
            // It may be that we have no port or no file descriptor left.
            tracing::info!(session = context.session.0, site = context.site, port = %to, %error, "client's data port not reached");
            Err(DataFailure::ClientUnreachable)
        }
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
                // A connection from now on is too late.
                lease.end();
                return Err(match (stranger.unwrap_or(failure), lease.stranger()) {
                    (DataFailure::NoClient, Some(other)) => DataFailure::OnlyFrom(other),
                    (failure, _) => failure,
                });
            }
        }
    }
}

/// Does the handshake with the accepted connection; where it has to name its session, with later ones, too.
async fn authenticate(
    accepted: AcceptedClient,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    let AcceptedClient { lease, progress } = accepted;
    let secured = match progress {
        ClientProgress::Connected(arrived) => {
            secure_leased(&lease, arrived, tls, context, orders).await
        }
        ClientProgress::Early(early) => early::adopt_early(&lease, early, tls, context),
    };
    let failure = match secured {
        Ok(leg) => return Ok(leg),
        Err(failure) => failure,
    };
    if !lease.is_named() {
        return Err(failure);
    }
    // One time limit for all of them: strangers could keep connecting.
    let time_is_up = async {
        stranger_grace(orders).await;
        sleep(context.timeouts.tls_handshake).await;
    };
    tokio::select! {
        biased;
        next = accept_next_after_stranger(lease, failure, tls, context, orders) => next,
        () = time_is_up => Err(failure),
    }
}

/// Waits for the session's client after a stranger, which was a `failure`.
async fn accept_next_after_stranger(
    mut lease: Lease,
    mut failure: DataFailure,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    loop {
        lease.reopen();
        let timed_out = async {
            stranger_grace(orders).await;
            failure
        };
        let next = accept_client(lease, timed_out, |_| {}).await;
        let next = next.map_err(|_| failure)?;
        // It has connected after its command.
        let ClientProgress::Connected(arrived) = next.progress else {
            return Err(failure);
        };
        match secure_leased(&next.lease, arrived, tls, context, orders).await {
            Ok(leg) => return Ok(leg),
            Err(another) => failure = another,
        }
        lease = next.lease;
    }
}

/// Does the handshake with a connection to a leased port, and checks its proof.
async fn secure_leased(
    lease: &Lease,
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<OpenLeg, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, context, orders).await?;
    if let Some(tls) = tls {
        check_proof(lease, proof, tls)?;
    }
    Ok(leg)
}

/// Whether a connection to a leased port is the client's, by what its handshake has proven.
pub(super) fn check_proof(lease: &Lease, proof: Proof, tls: &DataTls) -> Result<(), DataFailure> {
    match proof {
        Proof::SameClient => {
            lease.proven();
            Ok(())
        }
        Proof::OtherSession => Err(DataFailure::AnotherConnection),
        Proof::None if lease.is_named() || !tls.accepts(proof) => Err(DataFailure::NotResumed),
        Proof::None => {
            lease.unproven();
            Ok(())
        }
    }
}

/// Resolves when the right client should have connected after a wrong connection.
async fn stranger_grace(orders: &OrderReceiver) {
    // It may have connected long ago, and send nothing before the backend's reply.
    let _ = orders.transfer_started().await;
    sleep(STRANGER_GRACE).await;
}

async fn secure_client(
    arrived: DataConnection,
    tls: Option<&DataTls>,
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<(OpenLeg, Proof), DataFailure> {
    let DataConnection { mut stream, read } = arrived;
    set_stall_timeout(&stream, context);
    let role = Role::of(Leg::Client, context.direction);
    let Some(tls) = tls else {
        // PROT C after a PASV under PROT P: what was read as a ClientHello would be missing in the file.
        return if read.is_empty() {
            Ok((OpenLeg::plain(stream, role), Proof::None))
        } else {
            Err(DataFailure::NoClient)
        };
    };
    if let Err(failure) = begins_tls(&stream, &read, context, orders).await {
        context
            .metrics
            .data_handshake(Leg::Client, DataHandshake::Failed);
        return Err(failure);
    }
    let too_late = async {
        elapsed(context.timeouts.tls_handshake).await;
        DataFailure::ClientHandshake
    };
    let connection = tls.connection();
    let handshake = async {
        let config = connection.config();
        Ok(match role {
            Role::Source => {
                let RewrittenHello { hello, rewrite } =
                    client_hello::read(&mut stream, read).await?;
                let config = rewrite.config(config);
                let answer = |records: &mut Vec<u8>| rewrite.answer(records);
                OpenLeg::Source(Source::from_client(stream, config, &hello, answer).await?)
            }
            Role::Sink => {
                let stream = client_hello::accept(stream, config, read).await?;
                OpenLeg::Sink(Stream::ToClient(Box::new(stream)))
            }
        })
    };
    let leg = match secure(handshake, too_late, Leg::Client, context).await? {
        Ok(leg) => leg,
        Err(error) => {
            context.record_fault(Leg::Client, FaultStage::Handshake, &error);
            return Err(DataFailure::ClientHandshake);
        }
    };
    let proof = connection.proof(leg.handshake_kind());
    Ok((leg, proof))
}

/// Waits until the client begins its handshake, of which `read` has been read already.
async fn begins_tls(
    stream: &TcpStream,
    read: &[u8],
    context: &TransferContext,
    orders: &OrderReceiver,
) -> Result<(), DataFailure> {
    let mut first_byte = [0];
    let peeked = async {
        match read.first() {
            Some(first) => Some(*first),
            // Its end, or what is wrong with it, shows in the handshake.
            None => match stream.peek(&mut first_byte).await {
                Ok(1..) => Some(first_byte[0]),
                _ => None,
            },
        }
    };
    let failure = async {
        match orders.transfer_started().await {
            Ok(()) => elapsed(context.silence).await,
            Err(failure) => return failure,
        }
        DataFailure::ClientSilent
    };
    tokio::select! {
        biased;
        first = peeked => match first {
            Some(other) if other != TLS_HANDSHAKE_RECORD => Err(DataFailure::ClientClearText),
            _ => Ok(()),
        },
        failure = failure => Err(failure),
    }
}

pub(super) fn set_stall_timeout(socket: &TcpStream, context: &TransferContext) {
    // If the peer has reset it already, the handshake or the first byte shows it.
    let timeouts = &context.timeouts;
    let _ = options::set_stall_timeout(socket, timeouts.data_idle.max(timeouts.backend_reply));
}
