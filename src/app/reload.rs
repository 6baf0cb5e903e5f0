//! SIGHUP: the whole configuration anew.

use std::sync::Arc;

use super::certificate::CertificateWatcher;
use super::prepare::prepare;
use super::{App, StartError};
use crate::outcome::{ReloadResult, ReloadSubject};

impl App {
    /// SIGHUP: puts the whole configuration in force for new sessions, or changes nothing and says why.
    pub(super) async fn reload(&mut self) {
        let former_ports = self.snapshot.load().runtime.passive.addresses();
        match self.try_reload().await {
            Ok(()) => {
                self.shared
                    .metrics
                    .reload(ReloadSubject::Configuration, ReloadResult::Ok);
                tracing::info!(config = %self.config.display(), "configuration reloaded");
                if self.snapshot.load().runtime.passive.addresses() != former_ports {
                    self.announce_ports();
                }
                self.announce_certificates();
                self.warn();
            }
            Err(error) => {
                self.shared
                    .metrics
                    .reload(ReloadSubject::Configuration, ReloadResult::Refused);
                tracing::error!(config = %self.config.display(), %error, "reload refused, keeping the current configuration");
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), StartError> {
        let backends = Arc::clone(&self.backends);
        let prepared = prepare(self.config.clone(), backends, &mut self.sockets).await?;

        // From here on nothing can fail.
        let (snapshot, new) = prepared.activate(&self.shared.metrics);
        self.certificate_watcher = CertificateWatcher::new(&snapshot);
        self.snapshot.store(Arc::new(snapshot));
        self.monitor_backends();
        self.start_admin(new.admin);
        self.close_removed_listeners().await;
        self.start_listeners(new.listeners).log();
        Ok(())
    }

    /// Closes the listeners that the configuration in force has no more.
    async fn close_removed_listeners(&mut self) {
        let snapshot = self.snapshot.load_full();
        let settings = &snapshot.runtime.settings;
        let admin = &mut self.sockets.admin;
        admin
            .close_all_but(|address| address == settings.admin)
            .await;
        let is_kept = |address| settings.listeners.iter().any(|one| one.address == address);
        for address in self.sockets.listeners.close_all_but(is_kept).await {
            tracing::info!(%address, "no longer listening");
        }
    }
}
