//! Makes the active checks of the backends, one task for each, and draws the conclusions.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::check::{Check, CheckRecord};
use super::check_state::LastCheck;
use super::failure_cause::FailureCause;
use super::monitor_context::MonitorContext;
use super::pool::Pool;
use super::site_backend::{Backend, BackendChecks};
use crate::base::BackendId;
use crate::base::task::Task;
use crate::config::CheckLevel;

/// The time from one check to the next while the backend's state changes, if the interval is longer.
const FAST: Duration = Duration::from_secs(2);

/// The tasks that check these backends, as far as there are checks.
pub(super) fn start(
    backends: &[(&Arc<Pool>, &Arc<Backend>)],
    context: &MonitorContext,
) -> Vec<(BackendId, Task<()>)> {
    let checked: Vec<_> = backends
        .iter()
        .filter(|(_, backend)| backend.checks.is_some())
        .collect();
    let count = u32::try_from(checked.len()).unwrap_or(u32::MAX);
    let now = Instant::now();
    let tasks = (0..).zip(checked).filter_map(|(number, (pool, backend))| {
        let checks = backend.checks.as_ref()?;
        // Spread evenly: a thousand handshakes at once would slow down the sessions, and time out themselves.
        let interval = checks.settings.checks.interval;
        let first = now + interval * number / count;
        let due = checks
            .state
            .begin(checks.settings.clone(), first.into_std())
            .into();
        let checker = Checker {
            pool: Arc::clone(pool),
            backend: Arc::clone(backend),
            context: context.clone(),
        };
        let id = backend.id.clone();
        Some((id, Task::spawn(checker.run(due))))
    });
    tasks.collect()
}

/// Checks one backend of one site.
struct Checker {
    pool: Arc<Pool>,
    backend: Arc<Backend>,
    context: MonitorContext,
}

impl Checker {
    async fn run(self, first: Instant) {
        let Some(checks) = &self.backend.checks else {
            return;
        };
        let interval = checks.settings.checks.interval;
        let mut due = first;
        loop {
            self.wait_until(due, interval).await;
            let began = Instant::now();
            // Before the check: a reload in the midst of it doesn't begin it again.
            checks.state.set_due((began + interval).into_std());
            self.check(checks).await;
            let is_changing = checks.state.checked().is_changing();
            let pace = match is_changing {
                true => interval.min(FAST),
                false => interval,
            };
            due = (began + pace).max(Instant::now());
            checks.state.set_due(due.into_std());
        }
    }

    /// Waits until a check is due, which it is soon once logins have failed.
    async fn wait_until(&self, due: Instant, interval: Duration) {
        let ejected = self.backend.at_site.ejected.notified();
        tokio::select! {
            () = sleep_until(due) => {}
            () = ejected => sleep_until(due.min(Instant::now() + interval.min(FAST))).await,
        }
    }

    async fn check(&self, checks: &BackendChecks) {
        let backend = &self.backend;
        let check = Check {
            backend,
            passive_mode: checks.settings.passive_mode,
            resolver: &self.context.resolver,
            timeouts: &self.context.timeouts,
            logins: &checks.site.probe_logins,
        };
        let level = &checks.settings.checks.level;
        let record = check.run(level).await;
        self.conclude(checks, level, &record);
    }

    fn conclude(&self, checks: &BackendChecks, level: &CheckLevel, record: &CheckRecord) {
        let (backend, metrics) = (&self.backend, &*self.context.metrics);
        let (site, label) = (&backend.site, &backend.label);
        let now = Instant::now().into_std();
        let failure = record.failure();
        let stage = failure.map(|(stage, _)| stage);
        metrics.backend_checked(site, label, stage, record.took());
        checks.state.set_last(LastCheck {
            at: now,
            took: record.took(),
            failed_at: stage,
        });
        if let Some(validity) = record.certificate {
            backend.learn_validity(validity, metrics);
        }
        let Some((stage, error)) = failure else {
            return backend.check_passed(checks, self.goes_as_deep_as_a_login(level), metrics, now);
        };
        tracing::debug!(site, %backend, stage = stage.as_str(), %error, "check failed");
        match error.failure_cause() {
            FailureCause::Busy | FailureCause::Local => {}
            // As far as the checks go from now on, it works.
            FailureCause::CheckAccount => backend.check_passed(checks, true, metrics, now),
            FailureCause::Backend => {
                if backend.check_failed(checks, stage, error, metrics, now) && self.pool.is_out() {
                    self.pool.warn_of_last_resort();
                }
            }
        }
    }

    /// Whether a check at this level does all that a login does before USER.
    fn goes_as_deep_as_a_login(&self, level: &CheckLevel) -> bool {
        match level {
            CheckLevel::Connect => false,
            CheckLevel::Greeting => self.backend.tls.is_none(),
            CheckLevel::Ready | CheckLevel::Login(_) | CheckLevel::List(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Pools, Registry};
    use crate::config::{self, Timeouts};
    use crate::observe::metrics::Metrics;
    use std::path::Path;

    fn pools(health: &str, registry: &Registry) -> Pools {
        let text = format!(
            "listeners: [{{address: 127.0.0.1:0, tls: explicit}}]\n\
             tls: {{certificate: tls.crt, private_key: tls.key}}\n\
             sites:\n\
             - name: a\n  default: true\n  {health}\n  backends:\n\
             \x20 - {{address: 192.0.2.1}}\n  - {{address: 192.0.2.2}}\n  - {{address: 192.0.2.3, drain: true}}\n"
        );
        let settings = config::parse(&text, Path::new("p.yaml")).expect("a configuration");
        Pools::load(&settings.sites, registry).expect("pools")
    }

    fn start_all(pools: &Pools) -> Vec<(BackendId, Task<()>)> {
        let open: Vec<_> = pools
            .all()
            .flat_map(|pool| pool.configured().map(move |backend| (pool, backend)))
            .filter(|(_, backend)| backend.settings.takes_logins())
            .collect();
        let context = MonitorContext {
            timeouts: Timeouts::default(),
            dns_servers: Vec::new(),
            resolver: Arc::default(),
            registry: Arc::default(),
            metrics: Arc::new(Metrics::new()),
        };
        start(&open, &context)
    }

    /// In how long the check of each backend is due.
    fn due(pools: &Pools) -> Vec<Duration> {
        let now = Instant::now().into_std();
        let checks = pools.all().flat_map(|pool| pool.configured());
        let checks = checks.filter(|backend| backend.settings.takes_logins());
        let due = checks.map(|backend| {
            let checks = backend.checks.as_ref().expect("it is checked");
            let due = checks.state.begin(checks.settings.clone(), now);
            due.saturating_duration_since(now)
        });
        due.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_without_checks_has_no_task_for_them() {
        let registry = Registry::default();
        for health in ["queue: 0s", "health: {level: off}"] {
            assert!(start_all(&pools(health, &registry)).is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn checks_are_spread_over_their_interval_and_a_reload_does_not_begin_it_anew() {
        let registry = Registry::default();
        let ten = Duration::from_secs(10);
        let former = pools("health: {}", &registry);
        let tasks = start_all(&former);
        assert_eq!(tasks.len(), 2, "one takes no logins");
        assert_eq!(due(&former), [Duration::ZERO, ten / 2]);

        let reloaded = pools("health: {interval: 10s}", &registry);
        let _tasks = start_all(&reloaded);
        assert_eq!(due(&reloaded), [Duration::ZERO, ten / 2]);
        let other = pools("health: {interval: 20s}", &registry);
        let _tasks = start_all(&other);
        assert_eq!(due(&other), [Duration::ZERO, ten]);
    }
}
