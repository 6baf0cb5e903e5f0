//! The consequences of logins and checks for a backend's state: for log and metrics, and for the logins to come.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::check::CheckError;
use super::check_state::PAUSE;
use super::checked::Availability;
use super::dial::DialError;
use super::failure_cause::FailureCause;
use super::health::HealthChange;
use super::site_backend::{Backend, BackendChecks};
use crate::base::text::escape_path;
use crate::config::Probe;
use crate::observe::metrics::Metrics;
use crate::outcome::{BackendStatus, CheckStage};
use crate::tls::Validity;

impl Backend {
    /// The backend's state, from logins and checks together.
    pub(super) fn availability(&self) -> Availability {
        let checked = self.checks.as_ref().map(|checks| checks.state.checked());
        Availability::of(&self.at_site.health(), checked.as_ref())
    }

    /// Records that the backend has become ready for a login.
    pub(super) fn succeeded(&self, metrics: &Metrics, now: Instant) {
        let change = self.at_site.record_health(|health| health.succeeded(now));
        if let Some(HealthChange::Restored { after }) = change {
            self.state_changed(metrics);
            if self.availability() == Availability::Up {
                let (site, backend) = (&self.site, self);
                tracing::info!(site, %backend, seconds = after.as_secs(), "backend up");
            }
        }
    }

    /// Records that the backend has not become ready for a login; returns whether that ejects it.
    pub(super) fn failed(&self, error: &DialError, metrics: &Metrics, now: Instant) -> bool {
        if let DialError::Handshake(fault) = error
            && let Some(expired) = fault.expired()
        {
            self.learn_validity(Validity::expired(expired), metrics);
        }
        let change = self
            .at_site
            .record_health(|health| match error.failure_cause() {
                FailureCause::Backend => health.failed(now),
                FailureCause::Busy | FailureCause::Local | FailureCause::CheckAccount => {
                    health.not_known(now);
                    None
                }
            });
        let Some(HealthChange::Ejected { failures }) = change else {
            return false;
        };
        metrics.backend_ejected(&self.site, &self.label);
        self.state_changed(metrics);
        let (site, backend, stage) = (&self.site, self, error.stage().as_str());
        let hint = error.hint(self);
        tracing::warn!(site, %backend, failures, stage, %error, hint, "backend ejected");
        true
    }

    /// A check of it has passed; `as_a_login` if it came as far as a login does before USER.
    pub(super) fn check_passed(
        &self,
        checks: &BackendChecks,
        as_a_login: bool,
        metrics: &Metrics,
        now: Instant,
    ) {
        let rise = checks.settings.checks.rise;
        let before = self.availability();
        checks.state.record(|checked| checked.passed(rise, now));
        if as_a_login
            && let Some(since) = self.at_site.health().ejected_since()
            && checks.state.checked().saw_the_end_of(since, rise)
        {
            self.at_site.record_health(|health| health.succeeded(now));
        }
        let availability = self.availability();
        if availability == before {
            return;
        }
        self.state_changed(metrics);
        if availability == Availability::Up
            && let Some(since) = before.out_since()
        {
            let seconds = now.saturating_duration_since(since).as_secs();
            let (site, backend) = (&self.site, self);
            tracing::info!(site, %backend, seconds, "backend up");
        }
    }

    /// A check of it has failed, by its own fault; returns whether it went down with that.
    pub(super) fn check_failed(
        &self,
        checks: &BackendChecks,
        stage: CheckStage,
        error: &CheckError,
        metrics: &Metrics,
        now: Instant,
    ) -> bool {
        let fall = checks.settings.checks.fall;
        let taken_down = checks.state.record(|checked| checked.failed(fall, now));
        let Some(failures) = taken_down else {
            return false;
        };
        self.state_changed(metrics);
        let (site, backend, stage) = (&self.site, self, stage.as_str());
        let hint = error.hint(self);
        tracing::warn!(site, %backend, failures, stage, %error, hint, "backend down");
        true
    }

    /// An operator keeps new logins from it, or lets them come again.
    pub(super) fn set_drained(&self, drained: bool, metrics: &Metrics) {
        self.at_site.drained.store(drained, Ordering::Relaxed);
        self.state_changed(metrics);
    }

    /// Logins that wait look again at each change, for the worse as well: where no backend is up any more, those that are down
    /// are tried.
    fn state_changed(&self, metrics: &Metrics) {
        self.report(metrics);
        self.state.candidates_changed();
    }

    /// It has refused the login of its site's probe, for the first time.
    pub(super) fn warn_of_refused_probe(&self, probe: &Probe, error: &CheckError) {
        tracing::warn!(
            site = self.site,
            backend = %self,
            user = probe.user,
            password_file = %escape_path(&probe.password.path),
            %error,
            hint = error.hint(self),
            "the probe's login was refused: checks of this site skip the login for {} minutes to avoid an account lockout; \
             put the right password into the file and reload",
            PAUSE.as_secs() / 60
        );
    }

    pub(super) fn status(&self) -> BackendStatus {
        let limit = self.settings.max_sessions.unwrap_or(usize::MAX);
        if !self.takes_logins() {
            return BackendStatus::Drain;
        }
        match self.availability() {
            Availability::Down { .. } => BackendStatus::Down,
            Availability::Ejected { .. } => BackendStatus::Ejected,
            Availability::Up if self.state.sessions() >= limit => BackendStatus::Full,
            Availability::Up => BackendStatus::Up,
        }
    }

    /// Shows the backend's state in metrics, as the sites of the configuration in use have it: `self` may be one of an earlier
    /// one.
    pub(super) fn report(&self, metrics: &Metrics) {
        self.state
            .for_each_shown(|backend| backend.show_status(metrics));
    }

