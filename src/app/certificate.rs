//! Certificate replacement while the process runs: what is valid in new files is used for new sessions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use super::App;
use crate::observe::metrics::{Metrics, ServedCertificate};
use crate::observe::reloads::Refusal;
use crate::outcome::ReloadSubject;
use crate::tls::watch::{Change, Event, Found};
use crate::tls::{
    CertificateError, CertificatePair, CertificateSet, DEFAULT_NAME, Fingerprint, days_left,
};

/// How many certificates are worth a line each when a configuration is loaded.
const MAX_ANNOUNCED: usize = 50;

/// Shows the certificates that clients get.
pub(super) fn show(certificates: &CertificateSet, metrics: &Metrics) {
    let served: Vec<_> = certificates
        .entries()
        .filter_map(|entry| Some((&*entry.source.name, &**entry.pair()?)))
        .map(|(name, pair)| {
            let fingerprint = Fingerprint(&pair.fingerprint).to_string();
            (name, pair, fingerprint, &*pair.subject)
        })
        .collect();
    let served = served.iter();
    metrics.only_certificates(
        served.map(|(name, pair, fingerprint, subject)| ServedCertificate {
            name,
            fingerprint,
            subject,
            not_before: pair.chain_not_before(),
            not_after: pair.chain_not_after(),
        }),
    );
}

impl App {
    /// Uses new certificates for new sessions, as far as they are valid.
    pub(super) fn apply_certificates(&mut self, found: Found) {
        let snapshot = self.snapshot.load().with_certificates(found.certificates);
        let certificates = Arc::clone(&snapshot.certificates);
        self.snapshot.store(Arc::new(snapshot));
        for change in &found.changes {
            match &change.what {
                Event::Refused(error) => self.note_certificate(&change.name, Some(error)),
                Event::InUse | Event::Removed | Event::Readable => {
                    self.note_certificate(&change.name, None);
                }
            }
        }
        self.mend_certificates(&certificates);
        show(&certificates, &self.shared.metrics);
        // Last of all: once the line is logged, the change is in effect.
        for change in &found.changes {
            log_change(change, &certificates);
        }
        for change in &found.changes {
            match change.what {
                Event::InUse if *change.name == *DEFAULT_NAME => self.warn(),
                // Of those beside it there may be hundreds, and what is to be said of the others has been said.
                Event::InUse => self.warn_about(&change.name),
                Event::Refused(_) | Event::Removed | Event::Readable => {}
            }
        }
    }

    /// Counts what a configuration names and can't be served.
    pub(super) fn settle_refused_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = &snapshot.certificates;
        for (name, error) in certificates.refusals() {
            self.note_certificate(name, Some(error));
        }
        self.mend_certificates(certificates);
    }

    /// Logs the certificates that are refused.
    pub(super) fn log_refused_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = &snapshot.certificates;
        for (name, error) in certificates.refusals() {
            log_refusal(name, error, certificates);
        }
    }

    /// Clears the refusals of certificates that are accepted now, or gone.
    fn mend_certificates(&self, certificates: &CertificateSet) {
        let refusals = certificates.refusals();
        let refused: HashSet<&str> = refusals.map(|(name, _)| &**name).collect();
        let subject = ReloadSubject::Certificate;
        self.reloads
            .mend_all_but(subject, |name| refused.contains(name));
    }

    fn note_certificate(&self, name: &Arc<str>, refused: Option<&CertificateError>) {
        let refusal = refused.map(|error| Refusal {
            text: error.to_string(),
            summary: error.summary(),
        });
        self.note_reload_of(ReloadSubject::Certificate, Arc::clone(name), refusal);
    }

    /// Logs the certificates in use.
    pub(super) fn announce_certificates(&self) {
        let snapshot = self.snapshot.load();
        let entries = snapshot.certificates.entries();
        let mut in_use = entries.filter_map(|entry| Some((&entry.source.name, entry.pair()?)));
        for (name, pair) in in_use.by_ref().take(MAX_ANNOUNCED) {
            announce(name, pair);
        }
        let more = in_use.count();
        if more > 0 {
            tracing::info!(
                more,
                "further certificates in use, `portcullis check` shows all of them"
            );
        }
    }
}

fn log_change(change: &Change, certificates: &CertificateSet) {
    let name = &*change.name;
    match &change.what {
        Event::InUse => {
            pair_of(certificates, name).inspect(|pair| announce(name, pair));
        }
        Event::Refused(error) => log_refusal(name, error, certificates),
        Event::Removed => tracing::info!(
            certificate = name,
            "certificate removed: its files are gone"
        ),
        Event::Readable => {
            tracing::info!(directory = name, "directory of certificates readable again");
        }
    }
}

fn log_refusal(name: &str, error: &CertificateError, certificates: &CertificateSet) {
    if error.is_of_directory() {
        return tracing::error!(
            directory = name,
            %error,
            "directory of certificates refused, keeping what is in use of it"
        );
    }
    let in_use = pair_of(certificates, name);
    match in_use.filter(|pair| pair.is_valid(SystemTime::now())) {
        Some(_) => tracing::error!(
            certificate = name,
            %error,
            "new certificate refused, keeping the current one"
        ),
        None => tracing::error!(
            certificate = name,
            %error,
            "certificate refused, not served"
        ),
    }
}

fn pair_of<'c>(certificates: &'c CertificateSet, name: &str) -> Option<&'c CertificatePair> {
    let mut entries = certificates.entries();
    let entry = entries.find(|entry| *entry.source.name == *name)?;
    entry.pair().map(|pair| &**pair)
}

fn announce(name: &str, pair: &CertificatePair) {
    tracing::info!(
        certificate = name,
        subject = pair.subject,
        names = pair.names_and_addresses(),
        key = pair.key_kind(),
        expires_in_days = days_until(pair.chain_not_after()),
        fingerprint = %Fingerprint(&pair.fingerprint),
        "certificate in use"
    );
}

pub(super) fn days_until(time: SystemTime) -> i64 {
    days_left(time, SystemTime::now()).max(0)
}
