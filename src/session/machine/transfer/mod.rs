//! One transfer, from its command to its verdict.
//!
//! `verdict` judges it while it runs. A transfer that the client aborts, or that goes wrong on our side, has to be ended at
//! the backend, too: see `abort`. A backend whose data port can't be reached is asked for another: see `again`.

mod abort;
mod again;
mod cause;
mod failure;
mod verdict;

use super::data_port::Request;
use super::logged_in::{DataPort, Step};
use super::{Action, DataEvent, Machine, Protection, ProtocolError, Record, State, Wait};
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Direction, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::Verdict;

use abort::{Abort, AbortReason};
pub use cause::Cause;
pub use failure::DataFailure;
use verdict::{Data, Running};

/// The transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    command: Command,
    direction: Direction,
    /// That of the client's data connection.
    protection: Protection,
    /// A 1yz has come.
    begun: bool,
    /// How many STATs the backend has not answered yet.
    stats: usize,
    /// How its data port was asked for.
    request: Request,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The command waits for a data connection.
    Opening(Missing),
    /// The backend is asked for another data port.
    Asking(Request),
    /// The backend has the command.
    Running(Running),
    /// The backend is brought back into step.
    Aborting(Abort),
}

/// Whose data connection a transfer's command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The backend's, without which many servers say no 150.
    Backend,
    /// The client's, in an upload: with the command the server empties the file, and the client may never come.
    Client,
}

impl Transfer {
    /// Whether a reply can only be meant for a STAT: 211 to 213, or "not here", which before a 1yz would be the transfer's
    /// own refusal.
    fn stat_is_answered_by(&self, reply: &Reply) -> bool {
        match reply.number() {
            211..=213 => true,
            500..=504 => self.begun,
            _ => false,
        }
    }

    /// What the metrics and the log are told of it.
    fn record(&self, verdict: Verdict, cause: Option<Cause>) -> Record {
        Record::Transfer {
            command: self.command.clone(),
            direction: self.direction,
            verdict,
            cause,
        }
    }

    /// Whether its source is an upload's that has ended, and what the client has said decides whether that counts.
    pub fn is_being_judged(&self) -> bool {
        matches!(self.wait(), Wait::UploadGrace | Wait::PendingInput)
    }

    /// Whether only a client that waits for its replies tells the end of its file from its own: when it is killed, the
    /// kernel ends both of its connections with FIN.
    pub fn needs_its_client(&self) -> bool {
        match (&self.phase, self.protection) {
            _ if self.direction != Direction::Upload => false,
            (Phase::Opening(_) | Phase::Asking(_), protection) => protection == Protection::Clear,
            // Under TLS it may still end with close_notify.
            (Phase::Running(running), Protection::Private) => running.data == Data::Unproven,
            (Phase::Running(running), Protection::Clear) => {
                matches!(running.data, Data::Flowing | Data::Unproven)
            }
            (Phase::Aborting(_), _) => false,
        }
    }

    /// Whether its bytes tell their end by themselves, or have ended.
    pub fn outlives_its_client(&self) -> bool {
        match &self.phase {
            Phase::Aborting(_) => true,
            Phase::Opening(_) | Phase::Asking(_) => self.is_private_upload(),
            Phase::Running(running) => {
                let has_ended = !matches!(running.data, Data::Flowing | Data::Unproven);
                self.is_private_upload() || self.direction == Direction::Upload && has_ended
            }
        }
    }

    /// Whether the end of its bytes is still to come, from a client that may be gone.
    pub fn is_orphaned_without_its_client(&self) -> bool {
        let is_flowing = match &self.phase {
            Phase::Opening(_) | Phase::Asking(_) => true,
            Phase::Running(running) => running.data == Data::Flowing,
            Phase::Aborting(_) => false,
        };
        self.is_private_upload() && is_flowing
    }

    fn is_private_upload(&self) -> bool {
        self.direction == Direction::Upload && self.protection == Protection::Private
    }

    pub fn wait(&self) -> Wait {
        match &self.phase {
            Phase::Opening(_) => Wait::Data,
            Phase::Asking(_) => Wait::Reply,
            Phase::Aborting(_) => Wait::Abort,
            Phase::Running(running) => running.wait(),
        }
    }
}

impl Machine {
    pub(super) fn transfer(&self) -> Option<&Transfer> {
        match &self.state {
            State::LoggedIn(logged_in) => match &logged_in.step {
                Step::Transfer(transfer) => Some(transfer),
                _ => None,
            },
            _ => None,
        }
    }

