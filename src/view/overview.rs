//! The process as a whole: its configuration, certificates and reloads.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Disclosure, Moment, days_until};
use crate::acme::Status;
use crate::base::text::escape_path;
use crate::config::{CrlExpired, Settings};
use crate::observe::reloads::{Refusal, ReloadLog};
use crate::observe::transfer_log::TransferLogs;
use crate::tls::{
    BackendClientCertificates, CertificateError, CertificateOrigin, CertificatePair,
    CertificateSet, ClientTrust, Fingerprint,
};

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
    /// `starting`, `no_certificate`, `ready`, `lame_duck` or `draining`.
    pub readiness: &'static str,
    /// Live sessions, with those that have not logged in yet.
    pub sessions: usize,
    /// The limit of sessions.
    pub max_sessions: usize,
    /// Running transfers.
    pub transfers: usize,
    /// The listeners that clients connect to.
    pub listeners: Vec<Listening>,
    /// How many passive ports are open.
    pub passive_ports: usize,
    /// The last reloads of the configuration, the certificates and the files of users, the latest first; refusals with
    /// their reasons.
    pub reloads: Vec<ReloadView>,
    /// The refusals that stand, the latest first: something older is in use, or nothing, however long ago it was refused.
    pub refused: Vec<RefusedView>,
    /// Files whose new contents aren't loaded, since one of them can't be read to its end.
    pub stalled: Vec<StalledView>,
    /// Transfer logs whose files can't be opened anew.
    pub misplaced_logs: Vec<MisplacedLogView>,
    /// How the orders of the certificate stand; none if none is ordered.
    pub acme: Option<OrdersView>,
    /// The revocation lists by which clients' certificates are judged.
    pub revocation_lists: Vec<RevocationListView>,
    /// The certificates that backends are shown.
    #[serde(rename = "own_certificates")]
    pub backend_client_certificates: Vec<BackendClientCertificateView>,
}

/// A revocation list.
#[derive(Debug, Clone, Serialize)]
pub struct RevocationListView {
    /// The list's file.
    pub file: String,
    /// The list's issuer.
    pub issuer: String,
    /// When a newer list is to be issued; `None` if it leaves that open.
    pub next_update: Option<Moment>,
    /// Whether each certificate of the issuer is refused from then on.
    pub then_refused: bool,
}

/// The revocation lists in use.
pub fn revocation_lists(clients: &ClientTrust, settings: &Settings) -> Vec<RevocationListView> {
    let asked = settings.tls.client_certificates.as_ref();
    let then_refused = asked.is_some_and(|asked| asked.crl_expired == CrlExpired::Refuse);
    let lists = clients.lists().iter().map(|list| RevocationListView {
        file: escape_path(&list.file),
        issuer: list.issuer.clone(),
        next_update: list.next_update.map(Moment::new),
        then_refused,
    });
    lists.collect()
}

/// A certificate that backends are shown.
#[derive(Debug, Clone, Serialize)]
pub struct BackendClientCertificateView {
    /// The certificate's file.
    pub file: String,
    /// The pair in use.
    #[serde(flatten)]
    pub pair: PairView,
}

/// The certificates that backends are shown, by their files.
pub fn backend_client_certificates(
    certificates: &BackendClientCertificates,
) -> Vec<BackendClientCertificateView> {
    let views = certificates
        .all()
        .map(|certificate| BackendClientCertificateView {
            file: escape_path(&certificate.files().certificate),
            pair: PairView::new(&certificate.in_use()),
        });
    let mut views: Vec<_> = views.collect();
    views.sort_by(|one, other| one.file.cmp(&other.file));
    views
}

/// The orders of a certificate.
#[derive(Debug, Clone, Serialize)]
pub struct OrdersView {
    /// `waiting`, `ordering`, `ordering_elsewhere` or `unusable`.
    pub activity: &'static str,
    /// The names that are ordered.
    pub names: String,
    /// When the next order begins; none if none can.
    pub next_attempt: Option<Moment>,
    /// How many orders have failed in a row.
    pub failures: u32,
    /// The stage that the last order came to, if it failed.
    pub failed_at: Option<String>,
    /// Why the last order failed, or why none can begin.
    pub error: Option<String>,
}

