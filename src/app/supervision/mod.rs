//! Notifications to a service manager such as systemd, and the watchdog that it is asked for: readiness, reloads, the end, how
//! many sessions there are, and whether new ones are accepted (sd_notify(3)).
//!
//! Without `NOTIFY_SOCKET` in the environment none of this runs.

mod notifier;
mod status;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::Readiness;
use crate::net::liveness::Liveness;
use crate::observe::reloads::ReloadLog;
use crate::outcome::ReloadSubject;
use crate::session::Shared;
use crate::snapshot::Snapshot;

use notifier::Notifier;
use status::Status;

/// How often the numbers are looked at. The manager notifies every subscriber, so it is not done more often.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// By how much a process that drains asks the manager to wait on, again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service manager of this process, if it has one.
#[derive(Debug, Default)]
pub(super) struct Supervision(Option<Supervised>);

#[derive(Debug)]
struct Supervised {
    notifier: Arc<Notifier>,
    /// How long the manager waits for a sign of life, and their source.
    watchdog: Option<(Duration, Arc<Liveness>)>,
}

/// The sources of the status.
#[derive(Debug)]
pub(super) struct Sources {
    pub shared: Arc<Shared>,
    pub reloads: Arc<ReloadLog>,
    pub readiness: watch::Receiver<Readiness>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Supervision {
    /// The supervision that the environment asks for, if any.
    pub fn from_environment() -> Self {
        Self(Notifier::from_environment().map(|notifier| Supervised {
            notifier: Arc::new(notifier),
            watchdog: watchdog::asked_for().map(|time| (time, Arc::default())),
        }))
    }

    /// For the tasks that accept connections, if a watchdog wants to know of them.
    pub fn liveness(&self) -> Option<Arc<Liveness>> {
        let (_, liveness) = self.0.as_ref()?.watchdog.as_ref()?;
        Some(Arc::clone(liveness))
    }

    /// Reports that every listener accepts. Where the first certificate is still ordered the status reports that: what waits for
    /// this process, such as the start of the machine, must not wait for an authority that may be down. From here on the manager
    /// is sent the number of sessions, and signs of life.
    pub fn ready(&self, sources: Sources) {
        let Some(supervised) = &self.0 else {
            return;
        };
        supervised.notifier.ready(&sources.status().to_string());
        tokio::spawn(keep_informed(Arc::clone(&supervised.notifier), sources));
        if let Some((time, liveness)) = &supervised.watchdog {
            let notifier = Arc::clone(&supervised.notifier);
            tokio::spawn(watchdog::feed(notifier, Arc::clone(liveness), *time));
        }
    }

    /// The configuration is read anew.
    pub fn reloading(&self) {
        if let Some(supervised) = &self.0 {
            supervised.notifier.reloading();
        }
    }

    /// Reports that the reload is over: the configuration is in force, or refused, which `sources` know.
    pub fn reloaded(&self, sources: impl FnOnce() -> Sources) {
        if let Some(supervised) = &self.0 {
            supervised.notifier.ready(&sources().status().to_string());
        }
    }

    /// The process is to end, when its clients are done.
    pub fn stopping(&self, sources: impl FnOnce() -> Sources) {
        if let Some(supervised) = &self.0 {
            supervised
                .notifier
                .stopping(&sources().status().to_string());
            supervised.notifier.extend_timeout(PATIENCE);
        }
    }
}

impl Sources {
    fn status(&self) -> Status {
        let refusal = self.reloads.standing(ReloadSubject::Configuration);
        Status {
            sessions: self.shared.limiter.open(),
            transfers: self.shared.metrics.running_transfers(),
            is_stopping: matches!(
                *self.readiness.borrow(),
                Readiness::LameDuck | Readiness::Draining
            ),
            has_certificate: !self.snapshot.load().certificates.lacks_default(),
            refusal: refusal.map(|refusal| refusal.summary),
        }
    }
}

/// Sends the numbers as they change, and asks for more time while the process drains.
async fn keep_informed(notifier: Arc<Notifier>, sources: Sources) {
    let mut ticks = interval(STATUS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = sources.status();
        notifier.status(&status.to_string());
        if status.is_stopping {
            notifier.extend_timeout(PATIENCE);
        }
    }
}
