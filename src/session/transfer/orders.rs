//! The orders from the session to a transfer's task, and the deadlines that start with them.
//!
//! A backend that fetches a file from tape sends 150 after minutes. Until then many clients begin no handshake (Python's ftplib,
//! FileZilla), nor do some backends. So no deadline of either side starts before the backend's 1yz, which has to come within
//! `timeouts.backend_reply`.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Timeouts;
use crate::net::data::relay::StepTimeout;
use crate::net::deadline::{elapsed, input_timeout};
use crate::passive::{Contention, Unassigned};
use crate::session::machine::DataFailure;

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

/// The latest order, and when the transfer started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OrderState {
    order: Option<Order>,
    /// When the first order came that implies [`Order::TransferStarted`].
    started_at: Option<Instant>,
    /// How long the client may then send nothing on a connection under TLS.
    silence: Option<Duration>,
    /// The backend would not begin the transfer: there are no further orders.
    refused: bool,
}

impl OrderState {
    /// Limits how long the client may send nothing, under TLS.
    pub fn limit_silence(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// The backend would not begin the transfer.
    pub fn refuse(&mut self) {
        self.refused = true;
    }

    /// Records an order; false if it, or a later one, has been recorded before.
    pub fn record(&mut self, order: Order) -> bool {
        if self.order >= Some(order) {
            return false;
        }
        self.order = Some(order);
        if order >= Order::TransferStarted {
            self.started_at.get_or_insert_with(Instant::now);
        }
        true
    }
}

/// Receives the orders of the session; cloned for each task.
#[derive(Debug, Clone)]
pub(super) struct OrderReceiver {
    last: watch::Receiver<OrderState>,
    timeouts: Timeouts,
}

impl OrderReceiver {
    /// Without an order yet; the sender issues them.
    pub fn channel(timeouts: &Timeouts) -> (watch::Sender<OrderState>, Self) {
        let (sender, last) = watch::channel(OrderState::default());
        let timeouts = *timeouts;
        (sender, Self { last, timeouts })
    }

    /// Waits for that order, or a later one.
    pub async fn wait_for_order(&self, order: Order) {
        let mut last = self.last.clone();
        let given = |last: &OrderState| last.order >= Some(order);
        if last.wait_for(given).await.is_err() {
            // The session has dropped this transfer, and its tasks end now.
            std::future::pending().await
        }
    }

    /// Waits until the backend has refused to begin the transfer.
    pub async fn refused(&self) {
        let mut last = self.last.clone();
        if last.wait_for(|last| last.refused).await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether the backend has refused to begin the transfer.
    pub fn is_refused(&self) -> bool {
        self.last.borrow().refused
    }

    /// Whether the backend has sent its 1yz.
    pub fn has_transfer_started(&self) -> bool {
        self.last.borrow().started_at.is_some()
    }

    /// How long a side has stalled since then, or since the backend's 1yz if that came later.
    pub fn stalled_for(&self, since: Instant) -> Duration {
        let started_at = self.last.borrow().started_at;
        started_at.map_or(since, |at| at.max(since)).elapsed()
    }

    /// Waits for the backend's 1yz.
    ///
    /// # Errors
    /// If it does not arrive in time.
    pub async fn transfer_started(&self) -> Result<(), DataFailure> {
        input_timeout(
            self.timeouts.backend_reply,
            self.wait_for_order(Order::TransferStarted),
        )
        .await
        .map_err(|_| DataFailure::NoFinalReply)
    }

    /// Resolves when a backend in active mode has had the transfer command for too long without connecting.
    pub async fn backend_timed_out(&self) {
        let _ = self.transfer_started().await;
        elapsed(self.timeouts.data_connect).await;
    }

    /// Resolves when a client that has just been sent a port, and has not connected, is not waited for any longer; or
    /// when a connection has arrived that is not identified in time.
    pub async fn client_timed_out(
        &self,
        contention: Contention,
        unassigned: Unassigned,
    ) -> DataFailure {
        tokio::select! {
            () = self.connect_timed_out(contention) => DataFailure::NoClient,
            failure = self.silent_connection_timed_out(unassigned) => failure,
        }
    }

    /// Resolves when its time is over; before its transfer command, only if another lease waits for the port as well.
    /// PHP asks for a port in `ftp_pasv($f, true)`, and its script may do other things before `ftp_put()`.
    async fn connect_timed_out(&self, mut contention: Contention) {
        let time_limit = self.timeouts.data_connect;
        let wanted = async {
            elapsed(time_limit).await;
            contention.contended().await;
        };
        tokio::select! {
            biased;
            () = self.wait_for_order(Order::Open) => {
                let _ = self.transfer_started().await;
                elapsed(time_limit).await;
            }
            () = wanted => {}
        }
    }

    async fn silent_connection_timed_out(&self, mut unassigned: Unassigned) -> DataFailure {
        unassigned.any().await;
        self.wait_for_order(Order::CommandSent).await;
        if let Err(failure) = self.transfer_started().await {
            return failure;
        }
        let silence = self.last.borrow().silence;
        elapsed(silence.unwrap_or(self.timeouts.tls_handshake)).await;
        match silence {
            Some(_) => DataFailure::ClientSilent,
            None => DataFailure::ClientHandshake,
        }
    }
}

/// The time limit of a stalled transfer. Before the 1yz neither side need move, and the backend has the time for its
/// reply.
impl StepTimeout for OrderReceiver {
    fn deadline(&self, began: Instant) -> Instant {
        let Timeouts {
            data_idle,
            backend_reply,
            ..
        } = self.timeouts;
        match self.last.borrow().started_at {
            None => began + data_idle.max(backend_reply),
            Some(started_at) => began.max(started_at) + data_idle,
        }
    }

    fn shortest(&self) -> Duration {
        self.timeouts.data_idle
    }
}
