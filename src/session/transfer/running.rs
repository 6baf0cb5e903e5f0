//! The data connections of the running transfer, as its session has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::backend_leg::Acceptance;
use super::client_connection::ClientArrival;
use super::fault::Faults;
use super::orders::{Order, OrderState};
use super::stats::TransferStats;
use super::throttle::ThrottledTime;
use crate::backend::data::DataEndpoint;
use crate::base::task::Task;
use crate::passive::LeaseHold;
use crate::session::machine::{DataEvent, DataFailure};

/// The running time after which the log reports a transfer as one that takes long.
pub(super) const LONG_TRANSFER: Duration = Duration::from_secs(60);

/// How long the port of a refused transfer waits for a client that has connected just before, and for its handshake.
pub(super) const LATE_ARRIVAL: Duration = Duration::from_secs(1);

/// The data connections of the running transfer.
#[derive(Debug)]
pub struct RunningData {
    /// `None` after a failure.
    pub(super) events: Option<mpsc::Receiver<DataEvent>>,
    pub(super) order_sender: watch::Sender<OrderState>,
    /// Takes another data port of the backend, where the first one could not be reached.
    pub(super) ports: mpsc::Sender<DataEndpoint>,
    pub(super) moved: Arc<AtomicU64>,
    pub(super) began: Instant,
    /// The client's data port; `None` where we connect to the client.
    pub(super) port: Option<ClientPort>,
    /// For how long the rate limit has held the transfer back, if it is limited.
    pub(super) throttled: Option<ThrottledTime>,
    pub(super) acceptance: Acceptance,
    pub(super) faults: Faults,
    pub(super) stats: TransferStats,
    /// When the log reports it as one that takes long; `None` once it has been.
    pub(super) tell_at: Option<Instant>,
    pub(super) task: Task<()>,
}

/// The port of ours to which the client connects.
#[derive(Debug)]
pub(super) struct ClientPort {
    /// Held until the transfer is over, so that no other connection of the client's address reaches the port unnoticed.
    pub(super) lease: LeaseHold,
    pub(super) arrival: watch::Receiver<ClientArrival>,
    /// Notified when the client's leg is open, or has failed.
    pub(super) opened: Arc<Notify>,
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

    /// Ends all connections: the transfer is complete.
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

    /// Gives the transfer's task another data port of the backend, for which it waits.
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

    /// Whether the backend has shown that it has accepted its data connection for the transfer.
    pub fn is_accepted_by_backend(&self) -> bool {
        self.acceptance.is_shown()
    }

    /// For how long the rate limit has held the transfer back, if it is limited.
    pub fn throttled(&self) -> Option<Duration> {
        self.throttled.as_ref().map(ThrottledTime::get)
    }

    /// The measurements for the transfer's records.
    pub fn stats(&self) -> &TransferStats {
        &self.stats
    }

    /// Resolves when it has run for so long that the log reports it, unless that has been done.
    pub fn tell_at(&self) -> impl Future<Output = ()> + use<> {
        let time = self.tell_at;
        async move {
            match time {
                Some(time) => sleep_until(time).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Records that it has been logged as one that takes long.
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
    pub(super) async fn release(self) {
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
