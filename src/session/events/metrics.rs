//! Metrics of a session's events.

use super::{SessionEvent, TransferRecord};
use crate::config::NO_SITE;
use crate::observe::metrics::Metrics;
use crate::outcome::{GuardAction, HandshakeResult, Verdict};
use crate::session::info::SessionInfo;
use crate::session::machine::Protection;
use crate::tls::client_certificates::refused_certificate;

/// Counts an event.
pub(super) fn count(event: &SessionEvent<'_>, info: &SessionInfo, metrics: &Metrics) {
    match event {
        SessionEvent::Secured {
            version,
            key_exchange,
        } => {
            metrics.handshake(HandshakeResult::Ok(*version));
            if let Some(group) = key_exchange {
                metrics.key_exchange(*group);
            }
        }
        SessionEvent::HandshakeFailed { error, .. } => {
            metrics.handshake(HandshakeResult::Failed);
            if let Some(result) = refused_certificate(error) {
                metrics.client_certificate(NO_SITE, result);
            }
        }
        SessionEvent::Certificate { admission, .. } => {
            if let Some(result) = admission.result() {
                metrics.client_certificate(&info.site_name(), result);
            }
        }
        SessionEvent::HandshakeTimedOut => metrics.handshake(HandshakeResult::TimedOut),
        SessionEvent::FailuresEvicted { site } => metrics.guard(site, GuardAction::Crowded),
        SessionEvent::ReplyDelayed { site } => metrics.guard(site, GuardAction::Delayed),
        SessionEvent::ClientBlocked { site, .. } => metrics.guard(site, GuardAction::Blocked),
        SessionEvent::Login(login) => {
            metrics.login(&login.site, login.result);
            if let Some(elapsed) = login.first_after {
                metrics.logged_in(&login.site, elapsed);
            }
        }
        SessionEvent::Denied(_) => metrics.command_denied(&info.site_name()),
        SessionEvent::NoPassivePort(_) => metrics.passive_exhausted(),
        SessionEvent::Transfer(transfer) => count_transfer(transfer, &info.site_name(), metrics),
        SessionEvent::Ended { resumption, .. } => {
            if let Some(resumption) = resumption {
                metrics.session_resumed(&info.site_name(), *resumption);
            }
        }
        // Each dial is counted by the pool, and transfers as long as they run.
        SessionEvent::BackendUnavailable { .. }
        | SessionEvent::TransferBegins(_)
        | SessionEvent::TransferRuns(_) => {}
        // Nothing that a number says more about than the line.
        SessionEvent::TlsWithoutAuth
        | SessionEvent::ClearTextBehindAuth
        | SessionEvent::SiteFull { .. }
        | SessionEvent::BackendsFull { .. }
        | SessionEvent::DialDelayed
        | SessionEvent::Refused { .. }
        | SessionEvent::ManyRefused
        | SessionEvent::MethodsAvoided { .. }
        | SessionEvent::NotListening(_)
        | SessionEvent::NoDataEndpoint(_)
        | SessionEvent::NoBackendPort(_)
        | SessionEvent::FileChanged(_)
        | SessionEvent::CredentialsRefused { .. }
        | SessionEvent::UnexpectedEvent { .. }
        | SessionEvent::BackendLost { .. } => {}
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
