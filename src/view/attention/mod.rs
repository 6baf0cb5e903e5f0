//! The problems that need an operator's attention, and their order. `title` describes each, `remedy` advises what to do.

mod remedy;
#[cfg(test)]
mod tests;
mod title;
mod words;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::{
    BackendClientCertificateView, BackendView, CertificateView, CheckLoginView, DrainedBy,
    MisplacedLogView, Moment, OrdersView, Overview, PairView, RefusedView, RevocationListView,
    SiteView, StalledView,
};
use crate::tls::renewal_is_due;

pub use words::{Word, Words};

/// A list of which there is no newer one so long before its end may have been forgotten, as the alerts have it.
const LIST_MARGIN: Duration = Duration::from_secs(4 * 3_600);

/// How late an order may begin; one that is under way has its own deadline.
const OVERDUE: Duration = Duration::from_secs(3_600);

/// All that is looked at.
#[derive(Debug, Clone, Copy)]
pub struct ProcessView<'a> {
    /// The moment of which it tells.
    pub now: Moment,
    /// The process.
    pub overview: &'a Overview,
    /// The certificates that clients are shown.
    pub certificates: &'a [CertificateView],
    /// Every site.
    pub sites: &'a [SiteView],
    /// Every backend.
    pub backends: &'a [BackendView],
}

/// A problem that needs attention, in words.
#[derive(Debug, Clone, Serialize)]
pub struct AttentionView {
    /// How much the problem matters.
    pub severity: Severity,
    /// The description of the problem.
    pub what: Words,
    /// The words of whatever refused or failed, as they are.
    pub reason: Option<String>,
    /// Advice what to do about it.
    pub remedy: Words,
}

