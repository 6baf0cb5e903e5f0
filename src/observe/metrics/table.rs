//! The table: name, labels and meaning of every metric, and which series there are before anything has happened.

use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry,
};

use super::STDERR_LOG;
use super::backends::PASSED;
use super::register::Register;
use crate::config::{NO_SITE, TlsMode};
use crate::outcome::{
    BackendStatus, CheckStage, DataHandshake, DialStage, Direction, GuardAction, HandshakeResult,
    KeyExchange, Leg, LimitExceeded, LoginResult, ProxyHeaderFault, ReloadResult, ReloadSubject,
    Resumption, Verdict,
};
use crate::policy::CertificateResult;

/// Upper bounds in seconds. A backend in the same rack answers within 1 ms; from 10 s on, it is as good as down.
const DIAL_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Upper bounds in seconds. Programs log in as fast as the network and the server's disk allow, people type for a while;
/// `timeouts.login` is 60 s by default.
const LOGIN_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Upper bounds in seconds: from a listing to a copy of a disk.
const TRANSFER_BUCKETS: [f64; 10] = [
    0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// Upper bounds in bytes a second: from a modem to more than one core encrypts.
const RATE_BUCKETS: [f64; 10] = [1e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9];

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
    pub login_time: HistogramVec,
    pub guard: IntCounterVec,
    pub client_certificates: IntCounterVec,
    pub crl_next_update: IntGaugeVec,
    pub tls_handshakes: IntCounterVec,
    pub tls_key_exchanges: IntCounterVec,
    pub data_tls_handshakes: IntCounterVec,
    pub sessions_by_resumption: IntCounterVec,
    pub transfers_running: IntGauge,
    pub transfers: IntCounterVec,
    pub transfer_bytes: IntCounterVec,
    pub transfer_time: HistogramVec,
    pub transfer_rate: HistogramVec,
    pub clear_transfers: IntCounterVec,
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
    pub backend_certificate_not_before: IntGaugeVec,
    pub backend_certificate_not_after: IntGaugeVec,
    pub client_certificate_not_before: IntGaugeVec,
    pub client_certificate_not_after: IntGaugeVec,
    pub passive_ports_in_use: IntGauge,
    pub passive_exhausted: IntCounter,
    pub passive_ambiguous: IntCounter,
    pub passive_strangers: IntCounter,
    pub certificate_info: IntGaugeVec,
    pub certificate_not_before: IntGaugeVec,
    pub certificate_not_after: IntGaugeVec,
    pub reloads: IntCounterVec,
    pub reload_refused: IntGaugeVec,
    pub config_last_reload_success: IntGauge,
    pub acme_orders: IntCounterVec,
    /// Without a label: none at all where no certificate is ordered.
    pub acme_next_attempt: IntGaugeVec,
}

