//! The orders of certificates: begun with the configuration that wants them, and ended with it.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::acme::Acme;

impl App {
    /// Orders what the configuration in use says. Orders that it says nothing new of go on.
    pub(super) fn order_certificates(&mut self) {
        let snapshot = self.snapshot.load_full();
        let former = self.acme.take();
        let Some(settings) = &snapshot.runtime.settings.tls.acme else {
            if let Some(former) = former {
                // In its own time: what it shows to the authority is to be taken away. Kept for the end of the process.
                former.begin_to_stop();
                self.acme_ending = Some(former);
            }
            self.acme_status.clear();
            self.shared.metrics.next_order(None);
            return;
        };
        self.acme = Some(match former {
            Some(former) if former.is_by(settings) => former,
            former => {
                let (metrics, status) = (&self.shared.metrics, &self.acme_status);
                Acme::start(settings, former, Arc::clone(metrics), Arc::clone(status))
            }
        });
    }

    /// Orders nothing any more, and takes away what is shown to an authority, as far as each can be done in this time.
    pub(super) async fn stop_orders(&mut self, limit: Duration) {
        let all = [self.acme.take(), self.acme_ending.take()];
        for acme in all.into_iter().flatten() {
            acme.stop_within(limit).await;
        }
    }
}
