//! How a transfer ended: the verdict and what led to it, for the metrics and the log.

use super::DataFailure;
use crate::ftp::reply::Reply;
use crate::outcome::Verdict;

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte has arrived, and the backend has confirmed it.
    Complete,
    /// The transfer was ended on purpose.
    Aborted(AbortedBy),
    /// The backend would not begin the transfer, and sent this reply. In a box, since it would make every
    /// [`Action`](crate::session::machine::Action) larger.
    Refused(Box<Reply>),
    /// The transfer was to be complete, and is not.
    Failed(Failure),
}

/// The origin of a transfer's abort on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortedBy {
    /// The client's ABOR.
    Client,
    /// The end of the process, when `timeouts.drain` was over.
    Drain,
    /// The operator who ended the session.
    Operator,
}

/// The cause of a transfer's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The data connections failed.
    Data(DataFailure),
    /// The backend replied with this.
    Reply(Box<Reply>),
    /// The client's control connection ended, or was given up.
    ClientGone,
    /// The backend's control connection ended, or was given up.
    BackendGone,
}

impl Outcome {
    /// The outcome's label in the metrics and the log.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Complete => Verdict::Complete,
            Self::Aborted(AbortedBy::Client | AbortedBy::Drain | AbortedBy::Operator) => {
                Verdict::Aborted
            }
            Self::Refused(_) => Verdict::Refused,
            Self::Failed(Failure::Data(failure)) => failure.verdict(),
            Self::Failed(Failure::Reply(_) | Failure::BackendGone) => Verdict::FailedBackend,
            Self::Failed(Failure::ClientGone) => Verdict::FailedClient,
        }
    }
}
