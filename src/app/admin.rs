//! The admin endpoint, which a reload may move.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{StartError, close, open};
use crate::observe::http::{self, Admin, Readiness};
use crate::observe::metrics::Metrics;

/// The endpoint, as long as its task runs.
#[derive(Debug)]
pub(super) struct AdminEndpoint {
    /// As configured.
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl AdminEndpoint {
    /// Listens on `address` and begins to serve.
    pub fn open(
        address: SocketAddr,
        metrics: &Arc<Metrics>,
        readiness: watch::Receiver<Readiness>,
    ) -> Result<Self, StartError> {
        let listener = open("admin endpoint", address)?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "admin endpoint open");
        }
        let admin = Arc::new(Admin {
            metrics: Arc::clone(metrics),
            readiness,
        });
        let serving = tokio::spawn(http::serve(listener, admin));
        Ok(Self { address, serving })
    }

    /// Ends it; its address is free then.
    pub async fn close(self) {
        close(self.serving).await;
    }
}
