//! What one configuration says of its sites' backends, tied to what the process knows of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use super::balance::{self, Candidate};
use super::check_state::{CheckSettings, CheckState};
use super::checked::Standing;
use super::discovery::{Discovered, Statuses};
use super::live::SiteSummary;
use super::members::Members;
use super::registry::{BackendState, Registry, SiteBackendState, SiteState};
use super::servers::Server;
use crate::base::signal::Signal;
use crate::base::turns::Turns;
use crate::base::{BackendId, ClientKey, SiteId};
use crate::config::{
    self, BackendTls, Balance, ExpectedName, Group, NO_SITE, Servers, Site, TlsMode,
};
use crate::ftp::server::PortMethods;
use crate::limit::SiteBandwidth;
use crate::observe::metrics::{Metrics, OpenSession, Shown, ShownBackend};
use crate::tls::{
    BackendTlsClient, BackendTlsError, OwnCertificate, OwnCertificateLoader, OwnCertificates,
    PowerlessAuthority,
};

/// Backups come behind every priority that SRV records have.
const BACKUP_TIER: u32 = 1 << 16;

/// The pools of one configuration.
#[derive(Debug)]
pub struct Pools {
    sites: HashMap<SiteId, SitePools>,
    /// Those that backends are shown.
    certificates: OwnCertificates,
}

/// The pools of one site.
#[derive(Debug)]
struct SitePools {
    site: Arc<Site>,
    /// For users of no group; `None` if there are no such users.
    own: Option<Arc<Pool>>,
    /// As `site.groups`.
    groups: Vec<Arc<Pool>>,
}

/// The backends of a site, or of a group of one.
#[derive(Debug)]
pub struct Pool {
    pub(super) site: Arc<Site>,
    /// The group's name, if it is for one.
    group: Option<String>,
    state: Arc<SiteState>,
    queue: Arc<Turns>,
    /// As configured, in that order; at least one.
    entries: Vec<Entry>,
    /// What they stand for at the moment.
    members: ArcSwap<Members>,
    freed: Arc<Signal>,
}

/// An entry of a site's `backends`.
#[derive(Debug)]
enum Entry {
    One(Arc<Backend>),
    Discovered(Arc<Discovered>),
}

/// What all servers of an entry have in common.
#[derive(Debug)]
pub(super) struct Template {
    pub settings: config::Backend,
    pub site: Arc<Site>,
    site_state: Arc<SiteState>,
    tls: Option<UpstreamTls>,
}

/// One backend, as one site has it.
#[derive(Debug)]
pub struct Backend {
    pub(super) settings: config::Backend,
    /// Where it is.
    pub(super) server: Server,
    /// The id of that.
    pub(super) id: BackendId,
    /// Its and its siblings' states, if it was discovered.
    pub(super) statuses: Option<Arc<Statuses>>,
    /// None for one in clear text.
    pub(super) tls: Option<UpstreamTls>,
    /// How it is checked, if it is.
    pub(super) checks: Option<BackendChecks>,
    /// The site's name, for log and metrics.
    pub(super) site: String,
    /// Its entry as configured, for metrics.
    pub(super) label: Arc<str>,
    /// See [`Candidate::identity`].
    identity: u64,
    pub(super) state: Arc<BackendState>,
    /// What is known of it at this site alone.
    pub(super) at_site: Arc<SiteBackendState>,
}

/// The checks of one backend, as one site makes them.
#[derive(Debug)]
pub(super) struct BackendChecks {
    pub settings: CheckSettings,
    pub state: Arc<CheckState>,
    pub site: Arc<SiteState>,
}

/// A session's slot at a backend; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the slot gives it back"]
pub struct BackendSlot {
    backend: Arc<Backend>,
    metrics: Arc<Metrics>,
    _counted: Option<OpenSession>,
}

/// TLS towards a backend.
#[derive(Debug, Clone)]
pub(super) struct UpstreamTls {
    /// When it starts.
    pub start: TlsMode,
    pub client: BackendTlsClient,
}