/// How the orders stand.
pub fn orders(status: &Status) -> Option<OrdersView> {
    let report = status.report()?;
    let (failed_at, error) = match report.trouble {
        Some(trouble) => (None, Some(trouble)),
        None => report.last_failure.unzip(),
    };
    Some(OrdersView {
        activity: report.activity.as_str(),
        names: report.names,
        next_attempt: report.next_attempt.map(Moment::new),
        failures: report.failures,
        failed_at,
        error,
    })
}

/// A listener, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct Listening {
    /// As configured.
    pub address: SocketAddr,
    /// `explicit` or `implicit`.
    pub tls: &'static str,
}

/// A reload, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadView {
    /// When the reload ended.
    pub at: Moment,
    /// The subject: `configuration`, `certificate`, `backend_certificate`, `users`, `credentials`, `client_certificates` or
    /// `passive_address`.
    pub subject: &'static str,
    /// The reason if it was refused, without text from the file where names aren't shown; `None` if it was not.
    pub refused: Option<String>,
    /// Whether the refused content is still in the files, and something older is in use.
    pub stands: bool,
}

/// A refusal that stands, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedView {
    /// Since when the refusal stands.
    pub at: Moment,
    /// The subject, as of [`ReloadView::subject`].
    pub subject: &'static str,
    /// The name of the subject, where there may be several: its file, of a pair for a backend both; the name of a certificate; or
    /// the name whose address it is.
    pub name: Option<String>,
    /// The reason, without text from the file where names aren't shown.
    pub reason: String,
}

/// Files of which one can't be read to its end.
#[derive(Debug, Clone, Serialize)]
pub struct StalledView {
    /// Since when the fault is known.
    pub at: Moment,
    /// The content of the files, as of [`ReloadView::subject`].
    pub subject: &'static str,
}

/// A transfer log whose file was renamed or removed, and can't be opened anew.
#[derive(Debug, Clone, Serialize)]
pub struct MisplacedLogView {
    /// The file, as the configuration has it.
    pub file: String,
    /// Since when the fault is known.
    pub since: Moment,
    /// The reason why it can't be opened.
    pub error: String,
}

/// A certificate of the configuration, or a directory of them that can't be read.
#[derive(Debug, Clone, Serialize)]
pub struct CertificateView {
    /// The certificate's name in log and metrics: `default`, its file, or its place in a directory.
    pub name: String,
    /// The certificate's file, or the directory.
    pub file: String,
    /// Whether the view is of a directory of certificates.
    pub directory: bool,
    /// Whether the process orders the certificate, and replaces the file.
    pub ordered: bool,
    /// The pair that clients are shown; `None` if there is nothing to show.
    #[serde(flatten)]
    pub pair: Option<PairView>,
    /// The reason why the content of the files isn't that pair, without text from the file where names aren't shown; `None` if it
    /// is.
    pub refused: Option<String>,
}

/// The shown facts about a certificate.
#[derive(Debug, Clone, Serialize)]
pub struct PairView {
    /// The certificate's subject.
    pub subject: String,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// The certificate's issuer.
    pub issuer: String,
    /// The kind of its key: `ecdsa`, `rsa` or `ed25519`.
    pub key: &'static str,
    /// From when on it is valid, or an issuer in its chain that expires before it.
    pub not_before: Moment,
    /// When the certificate expires, or an issuer in its chain that does so before it.
    pub not_after: Moment,
    /// The position in the chain of the certificate that ends first, counted from 1; `None` if it is the certificate itself.
    pub ends_by_issuer: Option<usize>,
    /// The issuer in its chain that becomes valid last, counted from 1, and when, if that is after the certificate itself.
    #[serde(skip)]
    pub chain_begins: Option<(usize, Moment)>,
    /// The days left until the expiry; negative after it.
    pub days_left: i64,
    /// `sha256:` and 64 hexadecimal digits.
    pub fingerprint: String,
}

