//! Ids, compared and stored in place of names and addresses.

/// An FTP session's number: correlates its log lines, and identifies its TLS sessions. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A site's number: the same in all configurations that have a site of its name. Never used for another in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u32);

/// A backend, by the address that configurations have for it. Sites that share an address share the backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BackendId {
    /// IP address, without brackets, or name.
    pub host: String,
    /// Port of the control connection.
    pub port: u16,
}
