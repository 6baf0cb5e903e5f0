//! Reloads: one at a time for all who ask, and the watch over a configuration that was refused.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::configuration::{Former, PreparedConfig, prepare, read};
use super::refused::RefusedConfiguration;
use super::watcher::Watcher;
use super::watchers::Watchers;
use super::{App, StartError};
use crate::backend::Registry;
use crate::base::text::escape_path;
use crate::command::{ReloadAnswer, shutdown_requested};
use crate::config;
use crate::observe::reloads::Refusal;
use crate::outcome::ReloadSubject;

impl App {
    /// Reloads the configuration and answers the request. Requests that come meanwhile are answered by one more reload, which
    /// reads what has been written by then. Breaks off if the process is to end.
    pub(super) async fn reload_for(&mut self, first: ReloadAnswer) -> ControlFlow<()> {
        let mut answers = vec![first];
        while !answers.is_empty() {
            let mut later = Vec::new();
            self.supervision.reloading();
            let result = self.reload(&mut later).await?;
            self.supervision.reloaded(|| self.status_sources());
            for answer in answers {
                // A signal waits for this only to send no other meanwhile.
                let _ = answer.send(result.clone());
            }
            answers = later;
        }
        ControlFlow::Continue(())
    }

    /// Puts the whole configuration in force for new sessions, or changes nothing and returns why. Breaks off if the
    /// process is to end meanwhile: name servers and network file systems may take their time. Other reloads that are asked
    /// for by then are added to `later`.
    async fn reload(
        &mut self,
        later: &mut Vec<ReloadAnswer>,
    ) -> ControlFlow<(), Result<(), String>> {
        let former_ports = self.snapshot.load().runtime.passive.addresses();
        let backends = Arc::clone(&self.backends);
        let former = self.in_use();
        let shared = Arc::clone(&self.shared);
        let config = self.config.clone();
        let prepared = tokio::select! {
            prepared = prepare(config, backends, former, &shared, &self.files, &mut self.sockets) => prepared,
            () = shutdown_requested(&mut self.commands, |answer| later.push(answer)) => {
                return ControlFlow::Break(());
            }
        };
        match prepared {
            Ok(prepared) => {
                self.apply(prepared).await;
                // Before the log line, as all that it stands for.
                self.settle_refusals();
                self.note_reload(ReloadSubject::Configuration, None);
                tracing::info!(config = %escape_path(&self.config.file), "configuration reloaded");
                if self.snapshot.load().runtime.passive.addresses() != former_ports {
                    self.announce_ports();
                }
                self.announce_certificates();
                self.announce_backend_client_certificates();
                self.announce_client_trust();
                self.log_refused_certificates();
                self.log_refused_backend_client_certificates();
                self.warn_of_descriptors();
                self.warn();
            }
            Err(error) => {
                self.note_reload(ReloadSubject::Configuration, Some(error.refusal()));
                tracing::error!(config = %escape_path(&self.config.file), %error, "reload refused, keeping the current configuration");
                let refusal = error.to_string();
                self.watch_refused(&error);
                return ControlFlow::Continue(Err(refusal));
            }
        }
        ControlFlow::Continue(Ok(()))
    }

    fn in_use(&self) -> Former {
        let snapshot = self.snapshot.load();
        Former {
            users: snapshot.runtime.user_files.clone(),
            credentials: snapshot.runtime.credentials.clone(),
            certificates: Some(Arc::clone(&snapshot.certificates)),
            backend_client_certificates: snapshot
                .runtime
                .pools
                .backend_client_certificates()
                .clone(),
        }
    }

    /// Watches whether what was refused is mended, or replaced.
    fn watch_refused(&mut self, error: &StartError) {
        let config = self.config.clone();
        let former = self.in_use();
        let try_files = move || try_files(&config, &former);
        let watch = RefusedConfiguration::new(self.config.file.clone(), error, try_files);
        self.watchers.refused =
            Watcher::new(ReloadSubject::Configuration, Some(watch), &self.reloads);
    }

    /// Shows whether the configuration in the file is refused.
    pub(super) fn report_refused(&self, found: Result<(), Refusal>) {
        let subject = ReloadSubject::Configuration;
        match found {
            Ok(()) => {
                self.reloads.mend(subject, None);
                let config = escape_path(&self.config.file);
                tracing::info!(%config, "the configuration can be loaded again; SIGHUP loads it");
            }
            Err(refusal) => self.reloads.refuse(subject, None, refusal),
        }
    }

    /// Updates the refusals once a configuration is in force: it has loaded whatever it names, but for certificates of which a
    /// former one is in use, or none; and files that it doesn't name any more don't matter.
    pub(super) fn settle_refusals(&self) {
        for subject in [
            ReloadSubject::Users,
            ReloadSubject::Credentials,
            ReloadSubject::ClientCertificates,
            ReloadSubject::PassiveAddress,
        ] {
            self.reloads.mend_all_but(subject, |_| false);
        }
        self.settle_refused_certificates();
        self.settle_refused_backend_client_certificates();
    }

    /// Puts a configuration in force, which can't fail.
    async fn apply(&mut self, prepared: PreparedConfig) {
        self.permission_notes = prepared.permission_notes();
        let (snapshot, new) = prepared.activate(&self.shared, &self.reloads);
        // Before the store: what they have accepted until then is served by the configuration that has them.
        self.close_removed_listeners(&snapshot.runtime.settings)
            .await;
        self.watchers = Watchers::new(&snapshot, &self.reloads);
        self.snapshot.store(Arc::new(snapshot));
        self.monitor_backends();
        self.order_certificates();
        self.start_admin(new.admin);
        self.start_socket(new.socket);
        self.start_listeners(new.listeners).log();
        self.warn_of_unused_sockets();
    }

    /// A socket of the service manager that no configuration names any more stays open, whatever this process does.
    fn warn_of_unused_sockets(&self) {
        let snapshot = self.snapshot.load();
        for socket in self.sockets.unused(&snapshot.runtime.settings) {
            tracing::warn!(
                %socket,
                "the service manager holds a socket that the configuration doesn't name any more: clients connect there and get no \
                 answer. Take it out of its .socket unit"
            );
        }
    }
}

/// Reads what `config` and its files hold at the moment, for nothing but the verdict.
fn try_files(config: &config::Source, former: &Former) -> Result<(), Refusal> {
    let read = read(config, &Registry::default(), former);
    read.map(drop).map_err(|error| error.refusal())
}
