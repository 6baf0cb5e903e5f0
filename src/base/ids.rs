//! Ids: what is compared and kept in place of a name or an address.

/// An FTP session's number, by which its log lines belong together and its TLS sessions are told from others'. Never used
/// twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);
