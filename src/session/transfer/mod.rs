//! One transfer and its data connections: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! Both legs live in one task (`task`), which reports [`DataEvent`]s and takes [`Order`]s. `client_leg` accepts and
//! authenticates the client, `backend_leg` does its part with the backend, and what they become is a
//! [source](crate::net::data::source::Source) and a [sink](crate::net::data::sink::Sink). Whatever ends the task drops its
//! sockets, and while the lingering of one is armed, its peer sees a reset. The sink's is armed until the order to finish
//! it; the source's only until the source has ended and been answered with our own end.

mod backend_leg;
mod client_arrival;
mod client_leg;
mod early;
mod fault;
mod leg;
mod lingering;
mod measured;
mod orders;
mod task;
mod throttle;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::machine::{DataEvent, DataFailure, PreparedPort};
use crate::backend::data::{DataEndpoint, PendingConnection};
use crate::base::task::Task;
use crate::base::{GlobalSessionId, SessionId};
use crate::config::{CloseNotify, Timeouts};
use crate::observe::metrics::Metrics;
use crate::outcome::Direction;
use crate::passive::{Identity, Lease, LeaseHold, NoPort, Undecided};
use crate::tls::{BackendSessionTls, DataTls};

use client_arrival::ClientArrival;
use client_leg::{AcceptedClient, accept_client};
pub use early::EarlyHandshake;
pub use fault::Faults;
pub use lingering::Lingering;
pub use measured::Measured;
use orders::{OrderReceiver, OrderState};
use task::Transfer;
pub use throttle::{HeldBack, TransferLimits};

/// How long a transfer runs before the log tells of it.
const LONG_TRANSFER: Duration = Duration::from_secs(60);

/// How long the port of a refused transfer waits for a client that has connected just before, and for its handshake.
const LATE_ARRIVAL: Duration = Duration::from_secs(1);

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    backend: PendingConnection,
    client: PreparedClient,
    /// From [`PreparedData::prepared`] on, if the client connects.
    lease: Option<LeaseHold>,
    order_sender: watch::Sender<OrderState>,
    orders: OrderReceiver,
}

#[derive(Debug)]
enum PreparedClient {
    /// The client connects.
    Passive(PassiveClient),
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
}

/// A client that may connect to a port of ours.
#[derive(Debug)]
struct PassiveClient {
    /// The lease of the port; `None` if none became free in time.
    leased: oneshot::Receiver<Option<LeaseHold>>,
    task: Task<Result<AcceptedClient, DataFailure>>,
    /// The state of its connection.
    arrival: watch::Receiver<ClientArrival>,
    /// The connections there that are not identified yet; once there is a port.
    undecided: Option<Undecided>,
    /// Notified when the connection is not waited for any longer; the result is in `arrival`.
    give_up: Arc<Notify>,
}

/// The data connections of the running transfer.
#[derive(Debug)]
pub struct RunningData {
    /// `None` after a failure.
    events: Option<mpsc::Receiver<DataEvent>>,
    order_sender: watch::Sender<OrderState>,
    /// Takes another data port of the backend, where the first one could not be reached.
    ports: mpsc::Sender<DataEndpoint>,
    moved: Arc<AtomicU64>,
    began: Instant,
    /// None where we connect to the client.
    port: Option<ClientPort>,
    /// For how long its rate has held it back, if it is limited.
    held_back: Option<HeldBack>,
    faults: Faults,
    measured: Measured,
    /// When it is told of as one that takes long; `None` once it has been.
    tell_at: Option<Instant>,
    task: Task<()>,
}

/// The port of ours to which the client connects.
#[derive(Debug)]
struct ClientPort {
    /// Held until the transfer is over, so that no other connection of the client's address reaches the port unnoticed.
    lease: LeaseHold,
    arrival: watch::Receiver<ClientArrival>,
    /// Notified when the client's leg is open, or has failed.
    opened: Arc<Notify>,
}

/// The orders to a transfer's task, in this sequence; each implies those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// The client has sent the transfer command.
    Open,
    /// The command has been sent to the backend.
    CommandSent,
    /// The backend has sent its 1yz: all deadlines start now.
    TransferStarted,
    /// End the sink's leg in order.
    FinishSink,
}

