//! State of sites and backends that lives as long as the process, across reloads. Of a site: id, session count, bandwidth, and
//! for each of its backends health, checks and when its certificate is valid. Of a backend, whichever sites have it: session count,
//! and the data port methods that it should not be asked for.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;

use super::check_state::{CheckState, ProbeLogins};
use super::health::{Health, HealthChange};
use super::servers::LastAnswer;
use super::site_backend::Backend;
use crate::base::fair_queue::FairQueue;
use crate::base::wakeup::Wakeup;
use crate::base::{BackendId, SiteId};
use crate::config::ServerNames;
use crate::ftp::server::PortMethods;
use crate::limit::SiteBandwidth;
use crate::tls::Validity;

/// After this time a server is asked as the client asks again: it may have been mended.
const AVOIDED_FOR: Duration = Duration::from_secs(60 * 60);

/// More sites, and more backends, than any configuration has.
const CAPACITY: usize = 10_000;

/// All sites and backends that configurations have named. Asked when a configuration is loaded, and never by a session.
#[derive(Debug, Default)]
pub struct Registry(Mutex<RegistryState>);

#[derive(Debug, Default)]
struct RegistryState {
    /// By name, which is what makes a site the same one after a reload.
    sites: HashMap<String, Arc<SiteState>>,
    backends: HashMap<BackendId, Arc<BackendState>>,
    /// What name servers have said, for as long as a configuration in use asks them.
    answers: HashMap<ServerNames, Weak<LastAnswer>>,
    /// See [`BackendState::freed`].
    freed: Arc<Wakeup>,
    /// How many sites have got an id.
    numbered: u32,
}

/// What lives as long as the process of one site.
#[derive(Debug)]
pub(super) struct SiteState {
    pub id: SiteId,
    sessions: AtomicUsize,
    /// Logins that wait for a backend, of every configuration: of the site itself and of each of its groups.
    queues: Mutex<HashMap<Option<String>, Arc<FairQueue>>>,
    /// What the transfers of its sessions share.
    pub bandwidth: Arc<SiteBandwidth>,
    /// Of its checks.
    pub probe_logins: ProbeLogins,
    /// Whether an operator has taken it out of service, until it is put back or the process ends.
    pub maintenance: AtomicBool,
    /// Its backends: those that a configuration or a session still has, and those that are drained.
    backends: Mutex<HashMap<BackendId, Arc<SiteBackendState>>>,
    /// The checks of its backends, for as long as a configuration in use has them: what they found of one that is checked
    /// no more must not outlast them.
    checks: Mutex<HashMap<BackendId, Weak<CheckState>>>,
}

/// What lives as long as the process of one backend at one of the sites that have it.
#[derive(Debug, Default)]
pub(super) struct SiteBackendState {
    /// Whether an operator has drained it for this site, until it is made ready or the process ends.
    pub drained: AtomicBool,
    /// The site's sessions at it.
    sessions: AtomicUsize,
    /// What it has shown.
    certificate: Mutex<SeenCertificate>,
    /// From what its logins come to, and not from those of another site, which may speak to it in another way: TLS, certificates
    /// and PROXY headers are those of a site's entry.
    health: Mutex<Health>,
    /// Notified when it is ejected.
    pub ejected: Wakeup,
    /// Whose turn it is to dial it while it is ejected, of the site's pools that have it.
    pub redial: FairQueue,
}

/// The last certificate that a backend has shown a site.
#[derive(Debug, Default)]
struct SeenCertificate {
    /// In DER; empty if only its validity is known.
    der: Vec<u8>,
    /// When it is valid.
    validity: Option<Validity>,
}

/// What lives as long as the process of one backend, whichever sites have it.
#[derive(Debug, Default)]
pub(super) struct BackendState {
    avoided: Mutex<Option<Avoided>>,
    sessions: AtomicUsize,
    /// As the sites of the configuration in use have it: what is shown of its state depends on their settings.
    shown_as: Mutex<Vec<Weak<Backend>>>,
    /// Notified when one of the sessions has ended, of this backend or of another.
    freed: Arc<Wakeup>,
}

/// The ways in which a backend is not to be asked for data connections, as a session has found out.
#[derive(Debug, Clone, Copy)]
struct Avoided {
    methods: PortMethods,
    since: Instant,
}

