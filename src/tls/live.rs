//! The certificate pair now in use, swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::certificate::CertificatePair;

/// The certificate pair that new sessions are shown. Running sessions keep the one with which they began.
#[derive(Debug)]
pub struct LiveCertificate(ArcSwap<CertificatePair>);

impl LiveCertificate {
    /// Starts with `pair`.
    pub fn new(pair: CertificatePair) -> Self {
        Self(ArcSwap::from_pointee(pair))
    }

    /// The pair to start a session with.
    pub fn current(&self) -> Arc<CertificatePair> {
        self.0.load_full()
    }

    /// Puts `pair` in use and returns the one it replaces.
    pub fn replace(&self, pair: CertificatePair) -> Arc<CertificatePair> {
        self.0.swap(Arc::new(pair))
    }
}
