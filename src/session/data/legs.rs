//! Opening the two legs of a transfer: who came, the handshake, and whether it proves that it is the session's client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::door::turned_away;
use super::told::Told;
use super::transfer::failure_of;
use super::{Legs, PreparedClient};
use crate::ftp::command::Direction;
use crate::net::deadline::late;
use crate::net::source::Source;
use crate::net::stream::Stream;
use crate::net::{connect, options};
use crate::observe::metrics::{DataHandshake, Leg};
use crate::passive::{Arrived, Caller, Lease};
use crate::session::state::DataFailure;
use crate::tls::{self, DataTls, Proof};

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
enum Role {
    Source,
    Sink,
}

impl Role {
    fn of(leg: Leg, direction: Direction) -> Self {
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

/// A client that has connected, and the lease with which another one may do so in its place.
#[derive(Debug)]
pub(super) struct Guest {
    lease: Lease,
    arrived: Arrived,
}

impl Guest {
    pub(super) fn into_arrived(self) -> Arrived {
        self.arrived
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
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    bear_standstill(&socket, legs);
    let role = Role::of(Leg::Backend, legs.direction);
    let Some(tls) = &legs.backend_tls else {
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
        if let Err(silent) = told.begun().await {
            return silent;
        }
        late(legs.timeouts.tls_handshake).await;
        DataFailure::BackendHandshake
    };
    match secure(handshake, too_late, Leg::Backend, legs).await? {
        Ok(leg) => Ok(leg),
        Err(error) => {
            let error = tls::explain(&error);
            tracing::warn!(session = legs.session.0, site = legs.site, %error, "backend's data connection: TLS handshake failed");
            Err(DataFailure::BackendHandshake)
        }
    }
}

/// Does a handshake, unless it is `too_late` first, and counts what it came to.
async fn secure(
    handshake: impl Future<Output = io::Result<OpenLeg>>,
    too_late: impl Future<Output = DataFailure>,
    leg: Leg,
    legs: &Legs,
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
    legs.metrics.data_handshake(leg, outcome);
    done
}

pub(super) async fn open_client(
    prepared: &mut PreparedClient,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    match prepared {
        PreparedClient::Passive { arrival, door, .. } => {
            // If it was the client itself, it should not wait long for being told.
            let turned_away = async {
                let failure = turned_away(door).await;
                stranger_alone(told).await;
                failure
            };
            let guest = tokio::select! {
                biased;
                guest = arrival.join() => guest.ok_or(DataFailure::Internal)??,
                failure = turned_away => return Err(failure),
            };
            let_in(guest, tls, legs, told).await
        }
        PreparedClient::Active { to, from } => {
            let arrived = connect_to_client(*to, *from, legs).await?;
            secure_own(arrived, tls, legs, told).await
        }
        PreparedClient::Connected(arrived) => {
            let arrived = arrived.take().ok_or(DataFailure::Internal)?;
            secure_own(arrived, tls, legs, told).await
        }
    }
}

/// Does the handshake with a client that is the right one whatever it presents: we have connected to where it said.
async fn secure_own(
    arrived: Arrived,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, legs, told).await?;
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
    legs: &Legs,
) -> Result<Arrived, DataFailure> {
    let connecting = connect::data_to_client(to, from);
    let connected = timeout(legs.timeouts.data_connect, connecting).await;
    match connected.unwrap_or_else(|late| Err(late.into())) {
        Ok(stream) => Ok(Arrived {
            stream,
            read: Vec::new(),
        }),
        Err(error) => {
            // It may be that we have no port or no file descriptor left.
            tracing::info!(session = legs.session.0, site = legs.site, %error, "client's data port not reached");
            Err(DataFailure::NoClient)
        }
    }
}

/// Waits for the client at its port, until it `stays_away`. Where it has to name its session, others are turned away and it
/// is waited for: they may have come to take its place.
pub(super) async fn guest(
    mut lease: Lease,
    stays_away: impl Future<Output = DataFailure>,
    on_stranger: impl Fn(DataFailure),
) -> Result<Guest, DataFailure> {
    let turned_away = if lease.is_named() {
        DataFailure::NotResumed
    } else {
        DataFailure::ClientHandshake
    };
    let certainty = lease.certainty();
    let mut doubted = pin!(certainty.doubted());
    let mut stranger = None;
    let mut stays_away = pin!(stays_away);
    loop {
        let caller = tokio::select! {
            biased;
            caller = lease.caller() => caller.ok_or(DataFailure::NoClient),
            doubt = &mut doubted => Err(failure_of(doubt)),
            failure = &mut stays_away => Err(failure),
        };
        match caller {
            Ok(Caller::Arrived(arrived)) => return Ok(Guest { lease, arrived }),
            Ok(Caller::TurnedAway(doubt)) => {
                let failure = doubt.map_or(turned_away, failure_of);
                stranger = Some(failure);
                on_stranger(failure);
            }
            Err(failure) => {
                // A connection that comes now is too late.
                lease.end();
                return Err(stranger.unwrap_or(failure));
            }
        }
    }
}

/// Does the handshake with the connection that came; where it has to name its session, with those that come after it, too.
async fn let_in(
    guest: Guest,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    let Guest { lease, arrived } = guest;
    let failure = match secure_leased(&lease, arrived, tls, legs, told).await {
        Ok(leg) => return Ok(leg),
        Err(failure) => failure,
    };
    if !lease.is_named() {
        return Err(failure);
    }
    // One time for all: strangers might go on coming for ever.
    let time_is_up = async {
        stranger_alone(told).await;
        sleep(legs.timeouts.tls_handshake).await;
    };
    tokio::select! {
        biased;
        let_in = let_another_in(lease, failure, tls, legs, told) => let_in,
        () = time_is_up => Err(failure),
    }
}

/// Waits behind a stranger, who was a `failure`, for the session's client.
async fn let_another_in(
    mut lease: Lease,
    mut failure: DataFailure,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    loop {
        lease.again();
        let stays_away = async {
            stranger_alone(told).await;
            failure
        };
        let next = guest(lease, stays_away, |_| {}).await;
        let next = next.map_err(|_| failure)?;
        match secure_leased(&next.lease, next.arrived, tls, legs, told).await {
            Ok(leg) => return Ok(leg),
            Err(another) => failure = another,
        }
        lease = next.lease;
    }
}

/// Does the handshake with a connection that came to a leased port, and judges what it proves.
async fn secure_leased(
    lease: &Lease,
    arrived: Arrived,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<OpenLeg, DataFailure> {
    let (leg, proof) = secure_client(arrived, tls, legs, told).await?;
    let Some(tls) = tls else {
        return Ok(leg);
    };
    match proof {
        Proof::SameClient => {
            lease.proven();
            Ok(leg)
        }
        Proof::Another => Err(DataFailure::AnotherConnection),
        Proof::Nothing if lease.is_named() || !tls.accepts(proof) => Err(DataFailure::NotResumed),
        Proof::Nothing => {
            lease.unproven();
            Ok(leg)
        }
    }
}

/// Resolves when the right client should have come behind the wrong one.
async fn stranger_alone(told: &Told) {
    // It may have come long ago, and say nothing before the backend's reply.
    let _ = told.begun().await;
    sleep(PATIENCE_AFTER_A_STRANGER).await;
}

async fn secure_client(
    arrived: Arrived,
    tls: Option<&DataTls>,
    legs: &Legs,
    told: &Told,
) -> Result<(OpenLeg, Proof), DataFailure> {
    let Arrived { stream, read } = arrived;
    bear_standstill(&stream, legs);
    let role = Role::of(Leg::Client, legs.direction);
    let Some(tls) = tls else {
        // PROT C after a PASV under PROT P: what was read as a ClientHello would be missing in the file.
        return if read.is_empty() {
            Ok((OpenLeg::plain(stream, role), Proof::Nothing))
        } else {
            Err(DataFailure::NoClient)
        };
    };
    if read.is_empty() {
        let mut first_byte = [0];
        tokio::select! {
            biased;
            // Its end, or what is wrong with it, shows in the handshake.
            _ = stream.peek(&mut first_byte) => {}
            begun = told.begun() => begun?,
        }
    }
    let too_late = async {
        late(legs.timeouts.tls_handshake).await;
        DataFailure::ClientHandshake
    };
    let connection = tls.connection();
    let handshake = async {
        let config = connection.config();
        Ok(match role {
            Role::Source => OpenLeg::Source(Source::from_client(stream, config, &read).await?),
            Role::Sink => {
                let acceptor = TlsAcceptor::from(config);
                let accepting = acceptor.accept_with(stream, |handshake| take_up(handshake, &read));
                OpenLeg::Sink(Stream::ToClient(Box::new(accepting.await?)))
            }
        })
    };
    let leg = match secure(handshake, too_late, Leg::Client, legs).await? {
        Ok(leg) => leg,
        Err(error) => {
            let error = tls::explain(&error);
            tracing::info!(session = legs.session.0, site = legs.site, %error, "client's data connection: TLS handshake failed");
            return Err(DataFailure::ClientHandshake);
        }
    };
    let proof = connection.proof(leg.handshake_kind());
    Ok((leg, proof))
}

fn bear_standstill(socket: &TcpStream, legs: &Legs) {
    // If the peer has reset it already, the handshake or the first byte shows it.
    let timeouts = &legs.timeouts;
    let _ = options::bear_standstill(socket, timeouts.data_idle.max(timeouts.backend_reply));
}

/// Gives a handshake the bytes of it that have been read already.
fn take_up(handshake: &mut ServerConnection, mut read: &[u8]) {
    while !read.is_empty() {
        // What is wrong with them is said again, and to the client as an alert, as soon as the handshake goes on.
        if !matches!(handshake.read_tls(&mut read), Ok(1..))
            || handshake.process_new_packets().is_err()
        {
            return;
        }
    }
}

/// How long the right client is waited for after the wrong one has come to its port, once the backend has begun.
pub(super) const PATIENCE_AFTER_A_STRANGER: Duration = Duration::from_secs(3);
