//! The live view: what runs in the process at this moment, as values that serialise to JSON. The admin endpoint serves them,
//! the status page and the commands show them.
//!
//! Everything is read from what the sessions, backends and counters keep anyway; nothing is stored here. Each list is made
//! when it is asked for, and bounded by the one who asks.

mod backends;
mod guard;
mod overview;
mod sessions;

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Serialize;

pub use backends::{BackendView, CheckView, DrainedBy, SiteView};
pub use guard::GuardView;
pub use overview::{CertificateView, Listening, Overview, ReloadView};
pub use sessions::{Disclosure, SessionView, TransferView};

/// A moment, as RFC 3339 has it, in UTC and whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(SystemTime);

impl Moment {
    /// This one.
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
