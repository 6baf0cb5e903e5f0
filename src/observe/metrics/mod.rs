//! What the program counts: a method for everything that happens, and the text that a scrape gets.
//!
//! Every metric is in one table (`table`), with its labels and what it means. Label values come from the configuration
//! or from enums, never from a client: unbounded label values can exhaust the memory of the monitoring system
//! (CVE-2022-21698). A site that wasn't declared counts as `none`. All metrics live in a registry of their own, so that
//! two instances in one test don't share numbers.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Registry, TextEncoder};

use crate::config::{NO_SITE, TlsMode};
use crate::outcome::{
    BackendStatus, CheckStage, DataHandshake, DialStage, Direction, GuardAction, HandshakeResult,
    Leg, LimitExceeded, LoginResult, ProxyHeaderFault, ReloadResult, ReloadSubject, Verdict,
};

pub use self::running::{OpenSession, RunningTransfer};
use self::table::Table;
pub use self::totals::SiteTotals;

mod running;
mod table;
mod totals;

/// Names in front of every metric of this program.
const PREFIX: &str = "portcullis";

/// A backend that has series of its own, as one site has it.
#[derive(Debug, Clone, Copy)]
pub struct ShownBackend<'a> {
    /// The site's name.
    pub site: &'a str,
    /// The backend's address as configured.
    pub backend: &'a str,
    /// Which series there are beside those of every backend.
    pub shown: Shown,
}

/// What a backend has series for, beside those of every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Active checks.
    pub checks: bool,
    /// TLS, and so a certificate.
    pub tls: bool,
}

/// What a check that passed has in place of the stage at which it failed.
const PASSED: &str = "ok";

/// All numbers that the program keeps about itself. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The site names that may become label values.
    sites: RwLock<HashSet<String>>,
    /// By site and backend, what the configuration in use has.
    backends: Mutex<HashMap<(String, String), Shown>>,
    table: Table,
}

