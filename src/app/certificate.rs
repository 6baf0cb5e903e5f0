//! Certificate replacement while the process runs: the files are polled, and what is valid in them is used for new
//! sessions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::App;
use crate::outcome::{ReloadResult, ReloadSubject};
use crate::snapshot::Snapshot;
use crate::tls::{CertificateError, CertificateSet, Watch};

/// How often the certificate files are polled. A change counts when two polls see it, so a new certificate is in use
/// within a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// The watch over the certificate files. A poll runs on a blocking thread: a hung network mount must not delay signals,
/// or the transfers that SIGTERM lets finish.
#[derive(Debug)]
pub(super) struct CertificateWatcher {
    ticks: Interval,
    state: WatchState,
}

#[derive(Debug)]
enum WatchState {
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
        let mut ticks = interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ticks,
            state: WatchState::Idle(Box::new(watch)),
        }
    }

    /// Polls the files until they have changed; returns what was found in them. May be cancelled.
    pub async fn changed(&mut self) -> NewCertificates {
        loop {
            if let WatchState::Idle(_) = self.state {
                self.ticks.tick().await;
            }
            self.state = match std::mem::replace(&mut self.state, WatchState::Dead) {
                WatchState::Idle(mut watch) => WatchState::Polling(spawn_blocking(move || {
                    let found = watch.poll(SystemTime::now());
                    (watch, found)
                })),
                busy => busy,
            };
            let WatchState::Polling(polling) = &mut self.state else {
                return std::future::pending().await;
            };
            let Ok((watch, found)) = polling.await else {
                self.state = WatchState::Dead;
                tracing::error!(
                    "the certificate watch panicked: new certificates are only loaded on SIGHUP"
                );
                continue;
            };
            self.state = WatchState::Idle(watch);
            if let Some(new) = found {
                return new;
            }
        }
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
