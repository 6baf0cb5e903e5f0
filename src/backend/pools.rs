//! The pools of all sites of one configuration.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::configured::ConfiguredBackend;
use super::discovered::Discovered;
use super::pool::{BackendError, Pool};
use super::registry::Registry;
use super::site_state::SiteState;
use crate::base::SiteId;
use crate::config::{NO_SITE, Site};
use crate::observe::metrics::Metrics;
use crate::tls::{BackendClientCertificateLoader, BackendClientCertificates, NonCaTrustAnchor};

/// The pools of one configuration.
#[derive(Debug)]
pub struct Pools {
    sites: HashMap<SiteId, SitePools>,
    /// The client certificates that backends are shown.
    certificates: BackendClientCertificates,
}

/// The pools of one site.
#[derive(Debug)]
struct SitePools {
    site: Arc<Site>,
    /// For users of no group; `None` if there are no such users.
    own: Option<Arc<Pool>>,
    /// The pools of the site's groups, in the order of `site.groups`.
    groups: Vec<Arc<Pool>>,
}

impl Pools {
    /// The pools of these sites, with trust anchors, verifiers and client certificates read from their files.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If a CA file, a client certificate or the system's trust store can't be used, or a server name isn't one.
    pub fn load(sites: &[Arc<Site>], registry: &Registry) -> Result<Self, BackendError> {
        let none = BackendClientCertificates::default();
        Self::reload(sites, registry, &none, SystemTime::now())
    }

    /// As [`load`](Self::load) at `now`, where backends are shown the `former` certificates: a valid one of these stays in use
    /// where the one in its files isn't valid.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reload(
        sites: &[Arc<Site>],
        registry: &Registry,
        former: &BackendClientCertificates,
        now: SystemTime,
    ) -> Result<Self, BackendError> {
        let mut certificates = BackendClientCertificateLoader::new(former, now);
        let pools = sites.iter().map(|site| {
            let state = registry.site(&site.name);
            let pools = SitePools::load(site, &state, registry, &mut certificates)?;
            Ok((state.id, pools))
        });
        Ok(Self {
            sites: pools.collect::<Result<_, _>>()?,
            certificates: certificates.loaded(),
        })
    }

    /// The certificates that backends are shown.
    pub fn backend_client_certificates(&self) -> &BackendClientCertificates {
        &self.certificates
    }

    /// The files of authorities by which backends are verified, and that have none in them.
    pub fn non_ca_trust_anchors(&self) -> BTreeSet<NonCaTrustAnchor> {
        let entries = self.all().flat_map(|pool| &pool.entries);
        let clients = entries.filter_map(|entry| Some(&entry.tls()?.client));
        clients
            .filter_map(|client| client.non_ca_trust_anchor().cloned())
            .collect()
    }

    /// Shows when those are valid.
    pub fn report_backend_client_certificates(&self, metrics: &Metrics) {
        for pool in self.all() {
            for entry in &pool.entries {
                entry.report_backend_client_certificate(&pool.site, metrics);
            }
        }
    }

    /// The pool of a site of this configuration, or of the group at this place of its groups.
    pub fn of(&self, site: SiteId, group: Option<usize>) -> &Arc<Pool> {
        // Both come from the router, which leads to `self.sites()` alone, and a session has both of one snapshot.
        let pools = self.sites.get(&site).expect("invariant: a site has pools");
        let pool = match group {
            Some(group) => pools.groups.get(group),
            None => pools.own.as_ref(),
        };
        pool.expect("invariant: users have a pool")
    }

    /// The name of a site of this configuration.
    pub fn site_name(&self, site: SiteId) -> &str {
        self.sites
            .get(&site)
            .map_or(NO_SITE, |pools| &pools.site.name)
    }

    /// Every pool, of each site in the order of its groups.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.sites
            .values()
            .flat_map(|pools| pools.own.iter().chain(&pools.groups))
    }

    /// Any one pool of each site.
    pub(super) fn one_of_each_site(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.sites
            .values()
            .filter_map(|pools| pools.own.iter().chain(&pools.groups).next())
    }

    /// Every entry for which name servers are asked, with its pool.
    pub(super) fn discovered(&self) -> impl Iterator<Item = (&Arc<Pool>, &Arc<Discovered>)> {
        self.all().flat_map(|pool| {
            pool.entries.iter().filter_map(move |entry| match entry {
                ConfiguredBackend::One(_) => None,
                ConfiguredBackend::Discovered(entry) => Some((pool, entry)),
            })
        })
    }

    /// Puts the state of every backend into the metrics, and removes those of earlier configurations.
    pub fn report(&self, metrics: &Metrics) {
        metrics.only_backends(self.all().flat_map(|pool| {
            let entries = pool.entries.iter();
            entries.map(|entry| entry.shown(&pool.site))
        }));
        let backends = || self.all().flat_map(|pool| pool.backends());
        for backend in backends() {
            backend.state.clear_shown();
        }
        for backend in backends() {
            backend.state.show_as(&backend);
        }
        for backend in backends() {
            backend.report(metrics);
            // For a series that it had not before.
            backend.show_certificate(metrics);
        }
        for (_, entry) in self.discovered() {
            entry.report_if_empty(metrics);
        }
        self.report_backend_client_certificates(metrics);
        // One signal for all of them: limits have changed as well.
        if let Some(any) = self.all().next() {
            any.candidates_changed();
        }
    }

    /// The sites of this configuration.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, Arc<Site>)> {
        self.sites
            .iter()
            .map(|(id, pools)| (*id, Arc::clone(&pools.site)))
    }
}

impl SitePools {
    fn load(
        site: &Arc<Site>,
        state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendError> {
        let own = match site.backends.is_empty() {
            true => None,
            false => Some(Pool::load(site, None, state, registry, certificates)?),
        };
        let groups = site.groups.iter();
        let groups = groups.map(|group| {
            Pool::load(site, Some(group), state, registry, certificates).map(Arc::new)
        });
        Ok(Self {
            site: Arc::clone(site),
            own: own.map(Arc::new),
            groups: groups.collect::<Result<_, _>>()?,
        })
    }
}
