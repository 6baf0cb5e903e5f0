//! Gauges of what is open or running: raised while a value lives, so that a panic lowers them as well.

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
