//! Certificate replacement while the process runs: the files are polled, and a valid new certificate is used for new
//! sessions.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::task::{JoinHandle, spawn_blocking};

use super::App;
use crate::observe::metrics::{ReloadResult, ReloadSubject};
use crate::snapshot::Snapshot;
use crate::tls::{CertificateError, CertificatePair, Watch};

/// The watch over the certificate files. A poll runs on a blocking thread: a hung network mount must not delay signals,
/// or the transfers that SIGTERM lets finish.
#[derive(Debug)]
pub(super) enum CertificateWatcher {
    Idle(Box<Watch>),
    Polling(JoinHandle<(Box<Watch>, Option<NewCertificate>)>),
    /// It panicked.
    Dead,
}

/// What was found in files that have changed.
pub(super) type NewCertificate = Result<CertificatePair, CertificateError>;

impl CertificateWatcher {
    /// Over the files of the certificate in use.
    pub fn new(snapshot: &Snapshot) -> Self {
        let tls = &snapshot.runtime.settings.tls;
        let watch = Watch::new(&tls.certificate, &tls.private_key, &snapshot.certificate);
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
    pub async fn polled(&mut self) -> Option<NewCertificate> {
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
    /// Uses a new certificate for new sessions, if it is valid.
    pub(super) fn apply_certificate(&self, new: NewCertificate) {
        let metrics = &self.shared.metrics;
        match new {
            Ok(pair) => {
                let former = self.snapshot.load_full();
                let snapshot = Snapshot::new(Arc::clone(&former.runtime), Arc::new(pair));
                metrics.certificate_not_after(snapshot.certificate.not_after);
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Ok);
                self.snapshot.store(Arc::new(snapshot));
                self.announce_certificate();
                self.warn();
            }
            Err(error) => {
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Refused);
                tracing::error!(%error, "new certificate refused, keeping the current one");
            }
        }
    }
}
