//! The verdict on a transfer, which is the promise that Portcullis makes.
//!
//! A transfer is complete only if its source ended in order, its sink took every byte, *and* the backend said 2xx. Until
//! all three are known nobody is told that it is: a download's client doesn't get its end of file before the backend's
//! 2xx, an upload's backend doesn't get its own before the client's end was judged. In every other case the sink's leg is
//! reset and the client hears a 4xx or 5xx.
//!
//! Under TLS a client's end is in order only with close_notify, unless its site says otherwise. A backend's counts without:
//! IIS never sends one, and its 2xx says the same.
//!
//! That an upload's sink took every byte shows in how a backend in clear text closes: its kernel resets a connection that is
//! closed with bytes unread. Under TLS a reset may only mean that our close_notify was not read, so there it proves nothing.

use super::super::echo::Surplus;
use super::super::{Action, Machine, ProtocolError, Wait};
use super::{Cause, DataFailure, Phase, Transfer};
use crate::ftp::command::Direction;
use crate::ftp::reply::{Class, Reply};
use crate::observe::metrics::Verdict;

/// A transfer whose command is with the backend.
#[derive(Debug)]
pub(super) struct Running {
    pub data: Data,
    /// The backend's 2xx, kept until the data connections have borne it out.
    pub confirmed: Option<Reply>,
    /// What the backend has said behind that.
    surplus: Surplus,
}

/// How far the data connections have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Flowing,
    /// A plaintext upload's FIN: it counts if no ABOR and no end of the control connection comes with it.
    Unproven,
    /// An upload's close_notify: it counts if no ABOR is there already.
    Proven,
    /// The source is done; a download's sink waits for the backend's word.
    SourceEnded,
    /// The sink's leg is being ended.
    Ending,
    /// An upload's backend has been told the end, and has yet to close.
    Ended,
    Finished,
}

impl Running {
    pub fn new() -> Self {
        Self {
            data: Data::Flowing,
            confirmed: None,
            surplus: Surplus::None,
        }
    }

    pub fn wait(&self) -> Wait {
        match (self.data, self.confirmed.is_some()) {
            (Data::Unproven, _) => Wait::UploadGrace,
            (Data::Proven, _) => Wait::PendingInput,
            (Data::SourceEnded | Data::Ended | Data::Finished, false) => Wait::FinalReply,
            (Data::Ended, true) => Wait::SinkEnd,
            (Data::Flowing | Data::Ending | Data::SourceEnded | Data::Finished, _) => Wait::Data,
        }
    }
}

impl Machine {
    /// The source has ended. An end that isn't `proven` may be that of its process.
    pub(super) fn source_ended(&mut self, proven: bool) {
        let Some(Transfer {
            direction,
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        if running.data != Data::Flowing {
            return;
        }
        running.data = match (direction, proven) {
            (Direction::Upload, false) => Data::Unproven,
            (Direction::Upload, true) => Data::Proven,
            // IIS says 226 while the last bytes are still under way.
            (Direction::Download | Direction::Listing, _) if running.confirmed.is_some() => {
                Data::Ending
            }
            (Direction::Download | Direction::Listing, _) => Data::SourceEnded,
        };
        if running.data == Data::Ending {
            self.push(Action::ProceedData);
        }
        self.lose_upload_of_gone_client();
    }

    /// The sink has been told the end.
    pub(super) fn ended(&mut self) {
        if let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
            && running.data == Data::Ending
        {
            running.data = Data::Ended;
        }
    }

    /// The sink's leg has ended in order.
    pub(super) fn finished(&mut self) {
        if let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
            && matches!(running.data, Data::Ending | Data::Ended)
        {
            running.data = Data::Finished;
            self.conclude();
        }
    }

    pub(super) fn reply_to_transfer(&mut self, reply: Reply) {
        let Some(Transfer {
            begun,
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        match reply.class() {
            Class::Preliminary => {
                let is_first = !std::mem::replace(begun, true);
                self.pass(&reply);
                if is_first {
                    self.push(Action::ExpectData);
                }
            }
            // Python's ftplib knows servers that say 200 and then 150. It tells nothing of the transfer's end.
            Class::Completion
                if reply.number() == 200 && !*begun && running.data == Data::Flowing => {}
            Class::Completion => self.confirmed(reply),
            Class::TransientFailure | Class::PermanentFailure => {
                let verdict = if *begun {
                    Verdict::FailedBackend
                } else {
                    Verdict::Refused
                };
                // The reply first: a client that is still connecting or sending learns why.
                self.pass(&reply);
                self.push(Action::DropData);
                self.end_transfer(verdict, Some(Cause::Reply(Box::new(reply.clone()))));
                self.over_with(reply, Surplus::None);
            }
            Class::Intermediate => self.drop_backend(ProtocolError::UnexpectedReply),
        }
    }

    /// The backend said 2xx.
    fn confirmed(&mut self, reply: Reply) {
        let Some(transfer) = self.transfer_mut() else {
            return;
        };
        let upload = transfer.direction == Direction::Upload;
        let Phase::Running(running) = &mut transfer.phase else {
            return;
        };
        if let Some(confirmed) = &running.confirmed {
            // The first one counts; what becomes of this one is seen when the transfer has ended.
            running.surplus = match running.surplus {
                Surplus::None if reply == *confirmed => Surplus::Same,
                Surplus::None | Surplus::Same => Surplus::Other,
                // A server that goes on and on would keep the session from its data connections.
                Surplus::Other => return self.drop_backend(ProtocolError::UnsolicitedReply),
            };
            return;
        }
        match running.data {
            Data::Flowing | Data::Unproven | Data::Proven | Data::SourceEnded if upload => {
                // It can't have seen the end of a file that we have not ended.
                self.fail_transfer(DataFailure::EarlyCompletion);
            }
            Data::SourceEnded => {
                running.confirmed = Some(reply);
                running.data = Data::Ending;
                self.push(Action::ProceedData);
            }
            // IIS says 226 while the last bytes are still under way.
            Data::Flowing | Data::Unproven | Data::Proven | Data::Ending | Data::Ended => {
                running.confirmed = Some(reply);
                // Without a 1yz before it there is none to wait for any more.
                self.push(Action::ExpectData);
            }
            Data::Finished => {
                running.confirmed = Some(reply);
                self.conclude();
            }
        }
    }

    /// Passes the backend's 2xx on, once the data connections have ended as they should.
    fn conclude(&mut self) {
        let Some(Transfer {
            phase: Phase::Running(running),
            ..
        }) = self.transfer_mut()
        else {
            return;
        };
        if running.data == Data::Finished
            && let Some(reply) = running.confirmed.take()
        {
            let surplus = running.surplus;
            self.pass(&reply);
            self.end_transfer(Verdict::Complete, None);
            self.over_with(reply, surplus);
        }
    }
}
