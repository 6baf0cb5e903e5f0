//! The data connections between the data port command and the transfer command.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::TransferContext;
use super::client_connection::{ClientArrival, PassiveClient, PreparedClient};
use super::client_leg::accept_client;
use super::early::EarlyHandshake;
use super::orders::{Order, OrderReceiver, OrderState};
use super::running::{ClientPort, LONG_TRANSFER, RunningData};
use super::task::Transfer;
use crate::backend::data::{DataEndpoint, PendingConnection};
use crate::base::task::Task;
use crate::config::Timeouts;
use crate::passive::{Identity, Lease, LeaseHold, NoPort};
use crate::session::machine::{DataFailure, PreparedPort};
use crate::tls::DataTls;

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    pub(super) backend: PendingConnection,
    pub(super) client: PreparedClient,
    /// The hold on the lease, from [`PreparedData::prepared`] on, if the client connects.
    pub(super) lease: Option<LeaseHold>,
    pub(super) order_sender: watch::Sender<OrderState>,
    pub(super) orders: OrderReceiver,
}

impl PreparedData {
    /// Begins to connect to the backend's data port, and to lease a port for the client and wait there for it; does the
    /// handshake with it if it begins that before its command.
    pub fn passive(
        backend: DataEndpoint,
        leasing: impl Future<Output = Result<Lease, NoPort>> + Send + 'static,
        early: Option<EarlyHandshake>,
        timeouts: &Timeouts,
    ) -> Self {
        let (order_sender, orders) = OrderReceiver::channel(timeouts);
        let (announce, leased) = oneshot::channel();
        let (arrival_sender, arrival) = watch::channel(ClientArrival::Pending);
        let give_up = Arc::new(Notify::new());
        let give_up_signal = Arc::clone(&give_up);
        let waiting = orders.clone();
        let task = async move {
            let lease = leasing.await;
            let _ = announce.send(lease.as_ref().ok().map(Lease::hold));
            let lease = lease.map_err(|_| DataFailure::NoClient)?;
            let on_stranger = |failure| {
                arrival_sender.send_replace(ClientArrival::Refused(failure));
            };
            let timed_out = waiting.client_timed_out(lease.contention(), lease.unassigned());
            let timed_out = async {
                tokio::select! {
                    biased;
                    failure = timed_out => failure,
                    () = give_up_signal.notified() => DataFailure::NoClient,
                }
            };
            let accepted = accept_client(lease, timed_out, on_stranger).await;
            arrival_sender.send_replace(match &accepted {
                Ok(_) => ClientArrival::Connected,
                Err(failure) => ClientArrival::Failed(*failure),
            });
            let accepted = accepted?;
            Ok(match early {
                Some(early) => accepted.begin_early(&early, &waiting).await,
                None => accepted,
            })
        };
        Self {
            backend: PendingConnection::start(backend, timeouts.data_connect),
            client: PreparedClient::Passive(PassiveClient {
                leased,
                task: Task::spawn(task),
                arrival,
                unassigned: None,
                give_up,
            }),
            lease: None,
            order_sender,
            orders,
        }
    }

    /// Begins to connect to the backend's data port; the client is connected to when the transfer begins.
    pub fn active(
        backend: DataEndpoint,
        to: SocketAddr,
        from: IpAddr,
        timeouts: &Timeouts,
    ) -> Self {
        let (order_sender, orders) = OrderReceiver::channel(timeouts);
        Self {
            backend: PendingConnection::start(backend, timeouts.data_connect),
            client: PreparedClient::Active { to, from },
            lease: None,
            order_sender,
            orders,
        }
    }

    /// Waits for the client's data port, unless it has been waited for. May be cancelled.
    pub async fn prepared(&mut self) -> PreparedPort {
        match &mut self.client {
            PreparedClient::Active { .. } => PreparedPort::Active,
            PreparedClient::Passive(client) => match (&mut client.leased).await {
                Ok(Some(lease)) => {
                    client.unassigned = Some(lease.unassigned());
                    PreparedPort::Passive(self.lease.insert(lease).port())
                }
                Ok(None) | Err(_) => PreparedPort::NoPort,
            },
        }
    }

    /// PROT has changed since PASV: the client's connection will be identified in another way.
    pub fn identify(&self, identity: Identity) {
        if let Some(lease) = &self.lease {
            lease.identify(identity);
        }
    }

    /// Starts the transfer's task; without `client_tls` the client leg is plain.
    pub fn open(self, context: TransferContext, client_tls: Option<DataTls>) -> RunningData {
        // More than there can be, so that the task never waits for the session.
        let (report, events) = mpsc::channel(12);
        let (ports, further) = mpsc::channel(1);
        let moved = Arc::new(AtomicU64::new(0));
        let Self {
            backend,
            client,
            lease,
            order_sender,
            orders,
        } = self;
        if let Some(lease) = &lease {
            lease.begin();
        }
        if client_tls.is_some() {
            order_sender.send_modify(|last| last.limit_silence(context.silence));
        }
        let acceptance = context.acceptance.clone();
        let faults = context.faults.clone();
        let stats = context.stats.clone();
        let throttled = context.limits.as_ref().map(|it| it.throttled.clone());
        let client_opened = Arc::new(Notify::new());
        let transfer = Transfer {
            context,
            client_tls,
            report,
            orders,
            client_opened: Arc::clone(&client_opened),
            attribution: lease.as_ref().map(LeaseHold::attribution),
            moved: Arc::clone(&moved),
        };
        let arrival = match &client {
            PreparedClient::Passive(client) => Some(client.arrival.clone()),
            PreparedClient::Active { .. } => None,
        };
        let port = lease.zip(arrival).map(|(lease, arrival)| ClientPort {
            lease,
            arrival,
            opened: Arc::clone(&client_opened),
        });
        let running = RunningData {
            events: Some(events),
            order_sender,
            ports,
            moved,
            began: Instant::now(),
            port,
            throttled,
            acceptance,
            faults,
            stats,
            tell_at: Some(Instant::now() + LONG_TRANSFER),
            task: Task::spawn(transfer.run(backend, further, client)),
        };
        running.order(Order::Open);
        running
    }
}
