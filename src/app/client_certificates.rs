//! New authorities and revocation lists for clients' certificates, while the process runs.

use std::sync::Arc;

use super::App;
use crate::base::text::escape_path;
use crate::observe::metrics::Metrics;
use crate::outcome::ReloadSubject;
use crate::tls::{ClientTrust, ClientTrustError};

/// The result of reading files that have changed.
pub(super) type NewTrust = Result<ClientTrust, ClientTrustError>;

/// Shows until when the revocation lists are good: of several in a file, the first that ends.
pub(super) fn show(clients: &ClientTrust, metrics: &Metrics) {
    let lists = clients.lists();
    let mut ends: Vec<_> = lists
        .iter()
        .filter_map(|list| Some((escape_path(&list.file), list.next_update?)))
        .collect();
    // The last value set stays.
    ends.sort_by_key(|(_, next_update)| std::cmp::Reverse(*next_update));
    metrics.revocation_lists(ends.iter().map(|(file, end)| (file.as_str(), *end)));
}

impl App {
    /// Judges new sessions' clients by new authorities and revocation lists, if those are good.
    pub(super) fn apply_client_trust(&mut self, new: NewTrust) {
        match new {
            Ok(clients) => {
                let snapshot = self.snapshot.load().with_client_trust(clients);
                show(&snapshot.clients, &self.shared.metrics);
                self.note_reload(ReloadSubject::ClientCertificates, None);
                self.snapshot.store(Arc::new(snapshot));
                self.announce_client_trust();
                self.warn();
            }
            Err(error) => {
                let refusal = error.to_string().into();
                self.note_reload(ReloadSubject::ClientCertificates, Some(refusal));
                tracing::error!(%error, "new authorities or revocation lists refused, keeping the current ones");
            }
        }
    }

    pub(super) fn announce_client_trust(&self) {
        let snapshot = self.snapshot.load();
        if snapshot.runtime.settings.tls.client_certificates.is_some() {
            let clients = &snapshot.clients;
            tracing::info!(
                ask = clients.ask().as_str(),
                authorities = clients.authorities().len(),
                revocation_lists = clients.lists().len(),
                "client certificates"
            );
        }
    }
}