/// A session's slot at a site; released when this is dropped.
#[derive(Debug)]
#[must_use = "dropping the slot gives it back"]
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
    /// The pools of these sites, with trust anchors, verifiers and client certificates read from their files.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If a CA file, a client certificate or the system's trust store can't be used, or a server name isn't one.
    pub fn load(sites: &[Arc<Site>], registry: &Registry) -> Result<Self, BackendError> {
        let none = OwnCertificates::default();
        Self::reload(sites, registry, &none, SystemTime::now())
    }

    /// The same at `now`, where backends are shown `former` certificates: what is valid of these stays in use where what lies
    /// there isn't.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn reload(
        sites: &[Arc<Site>],
        registry: &Registry,
        former: &OwnCertificates,
        now: SystemTime,
    ) -> Result<Self, BackendError> {
        let mut certificates = OwnCertificateLoader::new(former, now);
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
    pub fn own_certificates(&self) -> &OwnCertificates {
        &self.certificates
    }

    /// The files of authorities by which backends are verified, and that have none in them.
    pub fn powerless_authorities(&self) -> BTreeSet<PowerlessAuthority> {
        let entries = self.all().flat_map(|pool| &pool.entries);
        let clients = entries.filter_map(|entry| Some(&entry.tls()?.client));
        clients
            .filter_map(|client| client.powerless_authority().cloned())
            .collect()
    }

    /// Shows when those are valid.
    pub fn report_own_certificates(&self, metrics: &Metrics) {
        for pool in self.all() {
            for entry in &pool.entries {
                entry.report_own_certificate(&pool.site, metrics);
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

    /// What a site of this configuration is called.
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

    /// The state of every site.
    pub(super) fn site_states(&self) -> impl Iterator<Item = SiteSummary<'_>> {
        self.sites.values().filter_map(|pools| {
            let pool = pools.own.iter().chain(&pools.groups).next()?;
            Some(SiteSummary {
                site: &pools.site,
                sessions: pool.state.sessions(),
                is_in_maintenance: pool.is_in_maintenance(),
            })
        })
    }

    /// Every entry for which name servers are asked, with its pool.
    pub(super) fn discovered(&self) -> impl Iterator<Item = (&Arc<Pool>, &Arc<Discovered>)> {
        self.all().flat_map(|pool| {
            pool.entries.iter().filter_map(move |entry| match entry {
                Entry::One(_) => None,
                Entry::Discovered(entry) => Some((pool, entry)),
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
        self.report_own_certificates(metrics);
        // One signal for all of them.
        if let Some(any) = self.all().next() {
            any.wake_waiting();
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
        certificates: &mut OwnCertificateLoader<'_>,
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

impl Pool {
    fn load(
        site: &Arc<Site>,
        group: Option<&Group>,
        state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut OwnCertificateLoader<'_>,
    ) -> Result<Self, BackendError> {
        let backends = group.map_or(&site.backends, |group| &group.backends);
        let group = group.map(|group| group.name.clone());
        let entries = backends.iter().map(|settings| {
            Entry::load(settings, site, state, registry, certificates).map_err(|source| {
                BackendError {
                    site: site.name.clone(),
                    backend: settings.to_string(),
                    source: Box::new(source),
                }
            })
        });
        let pool = Self {
            entries: entries.collect::<Result<_, _>>()?,
            members: ArcSwap::from_pointee(Members::new(Vec::new())),
            freed: registry.freed(),
            queue: state.queue(group.as_deref()),
            site: Arc::clone(site),
            group,
            state: Arc::clone(state),
        };
        pool.renew_members();
        Ok(pool)
    }

    /// What the entries stand for now is what logins get from now on.
    pub(super) fn renew_members(&self) {
        let backends = self.entries.iter().flat_map(|entry| match entry {
            Entry::One(backend) => vec![Arc::clone(backend)],
            Entry::Discovered(entry) => entry.found(),
        });
        self.members
            .store(Arc::new(Members::new(backends.collect())));
    }

    /// All backends at the moment.
    pub(super) fn backends(&self) -> Vec<Arc<Backend>> {
        self.members.load().backends().to_vec()
    }

    /// Those whose address is configured, for as long as the configuration is.
    pub(super) fn configured(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::One(backend) => Some(backend),
            Entry::Discovered(_) => None,
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

    /// What the transfers of the site's sessions share, those of earlier configurations included.
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

    /// Whether every backend that takes logins is out.
    pub(super) fn is_out(&self) -> bool {
        self.members.load().are_out()
    }

    /// For when that has become so.
    pub(super) fn warn_of_last_resort(&self) {
        tracing::warn!(
            site = self.name(),
            group = self.group.as_deref(),
            "every backend is out; logins try them all the same"
        );
    }

    /// The logins that wait for one of these backends.
    pub(super) fn queue(&self) -> &Turns {
        &self.queue
    }

    /// Resolves when a session has ended at any backend since this was called.
    pub(super) fn freed(&self) -> impl Future<Output = ()> + '_ {
        self.freed.woken()
    }

    /// Has the logins that wait look again.
    pub(super) fn wake_waiting(&self) {
        self.freed.wake_all();
    }

    /// The group's name, if it is for one.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Takes the site out of service, or puts it back; returns what it was before.
    pub(super) fn set_maintenance(&self, on: bool) -> bool {
        self.state.maintenance.swap(on, Ordering::Relaxed)
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

impl Entry {
    fn load(
        settings: &config::Backend,
        site: &Arc<Site>,
        site_state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut OwnCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let tls = tls.map(|tls| UpstreamTls::load(tls, certificates));
        let template = Template {
            settings: settings.clone(),
            site: Arc::clone(site),
            site_state: Arc::clone(site_state),
            tls: tls.transpose()?,
        };
        Ok(match &settings.servers {
            Servers::One(endpoint) => {
                let server = Server::one(endpoint.clone());
                Self::One(Arc::new(template.backend(server, None, registry)?))
            }
            Servers::Discovered(names) => {
                let discovered = Discovered::new(names.clone(), template, registry);
                Self::Discovered(Arc::new(discovered))
            }
        })
    }

    /// What it has series for, as one of this site's.
    fn shown<'a>(&'a self, site: &'a Site) -> ShownBackend<'a> {
        let (settings, backend) = match self {
            Self::One(it) => (&it.settings, &*it.label),
            Self::Discovered(it) => (&it.template.settings, &*it.label),
        };
        ShownBackend {
            site: &site.name,
            backend,
            shown: Shown {
                checks: site.checks.is_some() && settings.takes_logins(),
                tls: settings.tls.is_some(),
                client_certificate: self.client_certificate().is_some(),
            },
        }
    }

    /// TLS towards its servers, if they have it.
    fn tls(&self) -> Option<&UpstreamTls> {
        match self {
            Self::One(it) => it.tls.as_ref(),
            Self::Discovered(it) => it.template.tls.as_ref(),
        }
    }

    /// What it is shown, if it is.
    fn client_certificate(&self) -> Option<&Arc<OwnCertificate>> {
        self.tls()?.client.certificate()
    }

    fn report_own_certificate(&self, site: &Site, metrics: &Metrics) {
        if let Some(certificate) = self.client_certificate() {
            let pair = certificate.in_use();
            let backend = self.shown(site).backend;
            metrics.own_certificate(&site.name, backend, pair.not_before, pair.not_after);
        }
    }
}

impl Template {
    /// One of the servers.
    pub fn backend(
        &self,
        server: Server,
        statuses: Option<Arc<Statuses>>,
        registry: &Registry,
    ) -> Result<Backend, BackendTlsError> {
        let (settings, site) = (&self.settings, &self.site);
        let id = server.endpoint.id();
        let tls = self.tls.as_ref();
        let tls = tls.map(|tls| tls.towards(settings, &server.endpoint.host));
        let checks = site.checks.as_ref().map(|checks| BackendChecks {
            settings: CheckSettings {
                checks: checks.clone(),
                tls: settings.tls.clone(),
                proxy_protocol: settings.proxy_protocol,
                passive_mode: site.passive_mode,
            },
            state: self.site_state.checks_of(id.clone()),
            site: Arc::clone(&self.site_state),
        });
        Ok(Backend {
            tls: tls.transpose()?,
            checks,
            site: site.name.clone(),
            identity: balance::hash([server.endpoint.to_string().as_bytes()]),
            label: settings.to_string().into(),
            state: registry.backend(id.clone()),
            at_site: self.site_state.backend(id.clone()),
            id,
            settings: settings.clone(),
            statuses,
            server,
        })
    }
}

impl Backend {
    /// Whether new logins may come to it, by the configuration and by the operators.
    pub(super) fn takes_logins(&self) -> bool {
        self.settings.takes_logins() && !self.at_site.drained.load(Ordering::Relaxed)
    }

    pub(super) fn candidate(&self, index: usize, now: Instant) -> Candidate {
        let standing = self.standing();
        let backup = if self.settings.backup { BACKUP_TIER } else { 0 };
        let sessions = self.state.sessions();
        Candidate {
            index,
            weight: self.server.weight.unwrap_or(self.settings.weight),
            tier: self.server.tier + backup,
            sessions,
            full: self
                .settings
                .max_sessions
                .is_some_and(|limit| sessions >= limit),
            out_for: standing
                .out_since()
                .map(|since| now.saturating_duration_since(since)),
            down: matches!(standing, Standing::Down { .. }),
            identity: self.identity,
        }
    }

    /// Takes a slot for a session; `None` if it has as many as it may.
    pub(super) fn acquire(self: &Arc<Self>, metrics: &Arc<Metrics>) -> Option<BackendSlot> {
        if !self.state.acquire(self.limit()) {
            return None;
        }
        self.at_site.count();
        let slot = BackendSlot {
            backend: Arc::clone(self),
            metrics: Arc::clone(metrics),
            _counted: metrics.session_at_backend(&self.site, &self.label),
        };
        self.report_if_limited(metrics);
        Some(slot)
    }

    /// What the site may have of it, as the configuration in use says: a login that waits may be of an earlier one.
    fn limit(&self) -> Option<usize> {
        let mut limit = self.settings.max_sessions;
        if limit.is_some() {
            self.state.for_each_shown(|backend| {
                if backend.site == self.site {
                    limit = backend.settings.max_sessions;
                }
            });
        }
        limit
    }

    /// What its entry is called in metrics: its name, or its address as configured.
    pub fn label(&self) -> &Arc<str> {
        &self.label
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

impl Drop for BackendSlot {
    fn drop(&mut self) {
        self.backend.at_site.release();
        // Wakes those that wait for a slot, so it comes last.
        self.backend.state.release();
        self.backend.report_if_limited(&self.metrics);
    }
}

impl UpstreamTls {
    fn load(
        settings: &BackendTls,
        certificates: &mut OwnCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let files = settings.client_certificate.as_ref();
        let certificate = files.map(|files| certificates.load(files)).transpose()?;
        Ok(Self {
            start: settings.start,
            client: BackendTlsClient::new(settings)?.showing(certificate),
        })
    }

    /// The same towards a server of this host, whose own name its certificate may have to have.
    fn towards(&self, settings: &config::Backend, host: &str) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let each = tls.is_some_and(|tls| tls.server_name == ExpectedName::OfEachServer);
        let mut tls = self.clone();
        if each {
            tls.client = tls.client.named(host)?;
        }
        Ok(tls)
    }
}

impl fmt::Display for Backend {
    /// Its address, and what it is configured as if that is something else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.server.endpoint.to_string();
        f.write_str(&address)?;
        if address == *self.label {
            return Ok(());
        }
        write!(f, " ({})", self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> Arc<Site> {
        Arc::new(Site::named(name))
    }

    fn pool(name: &str, registry: &Registry) -> Pool {
        let (site, state) = (site(name), registry.site(name));
        let none = OwnCertificates::default();
        let mut none = OwnCertificateLoader::new(&none, SystemTime::now());
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
