//! State of one backend at one site that lasts as long as the process: health, session count, when its certificate is valid, and
//! whether an operator has drained it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::pki_types::CertificateDer;

use super::health::{Health, HealthChange};
use crate::base::fair_queue::FairQueue;
use crate::base::wakeup::Wakeup;
use crate::tls::Validity;

/// State of one backend at one site that lasts as long as the process.
#[derive(Debug, Default)]
pub(super) struct SiteBackendState {
    /// Whether an operator has drained it for this site, until it is made ready or the process ends.
    pub drained: AtomicBool,
    /// The site's sessions at it.
    sessions: AtomicUsize,
    /// The last certificate that the backend has shown.
    certificate: Mutex<SeenCertificate>,
    /// From what its logins come to, and not from those of another site, which may speak to it in another way: TLS, certificates
    /// and PROXY headers are those of a site's entry.
    health: Mutex<Health>,
    /// Notified when it is ejected.
    pub ejected: Wakeup,
    /// Gives the site's pools that have this backend turns to dial it while it is ejected.
    pub redial: FairQueue,
}

/// The last certificate that a backend has shown a site.
#[derive(Debug, Default)]
struct SeenCertificate {
    /// In DER; empty if only its validity is known.
    der: Vec<u8>,
    /// The period in which it is valid.
    validity: Option<Validity>,
}

impl SiteBackendState {
    /// The site's sessions that have a connection to it, or are about to, of all configurations.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// The validity period of the certificate that the backend showed last.
    pub fn certificate(&self) -> Option<Validity> {
        self.lock_certificate().validity
    }

    /// Records the certificate that the backend has shown; returns whether it differs from the one before.
    pub fn learn_certificate(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut seen = self.lock_certificate();
        let is_new = seen.der[..] != certificate[..];
        if is_new {
            seen.der = certificate.to_vec();
            seen.validity = Validity::of(certificate).or(seen.validity);
        }
        is_new
    }

    /// Records the validity period of a certificate of which nothing else is known: one shown to a check, or one refused because
    /// it has expired.
    pub fn learn_validity(&self, validity: Validity) {
        let mut seen = self.lock_certificate();
        if seen.validity != Some(validity) {
            // The one before is another one, and news if it comes back.
            *seen = SeenCertificate {
                der: Vec::new(),
                validity: Some(validity),
            };
        }
    }

    fn lock_certificate(&self) -> MutexGuard<'_, SeenCertificate> {
        self.certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Health {
        *self.lock_health()
    }

    /// Records that the backend has become ready for a login, or not.
    pub fn record_health(
        &self,
        record: impl FnOnce(&mut Health) -> Option<HealthChange>,
    ) -> Option<HealthChange> {
        let change = record(&mut self.lock_health());
        if let Some(HealthChange::Ejected { .. }) = change {
            self.ejected.notify_waiters();
        }
        change
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one session of the site at the backend more.
    pub fn count(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one session of the site at the backend less.
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_comes_back_after_a_refused_one_is_news() {
        let state = SiteBackendState::default();
        let certificate = CertificateDer::from(vec![1; 20]);
        assert!(state.learn_certificate(&certificate));
        assert!(!state.learn_certificate(&certificate));
        let refused = Validity::expired(std::time::UNIX_EPOCH);
        state.learn_validity(refused);
        assert_eq!(state.certificate(), Some(refused));
        assert!(state.learn_certificate(&certificate));
    }
}
