//! What needs an operator's attention, and in which order. `words` has the texts.

#[cfg(test)]
mod tests;
mod words;

use std::time::Duration;

use super::Page;
use crate::tls::RENEWAL_MARGIN;
use crate::view::{BackendView, CertificateView, DrainedBy, Moment, ReloadView, SiteView};

/// A backend's certificate that expires in fewer days should have been renewed. Its beginning is not known.
pub(super) const DAYS_TO_RENEW: i64 = (RENEWAL_MARGIN.as_secs() / 86_400) as i64;

/// However short its life, a certificate should have been renewed so long before its end.
const LEAST_MARGIN: Duration = Duration::from_secs(4 * 3_600);

/// However long its life, so long before its end is early enough.
const MOST_MARGIN: Duration = Duration::from_secs(30 * 86_400);

/// One thing that needs attention.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attention<'a> {
    CertificateExpired(&'a CertificateView),
    CertificateExpires(&'a CertificateView),
    Refused(&'a ReloadView),
    NoBackend(&'a SiteView),
    BackendOut(&'a BackendView),
    BackendCertificate(&'a BackendView),
    Maintenance(&'a SiteView),
    Drained(&'a BackendView),
    SiteNearlyFull(&'a SiteView),
    ProcessNearlyFull,
    Starting,
    Draining,
}

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Clients can't be served.
    Failing,
    /// They will not be if nothing is done, or something that was wanted didn't happen.
    Warning,
    /// An operator has it so, and should not forget it.
    Note,
}

impl Attention<'_> {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::CertificateExpired(_) | Self::NoBackend(_) => Severity::Failing,
            Self::CertificateExpires(_)
            | Self::Refused(_)
            | Self::BackendOut(_)
            | Self::BackendCertificate(_)
            | Self::SiteNearlyFull(_)
            | Self::ProcessNearlyFull => Severity::Warning,
            Self::Maintenance(_) | Self::Drained(_) | Self::Starting | Self::Draining => {
                Severity::Note
            }
        }
    }
}

/// All of it: what is failing first, and among what matters as much, what concerns most clients.
pub(super) fn attention<'a>(page: &Page<'a>) -> Vec<Attention<'a>> {
    let (overview, sites, backends) = (page.overview, page.sites, page.backends);
    let mut found: Vec<_> = page
        .certificates
        .iter()
        .filter_map(|one| certificate(page.now, one))
        .collect();
    found.extend(
        overview
            .reloads
            .iter()
            .filter(stands)
            .map(Attention::Refused),
    );
    found.extend(sites.iter().filter(lacks_backend).map(Attention::NoBackend));
    found.extend(backends.iter().filter(is_out).map(Attention::BackendOut));
    found.extend(
        backends
            .iter()
            .filter(expires)
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
        "starting" => found.push(Attention::Starting),
        "draining" => found.push(Attention::Draining),
        _ => {}
    }
    // Keeps the order of those that are equal.
    found.sort_by_key(Attention::severity);
    found
}

/// Whether a certificate should have been renewed: with a quarter of its life left, as the alerts of
/// `deploy/prometheus/alerts.yaml` have it.
pub(super) fn is_due(now: Moment, certificate: &CertificateView) -> bool {
    let life = certificate.not_after.since(certificate.not_before);
    certificate.not_after.since(now) < (life / 4).clamp(LEAST_MARGIN, MOST_MARGIN)
}

fn certificate(now: Moment, certificate: &CertificateView) -> Option<Attention<'_>> {
    match certificate.days_left {
        ..0 => Some(Attention::CertificateExpired(certificate)),
        _ => is_due(now, certificate).then_some(Attention::CertificateExpires(certificate)),
    }
}

fn stands(reload: &&ReloadView) -> bool {
    reload.refused.is_some() && reload.stands
}

/// In maintenance a site refuses logins before it looks for a backend.
fn lacks_backend(site: &&SiteView) -> bool {
    site.maintenance.is_none() && site.backends_up == 0
}

fn is_out(backend: &&BackendView) -> bool {
    matches!(backend.state, "down" | "ejected")
}

fn expires(backend: &&BackendView) -> bool {
    backend
        .certificate_days_left
        .is_some_and(|days| days < DAYS_TO_RENEW)
}

fn is_drained(backend: &&BackendView) -> bool {
    backend.drained_by == Some(DrainedBy::Operator)
}

/// Less than a tenth is left.
fn is_nearly_full(sessions: usize, max: usize) -> bool {
    max.saturating_sub(sessions) < max.div_ceil(10)
}
