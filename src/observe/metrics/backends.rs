//! Metrics of backends: a method for each event of one, and the choice of series that each has.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use super::{BackendSession, Metrics, OpenSession, unix_time};
use crate::outcome::{BackendStatus, CheckStage, DialStage};

/// A backend that has series of its own, as one site has it.
#[derive(Debug, Clone, Copy)]
pub struct ShownBackend<'a> {
    /// The site's name.
    pub site: &'a str,
    /// The label of the backend's entry: its name, or its address as configured.
    pub backend: &'a str,
    /// The series that it has beside those of every backend.
    pub shown: Shown,
}

/// The series that a backend has beside those of every backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Whether it has the series of active checks.
    pub checks: bool,
    /// TLS, and so a certificate.
    pub tls: bool,
    /// A certificate that it is shown.
    pub client_certificate: bool,
}

/// Label value for a check that passed, in place of the stage at which one failed.
pub(super) const PASSED: &str = "ok";

impl Metrics {
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

    /// A session has a slot at a backend until the returned value is dropped. Counts as well where the backend has no series now.
    pub fn session_at_backend(&self, site: &str, backend: &str) -> BackendSession {
        let name = (site.to_owned(), backend.to_owned());
        let all = self.backend_sessions.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        BackendSession::counted_in(Arc::clone(all.entry(name).or_default()))
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
        self.if_shown(
            site,
            backend,
            |_| true,
            || {
                let ejections = &self.table.backend_ejections;
                ejections.with_label_values(&[site, backend]).inc();
            },
        );
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

    /// A backend's certificate is valid from `not_before`, if that is known, to `not_after`.
    pub fn backend_certificate(
        &self,
        site: &str,
        backend: &str,
        not_before: Option<SystemTime>,
        not_after: SystemTime,
    ) {
        self.if_shown(
            site,
            backend,
            |shown| shown.tls,
            || {
                let labels = [site, backend];
                let table = &self.table;
                table
                    .backend_certificate_not_after
                    .with_label_values(&labels)
                    .set(unix_time(not_after));
                match not_before {
                    Some(not_before) => table
                        .backend_certificate_not_before
                        .with_label_values(&labels)
                        .set(unix_time(not_before)),
                    // That of an earlier certificate would make the lifetime of neither.
                    None => table.forget_backend_not_before(labels),
                }
            },
        );
    }

    /// The certificate that a backend is shown is valid from `not_before` to `not_after`.
    pub fn backend_client_certificate(
        &self,
        site: &str,
        backend: &str,
        not_before: SystemTime,
        not_after: SystemTime,
    ) {
        self.if_shown(
            site,
            backend,
            |shown| shown.client_certificate,
            || {
                let labels = [site, backend];
                let table = &self.table;
                table
                    .client_certificate_not_before
                    .with_label_values(&labels)
                    .set(unix_time(not_before));
                table
                    .client_certificate_not_after
                    .with_label_values(&labels)
                    .set(unix_time(not_after));
            },
        );
    }

    /// Events of an earlier configuration make no series that this one hasn't.
    fn if_shown<T>(
        &self,
        site: &str,
        backend: &str,
        has: impl FnOnce(Shown) -> bool,
        update: impl FnOnce() -> T,
    ) -> Option<T> {
        let name = (site.to_owned(), backend.to_owned());
        let known = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shown = known.get(&name).is_some_and(|shown| has(*shown));
        is_shown.then(update)
    }

    /// Sets all backends of the configuration in use: the series of others are removed, and those of these begin at zero.
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
            if had.client_certificate && !has.client_certificate {
                self.table.forget_client_certificate(labels);
            }
        }
        for ((site, backend), shown) in &current {
            self.table
                .start_backend_from_zero([site, backend], shown.checks);
        }
        let sessions = self.backend_sessions.lock();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        // Of a backend that is no more, as long as it has sessions.
        sessions.retain(|name, it| {
            it.show_in(None);
            current.contains_key(name) || Arc::strong_count(it) > 1
        });
        for name in current.keys() {
            let labels = [name.0.as_str(), name.1.as_str()];
            let series = self.table.backend_sessions.with_label_values(&labels);
            let of_backend = sessions.entry(name.clone()).or_default();
            of_backend.show_in(Some(series));
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
}