    fn transfer_mut(&mut self) -> Option<&mut Transfer> {
        match &mut self.state {
            State::LoggedIn(logged_in) => match &mut logged_in.step {
                Step::Transfer(transfer) => Some(transfer),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn begin_transfer(&mut self, command: Command) {
        // PROT counts as it stands at the transfer command, not at PASV (RFC 4217 §8).
        let protection = self.security.protection();
        if self.terms.data_required && protection == Protection::Clear {
            // The data port stays: PROT P and the same command again are all it takes.
            return self.refuse_transfer(command, answer::PROT_REQUIRED);
        }
        let (State::LoggedIn(logged_in), Some(direction)) =
            (&mut self.state, command.verb().transfer())
        else {
            return;
        };
        let port = std::mem::replace(&mut logged_in.data_port, DataPort::None);
        let DataPort::Prepared(request) = port else {
            return self.refuse_transfer(command, answer::DATA_PORT_FIRST);
        };
        logged_in.step = Step::Transfer(Transfer {
            command,
            direction,
            protection,
            begun: false,
            stats: 0,
            request,
            phase: Phase::Opening(Missing::Backend),
        });
        self.push(Action::OpenData {
            direction,
            protection,
        });
        // It may have ended its side behind this command.
        self.lose_upload_of_gone_client();
    }

    fn refuse_transfer(&mut self, command: Command, answer: Answer) {
        self.answer(answer);
        self.push(Action::Record(Record::Refused { command, answer }));
        self.clear_rest();
    }

    pub(super) fn command_during_transfer(&mut self, command: Command) {
        let nothing_queued = self.queue.is_empty();
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        match (command.verb(), &mut transfer.phase) {
            (Verb::Abor, Phase::Opening(_)) => {
                // The backend has not heard of the transfer, so it need not hear of its end.
                self.push(Action::DropData);
                self.answer(answer::TRANSFER_ABORTED);
                self.answer(answer::ABORT_DONE);
                self.end_transfer(Verdict::Aborted, None);
            }
            (Verb::Abor, Phase::Asking(_)) => {
                self.push(Action::DropData);
                self.answer(answer::TRANSFER_ABORTED);
                self.answer(answer::ABORT_DONE);
                self.end_transfer(Verdict::Aborted, None);
                self.owe_answer_to_asking();
            }
            (Verb::Abor, Phase::Running(_)) => self.abort(AbortReason::Client),
            (Verb::Abor, Phase::Aborting(abort)) if !abort.is_asked_for() => {
                abort.is_now_asked_for();
            }
            // The client expects the two replies to its ABOR first.
            (Verb::Noop, Phase::Aborting(abort)) if abort.is_asked_for() => self.enqueue(command),
            // Answered here: many servers are deaf during a transfer, and whose 200 it was would be anyone's guess.
            // Not before what came earlier, or the client takes it for the answer to that.
            (Verb::Noop, _) if nothing_queued && transfer.stats == 0 => {
                self.answer(answer::NOOP_OK);
            }
            (Verb::Stat, Phase::Running(_))
                if nothing_queued
                    && command.argument().is_empty()
                    && transfer.stats < MAX_STATS =>
            {
                transfer.stats += 1;
                self.send(command.line());
            }
            // In order, when the transfer is over; RFC 959 §4.1.1 says so of QUIT.
            _ => self.enqueue(command),
        }
    }

    pub(super) fn on_data(&mut self, event: DataEvent) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        match (event, &mut transfer.phase) {
            (DataEvent::BackendOpen, Phase::Opening(missing @ Missing::Backend))
                if transfer.direction == Direction::Upload =>
            {
                *missing = Missing::Client;
            }
            (DataEvent::BackendOpen, Phase::Opening(Missing::Backend))
            | (DataEvent::ClientConnected, Phase::Opening(Missing::Client)) => {
                transfer.phase = Phase::Running(Running::new());
                let command = transfer.command.clone();
                self.track_rest(&command);
                self.send(command.line());
                self.push(Action::BeginData);
            }
            (DataEvent::BackendNotReached, Phase::Opening(Missing::Backend)) => {
                self.backend_not_reached();
            }
            (DataEvent::SourceEnded { proven }, Phase::Running(_)) => self.source_ended(proven),
            (DataEvent::Ended, Phase::Running(_)) => self.ended(),
            (DataEvent::Finished, Phase::Running(_)) => self.finished(),
            (DataEvent::Failed(failure), Phase::Opening(_)) => self.fail_transfer(failure),
            (DataEvent::Failed(failure), Phase::Asking(_)) => {
                self.fail_transfer(failure);
                self.owe_answer_to_asking();
            }
            (DataEvent::Failed(failure), Phase::Running(_)) => {
                self.abort(AbortReason::Data(failure))
            }
            // An event of data connections that have been dropped since.
            _ => {}
        }
    }

    pub(super) fn reply_during_transfer(&mut self, reply: Reply) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let for_stat = transfer.stat_is_answered_by(&reply);
        if for_stat && transfer.stats > 0 {
            transfer.stats -= 1;
            return self.pass(&reply);
        }
        match &transfer.phase {
            Phase::Asking(request) => {
                let request = *request;
                self.reply_to_asking(request, &reply);
            }
            // Nothing was asked yet.
            Phase::Opening(_) => self.drop_backend(ProtocolError::UnsolicitedReply),
            // The answer to a STAT that nobody sent says nothing about the transfer.
            Phase::Running(_) if for_stat && reply.class() == Class::Completion => {
                self.drop_backend(ProtocolError::UnexpectedReply);
            }
            Phase::Running(_) => self.reply_to_transfer(reply),
            Phase::Aborting(_) => self.reply_during_abort(reply),
        }
    }

    pub(super) fn transfer_expired(&mut self) {
        let hears_its_client = self.wants_command();
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        match &mut transfer.phase {
            Phase::Opening(_) => {}
            Phase::Asking(_) => self.drop_backend(ProtocolError::ReplyTimeout),
            Phase::Running(running) if running.data == Data::Unproven && !hears_its_client => {
                self.abort(AbortReason::Data(DataFailure::ClientUnheard));
            }
            Phase::Running(running) if matches!(running.data, Data::Unproven | Data::Proven) => {
                running.data = Data::Ending;
                self.push(Action::ProceedData);
            }
            // It is sure of the file, however late it closes.
            Phase::Running(running) if running.wait() == Wait::SinkEnd => self.finished(),
            Phase::Running(_) => self.abort(AbortReason::Data(DataFailure::NoFinalReply)),
            // The backend does without NOOP.
            Phase::Aborting(abort) if abort.is_answered_twice() => self.resynchronised(),
            Phase::Aborting(_) => self.drop_backend(ProtocolError::ReplyTimeout),
        }
    }

    /// The session ends in the middle of it: the backend must not keep what it has as a whole file.
    pub(super) fn cut_transfer(&mut self, cause: Cause) {
        if let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer()
            && running.confirmed.is_none()
        {
            self.send(b"ABOR");
        }
        self.push(Action::DropData);
        self.record_cut(cause);
    }

    /// Records a transfer that ends together with its session.
    pub(super) fn record_cut(&mut self, cause: Cause) {
        if let Some(transfer) = self.transfer() {
            let record = transfer.record(cause.verdict(), Some(cause));
            self.push(Action::Record(record));
        }
    }

    /// Ends a transfer that the backend has not begun, or takes for done.
    fn fail_transfer(&mut self, failure: DataFailure) {
        self.push(Action::DropData);
        self.answer(failure.answer());
        self.end_failed(failure);
    }

    /// Ends a transfer for which the client has its answer.
    fn end_failed(&mut self, failure: DataFailure) {
        let cause = Cause::Data(failure);
        self.end_transfer(cause.verdict(), Some(cause));
    }

    fn end_transfer(&mut self, verdict: Verdict, cause: Option<Cause>) {
        let State::LoggedIn(logged_in) = &mut self.state else {
            return;
        };
        if let Step::Transfer(transfer) = std::mem::replace(&mut logged_in.step, Step::Ready) {
            if transfer.stats > 0 {
                // Many servers are deaf during a transfer and answer STAT after it.
                logged_in.step = Step::Passed(transfer.stats);
            }
            let record = transfer.record(verdict, cause);
            self.push(Action::Record(record));
            if verdict == Verdict::Complete {
                // A connection that has come to be says little, one that a file has come over says all.
                self.avoid(transfer.request.failed());
            }
            self.clear_rest();
        }
    }
}

/// How many STATs the backend may owe an answer; more wait like other commands. Most servers are deaf during a transfer,
/// and a client that goes on asking would fill the connection to them.
const MAX_STATS: usize = 16;
