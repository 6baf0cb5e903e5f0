//! The transfers of a session: the record of each, and what they add up to.

use std::time::Duration;

use crate::base::text::escape_lines;
use crate::ftp::command::Command;
use crate::observe::metrics::{Metrics, RunningTransfer};
use crate::outcome::{DataHandshake, Direction, Verdict};
use crate::session::machine::{AbortedBy, Failure, Outcome, Protection, TransferDetails};
use crate::session::transfer::TransferStats;

/// The progress of a transfer.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Progress {
    /// The bytes moved from the source to the sink.
    pub bytes: u64,
    /// The time since the transfer command.
    pub elapsed: Duration,
    /// For how long of that a rate has held the transfer back, if there is one.
    pub throttled: Option<Duration>,
    /// Further measurements of the transfer, once its data connections were being opened.
    pub stats: Option<TransferStats>,
}

impl Progress {
    /// How the handshake of the client's data connection ended, if there was one.
    pub fn handshake(&self) -> Option<DataHandshake> {
        self.stats.as_ref()?.handshake()
    }
}

/// A transfer that is over.
pub(in crate::session) struct TransferRecord<'a> {
    pub command: &'a Command,
    pub direction: Direction,
    pub progress: Progress,
    /// The protection level of the client's data connection; `None` if the transfer was refused before any was opened.
    pub protection: Option<Protection>,
    pub outcome: &'a Outcome,
    pub details: &'a TransferDetails,
}

impl TransferRecord<'_> {
    pub fn verdict(&self) -> Verdict {
        self.outcome.verdict()
    }

    /// Why the transfer is not complete, unless the client has aborted it.
    pub fn reason(&self) -> Option<String> {
        Some(match self.outcome {
            Outcome::Complete | Outcome::Aborted(AbortedBy::Client) => return None,
            Outcome::Aborted(AbortedBy::Drain) => "the process ended".to_owned(),
            Outcome::Aborted(AbortedBy::Operator) => "an operator ended the session".to_owned(),
            Outcome::Refused(reply) | Outcome::Failed(Failure::Reply(reply)) => {
                escape_lines(reply.bytes())
            }
            Outcome::Failed(Failure::Data(failure)) => failure.to_string(),
            Outcome::Failed(Failure::ClientGone) => "client's control connection ended".to_owned(),
            Outcome::Failed(Failure::BackendGone) => {
                "backend's control connection ended".to_owned()
            }
        })
    }
}

/// Totals of a session's transfers.
#[derive(Debug, Default)]
pub(in crate::session) struct Transfers {
    pub count: u64,
    pub uploaded: u64,
    pub downloaded: u64,
    /// The progress of the transfer that runs or has just ended.
    progress: Progress,
    protection: Option<Protection>,
    running: Option<RunningTransfer>,
}

impl Transfers {
    /// The data connections of another one are being opened.
    pub fn begin(&mut self, protection: Protection, metrics: &Metrics) {
        self.progress = Progress::default();
        self.protection = Some(protection);
        self.running = Some(metrics.transfer_running());
    }

    /// Records the progress of the transfer.
    pub fn note_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Records that the transfer is over, or was refused before any began.
    pub fn end<'a>(
        &mut self,
        command: &'a Command,
        direction: Direction,
        outcome: &'a Outcome,
        details: &'a TransferDetails,
    ) -> TransferRecord<'a> {
        let progress = std::mem::take(&mut self.progress);
        self.running = None;
        self.count += 1;
        match direction {
            Direction::Upload => self.uploaded += progress.bytes,
            Direction::Download | Direction::Listing => {
                self.downloaded += progress.bytes;
            }
        }
        TransferRecord {
            command,
            direction,
            progress,
            protection: self.protection.take(),
            outcome,
            details,
        }
    }
}
