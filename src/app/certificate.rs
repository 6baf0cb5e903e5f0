//! Certificate replacement while the process runs: the files are polled, and what is valid in them is used for new
//! sessions.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::{JoinHandle, spawn_blocking};

use super::App;
use crate::outcome::{ReloadResult, ReloadSubject};
use crate::snapshot::Snapshot;
use crate::tls::{CertificateError, CertificateSet, Watch};

/// The watch over the certificate files. A poll runs on a blocking thread: a hung network mount must not delay signals,
/// or the transfers that SIGTERM lets finish.
#[derive(Debug)]
pub(super) enum CertificateWatcher {
    Idle(Box<Watch>),
    Polling(JoinHandle<(Box<Watch>, Option<NewCertificates>)>),
    /// It panicked.
    Dead,
}

/// What was found in files that have changed.
pub(super) type NewCertificates = Result<CertificateSet, CertificateError>;

impl CertificateWatcher {
    /// Over the files of the certificates in use.
    pub fn new(snapshot: &Snapshot) -> Self {
        let tls = &snapshot.runtime.settings.tls;
        let watch = Watch::new(tls, &snapshot.certificates);
        Self::Idle(Box::new(watch))
    }

    /// Starts a poll, unless one is running.
    pub fn start_poll(&mut self) {
        *self = match std::mem::replace(self, Self::Dead) {
            Self::Idle(mut watch) => Self::Polling(spawn_blocking(move || {
                let found = watch.poll(SystemTime::now());
                (watch, found)
            })),
            busy => busy,
        };
    }

    /// Waits for the result of the running poll. May be cancelled.
    pub async fn polled(&mut self) -> Option<NewCertificates> {
        let Self::Polling(polling) = self else {
            return std::future::pending().await;
        };
        let Ok((watch, found)) = polling.await else {
            *self = Self::Dead;
            tracing::error!(
                "the certificate watch panicked: new certificates are only loaded on SIGHUP"
            );
            return None;
        };
        *self = Self::Idle(watch);
        found
    }
}

impl App {
    /// Uses new certificates for new sessions, if they are valid.
    pub(super) fn apply_certificates(&self, new: NewCertificates) {
        let metrics = &self.shared.metrics;
        match new {
            Ok(certificates) => {
                let former = self.snapshot.load_full();
                let snapshot = Snapshot::new(Arc::clone(&former.runtime), Arc::new(certificates));
                metrics.certificate_not_after(snapshot.certificates.default_pair().not_after);
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Ok);
                self.snapshot.store(Arc::new(snapshot));
                self.announce_certificates();
                self.warn();
            }
            Err(error) => {
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Refused);
                tracing::error!(%error, "new certificate refused, keeping the current one");
            }
        }
    }
}
