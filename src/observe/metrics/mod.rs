//! Every metric of the program, in one table ([`Metrics::new`]), with its labels and what it means.
//!
//! Label values come from the configuration or from enums, never from a client: whoever can make up label
//! values can fill the memory of the monitoring system (CVE-2022-21698). A site that wasn't declared counts as `none`.
//! All metrics live in a registry of their own, so that two instances in one test don't share numbers.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::config::ListenerTls;

use self::labels::listener_label;
pub use self::labels::{
    DataHandshake, DialStage, Direction, GuardAction, HandshakeResult, Leg, LoginResult,
    ProxyHeaderFault, RefusedReason, ReloadResult, ReloadSubject, Verdict,
};

mod labels;

/// The `site` label of what belongs to no site: a login that named an unknown host, for example.
pub const NO_SITE: &str = "none";

/// Names in front of every metric of this program.
const PREFIX: &str = "portcullis";

/// Upper bounds in seconds. A backend in the same rack answers within 1 ms; from 10 s on, it is as good as down.
const DIAL_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// All numbers that the program keeps about itself. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The site names that may become label values.
    sites: RwLock<HashSet<String>>,

    sessions: IntGauge,
    tasks: IntGauge,
    sessions_total: IntCounterVec,
    sessions_refused: IntCounterVec,
    accept_errors: IntCounter,
    proxy_header_faults: IntCounterVec,
    logins: IntCounterVec,
    guard: IntCounterVec,
    tls_handshakes: IntCounterVec,
    data_tls_handshakes: IntCounterVec,
    transfers_running: IntGauge,
    transfers: IntCounterVec,
    transfer_bytes: IntCounterVec,
    backend_dial: HistogramVec,
    backend_dial_failures: IntCounterVec,
    backend_unclean_close: IntCounterVec,
    passive_ports_in_use: IntGauge,
    passive_exhausted: IntCounter,
    passive_strangers: IntCounter,
    certificate_not_after: IntGauge,
    reloads: IntCounterVec,
    config_last_reload_success: IntGauge,
}