impl Table {
    /// Registers every metric, with all label values that don't depend on sites at zero.
    pub fn new(registry: &Registry) -> Self {
        let register = Register(registry);
        let fips = if cfg!(feature = "fips") {
            "true"
        } else {
            "false"
        };
        register
            .gauges("build_info", "Always 1.", &["version", "fips"])
            .with_label_values(&[env!("CARGO_PKG_VERSION"), fips])
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
                "Lines lost because a full disk or a slow reader did not take them, or since the file was removed and can't be opened anew; log: that on stderr, others: files of transfer_logs.",
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
            login_time: register.histograms(
                "login_seconds",
                "Time from accepting a session until its first login has succeeded, with the time that its user took to type.",
                &["site"],
                &LOGIN_BUCKETS,
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
            tls_key_exchanges: register.counters(
                "tls_key_exchanges_total",
                "Handshakes of clients' control connections that were done, by the group that agreed upon the keys.",
                &["group"],
            ),
            data_tls_handshakes: register.counters(
                "data_tls_handshakes_total",
                "TLS handshakes of data connections; resumed: bound to an earlier session.",
                &["leg", "kind"],
            ),
            sessions_by_resumption: register.counters(
                "sessions_by_resumption_total",
                "Sessions that ended after data connections under TLS, by how many of these resumed: all could.",
                &["site", "resumed"],
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
            transfer_time: register.histograms(
                "transfer_seconds",
                "Time from the command to the end of complete transfers.",
                &["site", "direction"],
                &TRANSFER_BUCKETS,
            ),
            transfer_rate: register.histograms(
                "transfer_bytes_per_second",
                "Bytes a second of complete transfers of 1 MiB and more, from the command to the end.",
                &["site", "direction"],
                &RATE_BUCKETS,
            ),
            clear_transfers: register.counters(
                "clear_transfers_total",
                "Transfers whose client had its data connection in clear text: PROT C, or no TLS at all.",
                &["site"],
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
            backend_certificate_not_before: register.gauges(
                "backend_certificate_not_before_seconds",
                "From when on the certificate that a backend showed last is valid, in Unix time; unknown if it was refused as expired.",
                &["site", "backend"],
            ),
            backend_certificate_not_after: register.gauges(
                "backend_certificate_not_after_seconds",
                "When the certificate that a backend showed last expires, in Unix time; seen at logins and checks.",
                &["site", "backend"],
            ),
            client_certificate_not_before: register.gauges(
                "backend_client_certificate_not_before_seconds",
                "From when on the certificate that a backend is shown is valid, in Unix time.",
                &["site", "backend"],
            ),
            client_certificate_not_after: register.gauges(
                "backend_client_certificate_not_after_seconds",
                "When the certificate that a backend is shown expires, in Unix time.",
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
            certificate_info: register.gauges(
                "certificate_info",
                "Always 1, for each certificate that new connections may get.",
                &["fingerprint", "name", "subject"],
            ),
            certificate_not_before: register.gauges(
                "certificate_not_before_seconds",
                "From when on a certificate that new connections may get is valid, or an issuer in its chain that ends before it, in Unix time.",
                &["name"],
            ),
            certificate_not_after: register.gauges(
                "certificate_not_after_seconds",
                "When a certificate that new connections may get expires, in Unix time.",
                &["name"],
            ),
            client_certificates: register.counters(
                "client_certificates_total",
                "Client certificates that logins came with, or without, at sites that ask for them; none: in the handshake.",
                &["site", "result"],
            ),
            crl_next_update: register.gauges(
                "crl_next_update_seconds",
                "When there is to be a newer one of a revocation list of clients' certificates, in Unix time.",
                &["file"],
            ),
            reloads: register.counters(
                "reloads_total",
                "Reloads; refused: the new state was broken and the old one stays.",
                &["subject", "result"],
            ),
            reload_refused: register.gauges(
                "reload_refused",
                "1 while what lies there is refused or can't be read, and an older state is in use: until it is mended or replaced.",
                &["subject"],
            ),
            config_last_reload_success: register.gauge(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in use was loaded, in Unix time.",
            ),
            acme_orders: register.counters(
                "acme_orders_total",
                "Orders of certificates, and how far they came.",
                &["result", "stage"],
            ),
            acme_next_attempt: register.gauges(
                "acme_next_attempt_seconds",
                "When the next certificate is ordered, in Unix time; while `tls.acme.state` can't be used, since when.",
                &[],
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
        for result in CertificateResult::ALL {
            self.client_certificates
                .with_label_values(&[site, result.as_str()]);
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
            let labels = [site, direction.as_str()];
            self.rate_limited.with_label_values(&labels);
            let _: Histogram = self.transfer_time.with_label_values(&labels);
            let _: Histogram = self.transfer_rate.with_label_values(&labels);
        }
        for resumption in Resumption::ALL {
            self.sessions_by_resumption
                .with_label_values(&[site, resumption.as_str()]);
        }
        for stage in DialStage::ALL {
            self.backend_dial_failures
                .with_label_values(&[site, stage.as_str()]);
        }
        let _: Histogram = self.login_time.with_label_values(&[site]);
        let _: Histogram = self.backend_dial.with_label_values(&[site]);
        self.clear_transfers.with_label_values(&[site]);
        self.commands_denied.with_label_values(&[site]);
        self.backend_unclean_close.with_label_values(&[site]);
        self.backend_failovers.with_label_values(&[site]);
        self.backend_queue.with_label_values(&[site]);
    }

    /// Puts what is counted at a backend, labelled by site and backend, at zero. Again does no harm.
    pub fn start_backend_from_zero(&self, labels: [&str; 2], checks: bool) {
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

    /// Removes the times of a certificate that is no longer shown to clients.
    pub fn forget_certificate_validity(&self, name: &str) {
        for times in [&self.certificate_not_before, &self.certificate_not_after] {
            let _ = times.remove_label_values(&[name]);
        }
    }

    /// Removes what is said of a certificate that is no longer shown to clients.
    pub fn forget_certificate_info(&self, labels: [&str; 3]) {
        let _ = self.certificate_info.remove_label_values(&labels);
    }

    /// Removes the series of a backend's certificate.
    pub fn forget_backend_certificate(&self, labels: [&str; 2]) {
        self.forget_backend_not_before(labels);
        let _ = self
            .backend_certificate_not_after
            .remove_label_values(&labels);
    }

    /// Removes the series of the certificate that a backend was shown.
    pub fn forget_client_certificate(&self, labels: [&str; 2]) {
        for gauge in [
            &self.client_certificate_not_before,
            &self.client_certificate_not_after,
        ] {
            let _ = gauge.remove_label_values(&labels);
        }
    }

    /// Removes the beginning of a backend's certificate.
    pub fn forget_backend_not_before(&self, labels: [&str; 2]) {
        let _ = self
            .backend_certificate_not_before
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
        for group in KeyExchange::ALL {
            self.tls_key_exchanges.with_label_values(&[group.as_str()]);
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