impl Registry {
    /// The site of this name.
    pub(super) fn site(&self, name: &str) -> Arc<SiteState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = known.sites.get(name) {
            return Arc::clone(site);
        }
        forget_unused(&mut known.sites);
        let site = Arc::new(SiteState {
            id: SiteId(known.numbered),
            sessions: AtomicUsize::new(0),
            queues: Mutex::default(),
            bandwidth: Arc::default(),
            probe_logins: ProbeLogins::default(),
            maintenance: AtomicBool::new(false),
            backends: Mutex::default(),
            checks: Mutex::default(),
        });
        known.numbered += 1;
        known.sites.insert(name.to_owned(), Arc::clone(&site));
        site
    }

    /// What name servers have last said of these.
    pub(super) fn last_answer(&self, names: &ServerNames) -> Arc<LastAnswer> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.answers.get(names).and_then(Weak::upgrade) {
            return answer;
        }
        known.answers.retain(|_, answer| answer.strong_count() > 0);
        let answer = Arc::<LastAnswer>::default();
        known.answers.insert(names.clone(), Arc::downgrade(&answer));
        answer
    }

    /// Notified when a session has ended at any backend.
    pub(super) fn freed(&self) -> Arc<Wakeup> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.freed)
    }

    /// This backend.
    pub(super) fn backend(&self, id: BackendId) -> Arc<BackendState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = known.backends.get(&id) {
            return Arc::clone(backend);
        }
        forget_unused(&mut known.backends);
        let backend = Arc::new(BackendState {
            freed: Arc::clone(&known.freed),
            ..BackendState::default()
        });
        known.backends.insert(id, Arc::clone(&backend));
        backend
    }
}

/// Entries come from the operator's configuration; only reloads with ever new sites and backends reach this limit.
fn forget_unused<K: Eq + Hash, S>(known: &mut HashMap<K, Arc<S>>) {
    if known.len() >= CAPACITY {
        known.retain(|_, state| Arc::strong_count(state) > 1);
    }
}

impl SiteState {
    /// Counts one session more, unless there are as many as there may be.
    pub fn acquire(&self, limit: usize) -> bool {
        let one_more = |sessions| (sessions < limit).then_some(sessions + 1);
        let acquired = self
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        acquired.is_ok()
    }

