//! The orders from the session to a transfer's task, and the deadlines that start with them.
//!
//! A backend that fetches a file from tape says 150 after minutes. Until then many clients begin no handshake (Python's
//! ftplib, FileZilla), nor do some backends. So no deadline of either side starts before the backend's 1yz, which has
//! to come within `timeouts.backend_reply`.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::Order;
use crate::config::Timeouts;
use crate::net::deadline::{elapsed, timeout};
use crate::net::relay::StepTimeout;
use crate::passive::{Contention, Undecided};
use crate::session::machine::DataFailure;

/// The last order of the session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    order: Option<Order>,
    /// When the first came that implies [`Order::Expect`].
    expected_at: Option<Instant>,
    /// How long the client may then say nothing on a connection that is to be under TLS.
    silence: Option<Duration>,
}

impl Last {
    /// How long the client may say nothing, under TLS.
    pub fn bear_silence(&mut self, silence: Duration) {
        self.silence = Some(silence);
    }

    /// Takes a further order; false if it, or one behind it, has been given before.
    pub fn take(&mut self, order: Order) -> bool {
        if self.order >= Some(order) {
            return false;
        }
        self.order = Some(order);
        if order >= Order::Expect {
            self.expected_at.get_or_insert_with(Instant::now);
        }
        true
    }
}

/// Receives the orders of the session; cloned for each task.
#[derive(Debug, Clone)]
pub(super) struct Told {
    last: watch::Receiver<Last>,
    timeouts: Timeouts,
}

impl Told {
    /// Nothing yet; orders come by the sender.
    pub fn nothing(timeouts: &Timeouts) -> (watch::Sender<Last>, Self) {
        let (orders, last) = watch::channel(Last::default());
        let timeouts = *timeouts;
        (orders, Self { last, timeouts })
    }

    /// Waits for that order, or one that comes after it.
    pub async fn ordered(&self, order: Order) {
        let mut last = self.last.clone();
        let given = |last: &Last| last.order >= Some(order);
        if last.wait_for(given).await.is_err() {
            // The session has dropped this transfer, and its tasks end now.
            std::future::pending().await
        }
    }

    /// Whether the backend has said its 1yz.
    pub fn has_begun(&self) -> bool {
        self.last.borrow().expected_at.is_some()
    }

    /// How long a side has stood still that has had a reason to move since then, or since the backend's 1yz.
    pub fn standstill(&self, since: Instant) -> Duration {
        let expected_at = self.last.borrow().expected_at;
        expected_at.map_or(since, |at| at.max(since)).elapsed()
    }

    /// Waits for the backend's 1yz.
    ///
    /// # Errors
    /// If it doesn't come in its time.
    pub async fn begun(&self) -> Result<(), DataFailure> {
        timeout(self.timeouts.backend_reply, self.ordered(Order::Expect))
            .await
            .map_err(|_| DataFailure::NoFinalReply)
    }

    /// Resolves when a backend that has the transfer command, and where to connect to, will not come any more.
    pub async fn backend_stays_away(&self) {
        let _ = self.begun().await;
        elapsed(self.timeouts.data_connect).await;
    }

    /// Resolves when a client that has just been sent a port, and has not connected, is not waited for any longer; or
    /// when a connection has arrived that is not identified in time.
    pub async fn client_stays_away(
        &self,
        contention: Contention,
        undecided: Undecided,
    ) -> DataFailure {
        tokio::select! {
            () = self.client_does_not_connect(contention) => DataFailure::NoClient,
            failure = self.client_says_nothing(undecided) => failure,
        }
    }

    /// Resolves when its time is over; before its transfer command, only if another lease waits for the port as well.
    /// PHP asks for a port in `ftp_pasv($f, true)`, and its script may do other things before `ftp_put()`.
    async fn client_does_not_connect(&self, mut contention: Contention) {
        let patience = self.timeouts.data_connect;
        let wanted = async {
            elapsed(patience).await;
            contention.contended().await;
        };
        tokio::select! {
            biased;
            () = self.ordered(Order::Open) => {
                let _ = self.begun().await;
                elapsed(patience).await;
            }
            () = wanted => {}
        }
    }

    async fn client_says_nothing(&self, mut undecided: Undecided) -> DataFailure {
        undecided.any().await;
        self.ordered(Order::Begin).await;
        if let Err(silent) = self.begun().await {
            return silent;
        }
        let silence = self.last.borrow().silence;
        elapsed(silence.unwrap_or(self.timeouts.tls_handshake)).await;
        match silence {
            Some(_) => DataFailure::ClientSilent,
            None => DataFailure::ClientHandshake,
        }
    }
}

/// The bytes' own: a transfer that stands still. Before the 1yz neither side need move, and the backend has the time for its
/// reply.
impl StepTimeout for Told {
    fn deadline(&self, began: Instant) -> Instant {
        let Timeouts {
            data_idle,
            backend_reply,
            ..
        } = self.timeouts;
        match self.last.borrow().expected_at {
            None => began + data_idle.max(backend_reply),
            Some(expected_at) => began.max(expected_at) + data_idle,
        }
    }

    fn shortest(&self) -> Duration {
        self.timeouts.data_idle
    }
}
