//! The live view: what runs in the process at this moment, as values that serialise to JSON. The admin endpoint serves them,
//! the status page and the commands show them.
//!
//! Everything is read from what the sessions, backends and counters keep anyway; nothing is stored here. Each list is made
//! when it is asked for, and bounded by the caller.

mod attention;
mod backends;
#[cfg(test)]
pub(crate) mod fixtures;
mod guard;
mod overview;
mod sessions;
pub mod units;

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use crate::tls::days_left;

pub use attention::{AttentionView, ProcessView, Severity, Word, Words, attention, is_due};
pub use backends::{BackendView, CheckLoginView, CheckView, DrainedBy, SiteView, backends, sites};
pub use guard::{GuardView, guard};
pub use overview::{
    BackendClientCertificateView, CertificateView, Listening, MisplacedLogView, OrdersView,
    Overview, PairView, RefusedView, ReloadView, RevocationListView, StalledView,
    backend_client_certificates, certificates, misplaced_logs, orders, refused, reloads,
    revocation_lists, stalled,
};
pub use sessions::{Disclosure, SessionFilter, SessionView, TransferView, sessions, transfers};

/// A list that is cut where it would be too long, and how long it would be.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The entries, as many as are shown.
    pub items: Vec<T>,
    /// The number of entries in all.
    pub total: usize,
    limit: usize,
}

impl<T> Listed<T> {
    fn at_most(limit: usize) -> Self {
        Self {
            items: Vec::new(),
            total: 0,
            limit,
        }
    }

    fn add(&mut self, item: impl FnOnce() -> T) {
        self.total += 1;
        if self.items.len() < self.limit {
            self.items.push(item());
        }
    }
}

/// How many whole days are left until then; negative behind it.
fn days_until(time: SystemTime) -> i64 {
    days_left(time, SystemTime::now())
}

/// A moment, as RFC 3339 has it, in UTC and whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(SystemTime);

impl Moment {
    /// The moment `time`.
    pub fn new(time: SystemTime) -> Self {
        Self(time)
    }

    /// The one that was so long ago.
    pub fn ago(time: Duration) -> Self {
        let now = SystemTime::now();
        Self(now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// How long after an earlier one it is; nothing if that is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0).unwrap_or_default()
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Beyond the year 9999 there is no such text.
        let timestamp = Timestamp::try_from(self.0).unwrap_or(Timestamp::MAX);
        write!(f, "{timestamp:.0}")
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
