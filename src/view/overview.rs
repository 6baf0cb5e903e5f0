//! The process as a whole: its configuration, certificates and reloads.

use std::net::SocketAddr;

use serde::Serialize;

use super::Moment;

/// The process and its configuration.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// The program's version.
    pub version: &'static str,
    /// The configuration file.
    pub config: String,
    /// When the process started.
    pub started: Moment,
    /// How long ago that is.
    pub uptime_seconds: f64,
    /// `starting`, `ready` or `draining`.
    pub readiness: &'static str,
    /// Live sessions, with those that have not logged in yet.
    pub sessions: usize,
    /// How many there may be.
    pub max_sessions: usize,
    /// Running transfers.
    pub transfers: usize,
    /// Where clients connect.
    pub listeners: Vec<Listening>,
    /// How many passive ports are open.
    pub passive_ports: usize,
    /// The last reloads of the configuration, the certificates and the files of users, the latest first; refusals with
    /// their reasons.
    pub reloads: Vec<ReloadView>,
    /// What is logged.
    pub log_level: String,
}

/// One listener.
#[derive(Debug, Clone, Serialize)]
pub struct Listening {
    /// As configured.
    pub address: SocketAddr,
    /// `explicit` or `implicit`.
    pub tls: &'static str,
}

/// One reload.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadView {
    /// When.
    pub at: Moment,
    /// `configuration`, `certificate` or `users`.
    pub subject: &'static str,
    /// Why it was refused; none if it was not.
    pub refused: Option<String>,
    /// Whether what was refused still lies there, and something older is in use.
    pub stands: bool,
}

/// A certificate that clients are shown.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateView {
    /// Its file.
    pub file: String,
    /// Its subject.
    pub subject: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Its issuer.
    pub issuer: String,
    /// When it expires.
    pub not_after: Moment,
    /// How many days are left until then; negative behind it.
    pub days_left: i64,
    /// `sha256:` and 64 hexadecimal digits.
    pub fingerprint: String,
}
