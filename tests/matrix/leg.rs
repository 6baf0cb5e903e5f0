//! The client's leg of a cell: TLS or none, how data connections are opened, and over which kind of address.

use std::fmt;

use testkit::clients::DataMode;

/// Everything that a client can be told about its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// TLS, and when it starts.
    pub protection: Protection,
    /// How data connections are opened.
    pub data: DataMode,
    /// The kind of address that the client connects to.
    pub family: Family,
}

/// TLS on both connections, or on none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// None.
    Clear,
    /// After AUTH TLS.
    Explicit(Version),
    /// From the first byte.
    Implicit(Version),
}

/// The one version of TLS that the client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Leg {
    /// In clear text by PASV over IPv4: what every client and every server can do.
    pub const PLAIN: Self = Self {
        protection: Protection::Clear,
        data: DataMode::Pasv,
        family: Family::V4,
    };

    /// Every combination that there is: PASV knows no IPv6 address.
    pub fn all() -> Vec<Self> {
        let mut legs = Vec::new();
        for protection in Protection::ALL {
            for (data, family) in [
                (DataMode::Pasv, Family::V4),
                (DataMode::Epsv, Family::V4),
                (DataMode::Active, Family::V4),
                (DataMode::Epsv, Family::V6),
                (DataMode::Active, Family::V6),
            ] {
                legs.push(Self {
                    protection,
                    data,
                    family,
                });
            }
        }
        legs
    }

    /// What Portcullis replies to a client that opens data connections like this.
    pub fn reply(self) -> &'static str {
        match self.data {
            DataMode::Pasv => "Entering Passive Mode",
            DataMode::Epsv => "Entering Extended Passive Mode",
            DataMode::Active => "PORT command successful",
        }
    }
}

impl Version {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];
}

impl Protection {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Clear,
        Self::Explicit(Version::Tls12),
        Self::Explicit(Version::Tls13),
        Self::Implicit(Version::Tls12),
        Self::Implicit(Version::Tls13),
    ];

    /// The version, if there is TLS.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Clear => None,
            Self::Explicit(version) | Self::Implicit(version) => Some(version),
        }
    }

    /// Whether TLS starts with the first byte.
    pub fn implicit(self) -> bool {
        matches!(self, Self::Implicit(_))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = match self.data {
            DataMode::Pasv => "PASV",
            DataMode::Epsv => "EPSV",
            DataMode::Active => "active",
        };
        let family = match self.family {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        };
        write!(f, "{}, {data}, {family}", self.protection)
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear => f.write_str("clear"),
            Self::Explicit(version) => write!(f, "explicit {version}"),
            Self::Implicit(version) => write!(f, "implicit {version}"),
        }
    }
}
