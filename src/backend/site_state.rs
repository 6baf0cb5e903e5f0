//! State of one site that lasts as long as the process: id, session count, bandwidth, what operators have changed, and what is
//! known of its backends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::check_state::{CheckState, ProbeLogins};
use super::site_backend_state::SiteBackendState;
use super::waiting_heads::WaitingHeads;
use crate::base::{BackendId, SiteId};
use crate::limit::SiteBandwidth;

/// State of one site that lasts as long as the process.
#[derive(Debug)]
pub(super) struct SiteState {
    pub id: SiteId,
    sessions: AtomicUsize,
    /// The first logins of the queues of every configuration: of the site itself and of each of its groups.
    waiting_heads: Mutex<HashMap<Option<String>, Arc<WaitingHeads>>>,
    /// What the transfers of its sessions share.
    pub bandwidth: Arc<SiteBandwidth>,
    /// The logins of the site's checks.
    pub probe_logins: ProbeLogins,
    /// Whether an operator has taken it out of service, until it is put back or the process ends.
    pub maintenance: AtomicBool,
    /// The site's backends: those that a configuration or a session still has, and those that are drained.
    backends: Mutex<HashMap<BackendId, Arc<SiteBackendState>>>,
    /// The checks of its backends, for as long as a configuration in use has them: what they found of one that is checked
    /// no more must not outlast them.
    checks: Mutex<HashMap<BackendId, Weak<CheckState>>>,
}

impl SiteState {
    /// The state of a new site.
    pub fn new(id: SiteId) -> Self {
        Self {
            id,
            sessions: AtomicUsize::new(0),
            waiting_heads: Mutex::default(),
            bandwidth: Arc::default(),
            probe_logins: ProbeLogins::default(),
            maintenance: AtomicBool::new(false),
            backends: Mutex::default(),
            checks: Mutex::default(),
        }
    }

    /// Counts one session more, unless the limit is reached.
    pub fn acquire(&self, limit: usize) -> bool {
        let one_more = |sessions| (sessions < limit).then_some(sessions + 1);
        let acquired = self
            .sessions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        acquired.is_ok()
    }

    /// The first logins of the queues for backends of this group, or of the site itself.
    pub fn waiting_heads(&self, group: Option<&str>) -> Arc<WaitingHeads> {
        let heads = self.waiting_heads.lock();
        let mut heads = heads.unwrap_or_else(PoisonError::into_inner);
        // Those of groups that there are no more.
        heads.retain(|_, heads| Arc::strong_count(heads) > 1);
        Arc::clone(heads.entry(group.map(str::to_owned)).or_default())
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

    /// The state of this backend at the site, which all configurations in use share.
    pub fn backend(&self, id: BackendId) -> Arc<SiteBackendState> {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|_, it| Arc::strong_count(it) > 1 || it.drained.load(Ordering::Relaxed));
        Arc::clone(backends.entry(id).or_default())
    }

    /// The number of the site's sessions, those of earlier configurations included.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Counts one session less, which was counted by [`Self::acquire`].
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fixtures::backend_id as backend;

    #[test]
    fn a_drained_backend_stays_so_when_a_configuration_drops_it_and_another_has_it_again() {
        let site = SiteState::new(SiteId(0));
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
}
