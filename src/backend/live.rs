//! The state of the sites and their backends as operators see it, and what operators change of it: a backend that is to get
//! no new logins, a site that is to be out of service.
//!
//! A change by an operator lasts until it is changed back or the process ends, and no reload ends it: a certificate
//! renewed at night must not bring a server back that stands open on a table.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::check_state::LastCheck;
use super::pool::Pool;
use super::pools::Pools;
use super::site_backend::{Backend, BackendChecks};
use crate::base::SiteId;
use crate::config::{CheckLevel, Site};
use crate::observe::metrics::Metrics;
use crate::outcome::BackendStatus;
use crate::tls::Validity;

/// Summary of one backend, as one site has it.
#[derive(Debug)]
pub struct BackendSummary {
    /// The site's name.
    pub site: String,
    /// The group's name, if it is a group's.
    pub group: Option<String>,
    /// The entry as configured.
    pub label: String,
    /// The backend's address.
    pub address: String,
    /// The backend's state.
    pub status: BackendStatus,
    /// For how long the backend has been out, if it is.
    pub out_for: Option<Duration>,
    /// The reason why the backend gets no new logins, if it gets none.
    pub drained_by: Option<DrainedBy>,
    /// The site's sessions at it.
    pub sessions: usize,
    /// The sessions of all sites at the backend.
    pub all_sessions: usize,
    /// The limit of these sessions.
    pub max_sessions: Option<usize>,
    /// The backend's share of the logins, relative to the others'.
    pub weight: u32,
    /// Whether the backend serves only where others can't.
    pub backup: bool,
    /// The last check of it.
    pub last_check: Option<LastCheck>,
    /// The validity period of the backend's certificate, as last seen.
    pub certificate: Option<Validity>,
    /// The login of its checks, if they log in.
    pub check_login: Option<CheckLogin>,
}

/// The login of the checks of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLogin {
    /// The user to log in as.
    pub user: String,
    /// The file with the password.
    pub password_file: PathBuf,
    /// The directory that is listed after the login, if any.
    pub listed: Option<String>,
    /// Whether the password has been refused: checks end before USER then, but for one attempt every ten minutes.
    pub is_refused: bool,
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

/// Summary of one site.
#[derive(Debug)]
pub struct SiteSummary<'a> {
    /// The site as configured.
    pub site: &'a Site,
    /// The number of the site's sessions.
    pub sessions: usize,
    /// Whether an operator has taken it out of service.
    pub is_in_maintenance: bool,
}

/// An operator's request can't be carried out.
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
        /// The backend asked for.
        backend: String,
    },
    /// The configuration itself keeps it from getting logins.
    #[error(
        "backend {backend:?} of site {site:?} is drained by the configuration (`drain: true` or `weight: 0`): change that and reload"
    )]
    Configured {
        /// The site's name.
        site: String,
        /// The backend asked for.
        backend: String,
    },
}

/// The outcome of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// The sessions that the site still has at it.
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
        let sites = self.one_of_each_site();
        let mut summaries: Vec<_> = sites
            .map(|pool| SiteSummary {
                site: &pool.site,
                sessions: pool.site_sessions(),
                is_in_maintenance: pool.is_in_maintenance(),
            })
            .collect();
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
            backend.set_drained(true, metrics);
        }
        // Each once: the site and its groups may have the same one.
        let states: HashMap<_, _> = found.iter().map(|it| (&it.id, &it.at_site)).collect();
        let mut all = self.of_site(site);
        Ok(DrainReport {
            sessions: states.values().map(|it| it.sessions()).sum(),
            others: all.any(|it| it.takes_logins()),
        })
    }

    /// Lets new logins come to it again. One that the configuration drains stays as it is.
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
        if found.iter().any(|it| !it.settings.takes_logins()) {
            return Err(OperatorError::Configured {
                site: site.to_owned(),
                backend: backend.to_owned(),
            });
        }
        for it in &found {
            it.set_drained(false, metrics);
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

    /// The address of the first backend that is configured by this name.
    pub fn address_of(&self, backend: &str) -> Option<String> {
        let mut all = self.all().flat_map(|pool| pool.backends());
        let named = all.find(|it| *it.label == *backend)?;
        Some(named.server.endpoint.to_string())
    }

    /// Whether a backend of this name, host or address exists.
    pub fn has_backend(&self, backend: &str) -> bool {
        let mut all = self.all().flat_map(|pool| pool.backends());
        all.any(|it| {
            let endpoint = &it.server.endpoint;
            [&*it.label, &endpoint.host, &endpoint.to_string()].contains(&backend)
        })
    }

    /// Any one of the pools of a site.
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
        by(&|it| *it.label == *backend)
            .or_else(|| by(&|it| it.server.endpoint.to_string() == backend))
            .or_else(|| by(&|it| it.server.endpoint.host == backend))
            .ok_or_else(|| OperatorError::NoBackend {
                site: site.to_owned(),
                backend: backend.to_owned(),
            })
    }
}

impl BackendChecks {
    fn login(&self) -> Option<CheckLogin> {
        let (probe, listed) = match &self.settings.checks.level {
            CheckLevel::Connect | CheckLevel::Greeting | CheckLevel::Ready => return None,
            CheckLevel::Login(probe) => (probe, None),
            CheckLevel::List(probe) => (probe, Some(probe.path.clone())),
        };
        Some(CheckLogin {
            user: probe.user.clone(),
            password_file: probe.password.path.clone(),
            listed,
            is_refused: self.site.probe_logins.pause.stands_against(probe),
        })
    }
}

