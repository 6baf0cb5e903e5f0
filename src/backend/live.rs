//! The state of the sites and their backends as operators see it, and what operators change of it: a backend that is to get
//! no new logins, a site that is to be out of service.
//!
//! What an operator has changed lasts until it is changed back or the process ends, and no reload ends it: a certificate
//! renewed at night must not bring a server back that stands open on a table.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::check_state::LastCheck;
use super::pool::{Backend, Pool, Pools};
use crate::base::SiteId;
use crate::config::Site;
use crate::observe::metrics::Metrics;
use crate::outcome::BackendStatus;

/// One backend, as one site has it.
#[derive(Debug)]
pub struct BackendSummary {
    /// The site's name.
    pub site: String,
    /// The group's name, if it is a group's.
    pub group: Option<String>,
    /// As configured.
    pub label: String,
    /// Where it is.
    pub address: String,
    /// Its state.
    pub status: BackendStatus,
    /// For how long it has been out, if it is.
    pub out_for: Option<Duration>,
    /// What keeps logins from it.
    pub drained_by: Option<DrainedBy>,
    /// Its sessions, of all sites.
    pub sessions: usize,
    /// How many there may be.
    pub max_sessions: Option<usize>,
    /// Its share of the logins.
    pub weight: u32,
    /// Whether it serves only where others can't.
    pub backup: bool,
    /// The last check of it.
    pub last_check: Option<LastCheck>,
    /// When its certificate expires, as last seen.
    pub certificate_expires: Option<SystemTime>,
}

/// Why a backend takes no new logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainedBy {
    /// `drain: true` or `weight: 0`.
    Configuration,
    /// An operator's `drain`, until `ready` or the end of the process.
    Operator,
}

/// One site.
#[derive(Debug)]
pub struct SiteSummary<'a> {
    /// What the configuration says of it.
    pub site: &'a Site,
    /// Its sessions.
    pub sessions: usize,
    /// Whether an operator has taken it out of service.
    pub is_in_maintenance: bool,
}

/// What an operator has asked for can't be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// No such site.
    #[error("there is no site {0:?}; `portcullis backends` shows those that there are")]
    NoSite(String),
    /// No such backend.
    #[error(
        "site {site:?} has no backend {backend:?}; `portcullis backends` shows those that there are"
    )]
    NoBackend {
        /// The site's name.
        site: String,
        /// What was asked for.
        backend: String,
    },
    /// The configuration itself keeps it from getting logins.
    #[error(
        "backend {backend:?} of site {site:?} is drained by the configuration (`drain: true` or `weight: 0`): change that and reload"
    )]
    Configured {
        /// The site's name.
        site: String,
        /// What was asked for.
        backend: String,
    },
}

/// What came of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// The sessions that the backend still has.
    pub sessions: usize,
    /// Whether another backend of the site takes logins.
    pub others: bool,
}

impl Pools {
    /// Every backend of every site.
    pub fn summaries(&self) -> Vec<BackendSummary> {
        let now = Instant::now();
        let pools = self.all();
        let of_pool = |pool: &Arc<Pool>| {
            let group = pool.group().map(str::to_owned);
            let backends = pool.backends().into_iter();
            backends
                .map(|backend| backend.summary(group.clone(), now))
                .collect::<Vec<_>>()
        };
        let mut summaries: Vec<_> = pools.flat_map(of_pool).collect();
        // Stable, so that the backends of a site stay in the order of the configuration.
        summaries.sort_by(|one, other| one.site.cmp(&other.site));
        summaries
    }

