//! How a metric is made and registered, by its kind.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// Makes metrics and registers them. Names and labels are literals in [`Table::new`](super::table::Table::new) and in
/// [`process`](super::process), so that any fault in them shows in every test that makes and renders a `Metrics`.
pub(super) struct Register<'a>(pub &'a Registry);

impl Register<'_> {
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help))
    }

    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    pub fn real_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.registered(GaugeVec::new(Opts::new(name, help), labels))
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help))
    }

    pub fn real_counter(&self, name: &str, help: &str) -> Counter {
        self.registered(Counter::new(name, help))
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub fn real_counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.registered(CounterVec::new(Opts::new(name, help), labels))
    }

    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.registered(HistogramVec::new(opts, labels))
    }

    fn registered<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("invariant: the names in the table are valid");
        self.0
            .register(Box::new(metric.clone()))
            .expect("invariant: no name is in the table twice");
        metric
    }
}