    /// Updates the shown status wherever this backend has a limit of sessions: only then does it depend on their number.
    pub(super) fn report_if_limited(&self, metrics: &Metrics) {
        self.state.for_each_shown(|backend| {
            if backend.settings.max_sessions.is_some() {
                backend.show_status(metrics);
            }
        });
    }

    fn show_status(&self, metrics: &Metrics) {
        let status = self.status();
        let shown = match &self.statuses {
            Some(siblings) => siblings.note(&self.id, status),
            None => Some(status),
        };
        if let Some(shown) = shown {
            metrics.backend_status(&self.site, &self.label, shown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::backend::control::ReplyError;
    use crate::backend::fixtures::load;
    use crate::backend::health::FAILURES;
    use crate::backend::{Pools, Registry};
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    fn refused() -> DialError {
        DialError::Connect(io::ErrorKind::ConnectionRefused.into())
    }

    fn eject(backend: &Backend, metrics: &Metrics, now: Instant) {
        for _ in 0..FAILURES {
            backend.failed(&refused(), metrics, now);
        }
        assert!(matches!(
            backend.availability(),
            Availability::Ejected { .. }
        ));
    }

    #[test]
    fn an_ejected_backend_that_is_busy_or_that_we_cannot_dial_is_dialled_again_soon() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let pools = load(
            "- name: a\n  default: true\n  backends: [{address: 192.0.2.1}]\n",
            &registry,
        );
        let backend = backend_of(&pools, "a");
        let full = ReplyParser::default().push(Line::Whole(b"421 too many users"[..].into()));
        let full = full.expect("a reply").expect("a whole one");
        let mut now = Instant::now();
        eject(&backend, &metrics, now);
        let retry_at = || backend.at_site.health().retry_at().expect("it is ejected");
        let first = retry_at() - now;
        for error in [
            DialError::Greeting(ReplyError::Rejected(full)),
            DialError::Dns(io::ErrorKind::TimedOut.into()),
            DialError::Connect(rustix::io::Errno::MFILE.into()),
        ] {
            now = retry_at();
            assert!(!backend.failed(&error, &metrics, now));
            assert_eq!(retry_at() - now, first, "{error}");
        }
        now = retry_at();
        backend.failed(&refused(), &metrics, now);
        assert_eq!(retry_at() - now, 2 * first);
    }

    fn backend_of(pools: &Pools, site: &str) -> Arc<Backend> {
        let pool = pools.all().find(|pool| pool.name() == site);
        let backends = pool.expect("a site").backends();
        Arc::clone(backends.first().expect("a backend"))
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_changes_a_backends_state_has_the_logins_that_wait_look_again() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let site = "- name: a\n  default: true\n  health: {level: connect, fall: 1, rise: 1}\n  \
                    backends: [{address: 192.0.2.1}]\n";
        let pools = load(site, &registry);
        let (backend, now) = (backend_of(&pools, "a"), Instant::now());
        let pool = pools.all().next().expect("a pool");
        let checks = backend.checks.as_ref().expect("it is checked");
        let fails = || {
            let error = CheckError::Dial(refused());
            backend.check_failed(checks, CheckStage::Connect, &error, &metrics, now);
        };
        let changes: [(&str, &dyn Fn()); 7] = [
            ("ejected", &|| eject(&backend, &metrics, now)),
            ("restored", &|| backend.succeeded(&metrics, now)),
            ("down", &fails),
            ("up", &|| backend.check_passed(checks, false, &metrics, now)),
            ("drained", &|| backend.set_drained(true, &metrics)),
            ("ready", &|| backend.set_drained(false, &metrics)),
            ("maintenance", &|| {
                pool.set_maintenance(true);
            }),
        ];
        for (name, change) in changes {
            let woken = pool.next_change();
            change();
            let woken = timeout(Duration::ZERO, woken).await;
            assert!(woken.is_ok(), "{name}");
        }
    }

    #[test]
    fn what_fails_at_one_site_is_not_held_against_the_backend_at_another() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        for site in ["a", "b"] {
            metrics.declare_site(site);
        }
        let sites = "- name: a\n  default: true\n  backends: [{address: 192.0.2.1, tls: explicit, verify: none}]\n\
             - name: b\n  hosts: [b.test]\n  backends: [{address: 192.0.2.1}]\n";
        let pools = load(sites, &registry);
        pools.report(&metrics);
        let now = Instant::now();
        let (a, b) = (backend_of(&pools, "a"), backend_of(&pools, "b"));
        eject(&a, &metrics, now);
        assert_eq!(b.availability(), Availability::Up);
        let shown = |site, state| {
            let labels =
                format!("{{backend=\"192.0.2.1:21\",site=\"{site}\",state=\"{state}\"}} 1");
            metrics
                .render()
                .contains(&format!("portcullis_backend_state{labels}"))
        };
        assert!(shown("a", "ejected") && shown("b", "up"));
        b.succeeded(&metrics, now);
        assert!(shown("a", "ejected"), "nor does the other bring it back");
    }

    #[test]
    fn a_reload_keeps_an_ejected_backend_out_for_the_site_and_its_groups() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let site = "- name: a\n  default: true\n  backends: [{address: 192.0.2.1}]\n";
        let former = load(site, &registry);
        eject(&backend_of(&former, "a"), &metrics, Instant::now());
        let groups = "  groups: [{name: g, users: [bob], backends: [{address: 192.0.2.1}]}]\n";
        let pools = load(&format!("{site}{groups}"), &registry);
        drop(former);
        let all: Vec<_> = pools.all().flat_map(|pool| pool.backends()).collect();
        assert_eq!(all.len(), 2);
        for backend in &all {
            assert!(matches!(
                backend.availability(),
                Availability::Ejected { .. }
            ));
        }
    }
}
