//! Ids, compared and stored in place of names and addresses.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// An FTP session's number: correlates its log lines, and identifies its TLS sessions. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The number of a process among all that run Portcullis: random, so that two are never the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceId(u64);

impl InstanceId {
    /// An id that no process has had. The keys of a hasher come from the operating system's source of random numbers.
    pub fn random() -> Self {
        Self(RandomState::new().hash_one(()))
    }

    /// The id of this number.
    #[cfg(test)]
    pub fn of(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// An FTP session's id beyond its process: sent to backends, and in the log beside its number. At most 37 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GlobalSessionId {
    /// The process.
    pub instance: InstanceId,
    /// The session in it.
    pub session: SessionId,
}

impl fmt::Display for GlobalSessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.instance, self.session.0)
    }
}

/// A site's number: the same in all configurations that have a site of its name. Never used for another in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// A backend, by the address that configurations have for it. Sites that share an address share the backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId {
    /// IP address, without brackets, or name.
    pub host: String,
    /// Port of the control connection.
    pub port: u16,
}