/// Every certificate of the configuration, and the directories of them that can't be read.
pub fn certificates(certificates: &CertificateSet, disclosure: Disclosure) -> Vec<CertificateView> {
    let reason = |error: &CertificateError| match disclosure {
        Disclosure::Summary => error.summary(),
        Disclosure::Full => error.to_string(),
    };
    let entries = certificates.entries().map(|entry| CertificateView {
        name: entry.source.name.to_string(),
        file: escape_path(&entry.source.certificate),
        directory: false,
        ordered: entry.source.origin == CertificateOrigin::Ordered,
        pair: entry.pair().map(|pair| PairView::new(pair)),
        refused: entry.refusal().map(|error| reason(error)),
    });
    let directories = certificates.directory_faults();
    let directories = directories.map(|fault| CertificateView {
        name: fault.directory.to_string(),
        file: fault.directory.to_string(),
        directory: true,
        ordered: false,
        pair: None,
        refused: Some(reason(&fault.error)),
    });
    entries.chain(directories).collect()
}

impl PairView {
    fn new(pair: &CertificatePair) -> Self {
        Self {
            subject: pair.subject.clone(),
            names: pair
                .names
                .iter()
                .cloned()
                .chain(pair.addresses.iter().map(ToString::to_string))
                .collect(),
            issuer: pair.issuer.clone(),
            key: pair.key_kind(),
            not_before: Moment::new(pair.chain_not_before()),
            not_after: Moment::new(pair.chain_not_after()),
            ends_by_issuer: pair.chain_end.map(|end| end.position),
            chain_begins: (pair.chain_begin).map(|it| (it.position, Moment::new(it.not_before))),
            days_left: days_until(pair.chain_not_after()),
            fingerprint: Fingerprint(&pair.fingerprint).to_string(),
        }
    }
}

/// The last reloads, the latest first.
pub fn reloads(log: &ReloadLog, disclosure: Disclosure) -> Vec<ReloadView> {
    let entries = log.entries().into_iter();
    let views = entries.map(|(entry, stands)| ReloadView {
        at: Moment::new(entry.at),
        subject: entry.subject.as_str(),
        refused: entry
            .refusal
            .as_ref()
            .map(|refusal| reason(refusal, disclosure)),
        stands,
    });
    views.collect()
}

/// The refusals that stand, the latest first.
pub fn refused(log: &ReloadLog, disclosure: Disclosure) -> Vec<RefusedView> {
    let standing = log.all_standing().into_iter();
    let views = standing.filter_map(|one| {
        Some(RefusedView {
            at: Moment::new(one.at),
            subject: one.subject.as_str(),
            name: one.name.as_deref().map(str::to_owned),
            reason: reason(one.refusal.as_ref()?, disclosure),
        })
    });
    views.collect()
}

/// The files of which one can't be read to its end.
pub fn stalled(log: &ReloadLog) -> Vec<StalledView> {
    let stalled = log.stalled().into_iter();
    let views = stalled.map(|(subject, at)| StalledView {
        at: Moment::new(at),
        subject: subject.as_str(),
    });
    views.collect()
}

/// The transfer logs whose files can't be opened anew.
pub fn misplaced_logs(logs: &TransferLogs) -> Vec<MisplacedLogView> {
    let misplaced = logs.misplaced().into_iter();
    let views = misplaced.map(|log| MisplacedLogView {
        file: escape_path(&log.file),
        since: Moment::new(log.since),
        error: log.error,
    });
    views.collect()
}

fn reason(refusal: &Refusal, disclosure: Disclosure) -> String {
    match disclosure {
        Disclosure::Summary => refusal.summary.clone(),
        Disclosure::Full => refusal.text.clone(),
    }
}
