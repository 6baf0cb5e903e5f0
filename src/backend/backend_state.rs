//! State of one backend that lasts as long as the process, whichever sites have it: the session count, and what its sessions have
//! learned of the server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::site_backend::Backend;
use crate::base::wakeup::Wakeup;
use crate::ftp::server::PortMethods;

/// After this time what was learned of a server is forgotten: it may have been mended.
const LEARNED_FOR: Duration = Duration::from_secs(60 * 60);

/// State of one backend that lasts as long as the process, whichever sites have it.
#[derive(Debug, Default)]
pub(super) struct BackendState {
    /// The ways in which it is not to be asked for data connections.
    pub avoided: Learned<PortMethods>,
    /// The time that it needs between its reply to AUTH and the handshake.
    pub tls_delay: Learned<Duration>,
    sessions: AtomicUsize,
    /// As the sites of the configuration in use have it: what is shown of its state depends on their settings.
    shown_as: Mutex<Vec<Weak<Backend>>>,
    /// Notified when a login that waits for a backend, this one or another, may find one.
    candidates: Arc<Wakeup>,
}

/// A property of a backend that one session has found out for the next ones.
#[derive(Debug, Default)]
pub(super) struct Learned<T>(Mutex<Option<(T, Instant)>>);

impl<T: Copy + Default + PartialEq> Learned<T> {
    /// The property, or the default if nothing has been learned, or too long ago.
    pub fn get(&self, now: Instant) -> T {
        self.lock()
            .filter(|(_, since)| now.saturating_duration_since(*since) < LEARNED_FOR)
            .map_or_else(T::default, |(value, _)| value)
    }

    /// Remembers the property; returns whether it differs from the one before.
    pub fn learn(&self, value: T, now: Instant) -> bool {
        let former = self.lock().replace((value, now));
        former.is_none_or(|(former, _)| former != value)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(T, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BackendState {
    /// Of a backend that is new; `candidates` is notified by [`Self::candidates_changed`].
    pub fn new(candidates: Arc<Wakeup>) -> Self {
        Self {
            candidates,
            ..Self::default()
        }
    }

    /// The sessions that have a connection to the backend, or are about to, of all sites and configurations.
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Counts one session more, unless the limit is reached.
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
        self.candidates_changed();
    }

    /// Has the logins that wait look again. For whatever decides which backends a login may have: places, health, checks, what
    /// operators and name servers say.
    pub fn candidates_changed(&self) {
        self.candidates.notify_waiters();
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

    /// Calls `show` for each site of the configuration in use that has it, from whichever configuration the change comes.
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

    #[test]
    fn what_a_session_has_learned_holds_for_an_hour() {
        let avoided = Learned::default();
        let now = Instant::now();
        let avoid = PortMethods::NONE.and(PortMethod::Epsv);
        assert!(avoided.learn(avoid, now));
        assert!(!avoided.learn(avoid, now));
        assert_eq!(avoided.get(now), avoid);
        assert_eq!(avoided.get(now + LEARNED_FOR), PortMethods::NONE);
    }
}
