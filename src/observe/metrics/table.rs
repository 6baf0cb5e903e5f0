//! The table: name, labels and meaning of every metric, and which series there are before anything has happened.

use prometheus::core::Collector;
use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{PASSED, STDERR_LOG};
use crate::config::{NO_SITE, TlsMode};
use crate::outcome::{
    BackendStatus, CheckStage, DataHandshake, DialStage, Direction, GuardAction, HandshakeResult,
    Leg, LimitExceeded, LoginResult, ProxyHeaderFault, ReloadResult, ReloadSubject, Verdict,
};

/// Upper bounds in seconds. A backend in the same rack answers within 1 ms; from 10 s on, it is as good as down.
const DIAL_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Every metric that something happens to.
#[derive(Debug)]
pub(super) struct Table {
    pub sessions: IntGauge,
    pub site_sessions: IntGaugeVec,
    pub tasks: IntGauge,
    pub sessions_total: IntCounterVec,
    pub sessions_refused: IntCounterVec,
    pub accept_errors: IntCounter,
    pub log_lines_dropped: IntCounterVec,
    pub proxy_header_faults: IntCounterVec,
    pub logins: IntCounterVec,
    pub guard: IntCounterVec,
    pub tls_handshakes: IntCounterVec,
    pub data_tls_handshakes: IntCounterVec,
    pub transfers_running: IntGauge,
    pub transfers: IntCounterVec,
    pub transfer_bytes: IntCounterVec,
    pub rate_limited: CounterVec,
    pub backend_dial: HistogramVec,
    pub backend_dial_failures: IntCounterVec,
    pub backend_unclean_close: IntCounterVec,
    pub commands_denied: IntCounterVec,
    pub backend_state: IntGaugeVec,
    pub backend_sessions: IntGaugeVec,
    pub backend_ejections: IntCounterVec,
    pub backend_failovers: IntCounterVec,
    pub backend_queue: IntGaugeVec,
    pub backend_checks: IntCounterVec,
    pub backend_check: GaugeVec,
    pub backend_certificate_not_after: IntGaugeVec,
    pub passive_ports_in_use: IntGauge,
    pub passive_exhausted: IntCounter,
    pub passive_ambiguous: IntCounter,
    pub passive_strangers: IntCounter,
    pub certificate_not_after: IntGauge,
    pub reloads: IntCounterVec,
    pub reload_refused: IntGaugeVec,
    pub config_last_reload_success: IntGauge,
}

