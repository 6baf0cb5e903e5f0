//! Whose turn it is for a free place at a backend, among the logins that wait by different configurations of one site or group.
//!
//! The logins of one configuration wait in one queue, of which only the first looks for a place. After a reload there are two:
//! a login keeps the backends of the configuration that it began with, as a session does, and may wait for one that is full
//! while the newer configuration has another one with room. So each configuration has a queue of its own, and the first logins
//! of these queues say here which backends they wait for: a place goes to the one that came first of those that want it, and a
//! login that wants others holds nobody up.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::BackendId;

/// The first logins of the queues of a site, or of a group of one.
#[derive(Debug, Default)]
pub(super) struct WaitingHeads {
    arrivals: AtomicU64,
    /// As many as there are configurations in use by which logins wait.
    heads: Mutex<Vec<Head>>,
}

/// When a login came, compared to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrival(u64);

#[derive(Debug)]
struct Head {
    arrival: Arrival,
    wanted: BTreeSet<BackendId>,
}

impl WaitingHeads {
    /// A login comes.
    pub fn arrive(&self) -> Arrival {
        Arrival(self.arrivals.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a login that came earlier waits for this backend at the head of its queue.
    pub fn is_wanted_before(&self, arrival: Arrival, backend: &BackendId) -> bool {
        let heads = self.lock();
        let mut earlier = heads.iter().filter(|head| head.arrival < arrival);
        earlier.any(|head| head.wanted.contains(backend))
    }

    /// This one, at the head of its queue, waits for these and no others; returns whether that may let another head have a
    /// place which it could not have before.
    pub fn want(&self, arrival: Arrival, wanted: BTreeSet<BackendId>) -> bool {
        let mut heads = self.lock();
        let others = heads.iter().any(|head| head.arrival != arrival);
        if let Some(own) = heads.iter_mut().find(|head| head.arrival == arrival) {
            let gives_up = !own.wanted.is_subset(&wanted);
            own.wanted = wanted;
            return others && gives_up;
        }
        heads.push(Head { arrival, wanted });
        false
    }

    /// It waits no more; returns whether that may let another head have a place.
    pub fn leave(&self, arrival: Arrival) -> bool {
        let mut heads = self.lock();
        heads.retain(|head| head.arrival != arrival);
        !heads.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::fixtures::backend_id as backend;

    fn backends<const N: usize>(ports: [u16; N]) -> BTreeSet<BackendId> {
        ports.map(backend).into()
    }

    #[test]
    fn a_place_goes_to_the_first_of_those_that_want_it_and_others_are_free_for_all() {
        let heads = WaitingHeads::default();
        let (first, second) = (heads.arrive(), heads.arrive());
        assert!(!heads.want(first, backends([21])));
        assert!(!heads.want(second, backends([21, 22])));
        assert!(heads.is_wanted_before(second, &backend(21)));
        assert!(!heads.is_wanted_before(second, &backend(22)));
        assert!(!heads.is_wanted_before(first, &backend(21)));
        let third = heads.arrive();
        assert!(heads.is_wanted_before(third, &backend(22)));
    }

    #[test]
    fn what_a_login_waits_for_no_more_is_free_for_those_behind_it() {
        let heads = WaitingHeads::default();
        let (first, second) = (heads.arrive(), heads.arrive());
        assert!(!heads.want(first, backends([21, 22])));
        assert!(!heads.want(first, backends([22])), "nobody is behind it");
        assert!(!heads.want(second, backends([21, 22])));
        assert!(heads.want(first, backends([21])));
        assert!(!heads.want(first, backends([21, 22])), "more than before");
        assert!(heads.leave(first));
        assert!(!heads.is_wanted_before(second, &backend(21)));
        assert!(!heads.leave(second), "nobody is left");
    }
}
