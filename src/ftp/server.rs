//! Behaviour of an FTP server that is learned during sessions: which methods to ask it for data connections fail, when it accepts
//! PBSZ and PROT, and how it fails to answer USER.

use super::reply::Reply;

/// A method to ask a backend for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortMethod {
    /// EPSV (RFC 2428).
    Epsv,
    /// PASV (RFC 959).
    Pasv,
    /// PORT, or EPRT over IPv6: the backend connects to us.
    Active,
}

/// A set of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortMethods(u8);

impl PortMethods {
    /// The empty set of methods.
    pub const NONE: Self = Self(0);

    /// These methods, and this one.
    #[must_use]
    pub fn and(self, method: PortMethod) -> Self {
        Self(self.0 | Self::bit(method))
    }

    /// These methods, and those.
    #[must_use]
    pub fn and_all(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this method is among them.
    pub fn has(self, method: PortMethod) -> bool {
        self.0 & Self::bit(method) != 0
    }

    fn bit(method: PortMethod) -> u8 {
        match method {
            PortMethod::Epsv => 1,
            PortMethod::Pasv => 2,
            PortMethod::Active => 4,
        }
    }
}

/// How a server that had been ready for USER failed before it had answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoUserReply {
    /// The server replied 421.
    Busy(Reply),
    /// The server did not reply in time.
    Silent,
    /// The server's control connection ended, or is out of step, which has been reported.
    Lost,
}

/// Whether a backend has been sent the commands for private data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendProtection {
    /// The commands have been sent, or none have to be.
    Settled,
    /// The server accepts PBSZ and PROT only after a login.
    AfterLogin,
}
