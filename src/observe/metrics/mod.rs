//! Metrics of the process: a method for each event that is counted, and the text that a scrape gets.
//!
//! Every metric is in one table (`table`), with its labels and what it means. Label values come from the configuration
//! or from enums, never from a client: unbounded label values can exhaust the memory of the monitoring system
//! (CVE-2022-21698). A site that wasn't declared counts as `none`. All metrics live in a registry of their own, so that
//! two instances in one test don't share numbers. Values of the process are read when a scrape asks (`process`).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{IntCounter, Registry, TextEncoder};

use crate::config::{NO_SITE, TlsMode};
use crate::outcome::{
    AcmeResult, AcmeStage, DataHandshake, Direction, GuardAction, HandshakeResult, KeyExchange,
    Leg, LimitExceeded, LoginResult, ProxyHeaderFault, ReloadResult, ReloadSubject, Resumption,
    Verdict,
};
use crate::policy::CertificateResult;

pub use self::backends::{Shown, ShownBackend};
use self::running::BackendSessions;
pub use self::running::{BackendSession, OpenSession, RunningTransfer};
use self::table::Table;
pub use self::totals::SiteTotals;

mod backends;
mod process;
mod register;
mod running;
mod table;
mod totals;

/// In front of the name of every metric but the process's.
const PREFIX: &str = "portcullis";

/// A certificate that clients are shown.
#[derive(Debug, Clone, Copy)]
pub struct ServedCertificate<'a> {
    /// The certificate's name, by the configuration.
    pub name: &'a str,
    /// The fingerprint, as log and configuration write it.
    pub fingerprint: &'a str,
    /// The subject; printable.
    pub subject: &'a str,
    /// When the certificate becomes valid.
    pub not_before: SystemTime,
    /// When the certificate expires.
    pub not_after: SystemTime,
}

/// From how many bytes on a transfer has a rate: smaller ones are over before TCP is at speed.
const RATED_BYTES: u64 = 1 << 20;

/// Counts the lines that one log has lost.
#[derive(Debug, Clone)]
pub struct DroppedLines(IntCounter);

impl DroppedLines {
    /// Counts another dropped line.
    pub fn count(&self) {
        self.0.inc();
    }

    /// The number of dropped lines.
    pub fn total(&self) -> u64 {
        self.0.get()
    }
}

/// The log on stderr, as value of the label `log`; that of others is their file.
pub const STDERR_LOG: &str = "log";

