//! The orders of certificates: begun with the configuration that wants them, and ended with it.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::acme::Acme;

impl App {
    /// Makes the orders of the configuration in use. Orders whose settings are the same go on, and those that wait after a
    /// failure begin at once.
    pub(super) fn order_certificates(&mut self) {
        let snapshot = self.snapshot.load_full();
        let former = self.acme.take();
        let Some(settings) = &snapshot.runtime.settings.tls.acme else {
            if let Some(former) = former {
                // What it shows to the authority is to be taken away. Kept for the end of the process.
                self.acme_ending.add(former);
            }
            self.acme_status.clear();
            self.shared.metrics.next_order(None);
            return;
        };
        self.acme = Some(match former {
            Some(former) if former.is_by(settings) => {
                former.reloaded();
                former
            }
            former => {
                let (metrics, status) = (&self.shared.metrics, &self.acme_status);
                Acme::start(settings, former, Arc::clone(metrics), Arc::clone(status))
            }
        });
    }

    /// Orders nothing any more, and takes away what is shown to an authority, as far as each can be done in this time.
    pub(super) async fn stop_orders(&mut self, limit: Duration) {
        if let Some(acme) = self.acme.take() {
            self.acme_ending.add(acme);
        }
        self.acme_ending.end_within(limit).await;
    }
}
