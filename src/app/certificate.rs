//! Certificate replacement while the process runs: what is valid in new files is used for new sessions.

use std::sync::Arc;

use super::App;
use super::watcher::Watcher;
use crate::base::text::escape;
use crate::observe::metrics::{Metrics, ServedCertificate};
use crate::outcome::ReloadSubject;
use crate::snapshot::Snapshot;
use crate::tls::{self, CertificateError, CertificateSet, Fingerprint};

/// What was found in files that have changed.
pub(super) type NewCertificates = Result<CertificateSet, CertificateError>;

/// A watch over the files of the certificates in use.
pub(super) fn watcher(snapshot: &Snapshot) -> Watcher<tls::Watch> {
    let tls = &snapshot.runtime.settings.tls;
    Watcher::new(Some(tls::Watch::new(tls, &snapshot.certificates)))
}

/// Shows the certificate that clients get by default.
pub(super) fn show(certificates: &CertificateSet, metrics: &Metrics) {
    let pair = certificates.default_pair();
    metrics.certificate(&ServedCertificate {
        fingerprint: &Fingerprint(&pair.fingerprint).to_string(),
        subject: &escape(pair.subject.as_bytes()),
        not_before: pair.not_before,
        not_after: pair.not_after,
    });
}

impl App {
    /// Uses new certificates for new sessions, if they are valid.
    pub(super) fn apply_certificates(&self, new: NewCertificates) {
        let metrics = &self.shared.metrics;
        match new {
            Ok(certificates) => {
                let former = self.snapshot.load_full();
                let snapshot = Snapshot::new(Arc::clone(&former.runtime), Arc::new(certificates));
                show(&snapshot.certificates, metrics);
                self.note_reload(ReloadSubject::Certificate, None);
                self.snapshot.store(Arc::new(snapshot));
                self.announce_certificates();
                self.warn();
            }
            Err(error) => {
                self.note_reload(ReloadSubject::Certificate, Some(error.to_string().into()));
                tracing::error!(%error, "new certificate refused, keeping the current one");
            }
        }
    }
}
