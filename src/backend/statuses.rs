//! The state of an entry of a site's `backends` for which name servers list the servers: the best of theirs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::base::BackendId;
use crate::outcome::BackendStatus;

/// The states of the servers of one entry, of which log and metrics show the best: their labels are those of the
/// configuration, or every address that a name ever had would be a series.
#[derive(Debug, Default)]
pub(super) struct Statuses(Mutex<BTreeMap<BackendId, BackendStatus>>);

impl Statuses {
    /// Notes the state of a server, and returns the best of all; `None` if it is none of them any more.
    pub fn note(&self, id: &BackendId, status: BackendStatus) -> Option<BackendStatus> {
        let mut all = self.lock();
        *all.get_mut(id)? = status;
        all.values().copied().min_by_key(rank)
    }

    /// Forgets all backends but these, and takes these for up until their states are reported.
    pub fn keep_only<'a>(&self, ids: impl Iterator<Item = &'a BackendId>) {
        let mut all = self.lock();
        let before = std::mem::take(&mut *all);
        for id in ids {
            let status = before.get(id).copied();
            all.insert(id.clone(), status.unwrap_or(BackendStatus::Up));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackendId, BackendStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rank(status: &BackendStatus) -> u8 {
    match status {
        BackendStatus::Up => 0,
        BackendStatus::Full => 1,
        BackendStatus::Ejected => 2,
        BackendStatus::Down => 3,
        BackendStatus::Drain => 4,
    }
}
