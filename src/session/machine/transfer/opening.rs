//! A transfer whose command has not been sent to the backend yet: it waits for its data connections.
//!
//! A backend's data port that can't be reached shows here. Nothing is lost by then but time, and the client keeps its own
//! data connection, so the backend is asked for another port. A firewall that opens only the ports that it reads in a 227
//! lets PASV through, and one that opens nothing perhaps PORT.

use std::net::SocketAddr;

use super::super::context::Context;
use super::super::data_port::{DataPortNegotiation, send_port};
use super::super::restart_marker::{Discarding, RestartMarkers};
use super::super::{Action, DataEvent, State};
use super::download::Download;
use super::upload::Upload;
use super::{AbortedBy, DataFailure, Details, Failure, Outcome, Transfer};
use crate::ftp::answer::{self, Answer};
use crate::ftp::reply::{Class, Reply};
use crate::outcome::Direction;

/// The command waits for a data connection.
#[derive(Debug)]
pub(in super::super) struct Opening {
    pub(super) details: Box<Details>,
    missing: Missing,
}

/// The data connection that a transfer's command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The backend's connection, without which many servers send no 150.
    Backend,
    /// The client's, in an upload: with the command the server empties the file, and the client may never come.
    Client,
}

/// The backend is asked for another data port.
#[derive(Debug)]
pub(in super::super) struct AskingAgain {
    pub(super) details: Box<Details>,
    port: DataPortNegotiation,
}

impl Opening {
    pub(super) fn begin(details: Box<Details>) -> Transfer {
        Transfer::Opening(Self {
            details,
            missing: Missing::Backend,
        })
    }

    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        match (event, self.missing, self.details.direction) {
            (DataEvent::BackendOpen, Missing::Backend, Direction::Upload) => {
                self.missing = Missing::Client;
                State::Transfer(Transfer::Opening(self))
            }
            (
                DataEvent::BackendOpen,
                Missing::Backend,
                Direction::Download | Direction::Listing,
            ) => {
                self.send_command(cx);
                Download::begin(self.details)
            }
            (DataEvent::ClientConnected, Missing::Client, _) => {
                self.send_command(cx);
                Upload::begin(self.details)
            }
            (DataEvent::BackendNotReached, Missing::Backend, _) => {
                self.details.port.mark_unreached();
                let port = self.details.port;
                self.details.ask_again(port, cx)
            }
            (DataEvent::Failed(failure), _, _) => self.details.fail(failure, cx),
            _ => cx.unexpected(
                State::Transfer(Transfer::Opening(self)),
                &format!("{event:?}"),
            ),
        }
    }

    fn send_command(&mut self, cx: &mut Context) {
        let Details {
            login,
            command,
            direction,
            ..
        } = &mut *self.details;
        login.connection.restart_markers.sent(*direction);
        cx.send(command.line());
        cx.push(Action::CommandSent);
    }

    /// The command has not been sent to the backend, so there is nothing to abort there.
    pub fn on_abor(self, cx: &mut Context) -> State {
        reply_to_abor(cx);
        let code = answer::TRANSFER_ABORTED.number();
        self.details
            .end(Outcome::Aborted(AbortedBy::Client), code, cx)
    }
}

impl Details {
    /// Asks by the next method, or fails the transfer. A server may forget a REST or RANG that isn't the last command
    /// before the transfer (RFC 3659 §5.3), and the file would begin at the wrong offset.
    fn ask_again(mut self: Box<Self>, port: DataPortNegotiation, cx: &mut Context) -> State {
        let connection = &mut self.login.connection;
        if connection.restart_markers == RestartMarkers::NONE
            && let Some(port) = port.ask_next(connection.ports, cx)
        {
            let details = self;
            return State::Transfer(Transfer::AskingAgain(AskingAgain { details, port }));
        }
        // The next transfer is to try what is left, though that may be no better.
        let avoid = &mut connection.ports.avoid;
        *avoid = avoid.and_all(port.failed());
        self.fail(DataFailure::NoBackend, cx)
    }
}

impl AskingAgain {
    /// The driver listens for the backend, or can't.
    pub fn on_listening(self, at: Option<SocketAddr>, cx: &mut Context) -> State {
        match at {
            Some(at) => {
                send_port(at, cx);
                State::Transfer(Transfer::AskingAgain(self))
            }
            None => self.details.ask_again(self.port, cx),
        }
    }

    pub fn on_reply(mut self, reply: &Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            return State::Transfer(Transfer::AskingAgain(self));
        }
        let Some(backend) = self.port.granted_by(reply) else {
            return self.details.ask_again(self.port, cx);
        };
        self.details.port = self.port;
        cx.push(Action::ReplaceBackendData(backend));
        State::Transfer(Opening::begin(self.details))
    }

    pub fn on_data(self, event: DataEvent, cx: &mut Context) -> State {
        let DataEvent::Failed(failure) = event else {
            return cx.unexpected(
                State::Transfer(Transfer::AskingAgain(self)),
                &format!("{event:?}"),
            );
        };
        let answer = failure.answer();
        cx.push(Action::DropData);
        cx.reply(answer);
        self.end(Outcome::Failed(Failure::Data(failure)), answer, cx)
    }

    pub fn on_abor(self, cx: &mut Context) -> State {
        reply_to_abor(cx);
        let outcome = Outcome::Aborted(AbortedBy::Client);
        self.end(outcome, answer::TRANSFER_ABORTED, cx)
    }

    /// The transfer is over, and the backend still owes the answer to what it was asked again. The client is not kept
    /// waiting, but its next command is.
    fn end(self, outcome: Outcome, answer: Answer, cx: &mut Context) -> State {
        let login = self.details.finish(outcome, Some(answer.number()), cx);
        State::Discarding(Discarding { login })
    }
}

fn reply_to_abor(cx: &mut Context) {
    cx.push(Action::DropData);
    cx.reply(answer::TRANSFER_ABORTED);
    cx.reply(answer::ABORT_DONE);
}
