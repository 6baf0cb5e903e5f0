//! The process as a whole: its configuration, certificates and reloads.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Disclosure, Moment, days_until};
use crate::base::text::escape;
use crate::config::Tls;
use crate::observe::reloads::ReloadLog;
use crate::tls::{CertificateSet, Fingerprint};

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
    /// Why it was refused, where names aren't shown without what the file says; none if it was not.
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
    /// From when on it is valid.
    pub not_before: Moment,
    /// When it expires.
    pub not_after: Moment,
    /// How many days are left until then; negative behind it.
    pub days_left: i64,
    /// `sha256:` and 64 hexadecimal digits.
    pub fingerprint: String,
}

/// Every certificate that clients are shown.
pub fn certificates(tls: &Tls, certificates: &CertificateSet) -> Vec<CertificateView> {
    let pairs = certificates.pairs();
    let views = pairs.map(|pair| CertificateView {
        file: tls.certificate.display().to_string(),
        subject: escape(pair.subject.as_bytes()),
        names: pair
            .names
            .iter()
            .map(|name| escape(name.as_bytes()))
            .chain(pair.addresses.iter().map(ToString::to_string))
            .collect(),
        issuer: escape(pair.issuer.as_bytes()),
        not_before: Moment::new(pair.not_before),
        not_after: Moment::new(pair.not_after),
        days_left: days_until(pair.not_after),
        fingerprint: Fingerprint(&pair.fingerprint).to_string(),
    });
    views.collect()
}

/// The last reloads, the latest first.
pub fn reloads(log: &ReloadLog, disclosure: Disclosure) -> Vec<ReloadView> {
    let entries = log.entries();
    let views = entries.iter().enumerate().map(|(place, entry)| {
        let later = &entries[..place];
        let is_last = later.iter().all(|it| it.subject != entry.subject);
        ReloadView {
            at: Moment::new(entry.at),
            subject: entry.subject.as_str(),
            refused: entry.refusal.as_ref().map(|refusal| match disclosure {
                Disclosure::Summary => refusal.summary.clone(),
                Disclosure::Full => refusal.text.clone(),
            }),
            stands: is_last && entry.refusal.is_some() && !entry.mended,
        }
    });
    views.collect()
}
