//! Bringing the backend back into step in the middle of a transfer, whoever gave the transfer up.
//!
//! The backend has to hear of it, too: ABOR tells it, and a NOOP is the fence. Some servers answer an ABOR once and some
//! twice; whatever comes before the NOOP's 200 belongs to the transfer and the ABOR, so both ends are in step again without
//! guessing. ABOR goes out before the reset, since pyftpdlib takes even a reset for the end of the file. NOOP goes out at
//! the first reply: in a transfer Pure-FTPd throws away whatever has come behind an ABOR.

use super::super::{Action, Machine, ProtocolError};
use super::{DataFailure, Phase, Transfer};
use crate::ftp::answer::{self, Answer};
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::Verdict;

/// A transfer that has been given up, and whose backend is on its way back into step.
#[derive(Debug)]
pub(super) struct Abort {
    why: AbortReason,
    resync: Resync,
    /// What the backend has said to it so far.
    replies: Vec<Reply>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AbortReason {
    /// The client said ABOR and expects two replies.
    Client,
    /// A data connection failed; the client expects the transfer's one reply.
    Data(DataFailure),
}

/// Whether a reply says something about the transfer, be it the ABOR's. A 225 alone says that there is none: pyftpdlib has
/// put the file off until it accepts its data connection, and would send it over the next one, in front of the next file. A
/// server that knows no ABOR says as little.
fn speaks_of_transfer(reply: &Reply) -> bool {
    !matches!(reply.number(), 200..=225 | 500..=504)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resync {
    /// The backend was sent ABOR and has not answered.
    AborSent,
    /// It was sent NOOP, too.
    NoopSent,
}

impl Abort {
    /// Whether the client has said ABOR.
    pub fn is_asked_for(&self) -> bool {
        matches!(self.why, AbortReason::Client)
    }

    /// The client says ABOR when a data connection has failed already.
    pub fn is_now_asked_for(&mut self) {
        self.why = AbortReason::Client;
    }

    /// Whether the transfer and the ABOR have been answered, as far as a server answers both.
    pub fn is_answered_twice(&self) -> bool {
        self.replies.len() >= 2
    }
}

impl Machine {
    /// Ends the running transfer here and at the backend.
    pub(super) fn abort(&mut self, why: AbortReason) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let Phase::Running(running) = &transfer.phase else {
            return;
        };
        if running.confirmed.is_some() {
            // For the backend the transfer is over.
            self.push(Action::DropData);
            return self.end_aborted(why, &[]);
        }
        transfer.phase = Phase::Aborting(Abort {
            why,
            resync: Resync::AborSent,
            replies: Vec::new(),
        });
        self.send(b"ABOR");
        self.push(Action::DropData);
    }

    pub(super) fn reply_during_abort(&mut self, reply: Reply) {
        let Some(Transfer {
            phase: Phase::Aborting(abort),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        if reply.class() == Class::Preliminary {
            // A late 150.
            return;
        }
        match abort.resync {
            // A server that calls NOOP's 200 something else has said three things by then.
            Resync::NoopSent if reply.number() == 200 || abort.is_answered_twice() => {
                self.resynchronised()
            }
            Resync::NoopSent => abort.replies.push(reply),
            Resync::AborSent => {
                abort.replies.push(reply);
                abort.resync = Resync::NoopSent;
                self.send(b"NOOP");
            }
        }
    }

    /// The backend has answered all that it was sent, or will not answer the rest.
    pub(super) fn resynchronised(&mut self) {
        let Some(Transfer {
            phase: Phase::Aborting(abort),
            stats,
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        let why = abort.why;
        let replies = std::mem::take(&mut abort.replies);
        if !replies.iter().any(speaks_of_transfer) {
            return self.drop_backend(ProtocolError::AbortIgnored);
        }
        // It has answered what came after these.
        for _ in 0..std::mem::take(stats) {
            self.answer(answer::NOT_IMPLEMENTED);
        }
        self.end_aborted(why, &replies);
    }

    /// Tells the client how the transfer ended, in the backend's words where it had some.
    fn end_aborted(&mut self, why: AbortReason, replies: &[Reply]) {
        let failure = replies.iter().find(|reply| reply.class().is_failure());
        match why {
            AbortReason::Client => {
                let done = replies
                    .iter()
                    .rfind(|reply| reply.class() == Class::Completion);
                // RFC 959 §4.1.3: a 426 for the transfer, then a 226 for the ABOR. A 226 for the transfer would speak
                // of bytes that never reached the client.
                self.pass_or(failure, answer::TRANSFER_ABORTED);
                self.pass_or(done, answer::ABORT_DONE);
                self.end_transfer(Verdict::Aborted, None);
            }
            AbortReason::Data(fault) => {
                let verdict = fault.verdict();
                let its_own = failure.filter(|_| verdict == Verdict::FailedBackend);
                self.pass_or(its_own, fault.answer());
                self.end_failed(fault);
            }
        }
    }

    fn pass_or(&mut self, reply: Option<&Reply>, otherwise: Answer) {
        match reply {
            Some(reply) => self.pass(reply),
            None => self.answer(otherwise),
        }
    }
}
