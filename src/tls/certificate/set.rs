//! The certificates that clients are shown, and which of them a client gets.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{CertificateError, CertificatePair};
use crate::config;

/// The certificates of one configuration.
#[derive(Debug)]
pub struct CertificateSet {
    /// For every client: there is no other.
    default: CertificatePair,
}

impl CertificateSet {
    /// Loads and checks all pairs that the configuration names.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// As [`CertificatePair::load`], for the first that can't be served.
    pub fn load(tls: &config::Tls, now: SystemTime) -> Result<Self, CertificateError> {
        CertificatePair::load(&tls.certificate, &tls.private_key, now).map(Self::from)
    }

    /// The pair for clients that name no server, or one that no pair is for.
    pub fn default_pair(&self) -> &CertificatePair {
        &self.default
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = &CertificatePair> {
        std::iter::once(&self.default)
    }
}

impl From<CertificatePair> for CertificateSet {
    fn from(default: CertificatePair) -> Self {
        Self { default }
    }
}

impl ResolvesServerCert for CertificateSet {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.default.key))
    }
}
