//! Resynchronises with the backend in the middle of a transfer, whichever side ended the transfer.
//!
//! The backend has to end it, too: by ABOR, with a NOOP as the fence. Some servers answer an ABOR once and some twice;
//! whatever comes before the NOOP's 200 belongs to the transfer and the ABOR, so both ends are synchronised again
//! without guessing. ABOR goes out before the reset, since pyftpdlib takes even a reset for the end of the file. NOOP
//! goes out at the first reply: in a transfer Pure-FTPd throws away whatever has come behind an ABOR.

use super::super::context::Context;
use super::super::{Action, DataEvent, ProtocolError, State};
use super::{AbortedBy, DataFailure, Details, Failure, Outcome, Transfer};
use crate::ftp::answer;
use crate::ftp::reply::{Class, Reply};
use crate::outcome::Verdict;

/// A transfer that has been ended early, and whose backend is being resynchronised.
#[derive(Debug)]
pub(in super::super) struct Aborting {
    pub(super) details: Box<Details>,
    reason: AbortReason,
    resync: Resync,
    /// The backend's replies so far.
    replies: Vec<Reply>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AbortReason {
    /// The client sent ABOR and expects two replies.
    Client,
    /// A data connection failed; the client expects the transfer's one reply.
    Data(DataFailure),
}

impl AbortReason {
    fn outcome(self) -> Outcome {
        match self {
            Self::Client => Outcome::Aborted(AbortedBy::Client),
            Self::Data(fault) => Outcome::Failed(Failure::Data(fault)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resync {
    /// The backend was sent ABOR and has not answered.
    AborSent,
    /// The backend was sent NOOP, too.
    NoopSent,
}

impl Aborting {
    /// Ends a running transfer here and at the backend, for which it is over if it has sent 2xx.
    pub(super) fn begin(
        is_confirmed: bool,
        details: Box<Details>,
        reason: AbortReason,
        cx: &mut Context,
    ) -> State {
        if is_confirmed {
            cx.push(Action::DropData);
            return details.end_aborted(reason, &[], cx);
        }
        if details.begun && !details.accepted {
            cx.push(Action::ReportAcceptance);
        }
        cx.send(b"ABOR");
        cx.push(Action::DropData);
        State::Transfer(Transfer::Aborting(Self {
            details,
            reason,
            resync: Resync::AborSent,
            replies: Vec::new(),
        }))
    }

    /// Whether the client has sent ABOR.
    pub fn is_client_abort(&self) -> bool {
        matches!(self.reason, AbortReason::Client)
    }

    /// The outcome that the reason for the abort stands for.
    pub fn outcome(&self) -> Outcome {
        self.reason.outcome()
    }

    /// The client sends ABOR when a data connection has failed already.
    pub fn on_abor(mut self) -> State {
        self.reason = AbortReason::Client;
        State::Transfer(Transfer::Aborting(self))
    }

    /// Its data connections have been dropped, and can only be told of as they were.
    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        if event == DataEvent::BackendAccepted {
            self.details.accepted = true;
            return State::Transfer(Transfer::Aborting(self));
        }
        cx.unexpected(State::Transfer(Transfer::Aborting(self)), "a data event")
    }

    pub fn on_reply(mut self, reply: Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            // A late 150.
            self.details.note_preliminary(&reply);
            return State::Transfer(Transfer::Aborting(self));
        }
        match self.resync {
            // A server that calls NOOP's 200 something else has said three things by then.
            Resync::NoopSent if reply.number() == 200 || self.is_answered_twice() => {
                return self.resynchronised(cx);
            }
            Resync::NoopSent => self.replies.push(reply),
            Resync::AborSent => {
                self.replies.push(reply);
                self.resync = Resync::NoopSent;
                cx.send(b"NOOP");
            }
        }
        State::Transfer(Transfer::Aborting(self))
    }

    pub fn on_expired(self, cx: &mut Context) -> State {
        if self.is_answered_twice() {
            // The backend does without NOOP.
            return self.resynchronised(cx);
        }
        State::Transfer(Transfer::Aborting(self)).fail_backend(ProtocolError::ReplyTimeout, cx)
    }

    /// Whether the transfer and the ABOR have been answered, as far as a server answers both.
    fn is_answered_twice(&self) -> bool {
        self.replies.len() >= 2
    }

    /// The backend has answered all that it was sent, or will not answer the rest.
    fn resynchronised(mut self, cx: &mut Context) -> State {
        let accepted = self.details.accepted;
        let is_told = |reply| is_about_transfer(reply, accepted);
        if !self.replies.iter().any(is_told) {
            return State::Transfer(Transfer::Aborting(self))
                .fail_backend(ProtocolError::AbortIgnored, cx);
        }
        // It has answered what came after these.
        for _ in 0..std::mem::take(&mut self.details.stats) {
            cx.reply(answer::NOT_IMPLEMENTED);
        }
        self.details.end_aborted(self.reason, &self.replies, cx)
    }
}

impl Details {
    /// Sends the client the result of the transfer, by the backend's reply where it has sent one.
    fn end_aborted(
        self: Box<Self>,
        reason: AbortReason,
        replies: &[Reply],
        cx: &mut Context,
    ) -> State {
        let failure = replies.iter().find(|reply| reply.class().is_failure());
        match reason {
            AbortReason::Client => {
                let done = replies
                    .iter()
                    .rfind(|reply| reply.class() == Class::Completion);
                // RFC 959 §4.1.3: a 426 for the transfer, then a 226 for the ABOR. A 226 for the transfer would claim
                // bytes that never reached the client.
                cx.forward_or(failure, answer::TRANSFER_ABORTED);
                // 225 would say that there was nothing to abort.
                cx.forward_or(
                    done.filter(|reply| reply.number() != 225),
                    answer::ABORT_DONE,
                );
                let code = failure.map_or(answer::TRANSFER_ABORTED.number(), Reply::number);
                self.end(reason.outcome(), code, cx)
            }
            AbortReason::Data(fault) => {
                let its_own = failure.filter(|_| fault.verdict() == Verdict::FailedBackend);
                cx.forward_or(its_own, fault.answer());
                let code = its_own.map_or(fault.answer().number(), Reply::number);
                self.end(reason.outcome(), code, cx)
            }
        }
    }
}

/// Whether a reply is about the transfer, be it the ABOR's. A 225 alone says that there is none, as pyftpdlib does while no byte
/// has been moved. Where it has accepted its data connection, both are over. Where it has not, it has put the file off until it
/// does, and would send it over the next one, in front of the next file. A server that knows no ABOR says as little.
fn is_about_transfer(reply: &Reply, accepted: bool) -> bool {
    match reply.number() {
        225 => accepted,
        200..=224 | 500..=504 => false,
        _ => true,
    }
}