/// All numbers that the program keeps about itself. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// When the process started, in Unix time: these are the first thing that it makes.
    start_time: i64,
    /// The site names that may become label values.
    sites: RwLock<HashSet<String>>,
    /// By site and backend, what the configuration in use has.
    backends: Mutex<HashMap<(String, String), Shown>>,
    /// By site and backend: those of the configuration in use, and those that sessions of earlier ones are at.
    backend_sessions: Mutex<HashMap<(String, String), Arc<BackendSessions>>>,
    /// By name, the fingerprint and the subject of the certificates that clients are shown.
    certificates: Mutex<HashMap<String, [String; 2]>>,
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
            backend_sessions: Mutex::default(),
            certificates: Mutex::default(),
            start_time: unix_time(SystemTime::now()),
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

    /// Counts a connection that was refused.
    pub fn session_refused(&self, reason: LimitExceeded) {
        self.table
            .sessions_refused
            .with_label_values(&[reason.as_str()])
            .inc();
    }

    /// Counts a failure to accept a connection.
    pub fn accept_error(&self) {
        self.table.accept_errors.inc();
    }

    /// Counts the lines of this log that are lost: [`STDERR_LOG`], or the file of a transfer log.
    pub fn dropped_lines(&self, log: &str) -> DroppedLines {
        DroppedLines(self.table.log_lines_dropped.with_label_values(&[log]))
    }

    /// Removes the series of a transfer log that is written no more.
    pub fn forget_log(&self, log: &str) {
        // A series that is not there needs no removal.
        let _ = self.table.log_lines_dropped.remove_label_values(&[log]);
    }

    /// A connection had no PROXY header where it has to have one.
    pub fn proxy_header_fault(&self, fault: ProxyHeaderFault) {
        self.table
            .proxy_header_faults
            .with_label_values(&[fault.as_str()])
            .inc();
    }

    /// Counts a login that has ended. `site` is a configured site's name, or [`NO_SITE`].
    pub fn login(&self, site: &str, result: LoginResult) {
        self.table
            .logins
            .with_label_values(&[self.site_label(site), result.as_str()])
            .inc();
    }

    /// A session has logged in for the first time, at `site`, `elapsed` after it was accepted.
    pub fn logged_in(&self, site: &str, elapsed: Duration) {
        self.table
            .login_time
            .with_label_values(&[self.site_label(site)])
            .observe(elapsed.as_secs_f64());
    }

    /// A client has shown a certificate, or none where it had to, and this has become of it at `site`, or in the handshake:
    /// then at [`NO_SITE`].
    pub fn client_certificate(&self, site: &str, result: CertificateResult) {
        self.table
            .client_certificates
            .with_label_values(&[self.site_label(site), result.as_str()])
            .inc();
    }

    /// Shows when there is to be a newer one of each of these revocation lists, named by their files, and of no others.
    pub fn revocation_lists<'a>(&self, lists: impl IntoIterator<Item = (&'a str, SystemTime)>) {
        let gauge = &self.table.crl_next_update;
        gauge.reset();
        for (file, next_update) in lists {
            gauge.with_label_values(&[file]).set(unix_time(next_update));
        }
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

    /// The keys of a client's control connection were agreed upon by this group.
    pub fn key_exchange(&self, group: KeyExchange) {
        self.table
            .tls_key_exchanges
            .with_label_values(&[group.as_str()])
            .inc();
    }

    /// Counts a session that has ended, by how far its data connections have resumed.
    pub fn session_resumed(&self, site: &str, resumption: Resumption) {
        self.table
            .sessions_by_resumption
            .with_label_values(&[self.site_label(site), resumption.as_str()])
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

    /// The number of transfers that run now.
    pub fn transfers_running(&self) -> u64 {
        u64::try_from(self.table.transfers_running.get()).unwrap_or_default()
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

    /// The data connection of a transfer's client was in clear text.
    pub fn clear_transfer(&self, site: &str) {
        let site = self.site_label(site);
        self.table.clear_transfers.with_label_values(&[site]).inc();
    }

    /// A transfer of `bytes` is complete, `elapsed` after its command.
    pub fn transfer_complete(
        &self,
        site: &str,
        direction: Direction,
        bytes: u64,
        elapsed: Duration,
    ) {
        let labels = [self.site_label(site), direction.as_str()];
        let seconds = elapsed.as_secs_f64();
        self.table
            .transfer_time
            .with_label_values(&labels)
            .observe(seconds);
        if bytes >= RATED_BYTES && seconds > 0.0 {
            // Exact up to 2^53 bytes.
            let rate = bytes as f64 / seconds;
            self.table
                .transfer_rate
                .with_label_values(&labels)
                .observe(rate);
        }
    }

    /// A transfer has been held back for this time by the rate of its site or session.
    pub fn held_back(&self, site: &str, direction: Direction, time: Duration) {
        self.table
            .rate_limited
            .with_label_values(&[self.site_label(site), direction.as_str()])
            .inc_by(time.as_secs_f64());
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

    /// New connections get one of these certificates, and no other.
    pub fn only_certificates<'a>(&self, served: impl Iterator<Item = ServedCertificate<'a>>) {
        let table = &self.table;
        let mut current = HashMap::new();
        for it in served {
            let info = [it.fingerprint, it.subject].map(str::to_owned);
            let (not_before, not_after) = (unix_time(it.not_before), unix_time(it.not_after));
            table
                .certificate_not_before
                .with_label_values(&[it.name])
                .set(not_before);
            table
                .certificate_not_after
                .with_label_values(&[it.name])
                .set(not_after);
            table
                .certificate_info
                .with_label_values(&[it.fingerprint, it.name, it.subject])
                .set(1);
            current.insert(it.name.to_owned(), info);
        }
        let mut known = self
            .certificates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (name, [fingerprint, subject]) in &*known {
            match current.get(name) {
                Some(now) if now == &[fingerprint.as_str(), subject] => continue,
                Some(_) => {}
                None => table.forget_certificate_validity(name),
            }
            table.forget_certificate_info([fingerprint, name, subject]);
        }
        *known = current;
    }

    /// Counts a reload that has ended.
    pub fn reload(&self, subject: ReloadSubject, result: ReloadResult) {
        self.table
            .reloads
            .with_label_values(&[subject.as_str(), result.as_str()])
            .inc();
    }

    /// Sets whether a file of this kind is refused, and something older in use; the [`ReloadLog`](super::reloads::ReloadLog)
    /// knows which one.
    pub(super) fn is_refused(&self, subject: ReloadSubject, refused: bool) {
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

    /// Certificates are ordered from now on: every result counts from zero, so that alerts see the first.
    pub fn declare_orders(&self) {
        let orders = &self.table.acme_orders;
        orders.with_label_values(&order_labels(AcmeResult::Issued, AcmeStage::Download));
        for stage in AcmeStage::ALL {
            orders.with_label_values(&order_labels(AcmeResult::Failed, *stage));
        }
    }

    /// An order of a certificate ended at this stage.
    pub fn order(&self, result: AcmeResult, stage: AcmeStage) {
        let labels = order_labels(result, stage);
        self.table.acme_orders.with_label_values(&labels).inc();
    }

    /// When the next certificate is ordered; `None` where none is.
    pub fn next_order(&self, at: Option<SystemTime>) {
        let gauge = &self.table.acme_next_attempt;
        match at {
            Some(at) => gauge.with_label_values::<&str>(&[]).set(unix_time(at)),
            None => gauge.reset(),
        }
    }

    /// All metrics in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(process::families(self.start_time));
        TextEncoder::new()
            .encode_to_string(&families)
            .expect("invariant: a registry leaves out empty families, and a String takes any text")
    }

    /// `name` if it is a configured site's, else [`NO_SITE`].
    fn site_label<'a>(&self, name: &'a str) -> &'a str {
        let sites = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        if sites.contains(name) { name } else { NO_SITE }
    }
}

fn order_labels(result: AcmeResult, stage: AcmeStage) -> [&'static str; 2] {
    [result.as_str(), stage.as_str()]
}

/// A time in seconds of Unix time; 0 for what was before 1970.
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
