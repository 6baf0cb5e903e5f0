//! What the metrics count of a session's entries.

use super::{Entry, TransferRecord};
use crate::config::NO_SITE;
use crate::observe::metrics::Metrics;
use crate::outcome::{GuardAction, HandshakeResult, Verdict};
use crate::session::info::SessionInfo;
use crate::session::machine::Protection;
use crate::tls::client_certificates::refused_certificate;

/// Counts an entry.
pub(super) fn count(entry: &Entry<'_>, info: &SessionInfo, metrics: &Metrics) {
    match entry {
        Entry::Secured {
            version,
            key_exchange,
        } => {
            metrics.handshake(HandshakeResult::Ok(*version));
            if let Some(group) = key_exchange {
                metrics.key_exchange(*group);
            }
        }
        Entry::HandshakeFailed { error, .. } => {
            metrics.handshake(HandshakeResult::Failed);
            if let Some(result) = refused_certificate(error) {
                metrics.client_certificate(NO_SITE, result);
            }
        }
        Entry::Certificate { admission, .. } => {
            if let Some(result) = admission.result() {
                metrics.client_certificate(&info.site_name(), result);
            }
        }
        Entry::HandshakeTimedOut => metrics.handshake(HandshakeResult::TimedOut),
        Entry::FailuresEvicted { site } => metrics.guard(site, GuardAction::Crowded),
        Entry::ReplyDelayed { site } => metrics.guard(site, GuardAction::Delayed),
        Entry::ClientBlocked { site, .. } => metrics.guard(site, GuardAction::Blocked),
        Entry::Login(login) => {
            metrics.login(&login.site, login.result);
            if let Some(elapsed) = login.first_after {
                metrics.logged_in(&login.site, elapsed);
            }
        }
        Entry::Denied(_) => metrics.command_denied(&info.site_name()),
        Entry::NoPassivePort(_) => metrics.passive_exhausted(),
        Entry::Transfer(transfer) => count_transfer(transfer, &info.site_name(), metrics),
        Entry::Ended { resumption, .. } => {
            if let Some(resumption) = resumption {
                metrics.session_resumed(&info.site_name(), *resumption);
            }
        }
        // Each dial is counted by the pool, and transfers as long as they run.
        Entry::BackendUnavailable { .. } | Entry::TransferBegins(_) | Entry::TransferRuns(_) => {}
        // Nothing that a number says more about than the line.
        Entry::TlsWithoutAuth
        | Entry::ClearTextBehindAuth
        | Entry::SiteFull { .. }
        | Entry::BackendsFull { .. }
        | Entry::DialDelayed
        | Entry::Refused { .. }
        | Entry::MethodsAvoided { .. }
        | Entry::NotListening(_)
        | Entry::NoDataEndpoint(_)
        | Entry::NoBackendPort(_)
        | Entry::FileChanged(_)
        | Entry::CredentialsRefused { .. }
        | Entry::UnexpectedEvent { .. }
        | Entry::BackendLost { .. } => {}
    }
}

fn count_transfer(transfer: &TransferRecord<'_>, site: &str, metrics: &Metrics) {
    let (direction, verdict, progress) =
        (transfer.direction, transfer.verdict(), &transfer.progress);
    metrics.transfer(site, direction, verdict, progress.bytes);
    if transfer.protection == Some(Protection::Clear) {
        metrics.clear_transfer(site);
    }
    if verdict == Verdict::Complete {
        metrics.transfer_complete(site, direction, progress.bytes, progress.elapsed);
    }
}
