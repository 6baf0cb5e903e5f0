//! What is found out about an FTP server while it is talked to: in which ways it is not to be asked for data connections,
//! and when it takes PBSZ and PROT.

/// A way of asking a backend for a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// EPSV (RFC 2428).
    Epsv,
    /// PASV (RFC 959).
    Pasv,
    /// PORT, or EPRT over IPv6: the backend connects to us.
    Active,
}

/// Some of the ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways(u8);

impl Ways {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These, and this one.
    #[must_use]
    pub fn and(self, way: Way) -> Self {
        Self(self.0 | Self::bit(way))
    }

    /// These, and those.
    #[must_use]
    pub fn and_all(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Whether this one is among them.
    pub fn has(self, way: Way) -> bool {
        self.0 & Self::bit(way) != 0
    }

    fn bit(way: Way) -> u8 {
        match way {
            Way::Epsv => 1,
            Way::Pasv => 2,
            Way::Active => 4,
        }
    }
}

/// Whether a backend has been sent the commands for private data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendProtection {
    /// Nothing has to be sent, or it has been sent.
    Settled,
    /// It takes PBSZ and PROT only behind a login.
    AfterLogin,
}
