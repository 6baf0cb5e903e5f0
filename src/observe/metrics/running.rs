//! Gauges of what is open or running: raised while a value lives, so that a panic lowers them as well.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;

/// Counts one session as open, or as at its site, while it lives.
#[derive(Debug)]
#[must_use = "the session counts as open only while this lives"]
pub struct OpenSession(#[expect(dead_code, reason = "lowers the gauge when dropped")] GaugeGuard);

/// Counts one transfer as running while it lives.
#[derive(Debug)]
#[must_use = "the transfer counts as running only while this lives"]
pub struct RunningTransfer(
    #[expect(dead_code, reason = "lowers the gauge when dropped")] GaugeGuard,
);

/// Counts one session as at its backend while it lives.
#[derive(Debug)]
#[must_use = "the session counts as at its backend only while this lives"]
pub struct BackendSession(Arc<BackendSessions>);

/// The sessions at one backend, which count whether it has a series or not: where one reload takes a backend out and another
/// one puts it back, its sessions have gone on all the while.
#[derive(Debug, Default)]
pub(super) struct BackendSessions(Mutex<Tally>);

#[derive(Debug, Default)]
struct Tally {
    open: i64,
    /// Its series, while there is one.
    series: Option<IntGauge>,
}

impl BackendSessions {
    /// It has this series from now on, or none.
    pub fn show_in(&self, series: Option<IntGauge>) {
        let mut tally = self.lock();
        tally.series = series;
        tally.show();
    }

    fn add(&self, sessions: i64) {
        let mut tally = self.lock();
        tally.open += sessions;
        tally.show();
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn show(&self) {
        if let Some(series) = &self.series {
            series.set(self.open);
        }
    }
}

impl BackendSession {
    pub(super) fn counted_in(sessions: Arc<BackendSessions>) -> Self {
        sessions.add(1);
        Self(sessions)
    }
}

impl Drop for BackendSession {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl OpenSession {
    pub(super) fn counted_in(open: &IntGauge) -> Self {
        Self(GaugeGuard::new(open))
    }
}

impl RunningTransfer {
    pub(super) fn counted_in(running: &IntGauge) -> Self {
        Self(GaugeGuard::new(running))
    }
}

/// A gauge that is one higher while this lives.
#[derive(Debug)]
struct GaugeGuard(IntGauge);

impl GaugeGuard {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