/// What a transfer's task needs from its session.
#[derive(Debug)]
pub struct TransferContext {
    /// Which way the bytes go.
    pub direction: Direction,
    /// The backend leg's TLS.
    pub backend_tls: Option<BackendSessionTls>,
    /// All deadlines.
    pub timeouts: Timeouts,
    /// How long the client may send nothing on a connection under TLS, once the transfer has begun.
    pub silence: Duration,
    /// Counts handshakes and unclean ends.
    pub metrics: Arc<Metrics>,
    /// The site's name, for the metrics.
    pub site: String,
    /// The session of the transfer.
    pub session: SessionId,
    /// What its backend knows it by, if it was told: for the log.
    pub sent_id: Option<GlobalSessionId>,
    /// The client's address, which is not that of a load balancer's connection.
    pub client: IpAddr,
    /// How an upload under TLS has to end.
    pub close_notify: CloseNotify,
    /// Where finished sinks are left to be drained.
    pub lingering: Lingering,
    /// What broke the connections.
    pub faults: Faults,
    /// How fast it may be, if it is limited.
    pub limits: Option<TransferLimits>,
    /// What is found out for its records.
    pub measured: Measured,
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
            let timed_out = waiting.client_timed_out(lease.contention(), lease.undecided());
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
            let mut accepted = accepted?;
            if let Some(early) = early {
                accepted.begin_early(&early, &waiting).await;
            }
            Ok(accepted)
        };
        Self {
            backend: PendingConnection::start(backend, timeouts.data_connect),
            client: PreparedClient::Passive(PassiveClient {
                leased,
                task: Task::spawn(task),
                arrival,
                undecided: None,
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
                    client.undecided = Some(lease.undecided());
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
        let faults = context.faults.clone();
        let measured = context.measured.clone();
        let held_back = context.limits.as_ref().map(|it| it.held_back.clone());
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
            held_back,
            faults,
            measured,
            tell_at: Some(Instant::now() + LONG_TRANSFER),
            task: Task::spawn(transfer.run(backend, further, client)),
        };
        running.order(Order::Open);
        running
    }
}

impl RunningData {
    /// The next event. May be cancelled.
    pub async fn event(&mut self) -> DataEvent {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        // A task that ends without a final event has panicked, and its sockets are reset.
        let panicked = DataEvent::Failed(DataFailure::Internal);
        let event = events.recv().await.unwrap_or(panicked);
        // After the end of the sink the connection may still turn out to be ambiguous.
        if matches!(event, DataEvent::Failed(_)) {
            self.faults.log();
            self.events = None;
        }
        event
    }

    /// Ends everything: the transfer is complete.
    pub fn complete(self) {
        if let Some(port) = &self.port {
            port.lease.complete();
        }
    }

    /// The backend would not begin the transfer. Resolves when the client has closed its connection; dropped before, it resets
    /// that.
    pub fn refuse(self) -> impl Future + Send + 'static {
        self.order_sender.send_modify(OrderState::refuse);
        let Self {
            order_sender,
            port,
            mut task,
            ..
        } = self;
        async move {
            let released = async {
                if let Some(port) = port {
                    port.release().await;
                }
            };
            tokio::join!(biased; task.join(), released);
            drop(order_sender);
        }
    }

    /// Sends an order to the transfer's task.
    pub fn order(&self, order: Order) {
        self.order_sender
            .send_if_modified(|last| last.record(order));
    }

    /// Sends the transfer's task another data port of the backend, for which it waits.
    pub fn redial(&self, port: DataEndpoint) {
        // The channel has a free slot: each port answers one [`DataEvent::BackendNotReached`].
        let _ = self.ports.try_send(port);
    }

    /// The counter of the bytes that are moved, to look at later.
    pub fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// How many bytes have been moved from the source to the sink so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// For how long its rate has held it back, if it is limited.
    pub fn held_back(&self) -> Option<Duration> {
        self.held_back.as_ref().map(HeldBack::get)
    }

    /// What has been found out for its records.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Resolves when it has run for so long that the log tells of it, unless it has been told.
    pub fn tell_at(&self) -> impl Future<Output = ()> + use<> {
        let time = self.tell_at;
        async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The log has been told that it takes long.
    pub fn note_told(&mut self) {
        self.tell_at = None;
    }

    /// The time since the transfer command.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl ClientPort {
    /// Ends the lease of a transfer that the backend has refused: when the client's connection has proven whose it is, so that
    /// no other can come late, and the port is free for the next at once. The connection may be in the listener's queue
    /// when the reply is read; while it is not there, others that wait for the port come first.
    async fn release(self) {
        let mut contention = self.lease.contention();
        let wanted_by_others = async {
            contention.contended().await;
            if *self.arrival.borrow() == ClientArrival::Connected {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = self.opened.notified() => {}
            () = wanted_by_others => {}
            () = sleep(LATE_ARRIVAL) => {}
        }
        self.lease.refused();
    }
}

#[cfg(test)]
mod tests;