impl Backend {
    fn summary(&self, group: Option<String>, now: Instant) -> BackendSummary {
        let out_since = self.availability().out_since();
        let drained_by = if !self.settings.takes_logins() {
            Some(DrainedBy::Configuration)
        } else if !self.takes_logins() {
            Some(DrainedBy::Operator)
        } else {
            None
        };
        BackendSummary {
            site: self.site.clone(),
            group,
            label: self.label.to_string(),
            address: self.server.endpoint.to_string(),
            status: self.status(),
            out_for: out_since.map(|since| now.saturating_duration_since(since)),
            drained_by,
            sessions: self.at_site.sessions(),
            all_sessions: self.state.sessions(),
            max_sessions: self.settings.max_sessions,
            weight: self.server.weight.unwrap_or(self.settings.weight),
            backup: self.settings.backup,
            last_check: self.checks.as_ref().and_then(|it| it.state.last()),
            certificate: self.certificate(),
            check_login: self.checks.as_ref().and_then(BackendChecks::login),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::backend::fixtures::load;
    use crate::backend::{BackendSlot, Registry};

    const BACKEND: &str = "192.0.2.1:21";

    /// Two sites that have the same backend, and one of them for a group as well.
    fn of_two_sites(registry: &Registry) -> Pools {
        let sites = format!(
            "- name: a\n  default: true\n  backends: [{{address: \"{BACKEND}\", max_sessions: 3}}]\n\
             \x20 groups: [{{name: moved, users: [bob], backends: [{{address: \"{BACKEND}\"}}]}}]\n\
             - name: b\n  hosts: [b.test]\n  backends: [{{address: \"{BACKEND}\", max_sessions: 3}}]\n"
        );
        load(&sites, registry)
    }

    /// A site whose backend is configured in this way, and put in force.
    fn of_one_site(backend: &str, registry: &Registry, metrics: &Metrics) -> Pools {
        let sites = format!(
            "- name: a\n  default: true\n  backends: [{{address: \"{BACKEND}\", {backend}}}]\n"
        );
        let pools = load(&sites, registry);
        pools.report(metrics);
        pools
    }

    fn session(pools: &Pools, site: &str, metrics: &Arc<Metrics>) -> Option<BackendSlot> {
        pools
            .of_site(site)
            .next()
            .expect("a backend")
            .acquire(metrics)
    }

    /// For each row, the site, its sessions at the backend, and those of all sites.
    fn counts(pools: &Pools) -> Vec<(String, usize, usize)> {
        let summaries = pools.summaries().into_iter();
        let counts = summaries.map(|it| (it.site, it.sessions, it.all_sessions));
        counts.collect()
    }

    #[test]
    fn each_site_is_shown_its_own_sessions_at_a_backend_that_several_have() {
        let (registry, metrics) = (Registry::default(), Arc::new(Metrics::new()));
        let former = of_two_sites(&registry);
        let held = [(); 2].map(|()| session(&former, "a", &metrics));
        assert!(held.iter().all(Option::is_some));
        let pools = of_two_sites(&registry);
        drop(former);
        let row = |site: &str, own, all| (site.to_owned(), own, all);
        assert_eq!(
            counts(&pools),
            [row("a", 2, 2), row("a", 2, 2), row("b", 0, 2)]
        );
        let drain = |site| {
            pools
                .drain(site, BACKEND, &metrics)
                .map(|report| report.sessions)
        };
        assert_eq!((drain("a"), drain("b")), (Ok(2), Ok(0)));

        let other = session(&pools, "b", &metrics);
        assert!(other.is_some());
        assert!(
            session(&pools, "b", &metrics).is_none(),
            "the limit is that of all sites"
        );
        drop(held);
        assert_eq!(
            counts(&pools),
            [row("a", 0, 1), row("a", 0, 1), row("b", 1, 1)]
        );
    }

    #[test]
    fn a_reload_keeps_what_is_known_of_a_backends_certificate() {
        const TLS: &str = "tls: explicit, verify: none";
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let seen = Validity {
            not_before: Some(UNIX_EPOCH),
            not_after: UNIX_EPOCH + Duration::from_secs(1_234_567),
        };
        let known = |pools: &Pools| pools.summaries()[0].certificate;
        let is_shown = |label: &str| {
            let labels = format!("{{backend=\"{label}\",site=\"a\"}} 1234567");
            let series = format!("portcullis_backend_certificate_not_after_seconds{labels}");
            metrics.render().contains(&series)
        };
        let first = of_one_site(TLS, &registry, &metrics);
        assert_eq!(known(&first), None);
        let backend = first.of_site("a").next().expect("a backend");
        backend.learn_validity(seen, &metrics);
        assert!(is_shown(BACKEND));

        let named = of_one_site(&format!("{TLS}, name: be1"), &registry, &metrics);
        drop((first, backend));
        assert_eq!(known(&named), Some(seen));
        assert!(is_shown("be1") && !is_shown(BACKEND));

        let clear = of_one_site("tls: none", &registry, &metrics);
        drop(named);
        assert_eq!(known(&clear), None);
        let again = of_one_site(TLS, &registry, &metrics);
        drop(clear);
        assert_eq!(known(&again), Some(seen));
        assert!(is_shown(BACKEND));
    }

    #[test]
    fn a_session_of_an_earlier_configuration_tells_the_one_in_use_of_the_certificate() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let former = of_one_site("tls: explicit, verify: none", &registry, &metrics);
        let pools = of_one_site("tls: implicit, verify: none", &registry, &metrics);
        let backend = former.of_site("a").next().expect("a backend");
        let seen = Validity::expired(UNIX_EPOCH);
        backend.learn_validity(seen, &metrics);
        assert_eq!(pools.summaries()[0].certificate, Some(seen));
    }
}
