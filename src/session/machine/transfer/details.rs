//! The details of a transfer that every phase of it needs, and the ways in which each phase ends it.

use std::num::NonZeroUsize;

use super::super::context::Context;
use super::super::data_port::DataPortNegotiation;
use super::super::echo::Surplus;
use super::super::ready::{Forwarding, LoggedIn};
use super::super::{Action, Protection, Record, State};
use super::{DataFailure, Failure, Outcome};
use crate::ftp::announced_size::announced_size;
use crate::ftp::answer;
use crate::ftp::command::Command;
use crate::ftp::reply::Reply;
use crate::outcome::Direction;

/// Details of a transfer, kept as long as it lasts.
#[derive(Debug)]
pub(in super::super) struct Details {
    pub login: Box<LoggedIn>,
    pub command: Command,
    pub direction: Direction,
    /// The protection level of the client's data connection.
    pub protection: Protection,
    /// Whether a 1yz has arrived.
    pub begun: bool,
    /// Whether the backend has shown that it has accepted its data connection, so that it has put nothing off until it does.
    pub accepted: bool,
    /// How many STATs the backend has not answered yet.
    pub stats: usize,
    /// The state of asking for its data port.
    pub port: DataPortNegotiation,
}

impl Details {
    /// Whether a reply can only be meant for a STAT: 211 to 213, or "not here", which before a 1yz would be the transfer's
    /// own refusal.
    pub fn is_stat_reply(&self, reply: &Reply) -> bool {
        match reply.number() {
            211..=213 => true,
            500..=504 => self.begun,
            _ => false,
        }
    }

    pub fn is_private_upload(&self) -> bool {
        self.direction == Direction::Upload && self.protection == Protection::Private
    }

    /// Takes note of what the backend's 1yz shows.
    pub fn note_preliminary(&mut self, reply: &Reply) {
        // "Data connection already open" (RFC 959 §4.2.2).
        self.accepted |= reply.number() == 125;
    }

    /// Handles the backend's 1yz.
    pub fn on_preliminary(&mut self, reply: &Reply, cx: &mut Context) {
        self.note_preliminary(reply);
        cx.forward(reply);
        if !std::mem::replace(&mut self.begun, true) {
            // A client that says NOOP now and then while it waits is answered, and what follows is not held up by it.
            while cx.queue.pop_noop() {
                cx.reply(answer::NOOP_OK);
            }
            cx.push(Action::TransferStarted);
            let size =
                || announced_size(reply).or_else(|| self.login.backend.size_of(&self.command));
            if self.direction == Direction::Download
                && let Some(size) = size()
            {
                cx.push(Action::TransferSize(size));
            }
        }
    }

    /// The action for the data connections on the backend's 4yz or 5yz, while the bytes are still to come or coming.
    pub fn data_of_refusal(&self) -> Action {
        if self.begun {
            Action::DropData
        } else {
            Action::RefuseData
        }
    }

    /// The backend's 4yz or 5yz, which means this for the data connections.
    pub fn on_failure(self: Box<Self>, reply: Reply, data: Action, cx: &mut Context) -> State {
        // The reply first: a client that is still connecting or sending learns why.
        cx.forward(&reply);
        cx.push(data);
        let code = reply.number();
        let refusal = Box::new(reply.clone());
        let outcome = if self.begun {
            Outcome::Failed(Failure::Reply(refusal))
        } else {
            Outcome::Refused(refusal)
        };
        self.end(outcome, code, cx)
            .after_final_reply(reply, Surplus::None, cx)
    }

    /// Ends a transfer that the backend has not begun, or takes for done.
    pub fn fail(self: Box<Self>, failure: DataFailure, cx: &mut Context) -> State {
        cx.push(Action::DropData);
        let answer = failure.answer();
        cx.reply(answer);
        let outcome = Outcome::Failed(Failure::Data(failure));
        self.end(outcome, answer.number(), cx)
    }

    /// Ends a transfer for which the client has its answer, of this code.
    pub fn end(self: Box<Self>, outcome: Outcome, answered: u16, cx: &mut Context) -> State {
        let pending_replies = NonZeroUsize::new(self.stats);
        let login = self.finish(outcome, Some(answered), cx);
        match pending_replies {
            // Many servers are deaf during a transfer and answer STAT after it.
            Some(pending_replies) => State::Forwarding(Forwarding {
                login,
                pending_replies,
                tracked: None,
            }),
            None => login.clear_restart_markers(cx),
        }
    }

    /// Records how a transfer ended, and returns what lasts longer.
    #[expect(
        clippy::boxed_local,
        reason = "each phase holds it in its box; by value it would be copied"
    )]
    pub fn finish(
        self: Box<Self>,
        outcome: Outcome,
        answered: Option<u16>,
        cx: &mut Context,
    ) -> Box<LoggedIn> {
        let Self {
            mut login,
            command,
            direction,
            protection,
            port,
            ..
        } = *self;
        let is_complete = outcome == Outcome::Complete;
        let backend = &mut login.backend;
        let details = backend.end_transfer(&command, port.mode(), protection, answered);
        cx.push(Action::Record(Record::Transfer {
            command,
            direction,
            outcome,
            details: Box::new(details),
        }));
        if is_complete {
            // That a connection was established says little; that a file was transferred over it is proof.
            login.avoid(port.failed(), cx);
        }
        login
    }
}
