//! The data connections of a session: made ready at PASV or PORT, opened by the transfer command, ended by the verdict.
//!
//! Both legs of one transfer live in one task, which reports [`DataEvent`]s and takes [`Order`]s. Whatever ends that
//! task drops its sockets, and while the lingering of one is armed, its peer sees a reset. The sink's is armed until the
//! order to proceed; the source's only until the source has ended and been answered with our own end.

mod early;
mod legs;
mod told;
mod transfer;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout};

use super::state::{DataEvent, DataFailure, Prepared};
use crate::config::Timeouts;
use crate::ftp::command::Direction;
use crate::net::connect;
use crate::observe::metrics::Metrics;
use crate::passive::Lease;
use crate::tls::{BackendSessionTls, DataTls, SessionId};

pub use early::{EarlyHandshake, Habit};
use legs::{Guest, guest};
use told::Told;
use transfer::Transfer;

/// Data connections between the data port command and the transfer command.
#[derive(Debug)]
pub struct PreparedData {
    backend: Task<io::Result<TcpStream>>,
    client: PreparedClient,
    orders: watch::Sender<Option<Order>>,
    told: Told,
}

#[derive(Debug)]
enum PreparedClient {
    /// The client connects.
    Passive {
        /// The port that it may connect to; `None` if none became free in time.
        port: oneshot::Receiver<Option<u16>>,
        arrival: Task<Result<Guest, DataFailure>>,
        /// Whether somebody has been turned away there.
        strangers: watch::Receiver<bool>,
    },
    /// We connect when the transfer begins.
    Active { to: SocketAddr, from: IpAddr },
}

/// The data connections of the running transfer.
#[derive(Debug)]
pub struct RunningData {
    /// `None` after the last one.
    events: Option<mpsc::Receiver<DataEvent>>,
    orders: watch::Sender<Option<Order>>,
    moved: Arc<AtomicU64>,
    began: Instant,
    _task: Task<()>,
}

/// What a transfer's task is told, in this order; one implies those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// The transfer command is out.
    Begin,
    /// The backend has said 1yz: nobody has a reason to wait any longer.
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
    /// Whose transfer it is.
    pub session: SessionId,
}

/// A task that ends with its handle.
#[derive(Debug)]
struct Task<T> {
    handle: JoinHandle<T>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        let handle = tokio::spawn(future);
        Self {
            abort: handle.abort_handle(),
            handle,
        }
    }

    /// `None` if the task panicked.
    async fn join(&mut self) -> Option<T> {
        (&mut self.handle).await.ok()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl PreparedData {
    /// Begins to connect to the backend's data port, and to lease a port for the client and wait there for it; does the
    /// handshake with it if it begins that before its command.
    pub fn passive(
        backend: SocketAddr,
        leasing: impl Future<Output = Option<Lease>> + Send + 'static,
        early: Option<EarlyHandshake>,
        timeouts: &Timeouts,
    ) -> Self {
        let (orders, told) = Told::nothing(timeouts);
        let (announce, port) = oneshot::channel();
        let (turned_away, strangers) = watch::channel(false);
        let waiting = told.clone();
        let arrival = async move {
            let lease = leasing.await;
            let _ = announce.send(lease.as_ref().map(Lease::port));
            let lease = lease.ok_or(DataFailure::NoClient)?;
            let on_stranger = || {
                turned_away.send_replace(true);
            };
            let mut guest = guest(lease, waiting.client_stays_away(), on_stranger).await?;
            if let Some(early) = early {
                guest.begin_early(&early, &waiting).await;
            }
            Ok(guest)
        };
        Self {
            backend: connect_backend(backend, timeouts.data_connect),
            client: PreparedClient::Passive {
                port,
                arrival: Task::spawn(arrival),
                strangers,
            },
            orders,
            told,
        }
    }

    /// Begins to connect to the backend's data port; the client is connected to when the transfer begins.
    pub fn active(backend: SocketAddr, to: SocketAddr, from: IpAddr, timeouts: &Timeouts) -> Self {
        let (orders, told) = Told::nothing(timeouts);
        Self {
            backend: connect_backend(backend, timeouts.data_connect),
            client: PreparedClient::Active { to, from },
            orders,
            told,
        }
    }

    /// Waits for the client's data port, unless it has been waited for. May be cancelled.
    pub async fn prepared(&mut self) -> Prepared {
        match &mut self.client {
            PreparedClient::Active { .. } => Prepared::Active,
            PreparedClient::Passive { port, .. } => match port.await {
                Ok(Some(port)) => Prepared::Passive(port),
                Ok(None) | Err(_) => Prepared::NoPort,
            },
        }
    }

    /// Starts the transfer's task; without `client_tls` the client leg is plain.
    pub fn open(self, legs: Legs, client_tls: Option<DataTls>) -> RunningData {
        // As many as there can be, so that the task never waits for the session.
        let (report, events) = mpsc::channel(4);
        let moved = Arc::new(AtomicU64::new(0));
        let Self {
            backend,
            client,
            orders,
            told,
        } = self;
        let transfer = Transfer {
            legs,
            client_tls,
            report,
            told,
            moved: Arc::clone(&moved),
        };
        RunningData {
            events: Some(events),
            orders,
            moved,
            began: Instant::now(),
            _task: Task::spawn(transfer.run(backend, client)),
        }
    }
}

/// Right after the backend's 227 or 229: vsftpd, ProFTPD and Pure-FTPd send no 150 before the connection is there.
fn connect_backend(to: SocketAddr, patience: Duration) -> Task<io::Result<TcpStream>> {
    Task::spawn(async move { timeout(patience, connect::data_to_backend(to)).await? })
}

impl RunningData {
    /// The next event. May be cancelled.
    pub async fn event(&mut self) -> DataEvent {
        let Some(events) = &mut self.events else {
            return std::future::pending().await;
        };
        // A task that ends without a last word has panicked, and its sockets are reset.
        let panicked = DataEvent::Failed(DataFailure::Internal);
        let event = events.recv().await.unwrap_or(panicked);
        if matches!(event, DataEvent::Finished | DataEvent::Failed(_)) {
            self.events = None;
        }
        event
    }

    /// Tells the transfer's task.
    pub fn order(&self, order: Order) {
        self.orders.send_if_modified(|last| {
            let is_later = *last < Some(order);
            if is_later {
                *last = Some(order);
            }
            is_later
        });
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
