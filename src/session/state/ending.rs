//! Why a session ends.

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// QUIT.
    Quit,
    /// The client closed or lost its control connection.
    ClientGone,
    /// No command for too long.
    Idle,
    /// Not logged in in time.
    LoginTimeout,
    /// The client's TLS handshake failed.
    Handshake,
    /// The backend could not be reached or verified.
    BackendUnavailable,
    /// The backend said 421.
    BackendClosed,
    /// The backend's control connection ended or lost step.
    BackendLost,
    /// The process ends.
    Drain,
    /// Too much nonsense, HTTP, or bytes behind AUTH.
    Abuse,
    /// Too many failed logins.
    Blocked,
    /// Too many sessions at the site.
    SiteFull,
}

impl Ending {
    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::ClientGone => "client gone",
            Self::Idle => "idle timeout",
            Self::LoginTimeout => "login timeout",
            Self::Handshake => "tls handshake failed",
            Self::BackendUnavailable => "backend unavailable",
            Self::BackendClosed => "closed by backend",
            Self::BackendLost => "backend lost",
            Self::Drain => "drain",
            Self::Abuse => "abuse",
            Self::Blocked => "blocked",
            Self::SiteFull => "site full",
        }
    }
}