/// A problem that needs attention.
#[derive(Debug, Clone, Copy)]
enum Attention<'a> {
    CertificateExpired(&'a CertificateView, &'a PairView),
    CertificateExpires(&'a CertificateView, &'a PairView),
    ChainNotYetValid(&'a CertificateView, &'a PairView, (usize, Moment)),
    CertificateRefused(&'a CertificateView, &'a str),
    RevocationListEnded(&'a RevocationListView, Moment),
    RevocationListEnds(&'a RevocationListView, Moment),
    BackendClientCertificate(&'a BackendClientCertificateView),
    OrdersOverdue(Moment),
    OrdersFail(&'a OrdersView),
    Refused(&'a RefusedView),
    Stalled(&'a StalledView),
    MisplacedLog(&'a MisplacedLogView),
    NoBackend(&'a SiteView),
    BackendsFull(&'a SiteView),
    BackendOut(&'a BackendView),
    CheckLoginRefused(&'a BackendView, &'a CheckLoginView),
    BackendCertificate(&'a BackendView),
    Maintenance(&'a SiteView),
    Drained(&'a BackendView),
    SiteNearlyFull(&'a SiteView),
    ProcessNearlyFull,
    NoCertificate,
    Starting,
    LameDuck,
    Draining,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Clients can't be served.
    Failing,
    /// Clients won't be served if nothing is done, or something that was wanted didn't happen.
    Warning,
    /// An operator has it so, and should not forget it.
    Note,
}

impl Attention<'_> {
    fn severity(&self) -> Severity {
        match self {
            Self::CertificateExpired(..)
            | Self::ChainNotYetValid(..)
            | Self::NoBackend(_)
            | Self::NoCertificate => Severity::Failing,
            Self::RevocationListEnded(list, _) if list.then_refused => Severity::Failing,
            Self::BackendClientCertificate(one) if one.pair.days_left < 0 => Severity::Failing,
            Self::CertificateExpires(..)
            | Self::RevocationListEnded(..)
            | Self::RevocationListEnds(..)
            | Self::BackendClientCertificate(_)
            | Self::OrdersOverdue(_)
            | Self::CertificateRefused(..)
            | Self::OrdersFail(_)
            | Self::Refused(_)
            | Self::Stalled(_)
            | Self::MisplacedLog(_)
            | Self::BackendsFull(_)
            | Self::BackendOut(_)
            | Self::CheckLoginRefused(..)
            | Self::BackendCertificate(_)
            | Self::SiteNearlyFull(_)
            | Self::ProcessNearlyFull => Severity::Warning,
            Self::Maintenance(_)
            | Self::Drained(_)
            | Self::Starting
            | Self::LameDuck
            | Self::Draining => Severity::Note,
        }
    }
}

/// All of it: what is failing first, and among what matters as much, what concerns most clients.
pub fn attention(process: &ProcessView<'_>) -> Vec<AttentionView> {
    let found = found(process).into_iter();
    let in_words = found.map(|one| AttentionView {
        severity: one.severity(),
        what: one.what(process),
        reason: one.reason(process).map(str::to_owned),
        remedy: one.remedy(process),
    });
    in_words.collect()
}

fn found<'a>(process: &ProcessView<'a>) -> Vec<Attention<'a>> {
    let ProcessView {
        now,
        overview,
        certificates,
        sites,
        backends,
    } = *process;
    let mut found: Vec<_> = certificates
        .iter()
        .filter_map(|one| certificate(now, one))
        .collect();
    found.extend(certificates.iter().filter_map(|one| {
        let reason = one.refused.as_deref()?;
        Some(Attention::CertificateRefused(one, reason))
    }));
    let lists = overview.revocation_lists.iter();
    found.extend(lists.filter_map(|one| revocation_list(now, one)));
    let own = overview.backend_client_certificates.iter();
    found.extend(
        own.filter(|one| is_due(now, &one.pair))
            .map(Attention::BackendClientCertificate),
    );
    let orders = overview.acme.as_ref();
    found.extend(orders.filter(fail).map(Attention::OrdersFail));
    found.extend(orders.and_then(|orders| overdue(now, orders)));
    found.extend(
        overview
            .refused
            .iter()
            .filter(is_no_certificate)
            .map(Attention::Refused),
    );
    found.extend(overview.stalled.iter().map(Attention::Stalled));
    let logs = overview.misplaced_logs.iter();
    found.extend(logs.map(Attention::MisplacedLog));
    found.extend(sites.iter().filter(lacks_backend).map(Attention::NoBackend));
    found.extend(sites.iter().filter(is_full).map(Attention::BackendsFull));
    found.extend(backends.iter().filter(is_out).map(Attention::BackendOut));
    found.extend(refused_check_logins(backends));
    found.extend(
        backends
            .iter()
            .filter(|backend| backend.certificate_is_due(now))
            .map(Attention::BackendCertificate),
    );
    found.extend(
        sites
            .iter()
            .filter(|site| site.maintenance.is_some())
            .map(Attention::Maintenance),
    );
    found.extend(backends.iter().filter(is_drained).map(Attention::Drained));
    found.extend(
        sites
            .iter()
            .filter(|site| is_nearly_full(site.sessions, site.max_sessions))
            .map(Attention::SiteNearlyFull),
    );
    if is_nearly_full(overview.sessions, overview.max_sessions) {
        found.push(Attention::ProcessNearlyFull);
    }
    match overview.readiness {
        "no_certificate" => found.push(Attention::NoCertificate),
        "starting" => found.push(Attention::Starting),
        "lame_duck" => found.push(Attention::LameDuck),
        "draining" => found.push(Attention::Draining),
        _ => {}
    }
    // Keeps the order of those that are equal.
    found.sort_by_key(Attention::severity);
    found
}

/// Whether a certificate should have been renewed.
pub fn is_due(now: Moment, certificate: &PairView) -> bool {
    renewal_is_due(certificate.not_before.0, certificate.not_after.0, now.0)
}

fn certificate(now: Moment, certificate: &CertificateView) -> Option<Attention<'_>> {
    let pair = certificate.pair.as_ref()?;
    let begin = pair.chain_begins.filter(|(_, at)| *at > now);
    match (pair.days_left, begin) {
        (0.., Some(begin)) => Some(Attention::ChainNotYetValid(certificate, pair, begin)),
        (..0, _) => Some(Attention::CertificateExpired(certificate, pair)),
        _ => is_due(now, pair).then_some(Attention::CertificateExpires(certificate, pair)),
    }
}

fn revocation_list(now: Moment, list: &RevocationListView) -> Option<Attention<'_>> {
    let end = list.next_update?;
    if end <= now {
        return Some(Attention::RevocationListEnded(list, end));
    }
    (end.since(now) < LIST_MARGIN).then_some(Attention::RevocationListEnds(list, end))
}

/// An order that should have begun long ago: another instance holds the lock and orders nothing, or this one hangs.
fn overdue(now: Moment, orders: &OrdersView) -> Option<Attention<'_>> {
    let at = orders.next_attempt?;
    (now.since(at) > OVERDUE).then_some(Attention::OrdersOverdue(at))
}

/// Whether orders fail: one failure is often over with the next order.
fn fail(orders: &&OrdersView) -> bool {
    orders.failures > 1 || orders.activity == "unusable"
}

/// Whether a refusal is of anything but a certificate: refused certificates are reported by themselves.
fn is_no_certificate(refused: &&RefusedView) -> bool {
    refused.subject != "certificate"
}

/// In maintenance a site refuses logins before it looks for a backend.
fn lacks_backend(site: &&SiteView) -> bool {
    site.maintenance.is_none() && site.backends_up == 0
}

fn is_full(site: &&SiteView) -> bool {
    site.maintenance.is_none() && site.is_full()
}

fn is_out(backend: &&BackendView) -> bool {
    matches!(backend.state, "down" | "ejected")
}

/// The checks of a site share their password, so one backend stands for all of its site that have the same user.
fn refused_check_logins(backends: &[BackendView]) -> impl Iterator<Item = Attention<'_>> {
    let mut told = BTreeSet::new();
    backends.iter().filter_map(move |backend| {
        let login = backend.check_login.as_ref()?;
        let is_refused = backend.check.as_ref()?.login_refused;
        let is_first = is_refused && told.insert((&backend.site, &login.user));
        is_first.then_some(Attention::CheckLoginRefused(backend, login))
    })
}

fn is_drained(backend: &&BackendView) -> bool {
    backend.drained_by == Some(DrainedBy::Operator)
}

/// Less than a tenth is left.
fn is_nearly_full(sessions: usize, max: usize) -> bool {
    max.saturating_sub(sessions) < max.div_ceil(10)
}