impl Metrics {
    /// Registers every metric, with all label values that don't depend on sites at zero.
    #[must_use]
    pub fn new() -> Self {
        let table = Table(
            Registry::new_custom(Some(PREFIX.to_owned()), None)
                .expect("invariant: only an empty prefix is refused"),
        );
        let metrics = Self {
            sessions: table.gauge("sessions", "Sessions open now."),
            tasks: table.gauge(
                "tasks",
                "Concurrent tasks now: one for each listener and session, and some for each transfer.",
            ),
            sessions_total: table.counters(
                "sessions_total",
                "Sessions begun, by kind of listener.",
                &["listener"],
            ),
            sessions_refused: table.counters(
                "sessions_refused_total",
                "Connections turned away with 421 before they became a session.",
                &["reason"],
            ),
            accept_errors: table.counter(
                "accept_errors_total",
                "Errors of accept(2): usually no file descriptor left.",
            ),
            proxy_header_faults: table.counters(
                "proxy_header_faults_total",
                "Connections closed because they didn't begin with a PROXY header from a trusted balancer.",
                &["reason"],
            ),
            logins: table.counters(
                "logins_total",
                "Logins by how they ended; site none: the login led to no site.",
                &["site", "result"],
            ),
            guard: table.counters(
                "guard_total",
                "What failed logins led to; crowded: too many clients fail to remember them all.",
                &["site", "action"],
            ),
            tls_handshakes: table.counters(
                "tls_handshakes_total",
                "TLS handshakes of clients' control connections.",
                &["result", "version"],
            ),
            data_tls_handshakes: table.counters(
                "data_tls_handshakes_total",
                "TLS handshakes of data connections; resumed: bound to an earlier session.",
                &["leg", "kind"],
            ),
            transfers_running: table.gauge("transfers", "Transfers running now."),
            transfers: table.counters(
                "transfers_total",
                "Transfers by what became of them; only complete ones were reported so.",
                &["site", "direction", "verdict"],
            ),
            transfer_bytes: table.counters(
                "transfer_bytes_total",
                "Payload bytes relayed, by what became of their transfer.",
                &["site", "direction", "verdict"],
            ),
            backend_dial: table.histograms(
                "backend_dial_seconds",
                "Time from dialling a backend until it is ready for USER.",
                &["site"],
                &DIAL_BUCKETS,
            ),
            backend_dial_failures: table.counters(
                "backend_dial_failures_total",
                "Connections to a backend that failed, by how far they came.",
                &["site", "stage"],
            ),
            backend_unclean_close: table.counters(
                "backend_unclean_close_total",
                "Data connections that a backend ended without close_notify before replying 2xx.",
                &["site"],
            ),
            passive_ports_in_use: table.gauge(
                "passive_ports_in_use",
                "Passive ports that wait for, or carry, a data connection.",
            ),
            passive_exhausted: table.counter(
                "passive_exhausted_total",
                "PASV and EPSV refused because no passive port was free.",
            ),
            passive_strangers: table.counter(
                "passive_strangers_total",
                "Connections to passive ports that belonged to no session.",
            ),
            certificate_not_after: table.gauge(
                "certificate_not_after_seconds",
                "When the certificate that new connections get expires, in Unix time.",
            ),
            reloads: table.counters(
                "reloads_total",
                "Reloads; refused: the new state was broken and the old one stays.",
                &["subject", "result"],
            ),
            config_last_reload_success: table.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in use was loaded, in Unix time.",
            ),
            sites: RwLock::default(),
            registry: {
                table
                    .gauges("build_info", "Always 1.", &["version"])
                    .with_label_values(&[env!("CARGO_PKG_VERSION")])
                    .set(1);
                table.0
            },
        };
        metrics.start_from_zero();
        metrics
    }

    /// Makes `name` a label value, with everything that is counted by site at zero, so that rates and alerts see the
    /// first event. To be called for every configured site, at start and after a reload; again does no harm.
    pub fn declare_site(&self, name: &str) {
        self.sites
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
        self.start_site_from_zero(name);
    }

    /// A session began; it counts as open until the guard is dropped.
    pub fn session(&self, listener: ListenerTls) -> SessionGuard {
        self.sessions_total
            .with_label_values(&[listener_label(listener)])
            .inc();
        SessionGuard(Raised::new(&self.sessions))
    }

    /// Sets how many tasks there are.
    pub fn tasks(&self, alive: usize) {
        self.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    /// A connection was turned away.
    pub fn session_refused(&self, reason: RefusedReason) {
        self.sessions_refused
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Accepting a connection failed.
    pub fn accept_error(&self) {
        self.accept_errors.inc();
    }

    /// A connection had no PROXY header where it has to have one.
    pub fn proxy_header_fault(&self, fault: ProxyHeaderFault) {
        self.proxy_header_faults
            .with_label_values(&[fault.as_str()])
            .inc();
    }

    /// A login ended. `site` is a configured site's name, or [`NO_SITE`].
    pub fn login(&self, site: &str, result: LoginResult) {
        self.logins
            .with_label_values(&[self.site_label(site), result.as_str()])
            .inc();
    }

    /// Failed logins at `site` have led to this.
    pub fn guard(&self, site: &str, action: GuardAction) {
        self.guard
            .with_label_values(&[self.site_label(site), action.as_str()])
            .inc();
    }

    /// The TLS handshake of a client's control connection ended.
    pub fn handshake(&self, result: HandshakeResult) {
        self.tls_handshakes
            .with_label_values(&result.labels())
            .inc();
    }

    /// The TLS handshake of a data connection ended.
    pub fn data_handshake(&self, leg: Leg, result: DataHandshake) {
        self.data_tls_handshakes
            .with_label_values(&[leg.as_str(), result.as_str()])
            .inc();
    }

    /// A transfer began; it counts as running until the guard is dropped.
    pub fn transfer_running(&self) -> TransferGuard {
        TransferGuard(Raised::new(&self.transfers_running))
    }

    /// A transfer ended after `bytes` of payload.
    pub fn transfer(&self, site: &str, direction: Direction, verdict: Verdict, bytes: u64) {
        let labels = [self.site_label(site), direction.as_str(), verdict.as_str()];
        self.transfers.with_label_values(&labels).inc();
        self.transfer_bytes.with_label_values(&labels).inc_by(bytes);
    }

    /// A backend is ready for USER, `took` after dialling it.
    pub fn backend_dialled(&self, site: &str, took: Duration) {
        self.backend_dial
            .with_label_values(&[self.site_label(site)])
            .observe(took.as_secs_f64());
    }

    /// A backend couldn't be made ready for USER.
    pub fn backend_dial_failed(&self, site: &str, stage: DialStage) {
        self.backend_dial_failures
            .with_label_values(&[self.site_label(site), stage.as_str()])
            .inc();
    }

    /// A backend ended a TLS data connection without close_notify, and replied 2xx all the same.
    pub fn backend_unclean_close(&self, site: &str) {
        self.backend_unclean_close
            .with_label_values(&[self.site_label(site)])
            .inc();
    }

    /// Sets how many passive ports wait for, or carry, a data connection.
    pub fn passive_ports_in_use(&self, ports: usize) {
        self.passive_ports_in_use
            .set(i64::try_from(ports).unwrap_or(i64::MAX));
    }

    /// PASV or EPSV found no free passive port.
    pub fn passive_exhausted(&self) {
        self.passive_exhausted.inc();
    }

    /// A connection to a passive port belonged to no session.
    pub fn passive_stranger(&self) {
        self.passive_strangers.inc();
    }

    /// New connections get a certificate that expires at `unix_time`, in seconds.
    pub fn certificate_not_after(&self, unix_time: i64) {
        self.certificate_not_after.set(unix_time);
    }

    /// A reload ended. Loading the configuration at start counts as one.
    pub fn reload(&self, subject: ReloadSubject, result: ReloadResult) {
        self.reloads
            .with_label_values(&[subject.as_str(), result.as_str()])
            .inc();
        if (subject, result) == (ReloadSubject::Configuration, ReloadResult::Ok) {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            self.config_last_reload_success
                .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        }
    }

    /// All metrics in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .expect("invariant: a registry leaves out empty families, and a String takes any text")
    }

    /// `name` if it is a configured site's, else [`NO_SITE`].
    fn site_label<'a>(&self, name: &'a str) -> &'a str {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        if sites.contains(name) { name } else { NO_SITE }
    }

    fn start_from_zero(&self) {
        for listener in [ListenerTls::Explicit, ListenerTls::Implicit] {
            self.sessions_total
                .with_label_values(&[listener_label(listener)]);
        }
        for reason in RefusedReason::ALL {
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
            for result in ReloadResult::ALL {
                self.reloads
                    .with_label_values(&[subject.as_str(), result.as_str()]);
            }
        }
        self.start_site_from_zero(NO_SITE);
    }

    fn start_site_from_zero(&self, site: &str) {
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
        }
        for stage in DialStage::ALL {
            self.backend_dial_failures
                .with_label_values(&[site, stage.as_str()]);
        }
        let _: Histogram = self.backend_dial.with_label_values(&[site]);
        self.backend_unclean_close.with_label_values(&[site]);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts one session as open while it lives.
