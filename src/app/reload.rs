//! SIGHUP: the whole configuration anew.

use std::sync::Arc;

use super::admin::AdminEndpoint;
use super::certificate::CertificateWatcher;
use super::prepare::prepare;
use super::{App, StartError, close};
use crate::observe::metrics::{ReloadResult, ReloadSubject};

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
                self.announce_certificate();
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
        let listeners = &self.listeners;
        let is_open = |address| listeners.contains_key(&address);
        let prepared = prepare(
            self.config.clone(),
            Arc::clone(&self.backends),
            &mut self.passive,
            is_open,
        )
        .await?;
        let admin = prepared.settings().admin;
        if admin != self.admin.address {
            let ready = self.readiness.subscribe();
            let moved = AdminEndpoint::open(admin, &self.shared.metrics, ready)?;
            std::mem::replace(&mut self.admin, moved).close().await;
        }

        // From here on nothing can fail.
        let (snapshot, opened) = prepared.activate(&self.shared.metrics);
        self.certificate_watcher = CertificateWatcher::new(&snapshot);
        self.snapshot.store(Arc::new(snapshot));
        self.monitor_backends();
        self.close_removed_listeners().await;
        self.start_listeners(opened).log();
        Ok(())
    }

    /// Closes the listeners that the configuration in force has no more.
    async fn close_removed_listeners(&mut self) {
        let snapshot = self.snapshot.load_full();
        let kept = &snapshot.runtime.settings.listeners;
        let removed = self
            .listeners
            .extract_if(|address, _| kept.iter().all(|listener| listener.address != *address));
        for (address, accepting) in removed {
            close(accepting).await;
            tracing::info!(%address, "no longer listening");
        }
    }
}
