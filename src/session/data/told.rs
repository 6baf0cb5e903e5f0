//! What the session has told a transfer's task, and the times that begin with it.
//!
//! A backend that fetches a file from tape says 150 after minutes. Until then many clients begin no handshake (Python's
//! ftplib, FileZilla), nor do some backends. So nobody's time counts before the backend's 1yz, for which it has
//! `timeouts.backend_reply`.

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Order;
use crate::config::Timeouts;
use crate::session::state::DataFailure;

/// The last order of the session, for those who wait for it.
#[derive(Debug, Clone)]
pub(super) struct Told {
    last: watch::Receiver<Option<Order>>,
    timeouts: Timeouts,
}

impl Told {
    /// Nothing yet; orders come by the sender.
    pub fn nothing(timeouts: &Timeouts) -> (watch::Sender<Option<Order>>, Self) {
        let (orders, last) = watch::channel(None);
        let timeouts = *timeouts;
        (orders, Self { last, timeouts })
    }

    /// Waits for that order, or one that comes after it.
    pub async fn ordered(&self, order: Order) {
        let mut last = self.last.clone();
        if last.wait_for(|last| *last >= Some(order)).await.is_err() {
            // The session has dropped this transfer, and its tasks end now.
            std::future::pending().await
        }
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

    /// Resolves when a peer that was given a port, and has not come, will not come any more.
    pub async fn peer_stays_away(&self) {
        let patience = self.timeouts.data_connect;
        if timeout(patience, self.ordered(Order::Begin)).await.is_ok() {
            let _ = self.begun().await;
            sleep(patience).await;
        }
    }
}
