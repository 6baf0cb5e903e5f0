//! New client certificates for backends while the process runs: what is good of them is shown from the next dial on.

use std::collections::HashSet;

use super::App;
use super::certificate::days_until;
use crate::base::text::escape_path;
use crate::observe::reloads::Refusal;
use crate::outcome::ReloadSubject;
use crate::tls::{
    CertificateError, Fingerprint, OwnCertificate, OwnCertificateChange, OwnCertificateChanges,
};

/// Says what backends are shown from now on.
pub(super) fn announce(certificate: &OwnCertificate) {
    let pair = certificate.in_use();
    tracing::info!(
        file = %escape_path(&certificate.files().certificate),
        subject = pair.subject,
        expires_in_days = days_until(pair.not_after),
        fingerprint = %Fingerprint(&pair.fingerprint),
        "client certificate in use"
    );
}

impl App {
    /// Says what has become of new client certificates.
    pub(super) fn report_own_certificates(&self, found: &OwnCertificateChanges) {
        for OwnCertificateChange {
            certificate,
            outcome,
        } in found
        {
            match outcome {
                Ok(()) => {
                    self.note_own_certificate(certificate, None);
                    announce(certificate);
                }
                Err(error) => {
                    let refusal = error.to_string().into();
                    self.note_own_certificate(certificate, Some(refusal));
                    log_refusal(error);
                }
            }
        }
        let snapshot = self.snapshot.load();
        let metrics = &self.shared.metrics;
        snapshot.runtime.pools.report_own_certificates(metrics);
    }

    /// Counts what lies in files of a configuration and has not come into use with it.
    pub(super) fn settle_refused_own_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = snapshot.runtime.pools.own_certificates();
        let mut refused = HashSet::new();
        for (certificate, error) in certificates.refusals() {
            refused.insert(name(certificate));
            self.note_own_certificate(certificate, Some(error.to_string().into()));
        }
        let subject = ReloadSubject::BackendCertificate;
        self.reloads
            .mend_all_but(subject, |name| refused.contains(name));
    }

    /// Logs the same.
    pub(super) fn log_refused_own_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = snapshot.runtime.pools.own_certificates();
        for (_, error) in certificates.refusals() {
            log_refusal(error);
        }
    }

    fn note_own_certificate(&self, certificate: &OwnCertificate, refusal: Option<Refusal>) {
        let name = name(certificate).into();
        self.note_reload_of(ReloadSubject::BackendCertificate, name, refusal);
    }
}

fn log_refusal(error: &CertificateError) {
    tracing::error!(%error, "new client certificate refused, keeping the current one");
}

/// Of both files, since pairs may have one of them in common.
fn name(certificate: &OwnCertificate) -> String {
    let files = certificate.files();
    let (certificate, key) = (&files.certificate, &files.private_key);
    match certificate == key {
        true => escape_path(certificate),
        false => format!("{} with {}", escape_path(certificate), escape_path(key)),
    }
}
