//! Commands after login: passed to the backend as they are, but for those about data connections, TLS and FEAT.
//!
//! One command is under way at a time; its reply goes back to the client byte for byte. Data port commands are taken
//! apart, see `data_port`.

use super::data_port::Request;
use super::transfer::Transfer;
use super::ways::BackendPorts;
use super::{Action, Ending, Machine, ProtocolError, Stage, State, Wait};
use crate::ftp::answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::features;
use crate::ftp::reply::{Class, Reply};
use crate::route::Route;

/// A session with a backend that has let the client in.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub route: Route,
    pub ports: BackendPorts,
    pub(super) step: Step,
    /// A data port has been given to the client and no transfer has used it yet.
    pub(super) data_port: DataPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataPort {
    None,
    /// It was asked for like this.
    Prepared(Request),
}

#[derive(Debug)]
pub(super) enum Step {
    /// Waiting for the client's next command.
    Ready,
    /// The backend is to answer this many commands that were passed on: one, or STATs that outlasted a transfer.
    Passed(usize),
    /// The backend is to answer FEAT.
    Feat,
    /// The driver is to listen for the backend, which is told where by PORT then.
    Listening(Request),
    /// The backend is to answer EPSV, PASV or PORT.
    BackendPort(Request),
    /// The driver is to make the client's data port.
    ClientPort(Request),
    /// The backend is to answer a REST or RANG of ours.
    ClearingOffset,
    /// The backend is to answer a NOOP of ours, and may say this reply again before that.
    Fenced {
        reply: Reply,
        again: u32,
    },
    Transfer(Transfer),
}

impl LoggedIn {
    pub fn new(route: Route, ports: BackendPorts) -> Self {
        Self {
            route,
            ports,
            step: Step::Ready,
            data_port: DataPort::None,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.step, Step::Ready)
    }

    pub fn wait(&self) -> Wait {
        match &self.step {
            Step::Ready => Wait::Command,
            Step::Passed(_)
            | Step::Feat
            | Step::ClearingOffset
            | Step::Fenced { .. }
            | Step::BackendPort(_) => Wait::Reply,
            // A turn at a passive port has a deadline of its own, and is nothing that the backend is late with.
            Step::ClientPort(_) | Step::Listening(_) => Wait::Data,
            Step::Transfer(transfer) => transfer.wait(),
        }
    }

    pub fn stage(&self) -> Stage {
        match &self.step {
            Step::Ready
            | Step::Passed(_)
            | Step::Feat
            | Step::ClearingOffset
            | Step::Fenced { .. } => Stage::Command,
            Step::Listening(_) | Step::BackendPort(_) | Step::ClientPort(_) => Stage::DataPort,
            Step::Transfer(_) => Stage::Transfer,
        }
    }
}

impl Machine {
    pub(super) fn logged_in(&mut self) -> Option<&mut LoggedIn> {
        match &mut self.state {
            State::LoggedIn(logged_in) => Some(logged_in),
            _ => None,
        }
    }

    pub(super) fn set_step(&mut self, step: Step) {
        if let Some(logged_in) = self.logged_in() {
            logged_in.step = step;
        }
    }

    pub(super) fn command_after_login(&mut self, command: Command) {
        if command.verb().transfer().is_some() {
            return self.begin_transfer(command);
        }
        match command.verb() {
            Verb::User => self.user(command),
            Verb::Host => self.answer(answer::HOST_TOO_LATE),
            Verb::Quit => {
                self.send(command.line());
                self.farewell(answer::GOODBYE, Ending::Quit);
            }
            Verb::Feat => {
                self.send(command.line());
                self.set_step(Step::Feat);
            }
            Verb::Pasv | Verb::Epsv | Verb::Port | Verb::Eprt => self.data_port(&command),
            // Blocks and compression in MODE B and C carry their own end of file; data connections would stay open.
            Verb::Mode if !matches!(command.argument(), b"S" | b"s" | b"Z" | b"z") => {
                self.answer(answer::MODE_UNSUPPORTED);
            }
            _ => {
                if !self.local_command(&command) {
                    self.track_rest(&command);
                    self.send(command.line());
                    self.set_step(Step::Passed(1));
                }
            }
        }
    }

    pub(super) fn reply_after_login(&mut self, reply: Reply) {
        let Some(logged_in) = self.logged_in() else {
            return;
        };
        match &logged_in.step {
            Step::Passed(owed) => {
                let owed = *owed;
                self.passed_reply(owed, reply);
            }
            Step::Feat => {
                if reply.class() != Class::Preliminary {
                    let list = features::after_login(&reply, self.terms.active_mode);
                    self.push(Action::Reply(list.into()));
                    self.set_step(Step::Ready);
                }
            }
            // Even a refusal says that there is no offset any more: of a server that knows no REST, none ever was.
            Step::ClearingOffset => {
                if reply.class() != Class::Preliminary {
                    self.set_step(Step::Ready);
                    self.clear_rest();
                }
            }
            Step::Fenced { .. } => self.reply_to_fence(&reply),
            Step::BackendPort(request) => {
                let request = *request;
                self.backend_port_reply(request, &reply);
            }
            Step::Transfer(_) => self.reply_during_transfer(reply),
            // Nothing was asked: whoever goes on now may take this for the answer to something else.
            Step::Ready => self.unasked(&reply),
            Step::Listening(_) | Step::ClientPort(_) => {
                self.drop_backend(ProtocolError::UnsolicitedReply)
            }
        }
    }

    fn passed_reply(&mut self, owed: usize, reply: Reply) {
        let next = match owed {
            0 | 1 => Step::Ready,
            _ => Step::Passed(owed - 1),
        };
        match (reply.class(), reply.number()) {
            (Class::Preliminary, _) => self.pass(&reply),
            // Some command opened a data port that we don't know of: its address must not reach the client.
            (_, 227..=229) => {
                self.answer(answer::NOT_IMPLEMENTED);
                self.set_step(next);
            }
            _ => {
                self.pass(&reply);
                self.set_step(next);
            }
        }
    }
}