impl Metrics {
    /// Every metric of the program, at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new_custom(Some(PREFIX.to_owned()), None)
            .expect("invariant: only an empty prefix is refused");
        Self {
            table: Table::new(&registry),
            sites: RwLock::default(),
            backends: Mutex::default(),
            registry,
        }
    }

    /// Makes `name` a label value, with everything that is counted by site at zero, so that rates and alerts see the
    /// first event. To be called for every configured site, at start and after a reload; again does no harm.
    pub fn declare_site(&self, name: &str) {
        self.sites
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned());
        self.table.start_site_from_zero(name);
    }

    /// A session began; it counts as open until the returned value is dropped.
    pub fn session(&self, listener: TlsMode) -> OpenSession {
        self.table
            .sessions_total
            .with_label_values(&[listener.as_str()])
            .inc();
        OpenSession::counted_in(&self.table.sessions)
    }

    /// A session is at `site` until the returned value is dropped.
    pub fn session_at(&self, site: &str) -> OpenSession {
        let label = self.site_label(site);
        OpenSession::counted_in(&self.table.site_sessions.with_label_values(&[label]))
    }

    /// Sets how many tasks there are.
    pub fn tasks(&self, alive: usize) {
        self.table
            .tasks
            .set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    /// A connection was refused.
    pub fn session_refused(&self, reason: LimitExceeded) {
        self.table
            .sessions_refused
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Accepting a connection failed.
    pub fn accept_error(&self) {
        self.table.accept_errors.inc();
    }

    /// A connection had no PROXY header where it has to have one.
    pub fn proxy_header_fault(&self, fault: ProxyHeaderFault) {
        self.table
            .proxy_header_faults
            .with_label_values(&[fault.as_str()])
            .inc();
    }

    /// A login ended. `site` is a configured site's name, or [`NO_SITE`].
    pub fn login(&self, site: &str, result: LoginResult) {
        self.table
            .logins
            .with_label_values(&[self.site_label(site), result.as_str()])
            .inc();
    }

    /// A client of `site` was denied a command.
    pub fn command_denied(&self, site: &str) {
        let site = self.site_label(site);
        self.table.commands_denied.with_label_values(&[site]).inc();
    }

    /// Failed logins at `site` have led to this.
    pub fn guard(&self, site: &str, action: GuardAction) {
        self.table
            .guard
            .with_label_values(&[self.site_label(site), action.as_str()])
            .inc();
    }

    /// The TLS handshake of a client's control connection ended.
    pub fn handshake(&self, result: HandshakeResult) {
        self.table
            .tls_handshakes
            .with_label_values(&result.labels())
            .inc();
    }

    /// The TLS handshake of a data connection ended.
    pub fn data_handshake(&self, leg: Leg, result: DataHandshake) {
        self.table
            .data_tls_handshakes
            .with_label_values(&[leg.as_str(), result.as_str()])
            .inc();
    }

    /// A transfer began; it counts as running until the returned value is dropped.
    pub fn transfer_running(&self) -> RunningTransfer {
        RunningTransfer::counted_in(&self.table.transfers_running)
    }

    /// A transfer ended after `bytes` of payload.
    pub fn transfer(&self, site: &str, direction: Direction, verdict: Verdict, bytes: u64) {
        let labels = [self.site_label(site), direction.as_str(), verdict.as_str()];
        self.table.transfers.with_label_values(&labels).inc();
        self.table
            .transfer_bytes
            .with_label_values(&labels)
            .inc_by(bytes);
    }

    /// A transfer has been held back for this time by the rate of its site or session.
    pub fn held_back(&self, site: &str, direction: Direction, time: Duration) {
        self.table
            .rate_limited
            .with_label_values(&[self.site_label(site), direction.as_str()])
            .inc_by(time.as_secs_f64());
    }

    /// A backend is ready for USER, `elapsed` after dialling it.
    pub fn backend_dialled(&self, site: &str, elapsed: Duration) {
        self.table
            .backend_dial
            .with_label_values(&[self.site_label(site)])
            .observe(elapsed.as_secs_f64());
    }

    /// A backend couldn't be made ready for USER.
    pub fn backend_dial_failed(&self, site: &str, stage: DialStage) {
        self.table
            .backend_dial_failures
            .with_label_values(&[self.site_label(site), stage.as_str()])
            .inc();
    }

    /// A session has a slot at a backend until the returned value is dropped.
    pub fn session_at_backend(&self, site: &str, backend: &str) -> OpenSession {
        let labels = [self.site_label(site), backend];
        OpenSession::counted_in(&self.table.backend_sessions.with_label_values(&labels))
    }

    /// A login waits for a slot at any of a site's backends until the returned value is dropped.
    pub fn waiting_for_backend(&self, site: &str) -> OpenSession {
        let label = self.site_label(site);
        OpenSession::counted_in(&self.table.backend_queue.with_label_values(&[label]))
    }

    /// The state that a backend is in.
    pub fn backend_status(&self, site: &str, backend: &str, status: BackendStatus) {
        for state in BackendStatus::ALL {
            self.table
                .backend_state
                .with_label_values(&[self.site_label(site), backend, state.as_str()])
                .set(i64::from(*state == status));
        }
    }

    /// A backend was taken out.
    pub fn backend_ejected(&self, site: &str, backend: &str) {
        self.table
            .backend_ejections
            .with_label_values(&[self.site_label(site), backend])
            .inc();
    }

    /// A login was served by a further backend.
    pub fn backend_failover(&self, site: &str) {
        self.table
            .backend_failovers
            .with_label_values(&[self.site_label(site)])
            .inc();
    }

    /// A check of a backend has ended after this time, passed or failed at a stage.
    pub fn backend_checked(
        &self,
        site: &str,
        backend: &str,
        failed: Option<CheckStage>,
        elapsed: Duration,
    ) {
        self.if_shown(
            site,
            backend,
            |shown| shown.checks,
            || {
                let stage = failed.map_or(PASSED, CheckStage::as_str);
                self.table
                    .backend_checks
                    .with_label_values(&[site, backend, stage])
                    .inc();
                self.table
                    .backend_check
                    .with_label_values(&[site, backend])
                    .set(elapsed.as_secs_f64());
            },
        );
    }

    /// A backend's certificate has this end.
    pub fn backend_certificate_not_after(&self, site: &str, backend: &str, expires: SystemTime) {
        self.if_shown(
            site,
            backend,
            |shown| shown.tls,
            || {
                self.table
                    .backend_certificate_not_after
                    .with_label_values(&[site, backend])
                    .set(unix_time(expires));
            },
        );
    }

    /// What comes from an earlier configuration makes no series that this one hasn't.
    fn if_shown(
        &self,
        site: &str,
        backend: &str,
        has: impl FnOnce(Shown) -> bool,
        update: impl FnOnce(),
    ) {
        let name = (site.to_owned(), backend.to_owned());
        let known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(&name).is_some_and(|shown| has(*shown)) {
            update();
        }
    }

    /// These are all backends of the configuration in use: the series of others are removed, and theirs begin at zero.
    pub fn only_backends<'a>(&self, current: impl Iterator<Item = ShownBackend<'a>>) {
        let current: HashMap<(String, String), Shown> = current
            .map(|it| ((it.site.to_owned(), it.backend.to_owned()), it.shown))
            .collect();
        let mut known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, had) in &*known {
            let labels = [name.0.as_str(), name.1.as_str()];
            let has = current.get(name);
            if has.is_none() {
                self.table.forget_backend(labels);
            }
            let has = has.copied().unwrap_or_default();
            if had.checks && !has.checks {
                self.table.forget_checks(labels);
            }
            if had.tls && !has.tls {
                self.table.forget_backend_certificate(labels);
            }
        }
        for ((site, backend), shown) in &current {
            self.table
                .start_backend_from_zero([site, backend], shown.checks);
        }
        *known = current;
    }

    /// A backend ended the TLS data connection of a download without close_notify; what it replies is yet to come.
    pub fn backend_unclean_close(&self, site: &str) {
        self.table
            .backend_unclean_close
            .with_label_values(&[self.site_label(site)])
            .inc();
    }

    /// Sets how many leases of passive ports wait for their data connection.
    pub fn passive_ports_in_use(&self, ports: usize) {
        self.table
            .passive_ports_in_use
            .set(i64::try_from(ports).unwrap_or(i64::MAX));
    }

    /// PASV or EPSV found no free passive port.
    pub fn passive_exhausted(&self) {
        self.table.passive_exhausted.inc();
    }

    /// A data connection could not be distinguished from another of the client's address, and its transfer fails.
    pub fn passive_ambiguous(&self) {
        self.table.passive_ambiguous.inc();
    }

    /// A connection to a passive port belonged to no session.
    pub fn passive_stranger(&self) {
        self.table.passive_strangers.inc();
    }

    /// New connections get a certificate with this end.
    pub fn certificate_not_after(&self, expires: SystemTime) {
        self.table.certificate_not_after.set(unix_time(expires));
        self.is_refused(ReloadSubject::Certificate, false);
    }

    /// A reload ended.
    pub fn reload(&self, subject: ReloadSubject, result: ReloadResult) {
        self.table
            .reloads
            .with_label_values(&[subject.as_str(), result.as_str()])
            .inc();
        self.is_refused(subject, result == ReloadResult::Refused);
    }

    /// What lies there of this is refused, and something older in use, or it isn't any more.
    pub fn is_refused(&self, subject: ReloadSubject, refused: bool) {
        self.table
            .reload_refused
            .with_label_values(&[subject.as_str()])
            .set(refused.into());
    }

    /// A configuration is in use from now on, after the start or a reload.
    pub fn configuration_loaded(&self) {
        let now = unix_time(SystemTime::now());
        self.table.config_last_reload_success.set(now);
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
}

/// In seconds; 1970 for what was before.
fn unix_time(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
