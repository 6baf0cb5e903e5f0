//! The client's connection of a transfer, from its data port on: what is known of it before its leg is opened.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::TransferContext;
use super::early::{EarlyConnection, EarlyHandshake};
use super::orders::{Order, OrderReceiver};
use crate::base::shortage::is_shortage;
use crate::base::task::Task;
use crate::net::connect;
use crate::passive::{DataConnection, Lease, LeaseHold, Unassigned};
use crate::session::machine::DataFailure;
use crate::tls::client_hello::HANDSHAKE_RECORD;

/// How long the right client is awaited after a wrong connection to its port, once the backend has begun.
pub(super) const STRANGER_GRACE: Duration = Duration::from_secs(3);

/// The client's side, before the transfer command.
#[derive(Debug)]
pub(super) enum PreparedClient {
    /// The client connects.
    Passive(PassiveClient),
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
}

/// A client that may connect to a port of ours.
#[derive(Debug)]
pub(super) struct PassiveClient {
    /// The lease of the port; `None` if none became free in time.
    pub(super) leased: oneshot::Receiver<Option<LeaseHold>>,
    pub(super) task: Task<Result<AcceptedClient, DataFailure>>,
    /// The state of its connection.
    pub(super) arrival: watch::Receiver<ClientArrival>,
    /// The connections there that are not identified yet; once there is a port.
    pub(super) unassigned: Option<Unassigned>,
    /// Notified when the connection is not waited for any longer; the result is in `arrival`.
    pub(super) give_up: Arc<Notify>,
}

/// State of the client's connection to its passive port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientArrival {
    /// No connection, or none that has been identified.
    Pending,
    /// A connection that was refused: the failure of the transfer if it was the client's.
    Refused(DataFailure),
    /// The client has connected.
    Connected,
    /// No connection will come.
    Failed(DataFailure),
}

/// The client's connection of a transfer that begins.
#[derive(Debug)]
pub(super) enum ClientLeg {
    /// The client's connection as PASV or PORT has prepared it.
    Prepared(PreparedClient),
    /// The client has connected; `None` once its leg is being opened.
    Accepted(Option<AcceptedClient>),
    /// We have connected, or the connection is in clear text; `None` once its leg is being opened.
    Connected(Option<DataConnection>),
}

/// A client that has connected, and the lease by which another connection can be accepted in its place.
#[derive(Debug)]
pub(super) struct AcceptedClient {
    pub(super) lease: Lease,
    pub(super) progress: ClientProgress,
}

/// How far a client got before its transfer command.
#[derive(Debug)]
pub(super) enum ClientProgress {
    /// The client has connected; no handshake has begun.
    Connected(DataConnection),
    /// Through its handshake, or not.
    Early(io::Result<EarlyConnection>),
}

impl AcceptedClient {
    /// The client's connection, if no TLS has been read and answered on it.
    pub(super) fn into_arrived(self) -> Option<DataConnection> {
        match self.progress {
            ClientProgress::Connected(arrived) => Some(arrived),
            ClientProgress::Early(_) => None,
        }
    }

    /// Begins the handshake, if the client does so before its command.
    pub(super) async fn begin_early(self, early: &EarlyHandshake, orders: &OrderReceiver) -> Self {
        let Self { lease, progress } = self;
        let ClientProgress::Connected(arrived) = progress else {
            return Self { lease, progress };
        };
        let first_byte = tokio::select! {
            biased;
            // The transfer does it.
            () = orders.wait_for_order(Order::Open) => None,
            first_byte = arrived.first_byte() => first_byte,
        };
        let progress = match first_byte {
            Some(HANDSHAKE_RECORD) => ClientProgress::Early(early.handshake(arrived, orders).await),
            _ => ClientProgress::Connected(arrived),
        };
        Self { lease, progress }
    }
}

/// Connects to the client, in active mode.
pub(super) async fn connect_to_client(
    to: SocketAddr,
    from: IpAddr,
    context: &TransferContext,
) -> Result<DataConnection, DataFailure> {
    match connect::data_to_client(to, from, context.timeouts.data_connect).await {
        Ok(stream) => Ok(DataConnection {
            stream,
            read: Vec::new(),
        }),
        Err(error) => {
            tracing::info!(
                session = context.session.0,
                id = context.sent_id.map(tracing::field::display),
                site = context.site,
                port = %to,
                %error,
                "client's data port not reached"
            );
            Err(if is_shortage(&error) {
                DataFailure::Shortage
            } else {
                DataFailure::ClientUnreachable
            })
        }
    }
}
