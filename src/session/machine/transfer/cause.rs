//! What ended a transfer before it was complete: what the operator reads in the log.

use super::DataFailure;
use crate::ftp::reply::Reply;
use crate::observe::metrics::Verdict;

/// What ended a transfer that is not complete, and that the client has not aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// What became of its data connections.
    Data(DataFailure),
    /// What the backend replied. In a box, since it would make every [`Action`](crate::session::machine::Action) larger.
    Reply(Box<Reply>),
    /// The client's control connection ended, or was given up.
    ClientGone,
    /// The backend's control connection ended, or was given up.
    BackendGone,
    /// The process ended, and `timeouts.drain` was over.
    Drain,
}

impl Cause {
    /// The verdict on a transfer that had begun.
    pub(super) fn verdict(&self) -> Verdict {
        match self {
            Self::Data(failure) => failure.verdict(),
            Self::Reply(_) | Self::BackendGone => Verdict::FailedBackend,
            Self::ClientGone => Verdict::FailedClient,
            Self::Drain => Verdict::Aborted,
        }
    }
}