    /// The logins that wait for a backend of this group, or of the site itself.
    pub fn queue(&self, group: Option<&str>) -> Arc<FairQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of groups that there are no more.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        Arc::clone(queues.entry(group.map(str::to_owned)).or_default())
    }

    /// The checks of this backend.
    pub fn checks_of(&self, backend: BackendId) -> Arc<CheckState> {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = checks.get(&backend).and_then(Weak::upgrade) {
            return state;
        }
        checks.retain(|_, state| state.strong_count() > 0);
        let state = Arc::<CheckState>::default();
        checks.insert(backend, Arc::downgrade(&state));
        state
    }

    /// This backend of it: what every configuration in use has in common.
    pub fn backend(&self, id: BackendId) -> Arc<SiteBackendState> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|_, it| Arc::strong_count(it) > 1 || it.drained.load(Ordering::Relaxed));
        Arc::clone(backends.entry(id).or_default())
    }

    /// Its sessions, those of earlier configurations included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Counts one session less, which was counted by [`Self::acquire`].
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SiteBackendState {
    /// The site's sessions that have a connection to it, or are about to, of all configurations.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// When the certificate that it showed last is valid.
    pub fn certificate(&self) -> Option<Validity> {
        self.lock_certificate().validity
    }

    /// It has shown this one; returns whether it is another one than before.
    pub fn learn_certificate(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut seen = self.lock_certificate();
        let is_new = seen.der[..] != certificate[..];
        if is_new {
            seen.der = certificate.to_vec();
            seen.validity = Validity::of(certificate).or(seen.validity);
        }
        is_new
    }

    /// It has shown one of which no more than this is known: to a check, or one that was refused for its end.
    pub fn learn_validity(&self, validity: Validity) {
        let mut seen = self.lock_certificate();
        if seen.validity != Some(validity) {
            // The one before is another one, and news if it comes back.
            *seen = SeenCertificate {
                der: Vec::new(),
                validity: Some(validity),
            };
        }
    }

    fn lock_certificate(&self) -> MutexGuard<'_, SeenCertificate> {
        self.certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Health {
        *self.lock_health()
    }

    /// Notes that it has become ready for a login, or not.
    pub fn record_health(
        &self,
        record: impl FnOnce(&mut Health) -> Option<HealthChange>,
    ) -> Option<HealthChange> {
        let change = record(&mut self.lock_health());
        if let Some(HealthChange::Ejected { .. }) = change {
            self.ejected.notify_waiters();
        }
        change
    }

    fn lock_health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one session more.
    pub fn count(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one session less.
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl BackendState {
    /// The ways in which it is not to be asked for data connections.
    pub fn avoided(&self, now: Instant) -> PortMethods {
        let avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        avoided
            .filter(|avoided| now.saturating_duration_since(avoided.since) < AVOIDED_FOR)
            .map_or(PortMethods::NONE, |avoided| avoided.methods)
    }

    /// Remembers those; returns whether they are new.
    pub fn avoid(&self, methods: PortMethods, now: Instant) -> bool {
        let mut avoided = self.avoided.lock().unwrap_or_else(PoisonError::into_inner);
        let former = avoided.replace(Avoided {
            methods,
            since: now,
        });
        former.is_none_or(|former| former.methods != methods)
    }

    /// Sessions that have a connection to it, or are about to, of all sites and configurations.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Counts one session more, unless there are as many as there may be.
    pub fn acquire(&self, limit: Option<usize>) -> bool {
        let limit = limit.unwrap_or(usize::MAX);
        let one_more = |sessions| (sessions < limit).then_some(sessions + 1);
        let acquired = self
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        acquired.is_ok()
    }

    /// Counts one session less.
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// The sites of an earlier configuration have it no more.
    pub fn clear_shown(&self) {
        self.lock_shown().clear();
    }

    /// A site of the configuration in use has it.
    pub fn show_as(&self, backend: &Arc<Backend>) {
        let mut shown = self.lock_shown();
        // Those that name servers have replaced since.
        shown.retain(|backend| backend.strong_count() > 0);
        shown.push(Arc::downgrade(backend));
    }

    /// Calls this for each site of the configuration in use that has it, from whichever configuration the change comes.
    pub fn for_each_shown(&self, show: impl FnMut(Arc<Backend>)) {
        self.lock_shown()
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(show);
    }

    fn lock_shown(&self) -> MutexGuard<'_, Vec<Weak<Backend>>> {
        self.shown_as.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::server::PortMethod;

    fn backend(port: u16) -> BackendId {
        BackendId {
            host: "10.0.0.10".to_owned(),
            port,
        }
    }

    #[test]
    fn what_a_session_has_learned_holds_for_its_backend_and_for_an_hour() {
        let registry = Registry::default();
        let now = Instant::now();
        let avoid = PortMethods::NONE.and(PortMethod::Epsv);
        assert!(registry.backend(backend(21)).avoid(avoid, now));
        assert!(!registry.backend(backend(21)).avoid(avoid, now));
        assert_eq!(registry.backend(backend(21)).avoided(now), avoid);
        assert_eq!(
            registry.backend(backend(22)).avoided(now),
            PortMethods::NONE
        );
        let much_later = now + AVOIDED_FOR;
        assert_eq!(
            registry.backend(backend(21)).avoided(much_later),
            PortMethods::NONE
        );
    }

    #[test]
    fn no_number_of_backends_or_sites_makes_it_grow_without_bound() {
        let registry = Registry::default();
        for port in 1..=u16::MAX {
            registry.backend(backend(port));
            registry.site(&port.to_string());
        }
        let known = registry.0.lock().unwrap();
        assert!(known.backends.len() <= CAPACITY);
        assert!(known.sites.len() <= CAPACITY);
    }

    #[test]
    fn what_a_configuration_still_has_is_not_forgotten_for_others() {
        let registry = Registry::default();
        let (site, kept) = (registry.site("kept"), registry.backend(backend(21)));
        for port in 1000..=u16::MAX {
            registry.backend(backend(port));
            registry.site(&port.to_string());
        }
        assert!(Arc::ptr_eq(&registry.site("kept"), &site));
        assert!(Arc::ptr_eq(&registry.backend(backend(21)), &kept));
    }

    #[test]
    fn a_drained_backend_stays_so_when_a_configuration_drops_it_and_another_has_it_again() {
        let registry = Registry::default();
        let site = registry.site("one");
        let is_drained = |port| site.backend(backend(port)).drained.load(Ordering::Relaxed);
        let drained = &site.backend(backend(21)).drained;
        drained.store(true, Ordering::Relaxed);
        let other = site.backend(backend(22));
        assert!(is_drained(21));
        assert!(!other.drained.load(Ordering::Relaxed));
        drop(other);
        assert!(is_drained(21));
        assert_eq!(site.backends.lock().expect("not poisoned").len(), 1);
    }

    #[test]
    fn a_certificate_that_comes_back_after_a_refused_one_is_news() {
        let state = SiteBackendState::default();
        let certificate = CertificateDer::from(vec![1; 20]);
        assert!(state.learn_certificate(&certificate));
        assert!(!state.learn_certificate(&certificate));
        let refused = Validity::expired(std::time::UNIX_EPOCH);
        state.learn_validity(refused);
        assert_eq!(state.certificate(), Some(refused));
        assert!(state.learn_certificate(&certificate));
    }

    #[test]
    fn a_site_keeps_its_id_and_no_other_gets_it() {
        let registry = Registry::default();
        let one = registry.site("one").id;
        assert_eq!(registry.site("one").id, one);
        assert_ne!(registry.site("other").id, one);
        for number in 0..2 * CAPACITY {
            assert_ne!(registry.site(&number.to_string()).id, one);
        }
    }
}