impl Table {
    /// Registers every metric, with all label values that don't depend on sites at zero.
    pub fn new(registry: &Registry) -> Self {
        let register = Register(registry);
        register
            .gauges("build_info", "Always 1.", &["version"])
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let table = Self {
            sessions: register.gauge("sessions", "Sessions open now."),
            site_sessions: register.gauges(
                "site_sessions",
                "Sessions at each site now, logged in or about to be.",
                &["site"],
            ),
            tasks: register.gauge(
                "tasks",
                "Concurrent tasks now: one for each listener and session, and some for each transfer.",
            ),
            sessions_total: register.counters(
                "sessions_total",
                "Sessions begun, by kind of listener.",
                &["listener"],
            ),
            sessions_refused: register.counters(
                "sessions_refused_total",
                "Connections turned away before they became a session: explicit listeners say 421, implicit ones nothing.",
                &["reason"],
            ),
            accept_errors: register.counter(
                "accept_errors_total",
                "Errors of accept(2): usually no file descriptor left.",
            ),
            log_lines_dropped: register.counters(
                "log_lines_dropped_total",
                "Lines lost because a full disk or a slow reader did not take them; log: that on stderr, others: files of transfer_logs.",
                &["log"],
            ),
            proxy_header_faults: register.counters(
                "proxy_header_faults_total",
                "Connections closed because they didn't begin with a PROXY header from a trusted balancer.",
                &["reason"],
            ),
            logins: register.counters(
                "logins_total",
                "Logins by how they ended; site none: the login led to no site.",
                &["site", "result"],
            ),
            guard: register.counters(
                "guard_total",
                "What failed logins led to; crowded: too many clients fail to remember them all.",
                &["site", "action"],
            ),
            tls_handshakes: register.counters(
                "tls_handshakes_total",
                "TLS handshakes of clients' control connections.",
                &["result", "version"],
            ),
            data_tls_handshakes: register.counters(
                "data_tls_handshakes_total",
                "TLS handshakes of data connections; resumed: bound to an earlier session.",
                &["leg", "kind"],
            ),
            transfers_running: register.gauge("transfers", "Transfers running now."),
            transfers: register.counters(
                "transfers_total",
                "Transfers by what became of them; only complete ones were reported so.",
                &["site", "direction", "verdict"],
            ),
            transfer_bytes: register.counters(
                "transfer_bytes_total",
                "Payload bytes relayed, by what became of their transfer.",
                &["site", "direction", "verdict"],
            ),
            rate_limited: register.real_counters(
                "rate_limited_seconds_total",
                "Time for which transfers were held back by the rate of their site or session.",
                &["site", "direction"],
            ),
            backend_dial: register.histograms(
                "backend_dial_seconds",
                "Time from dialling a backend until it is ready for USER.",
                &["site"],
                &DIAL_BUCKETS,
            ),
            backend_dial_failures: register.counters(
                "backend_dial_failures_total",
                "Connections to a backend that failed, by how far they came.",
                &["site", "stage"],
            ),
            commands_denied: register.counters(
                "commands_denied_total",
                "Commands that the site's policy denies; the backend heard nothing of them.",
                &["site"],
            ),
            backend_unclean_close: register.counters(
                "backend_unclean_close_total",
                "Downloads and listings whose data connection the backend ended without close_notify, whatever it replied.",
                &["site"],
            ),
            backend_state: register.gauges(
                "backend_state",
                "1 for the state that a backend is in; ejected: too many failures in a row, drain: takes no new logins, full: as many \
                 sessions as max_sessions allows, down: found so by a check.",
                &["site", "backend", "state"],
            ),
            backend_sessions: register.gauges(
                "backend_sessions",
                "Sessions of each site at each of its backends now.",
                &["site", "backend"],
            ),
            backend_ejections: register.counters(
                "backend_ejections_total",
                "How often a backend was taken out after failures in a row.",
                &["site", "backend"],
            ),
            backend_failovers: register.counters(
                "backend_failovers_total",
                "Logins that a further backend has served after one that failed.",
                &["site"],
            ),
            backend_queue: register.gauges(
                "backend_queue",
                "Logins that wait now because every backend has as many sessions as it may.",
                &["site"],
            ),
            backend_checks: register.counters(
                "backend_checks_total",
                "Active checks of a backend; stage ok: passed, any other: how far it came.",
                &["site", "backend", "stage"],
            ),
            backend_check: register.real_gauges(
                "backend_check_seconds",
                "How long the last active check of a backend took, passed or failed.",
                &["site", "backend"],
            ),
            backend_certificate_not_after: register.gauges(
                "backend_certificate_not_after_seconds",
                "When the certificate that a backend showed last expires, in Unix time; seen at logins and checks.",
                &["site", "backend"],
            ),
            passive_ports_in_use: register.gauge(
                "passive_ports_in_use",
                "Leases of passive ports that wait for their data connection.",
            ),
            passive_exhausted: register.counter(
                "passive_exhausted_total",
                "PASV and EPSV refused because no passive port was free.",
            ),
            passive_ambiguous: register.counter(
                "passive_ambiguous_total",
                "Transfers that failed because their data connection could not be told from another of the client's address.",
            ),
            passive_strangers: register.counter(
                "passive_strangers_total",
                "Connections to passive ports that belonged to no session.",
            ),
            certificate_not_after: register.gauge(
                "certificate_not_after_seconds",
                "When the certificate that new connections get expires, in Unix time.",
            ),
            reloads: register.counters(
                "reloads_total",
                "Reloads; refused: the new state was broken and the old one stays.",
                &["subject", "result"],
            ),
            reload_refused: register.gauges(
                "reload_refused",
                "1 while the latest state is refused and an older one is in use.",
                &["subject"],
            ),
            config_last_reload_success: register.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in use was loaded, in Unix time.",
            ),
        };
        table.start_from_zero();
        table
    }

    /// Puts everything that is counted by site at zero for `site`, so that rates and alerts see the first event. Again
    /// does no harm.
    pub fn start_site_from_zero(&self, site: &str) {
        self.site_sessions.with_label_values(&[site]);
        for result in LoginResult::ALL {
            self.logins.with_label_values(&[site, result.as_str()]);
        }
        for action in GuardAction::ALL {
            self.guard.with_label_values(&[site, action.as_str()]);
        }
        for direction in Direction::ALL {
            for verdict in Verdict::ALL {
                let labels = [site, direction.as_str(), verdict.as_str()];
                self.transfers.with_label_values(&labels);
                self.transfer_bytes.with_label_values(&labels);
            }
            self.rate_limited
                .with_label_values(&[site, direction.as_str()]);
        }
        for stage in DialStage::ALL {
            self.backend_dial_failures
                .with_label_values(&[site, stage.as_str()]);
        }
        let _: Histogram = self.backend_dial.with_label_values(&[site]);
        self.commands_denied.with_label_values(&[site]);
        self.backend_unclean_close.with_label_values(&[site]);
        self.backend_failovers.with_label_values(&[site]);
        self.backend_queue.with_label_values(&[site]);
    }

    /// Puts what is counted at a backend, labelled by site and backend, at zero. Again does no harm.
    pub fn start_backend_from_zero(&self, labels: [&str; 2], checks: bool) {
        self.backend_sessions.with_label_values(&labels);
        self.backend_ejections.with_label_values(&labels);
        if checks {
            for stage in check_stages() {
                let [site, backend] = labels;
                self.backend_checks
                    .with_label_values(&[site, backend, stage]);
            }
        }
    }

    /// Removes the series that every backend has.
    pub fn forget_backend(&self, labels: [&str; 2]) {
        // Series that are not there need no removal, here and below.
        let _ = self.backend_sessions.remove_label_values(&labels);
        let _ = self.backend_ejections.remove_label_values(&labels);
        for state in BackendStatus::ALL {
            let [site, backend] = labels;
            let labels = [site, backend, state.as_str()];
            let _ = self.backend_state.remove_label_values(&labels);
        }
    }

    /// Removes the series of a backend's checks.
    pub fn forget_checks(&self, labels: [&str; 2]) {
        let _ = self.backend_check.remove_label_values(&labels);
        for stage in check_stages() {
            let [site, backend] = labels;
            let labels = [site, backend, stage];
            let _ = self.backend_checks.remove_label_values(&labels);
        }
    }

    /// Removes the series of a backend's certificate.
    pub fn forget_backend_certificate(&self, labels: [&str; 2]) {
        let _ = self
            .backend_certificate_not_after
            .remove_label_values(&labels);
    }

    fn start_from_zero(&self) {
        for listener in [TlsMode::Explicit, TlsMode::Implicit] {
            self.sessions_total.with_label_values(&[listener.as_str()]);
        }
        for reason in LimitExceeded::ALL {
            self.sessions_refused.with_label_values(&[reason.as_str()]);
        }
        for fault in ProxyHeaderFault::ALL {
            self.proxy_header_faults
                .with_label_values(&[fault.as_str()]);
        }
        for result in HandshakeResult::ALL {
            self.tls_handshakes.with_label_values(&result.labels());
        }
        for leg in Leg::ALL {
            for kind in DataHandshake::ALL {
                self.data_tls_handshakes
                    .with_label_values(&[leg.as_str(), kind.as_str()]);
            }
        }
        for subject in ReloadSubject::ALL {
            self.reload_refused.with_label_values(&[subject.as_str()]);
            for result in ReloadResult::ALL {
                self.reloads
                    .with_label_values(&[subject.as_str(), result.as_str()]);
            }
        }
        self.log_lines_dropped.with_label_values(&[STDERR_LOG]);
        self.start_site_from_zero(NO_SITE);
    }
}

/// The values of a check's label `stage`.
fn check_stages() -> impl Iterator<Item = &'static str> {
    let failed = CheckStage::ALL.iter().map(|stage| stage.as_str());
    std::iter::once(PASSED).chain(failed)
}

/// Makes metrics and registers them. Names and labels are literals in [`Table::new`], so that any fault in them shows in
/// every test that makes a `Metrics`.
struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn real_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.registered(GaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn real_counters(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.registered(CounterVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
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
