//! The data connections of a session: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! Both legs of one transfer live in one task, which reports [`DataEvent`]s and takes [`Order`]s. Whatever ends that
//! task drops its sockets, and while the lingering of one is armed, its peer sees a reset. The sink's is armed until the
//! order to proceed; the source's only until the source has ended and been answered with our own end.

mod door;
mod early;
mod fault;
mod legs;
mod lingering;
mod told;
mod transfer;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::machine::{DataEvent, DataFailure, Prepared};
use crate::backend::data::{DataEndpoint, PendingConnection};
use crate::base::SessionId;
use crate::base::task::Task;
use crate::config::{CloseNotify, Timeouts};
use crate::ftp::command::Direction;
use crate::observe::metrics::Metrics;
use crate::passive::{DataConnection, Identity, Lease, LeaseHold, NoPort, Undecided};
use crate::tls::{BackendSessionTls, DataTls};

use door::Door;
pub use early::{EarlyHandshake, Habit};
pub use fault::Faults;
use legs::{Guest, guest};
pub use lingering::Lingering;
use told::{Last, Told};
use transfer::Transfer;

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    backend: PendingConnection,
    client: PreparedClient,
    /// From [`PreparedData::prepared`] on, if the client connects.
    lease: Option<LeaseHold>,
    orders: watch::Sender<Last>,
    told: Told,
}

#[derive(Debug)]
enum PreparedClient {
    /// The client connects.
    Passive {
        /// The lease of the port that it may connect to; `None` if none became free in time.
        leased: oneshot::Receiver<Option<LeaseHold>>,
        arrival: Task<Result<Guest, DataFailure>>,
        /// What has come there.
        door: watch::Receiver<Door>,
        /// The connections there that are not identified yet; once there is a port.
        undecided: Option<Undecided>,
        /// Notified when the connection is not waited for any longer; the result is in `door`.
        given_up: Arc<Notify>,
    },
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
    /// We have connected.
    Connected(Option<DataConnection>),
}

/// The data connections of the running transfer.
#[derive(Debug)]
pub struct RunningData {
    /// `None` after a failure.
    events: Option<mpsc::Receiver<DataEvent>>,
    orders: watch::Sender<Last>,
    /// Takes another data port of the backend, where the first one could not be reached.
    ports: mpsc::Sender<DataEndpoint>,
    moved: Arc<AtomicU64>,
    began: Instant,
    /// Held until the transfer is over, so that nothing else of the client's address comes to its port unnoticed.
    lease: Option<LeaseHold>,
    faults: Faults,
    _task: Task<()>,
}

/// The orders to a transfer's task, in this sequence; each implies those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// The client's transfer command has come.
    Open,
    /// It is out.
    Begin,
    /// The backend has sent its 1yz: all deadlines start now.
    Expect,
    /// End the sink's leg in order.
    Proceed,
}

