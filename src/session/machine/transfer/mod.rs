//! One transfer, from its command to its verdict.
//!
//! ```text
//!            not reached
//!         ┌───────────────▶ Asking
//!         │ ◀─another port──  │
//! ──▶ Opening ──connected──▶ Download or Upload ──the end of the bytes, 2xx──▶ complete
//!         │                        │
//!         │ ABOR, failure          │ ABOR, failure
//!         ▼                        ▼
//!    not complete ◀──NOOP's 200── Aborting
//! ```
//!
//! `opening` waits for the data connections, and asks a backend whose data port can't be reached for another.
//! `download` and `upload` handle it while it runs. One that the client aborts, or that fails on our side, has to be
//! ended at the backend, too: see `abort`.
//!
//! # The verdict, which is the promise that Portcullis makes
//!
//! A transfer is complete only if its source ended in order, its sink took every byte, *and* the backend sent 2xx. Until all
//! three are known neither peer is informed of it: a download's client doesn't get its end of file before the backend's 2xx, and
//! an upload's backend doesn't get it before the client's end was checked. In every other case the sink's leg is reset and the
//! client gets a 4xx or 5xx.

mod abort;
mod confirmed;
mod details;
mod download;
mod failure;
mod opening;
mod outcome;
mod upload;

use super::context::{ClientPresence, Context};
use super::queue::QueuedLine;
use super::ready::LoggedIn;
use super::{Action, DataEvent, Ending, Protection, ProtocolError, Record, State, Wait};
use crate::ftp::answer::{self, Answer};
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::outcome::Direction;

use abort::{AbortReason, Aborting};
use details::Details;
use download::Download;
pub use failure::DataFailure;
pub(super) use opening::AskingAgain;
use opening::Opening;
pub use outcome::{AbortedBy, Failure, Outcome};
use upload::Upload;

/// How many STATs the backend may owe an answer; more wait like other commands. Most servers don't read commands during
/// a transfer, and a client that keeps sending STAT would fill the connection to them.
const MAX_STATS: usize = 16;

/// The transfer under way.
#[derive(Debug)]
pub(super) enum Transfer {
    /// The command waits for a data connection.
    Opening(Opening),
    /// The backend is asked for another data port.
    AskingAgain(AskingAgain),
    /// The backend has the command, and is to take a file.
    Upload(Upload),
    /// The backend has the command, and is to send a file or a listing.
    Download(Download),
    /// The backend is being resynchronised.
    Aborting(Aborting),
}

/// A transfer command, with nothing else under way.
pub(super) fn begin(
    mut login: Box<LoggedIn>,
    command: Command,
    direction: Direction,
    cx: &mut Context,
) -> State {
    login.connection.restart_markers.begin_transfer();
    // PROT applies as set at the transfer command, not at PASV (RFC 4217 §8).
    let protection = cx.security.protection();
    if cx.config.data_required && protection == Protection::Clear {
        // The data port stays: PROT P and the same command again are all it takes.
        return refuse(login, command, answer::PROT_REQUIRED, cx);
    }
    let Some(port) = login.data_port.take() else {
        return refuse(login, command, answer::DATA_PORT_FIRST, cx);
    };
    cx.push(Action::OpenData {
        direction,
        protection,
    });
    Opening::begin(Box::new(Details {
        login,
        command,
        direction,
        protection,
        begun: false,
        accepted: false,
        stats: 0,
        port,
    }))
    // It may have ended its side behind this command.
    .abandon_if_client_needed(cx)
}

fn refuse(login: Box<LoggedIn>, command: Command, answer: Answer, cx: &mut Context) -> State {
    cx.reply(answer);
    cx.push(Action::Record(Record::Refused { command, answer }));
    login.clear_restart_markers(cx)
}

impl Transfer {
    pub fn on_command(mut self, command: Command, cx: &mut Context) -> State {
        match (command.verb(), self) {
            (Verb::Abor, Self::Opening(state)) => return state.on_abor(cx),
            (Verb::Abor, Self::AskingAgain(state)) => return state.on_abor(cx),
            (Verb::Abor, Self::Upload(state)) => return state.abort(AbortReason::Client, cx),
            (Verb::Abor, Self::Download(state)) => return state.abort(AbortReason::Client, cx),
            (Verb::Abor, Self::Aborting(state)) if !state.is_client_abort() => {
                return state.on_abor();
            }
            // Answered here: many servers don't read commands during a transfer, and a 200 could not be attributed.
            (Verb::Noop, state) if state.may_answer_noop(cx) => {
                cx.reply(answer::NOOP_OK);
                self = state;
            }
            (Verb::Stat, mut state)
                if command.argument().is_empty()
                    && state.may_forward_stat(cx)
                    && !state.login().deny(&command) =>
            {
                state.details_mut().stats += 1;
                cx.send(command.line());
                self = state;
            }
            // In order, when the transfer is over; RFC 959 §4.1.1 says so of QUIT.
            (_, state) => {
                cx.queue.push(QueuedLine::Command(command));
                self = state;
            }
        }
        State::Transfer(self)
    }