    /// Every site, by name.
    pub fn site_summaries(&self) -> Vec<SiteSummary<'_>> {
        let mut summaries: Vec<_> = self.site_states().collect();
        summaries.sort_by(|one, other| one.site.name.cmp(&other.site.name));
        summaries
    }

    /// Keeps new logins of this site from a backend, named by its name, its address, or its host; its sessions go on.
    ///
    /// # Errors
    /// If there is none such.
    pub fn drain(
        &self,
        site: &str,
        backend: &str,
        metrics: &Metrics,
    ) -> Result<DrainReport, OperatorError> {
        let found = self.named(site, backend)?;
        for backend in &found {
            backend.drained.store(true, Ordering::Relaxed);
            backend.report(metrics);
        }
        let mut all = self.of_site(site);
        Ok(DrainReport {
            sessions: found.iter().map(|it| it.state.sessions()).sum(),
            others: all.any(|it| it.takes_logins()),
        })
    }

    /// Lets new logins come to it again.
    ///
    /// # Errors
    /// If there is none such, or if the configuration drains it.
    pub fn undrain(
        &self,
        site: &str,
        backend: &str,
        metrics: &Metrics,
    ) -> Result<(), OperatorError> {
        let found = self.named(site, backend)?;
        for it in &found {
            it.drained.store(false, Ordering::Relaxed);
            it.report(metrics);
        }
        if found.iter().any(|it| !it.settings.takes_logins()) {
            return Err(OperatorError::Configured {
                site: site.to_owned(),
                backend: backend.to_owned(),
            });
        }
        // One signal for all of them.
        if let Some(any) = self.all().next() {
            any.wake_waiting();
        }
        Ok(())
    }

    /// Takes a site out of service, or puts it back; returns whether that changes anything.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn set_maintenance(&self, site: &str, on: bool) -> Result<bool, OperatorError> {
        Ok(self.pool_of(site)?.set_maintenance(on) != on)
    }

    /// The site of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn site_id(&self, site: &str) -> Result<SiteId, OperatorError> {
        self.pool_of(site).map(|pool| pool.id())
    }

    /// Where the first backend is that is configured by this name.
    pub fn address_of(&self, backend: &str) -> Option<String> {
        let mut all = self.all().flat_map(|pool| pool.backends());
        let named = all.find(|it| it.label == backend)?;
        Some(named.server.endpoint.to_string())
    }

    /// One of the pools of a site.
    fn pool_of(&self, site: &str) -> Result<&Arc<Pool>, OperatorError> {
        let pool = self.all().find(|pool| pool.name() == site);
        pool.ok_or_else(|| OperatorError::NoSite(site.to_owned()))
    }

    fn of_site<'a>(&'a self, site: &'a str) -> impl Iterator<Item = Arc<Backend>> + use<'a> {
        let pools = self.all().filter(move |pool| pool.name() == site);
        pools.flat_map(|pool| pool.backends())
    }

    fn named(&self, site: &str, backend: &str) -> Result<Vec<Arc<Backend>>, OperatorError> {
        self.pool_of(site)?;
        let all: Vec<_> = self.of_site(site).collect();
        let by = |is: &dyn Fn(&Backend) -> bool| {
            let found: Vec<_> = all.iter().filter(|it| is(it)).cloned().collect();
            (!found.is_empty()).then_some(found)
        };
        // The first of these that fits anything: a name may be another backend's host.
        by(&|it| it.label == backend)
            .or_else(|| by(&|it| it.server.endpoint.to_string() == backend))
            .or_else(|| by(&|it| it.server.endpoint.host == backend))
            .ok_or_else(|| OperatorError::NoBackend {
                site: site.to_owned(),
                backend: backend.to_owned(),
            })
    }
}

impl Backend {
    fn summary(&self, group: Option<String>, now: Instant) -> BackendSummary {
        let out_since = self.standing().out_since();
        let drained_by = if !self.settings.takes_logins() {
            Some(DrainedBy::Configuration)
        } else if !self.takes_logins() {
            Some(DrainedBy::Operator)
        } else {
            None
        };
        let expires = self.certificate_expires.lock();
        BackendSummary {
            site: self.site.clone(),
            group,
            label: self.label.clone(),
            address: self.server.endpoint.to_string(),
            status: self.status(),
            out_for: out_since.map(|since| now.saturating_duration_since(since)),
            drained_by,
            sessions: self.state.sessions(),
            max_sessions: self.settings.max_sessions,
            weight: self.server.weight.unwrap_or(self.settings.weight),
            backup: self.settings.backup,
            last_check: self.checks.as_ref().and_then(|it| it.state.last()),
            certificate_expires: *expires.unwrap_or_else(PoisonError::into_inner),
        }
    }
}