/// What a transfer needs to know about its legs.
#[derive(Debug)]
pub struct Legs {
    /// Which way the bytes go.
    pub direction: Direction,
    /// The backend leg's TLS.
    pub backend_tls: Option<BackendSessionTls>,
    /// All deadlines.
    pub timeouts: Timeouts,
    /// How long the client may say nothing on a connection that is to be under TLS, once the transfer has begun.
    pub silence: Duration,
    /// Where handshakes and the backend's manners are counted.
    pub metrics: Arc<Metrics>,
    /// The site's name, for the metrics.
    pub site: String,
    /// The session of the transfer.
    pub session: SessionId,
    /// The client's address, which is not that of a load balancer's connection.
    pub client: IpAddr,
    /// How an upload under TLS has to end.
    pub close_notify: CloseNotify,
    /// Where finished sinks are left to be drained.
    pub lingering: Lingering,
    /// What broke the connections.
    pub faults: Faults,
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
        let (orders, told) = Told::nothing(timeouts);
        let (announce, leased) = oneshot::channel();
        let (doorkeeper, door) = watch::channel(Door::Empty);
        let given_up = Arc::new(Notify::new());
        let gave_up = Arc::clone(&given_up);
        let waiting = told.clone();
        let arrival = async move {
            let lease = leasing.await;
            let _ = announce.send(lease.as_ref().ok().map(Lease::hold));
            let lease = lease.map_err(|_| DataFailure::NoClient)?;
            let on_stranger = |failure| {
                doorkeeper.send_replace(Door::TurnedAway(failure));
            };
            let stays_away = waiting.client_stays_away(lease.contention(), lease.undecided());
            let stays_away = async {
                tokio::select! {
                    biased;
                    failure = stays_away => failure,
                    () = gave_up.notified() => DataFailure::NoClient,
                }
            };
            let guest = guest(lease, stays_away, on_stranger).await;
            doorkeeper.send_replace(match &guest {
                Ok(_) => Door::Arrived,
                Err(failure) => Door::Closed(*failure),
            });
            let mut guest = guest?;
            if let Some(early) = early {
                guest.begin_early(&early, &waiting).await;
            }
            Ok(guest)
        };
        Self {
            backend: PendingConnection::start(backend, timeouts.data_connect),
            client: PreparedClient::Passive {
                leased,
                arrival: Task::spawn(arrival),
                door,
                undecided: None,
                given_up,
            },
            lease: None,
            orders,
            told,
        }
    }

    /// Begins to connect to the backend's data port; the client is connected to when the transfer begins.
    pub fn active(
        backend: DataEndpoint,
        to: SocketAddr,
        from: IpAddr,
        timeouts: &Timeouts,
    ) -> Self {
        let (orders, told) = Told::nothing(timeouts);
        Self {
            backend: PendingConnection::start(backend, timeouts.data_connect),
            client: PreparedClient::Active { to, from },
            lease: None,
            orders,
            told,
        }
    }

    /// Waits for the client's data port, unless it has been waited for. May be cancelled.
    pub async fn prepared(&mut self) -> Prepared {
        match &mut self.client {
            PreparedClient::Active { .. } | PreparedClient::Connected(_) => Prepared::Active,
            PreparedClient::Passive {
                leased, undecided, ..
            } => match leased.await {
                Ok(Some(lease)) => {
                    *undecided = Some(lease.undecided());
                    Prepared::Passive(self.lease.insert(lease).port())
                }
                Ok(None) | Err(_) => Prepared::NoPort,
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
    pub fn open(self, legs: Legs, client_tls: Option<DataTls>) -> RunningData {
        // More than there can be, so that the task never waits for the session.
        let (report, events) = mpsc::channel(12);
        let (ports, further) = mpsc::channel(1);
        let moved = Arc::new(AtomicU64::new(0));
        let Self {
            backend,
            client,
            lease,
            orders,
            told,
        } = self;
        if let Some(lease) = &lease {
            lease.begin();
        }
        if client_tls.is_some() {
            orders.send_modify(|last| last.bear_silence(legs.silence));
        }
        let faults = legs.faults.clone();
        let transfer = Transfer {
            legs,
            client_tls,
            report,
            told,
            attribution: lease.as_ref().map(LeaseHold::attribution),
            moved: Arc::clone(&moved),
        };
        let running = RunningData {
            events: Some(events),
            orders,
            ports,
            moved,
            began: Instant::now(),
            lease,
            faults,
            _task: Task::spawn(transfer.run(backend, further, client)),
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
        // Behind the end of the sink there may still come that it was in doubt.
        if matches!(event, DataEvent::Failed(_)) {
            self.faults.log();
            self.events = None;
        }
        event
    }

    /// Ends everything: the transfer is complete.
    pub fn complete(self) {
        if let Some(lease) = &self.lease {
            lease.complete();
        }
    }

    /// Sends an order to the transfer's task.
    pub fn order(&self, order: Order) {
        self.orders.send_if_modified(|last| last.take(order));
    }

    /// Gives the transfer's task another data port of the backend, for which it waits.
    pub fn redial(&self, port: DataEndpoint) {
        // The channel has a free slot: each port answers one [`DataEvent::BackendNotReached`].
        let _ = self.ports.try_send(port);
    }

    /// How many bytes have gone from the source to the sink so far.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// How long ago the transfer command came.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests;