    /// Whether NOOP may be answered: not before earlier commands, or the client takes the reply for theirs. So it is answered
    /// after the transfer's 1yz, and not before the two replies to the client's ABOR.
    fn may_answer_noop(&self, cx: &Context) -> bool {
        let waits_for_abor = matches!(self, Self::Aborting(state) if state.is_client_abort());
        let details = self.details();
        details.begun && !waits_for_abor && cx.queue.is_empty() && details.stats == 0
    }

    fn may_forward_stat(&self, cx: &Context) -> bool {
        let is_running = matches!(self, Self::Upload(_) | Self::Download(_));
        is_running
            && cx.backend_end.is_none()
            && cx.queue.is_empty()
            && self.details().stats < MAX_STATS
    }

    pub fn on_data(self, event: DataEvent, cx: &mut Context) -> State {
        match self {
            Self::Opening(state) => state.on_data(event, cx),
            Self::AskingAgain(state) => state.on_data(event, cx),
            Self::Upload(state) => state.on_data(event, cx),
            Self::Download(state) => state.on_data(event, cx),
            Self::Aborting(state) => state.on_data(event, cx),
        }
    }

    pub fn on_reply(mut self, reply: Reply, cx: &mut Context) -> State {
        let details = self.details_mut();
        let for_stat = details.is_stat_reply(&reply);
        if for_stat && details.stats > 0 {
            details.stats -= 1;
            cx.forward(&reply);
            return State::Transfer(self);
        }
        match self {
            // Nothing was asked yet.
            Self::Opening(_) => self.fail_backend(ProtocolError::UnsolicitedReply, cx),
            Self::AskingAgain(state) => state.on_reply(&reply, cx),
            // The answer to a STAT that was never sent says nothing about the transfer.
            Self::Upload(_) | Self::Download(_)
                if for_stat && reply.class() == Class::Completion =>
            {
                self.fail_backend(ProtocolError::UnexpectedReply, cx)
            }
            Self::Upload(state) => state.on_reply(reply, cx),
            Self::Download(state) => state.on_reply(reply, cx),
            Self::Aborting(state) => state.on_reply(reply, cx),
        }
    }

    pub fn on_expired(self, cx: &mut Context) -> State {
        if self.wait(cx) == Wait::Orphan {
            return self.abandon_with_client(cx);
        }
        match self {
            Self::Upload(state) => state.on_expired(cx),
            Self::Download(state) => state.on_expired(cx),
            Self::Aborting(state) => state.on_expired(cx),
            // The backend is to answer as in any other state.
            Self::AskingAgain(_) => self.fail_backend(ProtocolError::ReplyTimeout, cx),
            // The data connections have deadlines of their own.
            Self::Opening(_) => cx.unexpected(
                State::Transfer(self),
                "the end of a time that is not limited",
            ),
        }
    }

    /// The client's control connection has ended, which is ABOR and QUIT together (RFC 959 §4.1.1), but behind a QUIT.
    /// An upload goes on if its bytes prove by themselves that they are complete: a client that has sent its
    /// close_notify may close both of its connections, even with replies unread. [`Wait::Orphan`] bounds the time for
    /// that.
    pub fn on_client_gone(self, cx: &mut Context) -> State {
        if self.outlives_client() || cx.queue.holds_quit() {
            return self.abandon_if_client_needed(cx);
        }
        self.abandon_with_client(cx)
    }

    /// Abandons the transfer if the client is gone and needed: where nothing else distinguishes a truncated file from a complete
    /// one, the end of the control connection does.
    fn abandon_if_client_needed(self, cx: &mut Context) -> State {
        if cx.client == ClientPresence::Gone && self.needs_client() {
            return self.abandon_with_client(cx);
        }
        State::Transfer(self)
    }

    fn abandon_with_client(self, cx: &mut Context) -> State {
        self.abandon(Outcome::Failed(Failure::ClientGone), cx);
        cx.close(Ending::ClientGone)
    }

