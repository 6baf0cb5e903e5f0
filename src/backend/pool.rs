//! One configuration's view of a site's backends, tied to the process's state of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::balance;
use super::configured::ConfiguredBackend;
use super::members::Members;
use super::registry::Registry;
use super::site_backend::Backend;
use super::site_state::SiteState;
use super::waiting_heads::WaitingHeads;
use crate::base::fair_queue::FairQueue;
use crate::base::wakeup::Wakeup;
use crate::base::{ClientKey, SiteId};
use crate::config::{Balance, Group, Site};
use crate::limit::SiteBandwidth;
use crate::observe::metrics::{Metrics, OpenSession};
use crate::tls::{BackendClientCertificateLoader, BackendTlsError};

/// The backends of a site, or of a group of one.
#[derive(Debug)]
pub struct Pool {
    pub(super) site: Arc<Site>,
    /// The group's name, if it is for one.
    group: Option<String>,
    state: Arc<SiteState>,
    /// The logins of this configuration that wait for one of these backends.
    queue: FairQueue,
    /// The first of them, and those of other configurations.
    waiting_heads: Arc<WaitingHeads>,
    /// As configured, in that order; at least one.
    pub(super) entries: Vec<ConfiguredBackend>,
    /// The backends that the entries stand for at the moment.
    members: ArcSwap<Members>,
    /// Notified when a login that waits for a backend may find one.
    candidates: Arc<Wakeup>,
}

/// A session's slot at a site; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it frees the slot"]
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
    /// The cause.
    pub source: Box<BackendTlsError>,
}

impl Pool {
    pub(super) fn load(
        site: &Arc<Site>,
        group: Option<&Group>,
        state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendError> {
        let backends = group.map_or(&site.backends, |group| &group.backends);
        let group = group.map(|group| group.name.clone());
        let entries = backends.iter().map(|settings| {
            ConfiguredBackend::load(settings, site, state, registry, certificates).map_err(
                |source| BackendError {
                    site: site.name.clone(),
                    backend: settings.to_string(),
                    source: Box::new(source),
                },
            )
        });
        let pool = Self {
            entries: entries.collect::<Result<_, _>>()?,
            members: ArcSwap::from_pointee(Members::new(Vec::new())),
            candidates: registry.candidates(),
            queue: FairQueue::default(),
            waiting_heads: state.waiting_heads(group.as_deref()),
            site: Arc::clone(site),
            group,
            state: Arc::clone(state),
        };
        pool.renew_members();
        Ok(pool)
    }

    /// From now on, logins get the backends that the entries stand for now.
    pub(super) fn renew_members(&self) {
        let backends = self.entries.iter().flat_map(|entry| match entry {
            ConfiguredBackend::One(backend) => vec![Arc::clone(backend)],
            ConfiguredBackend::Discovered(entry) => entry.found(),
        });
        self.members
            .store(Arc::new(Members::new(backends.collect())));
        self.candidates_changed();
    }

    /// All backends at the moment.
    pub(super) fn backends(&self) -> Vec<Arc<Backend>> {
        self.members.load().backends().to_vec()
    }

    /// The backends whose address is configured, which last as long as the configuration.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.entries.iter().filter_map(|entry| match entry {
            ConfiguredBackend::One(backend) => Some(backend),
            ConfiguredBackend::Discovered(_) => None,
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

    /// The number of the site's sessions.
    pub(super) fn site_sessions(&self) -> usize {
        self.state.sessions()
    }

    /// The bandwidth that the site's transfers share, those of sessions of earlier configurations included.
    pub fn bandwidth(&self) -> &Arc<SiteBandwidth> {
        &self.state.bandwidth
    }

    /// A hash of what `balance` looks at of a login; 0 where it looks at nothing.
    pub fn login_key(&self, user: &[u8], client: IpAddr) -> u64 {
        let of = |key: &[u8]| balance::hash([self.site.name.as_bytes(), key]);
        match self.site.balance {
            // As servers on Windows do, for which `Alice` and `alice` are one user.
            Balance::ByUser => of(&user.to_ascii_lowercase()),
            Balance::ByClient => of(ClientKey::of(client).to_string().as_bytes()),
            Balance::First | Balance::RoundRobin | Balance::LeastSessions => 0,
        }
    }

    /// The backends that may serve a new login, in the order in which they are to be tried.
    pub(super) fn candidates(&self, login_key: u64, now: Instant) -> Vec<Arc<Backend>> {
        let members = self.members.load();
        members.candidates(self.site.balance, login_key, now)
    }

    /// The backends in the order in which a login of this user would try them, by what is known of them now.
    pub fn order(&self, user: &[u8], client: IpAddr, now: Instant) -> Vec<Arc<Backend>> {
        self.candidates(self.login_key(user, client), now)
    }

    /// Whether no backend that takes logins is up.
    pub(super) fn is_out(&self) -> bool {
        self.members.load().are_out()
    }

    /// Warns that all backends are out, once that has become so.
    pub(super) fn warn_of_last_resort(&self) {
        tracing::warn!(
            site = self.name(),
            group = self.group.as_deref(),
            "no backend is up; logins try them all the same"
        );
    }

    /// The logins of this configuration that wait for one of these backends.
    pub(super) fn queue(&self) -> &FairQueue {
        &self.queue
    }

    /// The first of them, and those of other configurations.
    pub(super) fn waiting_heads(&self) -> &Arc<WaitingHeads> {
        &self.waiting_heads
    }

    /// Resolves when something has changed, since this was called, that decides which backends a login may have.
    pub(super) fn next_change(&self) -> impl Future<Output = ()> + '_ {
        self.candidates.notified()
    }

    /// Has the logins that wait look again, at every site.
    pub(super) fn candidates_changed(&self) {
        self.candidates.notify_waiters();
    }

    /// The group's name, if it is for one.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Takes the site out of service, or puts it back; returns what it was before.
    pub(super) fn set_maintenance(&self, on: bool) -> bool {
        let before = self.state.maintenance.swap(on, Ordering::Relaxed);
        // Logins that wait are to be refused.
        self.candidates_changed();
        before
    }

    /// Whether an operator has taken the site out of service.
    pub fn is_in_maintenance(&self) -> bool {
        self.state.maintenance.load(Ordering::Relaxed)
    }

    /// Takes a slot at the site for a session, counted in `metrics`; `None` if `limit` sessions have one, those of
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::tls::BackendClientCertificates;

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site::named(name))
    }

    fn pool(name: &str, registry: &Registry) -> Pool {
        let (site, state) = (site(name), registry.site(name));
        let none = BackendClientCertificates::default();
        let mut none = BackendClientCertificateLoader::new(&none, SystemTime::now());
        Pool::load(&site, None, &state, registry, &mut none).expect("a pool")
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
