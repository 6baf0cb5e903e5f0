//! All sites and backends that configurations have named, and what is known of them for as long as the process lives, across
//! reloads.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::backend_state::BackendState;
use super::servers::LastAnswer;
use super::site_state::SiteState;
use crate::base::wakeup::Wakeup;
use crate::base::{BackendId, SiteId};
use crate::config::ServerNames;

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
    /// The last DNS answers, kept for as long as a configuration in use asks for them.
    answers: HashMap<ServerNames, Weak<LastAnswer>>,
    /// Notified when a login that waits for a backend may find one.
    candidates: Arc<Wakeup>,
    /// How many sites have got an id.
    numbered: u32,
}

impl Registry {
    /// The site of this name.
    pub(super) fn site(&self, name: &str) -> Arc<SiteState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(site) = known.sites.get(name) {
            return Arc::clone(site);
        }
        forget_unused(&mut known.sites);
        let site = Arc::new(SiteState::new(SiteId(known.numbered)));
        known.numbered += 1;
        known.sites.insert(name.to_owned(), Arc::clone(&site));
        site
    }

    /// The last DNS answer for these names.
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

    /// Notified when a login that waits for a backend may find one.
    pub(super) fn candidates(&self) -> Arc<Wakeup> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.candidates)
    }

    /// The state of this backend, new if it isn't known yet.
    pub(super) fn backend(&self, id: BackendId) -> Arc<BackendState> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = known.backends.get(&id) {
            return Arc::clone(backend);
        }
        forget_unused(&mut known.backends);
        let backend = Arc::new(BackendState::new(Arc::clone(&known.candidates)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fixtures::backend_id as backend;

    #[test]
    fn a_backend_is_known_by_host_and_port() {
        let registry = Registry::default();
        let one = registry.backend(backend(21));
        assert!(Arc::ptr_eq(&one, &registry.backend(backend(21))));
        assert!(!Arc::ptr_eq(&one, &registry.backend(backend(22))));
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
