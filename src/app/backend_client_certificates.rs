//! New client certificates for backends while the process runs: what is good of them is shown from the next dial on.

use std::collections::HashSet;

use super::App;
use super::certificate::days_until;
use crate::base::text::escape_path;
use crate::observe::reloads::Refusal;
use crate::outcome::ReloadSubject;
use crate::tls::{
    BackendClientCertificate, BackendClientCertificateChange, BackendClientCertificateChanges,
    CertificateError, Fingerprint,
};

/// Says what backends are shown from now on.
pub(super) fn announce(certificate: &BackendClientCertificate) {
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
    pub(super) fn report_backend_client_certificates(
        &self,
        found: &BackendClientCertificateChanges,
    ) {
        for BackendClientCertificateChange {
            certificate,
            outcome,
        } in found
        {
            match outcome {
                Ok(()) => {
                    self.note_backend_client_certificate(certificate, None);
                    announce(certificate);
                }
                Err(error) => {
                    let refusal = error.to_string().into();
                    self.note_backend_client_certificate(certificate, Some(refusal));
                    log_refusal(error);
                }
            }
        }
        let snapshot = self.snapshot.load();
        let metrics = &self.shared.metrics;
        snapshot
            .runtime
            .pools
            .report_backend_client_certificates(metrics);
    }

    /// Counts what lies in files of a configuration and has not come into use with it.
    pub(super) fn settle_refused_backend_client_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = snapshot.runtime.pools.backend_client_certificates();
        let mut refused = HashSet::new();
        for (certificate, error) in certificates.refusals() {
            refused.insert(name(certificate));
            self.note_backend_client_certificate(certificate, Some(error.to_string().into()));
        }
        let subject = ReloadSubject::BackendClientCertificate;
        self.reloads
            .mend_all_but(subject, |name| refused.contains(name));
    }

    /// Logs the client certificates of backends that are refused.
    pub(super) fn log_refused_backend_client_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = snapshot.runtime.pools.backend_client_certificates();
        for (_, error) in certificates.refusals() {
            log_refusal(error);
        }
    }

    fn note_backend_client_certificate(
        &self,
        certificate: &BackendClientCertificate,
        refusal: Option<Refusal>,
    ) {
        let name = name(certificate).into();
        self.note_reload_of(ReloadSubject::BackendClientCertificate, name, refusal);
    }
}

fn log_refusal(error: &CertificateError) {
    tracing::error!(%error, "new client certificate refused, keeping the current one");
}

/// The name of a certificate: of both files, since pairs may have one of them in common.
fn name(certificate: &BackendClientCertificate) -> String {
    let files = certificate.files();
    let (certificate, key) = (&files.certificate, &files.private_key);
    match certificate == key {
        true => escape_path(certificate),
        false => format!("{} with {}", escape_path(certificate), escape_path(key)),
    }
}
