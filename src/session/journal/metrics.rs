//! What the metrics count of a session's entries.

use super::Entry;
use crate::observe::metrics::Metrics;
use crate::outcome::{GuardAction, HandshakeResult};
use crate::session::info::SessionInfo;

/// Counts an entry.
pub(super) fn count(entry: &Entry<'_>, info: &SessionInfo, metrics: &Metrics) {
    match entry {
        Entry::Secured(version) => metrics.handshake(HandshakeResult::Ok(*version)),
        Entry::HandshakeFailed(_) => metrics.handshake(HandshakeResult::Failed),
        Entry::HandshakeTimedOut => metrics.handshake(HandshakeResult::TimedOut),
        Entry::FailuresEvicted { site } => metrics.guard(site, GuardAction::Crowded),
        Entry::ReplyDelayed { site } => metrics.guard(site, GuardAction::Delayed),
        Entry::ClientBlocked { site, .. } => metrics.guard(site, GuardAction::Blocked),
        Entry::Login(login) => metrics.login(&login.site, login.result),
        Entry::Denied(_) => metrics.command_denied(&info.site_name()),
        Entry::NoPassivePort(_) => metrics.passive_exhausted(),
        Entry::Transfer(transfer) => metrics.transfer(
            &info.site_name(),
            transfer.direction,
            transfer.verdict(),
            transfer.progress.bytes,
        ),
        // Counted where they are found out: each dial by the pool, sessions and transfers as long as they live.
        Entry::BackendUnavailable { .. }
        | Entry::TransferBegins(_)
        | Entry::TransferRuns(_)
        | Entry::Ended { .. } => {}
        // Nothing that a number says more about than the line.
        Entry::TlsWithoutAuth
        | Entry::ClearTextBehindAuth
        | Entry::SiteFull { .. }
        | Entry::BackendsFull { .. }
        | Entry::DialDelayed
        | Entry::Refused { .. }
        | Entry::MethodsAvoided { .. }
        | Entry::NotListening(_)
        | Entry::NoBackendPort(_)
        | Entry::FileChanged(_)
        | Entry::BackendLost { .. } => {}
    }
}
