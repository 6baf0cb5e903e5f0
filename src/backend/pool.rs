//! What one configuration says of its sites' backends, tied to what the process knows of them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::registry::{BackendState, Registry, SiteState};
use crate::base::{BackendId, SiteId};
use crate::config::{self, BackendTls, Site, TlsMode};
use crate::ftp::server::PortMethods;
use crate::observe::metrics::{Metrics, OpenSession};
use crate::tls::{BackendTlsClient, BackendTlsError};

/// The pools of one configuration, one for each site.
#[derive(Debug)]
pub struct Pools(HashMap<SiteId, Arc<Pool>>);

/// A site's backends. There is at least one.
#[derive(Debug)]
pub struct Pool {
    site: Arc<Site>,
    state: Arc<SiteState>,
    /// As configured, in that order.
    pub(super) backends: Vec<Arc<Backend>>,
}

/// One backend, as one site has it.
#[derive(Debug)]
pub struct Backend {
    pub(super) settings: config::Backend,
    /// None for one in clear text.
    pub(super) tls: Option<UpstreamTls>,
    state: Arc<BackendState>,
}

/// TLS towards a backend.
#[derive(Debug)]
pub(super) struct UpstreamTls {
    /// When it starts.
    pub start: TlsMode,
    pub client: BackendTlsClient,
}

/// A session's slot at a site; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the place gives it back"]
pub struct SiteSlot {
    state: Arc<SiteState>,
    _counted: OpenSession,
}

/// The TLS of a backend can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("site {site}, backend {backend}: {source}")]
pub struct BackendError {
    /// The site's name.
    pub site: String,
    /// The backend's address as configured.
    pub backend: String,
    /// What is wrong.
    pub source: Box<BackendTlsError>,
}

impl Pools {
    /// The pools of these sites, with trust anchors and verifiers read from their files.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If a CA file or the system's trust store can't be used, or a server name isn't one.
    pub fn load(sites: &[Arc<Site>], registry: &Registry) -> Result<Self, BackendError> {
        let pools = sites.iter().map(|site| {
            let pool = Pool::load(site, registry)?;
            Ok((pool.id(), Arc::new(pool)))
        });
        pools.collect::<Result<_, _>>().map(Self)
    }

    /// The pool of a site of this configuration.
    pub fn of(&self, site: SiteId) -> &Arc<Pool> {
        // Ids come from the router, which leads to `self.sites()` alone, and a session has both of one snapshot.
        self.0.get(&site).expect("invariant: a site has a pool")
    }

    /// The sites of this configuration.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, Arc<Site>)> {
        self.0
            .iter()
            .map(|(id, pool)| (*id, Arc::clone(&pool.site)))
    }
}

impl Pool {
    fn load(site: &Arc<Site>, registry: &Registry) -> Result<Self, BackendError> {
        let backends = site.backends.iter().map(|settings| {
            let backend = Backend::load(settings, registry).map_err(|source| BackendError {
                site: site.name.clone(),
                backend: settings.to_string(),
                source: Box::new(source),
            });
            Ok(Arc::new(backend?))
        });
        Ok(Self {
            backends: backends.collect::<Result<_, _>>()?,
            site: Arc::clone(site),
            state: registry.site(&site.name),
        })
    }

    /// The site that it is for.
    pub fn id(&self) -> SiteId {
        self.state.id
    }

    /// The site's name, for log and metrics.
    pub fn name(&self) -> &str {
        &self.site.name
    }

    /// Takes a slot at the site for a session, counted in `metrics`; `None` if `most` sessions have one, those of
    /// earlier configurations included.
    pub fn admit(&self, limit: usize, metrics: &Metrics) -> Option<SiteSlot> {
        self.state.acquire(limit).then(|| SiteSlot {
            state: Arc::clone(&self.state),
            _counted: metrics.session_at(&self.site.name),
        })
    }
}

impl Drop for SiteSlot {
    fn drop(&mut self) {
        self.state.release();
    }
}

impl Backend {
    fn load(settings: &config::Backend, registry: &Registry) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref().map(UpstreamTls::load);
        Ok(Self {
            tls: tls.transpose()?,
            state: registry.backend(BackendId {
                host: settings.host.clone(),
                port: settings.port,
            }),
            settings: settings.clone(),
        })
    }

    /// The ways in which it is not to be asked for data connections, as earlier sessions have found out.
    pub fn avoided(&self, now: Instant) -> PortMethods {
        self.state.avoided(now)
    }

    /// Remembers those for later sessions; returns whether they are new.
    pub fn avoid(&self, methods: PortMethods, now: Instant) -> bool {
        self.state.avoid(methods, now)
    }
}

impl UpstreamTls {
    fn load(settings: &BackendTls) -> Result<Self, BackendTlsError> {
        Ok(Self {
            start: settings.start,
            client: BackendTlsClient::new(settings)?,
        })
    }
}

impl fmt::Display for Backend {
    /// Its address as configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CloseNotify, PassiveMode, SessionReuse, UserTemplate};

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site {
            name: name.to_owned(),
            default: false,
            hosts: Vec::new(),
            backends: Vec::new(),
            user: UserTemplate::default(),
            session_reuse: SessionReuse::Prefer,
            passive_mode: PassiveMode::Auto,
            close_notify: CloseNotify::Require,
        })
    }

    fn pool(name: &str, registry: &Registry) -> Pool {
        Pool::load(&site(name), registry).expect("a pool")
    }

    #[test]
    fn a_site_gets_its_share_and_leaves_the_rest_to_the_others() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let (one, other) = (pool("one", &registry), pool("other", &registry));
        let held = [(); 2].map(|()| one.admit(2, &metrics));
        assert!(held.iter().all(Option::is_some));
        assert!(one.admit(2, &metrics).is_none());
        assert!(other.admit(2, &metrics).is_some());
        drop(held);
        let all = [(); 2].map(|()| one.admit(2, &metrics));
        assert!(all.iter().all(Option::is_some));
    }

    #[test]
    fn a_site_is_known_by_its_name_across_reloads() {
        let (registry, metrics) = (Registry::default(), Metrics::new());
        let _held = [(); 2].map(|()| pool("one", &registry).admit(2, &metrics));
        assert!(pool("one", &registry).admit(2, &metrics).is_none());
        assert!(pool("one", &registry).admit(3, &metrics).is_some());
    }
}
