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

    /// Resolves when a client that was given a port just now, and has not come, will not come any more; or when a
    /// connection has `approached` it that doesn't say whose it is.
    pub async fn client_stays_away(&self, approached: watch::Receiver<bool>) -> DataFailure {
        tokio::select! {
            () = self.client_does_not_connect() => DataFailure::NoClient,
            () = self.client_says_nothing(approached) => DataFailure::ClientHandshake,
        }
    }

    async fn client_does_not_connect(&self) {
        let patience = self.timeouts.data_connect;
        if timeout(patience, self.ordered(Order::Begin)).await.is_ok() {
            let _ = self.begun().await;
            sleep(patience).await;
        }
    }

    async fn client_says_nothing(&self, mut approached: watch::Receiver<bool>) {
        if approached.wait_for(|approached| *approached).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.ordered(Order::Begin).await;
        let _ = self.begun().await;
        sleep(self.timeouts.tls_handshake).await;
    }
}