#[derive(Debug)]
#[must_use = "the session counts as open only while this lives"]
pub struct SessionGuard(#[expect(dead_code, reason = "lowers the gauge when dropped")] Raised);

/// Counts one transfer as running while it lives.
#[derive(Debug)]
#[must_use = "the transfer counts as running only while this lives"]
pub struct TransferGuard(#[expect(dead_code, reason = "lowers the gauge when dropped")] Raised);

/// A gauge that is one higher while this lives, panics included.
#[derive(Debug)]
struct Raised(IntGauge);

impl Raised {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics and registers them. Names and labels are literals in [`Metrics::new`], so that any fault in them
/// shows in every test that makes a `Metrics`.
struct Table(Registry);

impl Table {
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.registered(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.registered(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every family that the documentation and the alerts may rely on, with its type.
    const FAMILIES: &[(&str, &str)] = &[
        ("portcullis_accept_errors_total", "counter"),
        ("portcullis_backend_dial_failures_total", "counter"),
        ("portcullis_backend_dial_seconds", "histogram"),
        ("portcullis_backend_unclean_close_total", "counter"),
        ("portcullis_build_info", "gauge"),
        ("portcullis_certificate_not_after_seconds", "gauge"),
        (
            "portcullis_config_last_reload_success_timestamp_seconds",
            "gauge",
        ),
        ("portcullis_data_tls_handshakes_total", "counter"),
        ("portcullis_guard_total", "counter"),
        ("portcullis_logins_total", "counter"),
        ("portcullis_passive_exhausted_total", "counter"),
        ("portcullis_passive_ports_in_use", "gauge"),
        ("portcullis_passive_strangers_total", "counter"),
        ("portcullis_proxy_header_faults_total", "counter"),
        ("portcullis_reloads_total", "counter"),
        ("portcullis_sessions", "gauge"),
        ("portcullis_sessions_refused_total", "counter"),
        ("portcullis_sessions_total", "counter"),
        ("portcullis_tasks", "gauge"),
        ("portcullis_tls_handshakes_total", "counter"),
        ("portcullis_transfer_bytes_total", "counter"),
        ("portcullis_transfers", "gauge"),
        ("portcullis_transfers_total", "counter"),
    ];

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        metrics.render().lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == series).then(|| value.parse().expect("a number"))
        })
    }

    fn series(metrics: &Metrics) -> usize {
        metrics
            .render()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    }

    /// Counts everything that can be counted once, with `site` wherever there is a site.
    fn count_everything(metrics: &Metrics, site: &str) {
        for listener in [ListenerTls::Explicit, ListenerTls::Implicit] {
            drop(metrics.session(listener));
        }
        RefusedReason::ALL
            .iter()
            .for_each(|r| metrics.session_refused(*r));
        metrics.accept_error();
        ProxyHeaderFault::ALL
            .iter()
            .for_each(|f| metrics.proxy_header_fault(*f));
        LoginResult::ALL
            .iter()
            .for_each(|r| metrics.login(site, *r));
        GuardAction::ALL
            .iter()
            .for_each(|a| metrics.guard(site, *a));
        HandshakeResult::ALL
            .iter()
            .for_each(|r| metrics.handshake(*r));
        for leg in Leg::ALL {
            DataHandshake::ALL
                .iter()
                .for_each(|k| metrics.data_handshake(*leg, *k));
        }
        drop(metrics.transfer_running());
        for direction in Direction::ALL {
            Verdict::ALL
                .iter()
                .for_each(|v| metrics.transfer(site, *direction, *v, 1));
        }
        metrics.backend_dialled(site, Duration::from_millis(3));
        DialStage::ALL
            .iter()
            .for_each(|s| metrics.backend_dial_failed(site, *s));
        metrics.backend_unclean_close(site);
        metrics.passive_ports_in_use(7);
        metrics.passive_exhausted();
        metrics.passive_stranger();
        metrics.certificate_not_after(1_900_000_000);
        for subject in ReloadSubject::ALL {
            ReloadResult::ALL
                .iter()
                .for_each(|r| metrics.reload(*subject, *r));
        }
    }

    #[test]
    fn every_family_shows_before_anything_happened() {
        let rendered = Metrics::new().render();
        let families: Vec<(&str, &str)> = rendered
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        assert_eq!(families, FAMILIES);
    }

    #[test]
    fn every_family_says_what_it_means() {
        let rendered = Metrics::new().render();
        for (name, _) in FAMILIES {
            let help = rendered.lines().find_map(|line| {
                line.strip_prefix("# HELP ")?
                    .strip_prefix(name)?
                    .strip_prefix(' ')
            });
            assert!(help.is_some_and(|text| text.ends_with('.')), "{name}");
        }
    }

    #[test]
    fn a_declared_site_starts_from_zero() {
        let metrics = Metrics::new();
        metrics.declare_site("ftpb");
        for name in [
            r#"portcullis_logins_total{result="rejected",site="ftpb"}"#,
            r#"portcullis_transfers_total{direction="upload",site="ftpb",verdict="failed_client"}"#,
            r#"portcullis_transfer_bytes_total{direction="listing",site="ftpb",verdict="complete"}"#,
            r#"portcullis_backend_dial_failures_total{site="ftpb",stage="certificate"}"#,
            r#"portcullis_backend_dial_seconds_count{site="ftpb"}"#,
            r#"portcullis_backend_unclean_close_total{site="ftpb"}"#,
        ] {
            assert_eq!(value(&metrics, name), Some(0.0), "{name}");
        }
    }

    #[test]
    fn events_are_counted_at_their_site() {
        let metrics = Metrics::new();
        metrics.declare_site("ftpa");
        metrics.declare_site("ftpb");
        metrics.login("ftpb", LoginResult::Accepted);
        metrics.transfer("ftpb", Direction::Download, Verdict::Complete, 1000);
        metrics.transfer("ftpb", Direction::Download, Verdict::FailedBackend, 24);
        for (name, expected) in [
            (
                r#"portcullis_logins_total{result="accepted",site="ftpb"}"#,
                1.0,
            ),
            (
                r#"portcullis_logins_total{result="accepted",site="ftpa"}"#,
                0.0,
            ),
            (
                r#"portcullis_transfers_total{direction="download",site="ftpb",verdict="complete"}"#,
                1.0,
            ),
            (
                r#"portcullis_transfer_bytes_total{direction="download",site="ftpb",verdict="failed_backend"}"#,
                24.0,
            ),
        ] {
            assert_eq!(value(&metrics, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn nothing_but_configured_names_makes_a_series() {
        let metrics = Metrics::new();
        metrics.declare_site("ftpa");
        let before = series(&metrics);
        count_everything(&metrics, "ftpa");
        for n in 0..1000 {
            count_everything(&metrics, &format!("made-up-{n}"));
        }
        assert_eq!(series(&metrics), before);
        assert_eq!(
            value(
                &metrics,
                r#"portcullis_logins_total{result="accepted",site="none"}"#
            ),
            Some(1000.0)
        );
    }

    #[test]
    fn declaring_a_site_again_keeps_its_numbers() {
        let metrics = Metrics::new();
        metrics.declare_site("ftpa");
        metrics.login("ftpa", LoginResult::Accepted);
        metrics.declare_site("ftpa");
        assert_eq!(
            value(
                &metrics,
                r#"portcullis_logins_total{result="accepted",site="ftpa"}"#
            ),
            Some(1.0)
        );
    }

    #[test]
    fn a_panicking_session_is_no_longer_counted_as_open() {
        let metrics = Metrics::new();
        let session = metrics.session(ListenerTls::Implicit);
        let transfer = metrics.transfer_running();
        assert_eq!(value(&metrics, "portcullis_sessions"), Some(1.0));
        assert_eq!(value(&metrics, "portcullis_transfers"), Some(1.0));
        std::thread::spawn(move || {
            let _held = (session, transfer);
            std::panic::resume_unwind(Box::new("a session's panic"));
        })
        .join()
        .expect_err("the thread panics");
        assert_eq!(value(&metrics, "portcullis_sessions"), Some(0.0));
        assert_eq!(value(&metrics, "portcullis_transfers"), Some(0.0));
        assert_eq!(
            value(
                &metrics,
                r#"portcullis_sessions_total{listener="implicit"}"#
            ),
            Some(1.0)
        );
    }

    #[test]
    fn only_an_accepted_configuration_moves_its_time() {
        const LOADED: &str = "portcullis_config_last_reload_success_timestamp_seconds";
        let metrics = Metrics::new();
        metrics.reload(ReloadSubject::Configuration, ReloadResult::Refused);
        metrics.reload(ReloadSubject::Certificate, ReloadResult::Ok);
        assert_eq!(value(&metrics, LOADED), Some(0.0));
        metrics.reload(ReloadSubject::Configuration, ReloadResult::Ok);
        assert!(value(&metrics, LOADED) > Some(1.7e9));
    }

    #[test]
    fn two_instances_share_nothing() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.accept_error();
        assert_eq!(value(&other, "portcullis_accept_errors_total"), Some(0.0));
    }
}