    /// The session ends in the middle of it: the backend must not keep what it has as a whole file.
    pub fn abandon(self, outcome: Outcome, cx: &mut Context) {
        let is_running = matches!(self, Self::Upload(_) | Self::Download(_));
        if is_running && !self.is_confirmed() {
            cx.send(b"ABOR");
        }
        cx.push(Action::DropData);
        self.record(outcome, cx);
    }

    /// Whether the backend calls the transfer complete, and only the data connections have yet to end.
    pub fn is_confirmed(&self) -> bool {
        match self {
            Self::Upload(state) => state.is_confirmed(),
            Self::Download(state) => state.is_confirmed(),
            Self::Opening(_) | Self::AskingAgain(_) | Self::Aborting(_) => false,
        }
    }

    /// Records a transfer that ends together with its session. What had ended it before is its outcome still.
    pub fn record(self, outcome: Outcome, cx: &mut Context) {
        let outcome = match &self {
            Self::Aborting(state) => state.outcome(),
            _ => outcome,
        };
        self.into_details().finish(outcome, None, cx);
    }

    fn fail_backend(self, why: ProtocolError, cx: &mut Context) -> State {
        State::Transfer(self).fail_backend(why, cx)
    }

    pub fn wait(&self, cx: &Context) -> Wait {
        if self.is_orphan(cx) {
            return Wait::Orphan;
        }
        match self {
            Self::Opening(_) => Wait::Data,
            Self::AskingAgain(_) => Wait::Reply,
            Self::Upload(state) => state.wait(),
            Self::Download(state) => state.wait(),
            Self::Aborting(_) => Wait::Abort,
        }
    }

    /// Whether the transfer is an upload whose source has ended, and the client's input decides whether that counts.
    pub fn awaits_verdict(&self) -> bool {
        matches!(self, Self::Upload(state) if state.awaits_verdict())
    }

    /// Whether only the client's open control connection shows that the file is complete: when a client is killed, the
    /// kernel ends both of its connections with FIN.
    fn needs_client(&self) -> bool {
        match self {
            // Under TLS it may still end with close_notify.
            Self::Opening(_) | Self::AskingAgain(_) => {
                let details = self.details();
                details.direction == Direction::Upload && details.protection == Protection::Clear
            }
            Self::Upload(state) => state.needs_client(),
            Self::Download(_) | Self::Aborting(_) => false,
        }
    }

    /// Whether the transfer's bytes prove their end by themselves, or have ended.
    fn outlives_client(&self) -> bool {
        match self {
            Self::Opening(_) | Self::AskingAgain(_) => self.details().is_private_upload(),
            Self::Upload(state) => state.outlives_client(),
            Self::Download(_) => false,
            Self::Aborting(_) => true,
        }
    }

    /// Whether an upload runs whose client is gone, and has yet to prove complete. QUIT shows that the client meant to
    /// go.
    fn is_orphan(&self, cx: &Context) -> bool {
        if cx.client == ClientPresence::Present {
            return false;
        }
        let may_be_whole = match self {
            Self::Opening(_) | Self::AskingAgain(_) => self.details().is_private_upload(),
            Self::Upload(state) => state.is_flowing_and_private(),
            Self::Download(_) | Self::Aborting(_) => false,
        };
        may_be_whole && !cx.queue.holds_quit()
    }

    pub fn login(&self) -> &LoggedIn {
        &self.details().login
    }

    pub fn command(&self) -> &Command {
        &self.details().command
    }

    fn details(&self) -> &Details {
        match self {
            Self::Opening(state) => &state.details,
            Self::AskingAgain(state) => &state.details,
            Self::Upload(state) => &state.details,
            Self::Download(state) => &state.details,
            Self::Aborting(state) => &state.details,
        }
    }

    fn details_mut(&mut self) -> &mut Details {
        match self {
            Self::Opening(state) => &mut state.details,
            Self::AskingAgain(state) => &mut state.details,
            Self::Upload(state) => &mut state.details,
            Self::Download(state) => &mut state.details,
            Self::Aborting(state) => &mut state.details,
        }
    }

    fn into_details(self) -> Box<Details> {
        match self {
            Self::Opening(state) => state.details,
            Self::AskingAgain(state) => state.details,
            Self::Upload(state) => state.details,
            Self::Download(state) => state.details,
            Self::Aborting(state) => state.details,
        }
    }
}
