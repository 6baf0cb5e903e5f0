//! An upload whose command has been sent to the backend.
//!
//! The backend doesn't get its end of file before the client's end was checked. Under TLS that is in order only with
//! close_notify, unless its site says otherwise. In clear text half a file ends like a whole one, so an ABOR counts
//! that comes with it, and so does the end of the control connection.
//!
//! That the backend took every byte shows in how it closes in clear text: its kernel resets a connection that is closed with
//! bytes unread. Under TLS a reset may only mean that our close_notify was not read, so there it proves nothing.

use super::super::context::Context;
use super::super::{Action, DataEvent, Protection, ProtocolError, State, Wait};
use super::abort::{AbortReason, Aborting};
use super::confirmed::Confirmed;
use super::{DataFailure, Details, Transfer};
use crate::ftp::reply::{Class, Reply};

/// The backend is to take a file.
#[derive(Debug)]
pub(in super::super) struct Upload {
    pub(super) details: Box<Details>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Bytes come from the client.
    Flowing,
    /// The client's plain FIN: it counts if no ABOR and no end of the control connection comes with it.
    Unproven,
    /// The client's close_notify: it counts unless an ABOR has arrived already.
    Proven,
    /// The backend's leg is being ended.
    Ending(Option<Confirmed>),
    /// The backend has been sent the end of the file, and has yet to close.
    Ended(Option<Confirmed>),
    /// Its leg has ended in order, and it has yet to say 2xx.
    Finished,
}

impl Upload {
    pub(super) fn begin(details: Box<Details>) -> State {
        Self {
            details,
            stage: Stage::Flowing,
        }
        .into()
    }

    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        self.stage = match (event, self.stage) {
            (DataEvent::SourceEnded { proven }, Stage::Flowing) => {
                self.stage = if proven {
                    Stage::Proven
                } else {
                    Stage::Unproven
                };
                return Transfer::Upload(self).without_a_client_that_is_needed(cx);
            }
            (DataEvent::Ended, Stage::Ending(confirmed)) => Stage::Ended(confirmed),
            (DataEvent::Finished, Stage::Ending(None) | Stage::Ended(None)) => Stage::Finished,
            (
                DataEvent::Finished,
                Stage::Ending(Some(confirmed)) | Stage::Ended(Some(confirmed)),
            ) => return confirmed.conclude(self.details, cx),
            (DataEvent::Failed(failure), stage) => {
                self.stage = stage;
                return self.abort(AbortReason::Data(failure), cx);
            }
            (event, stage) => {
                self.stage = stage;
                return cx.unexpected(self.into(), &format!("{event:?}"));
            }
        };
        self.into()
    }

    pub fn on_reply(mut self, reply: Reply, cx: &mut Context) -> State {
        match reply.class() {
            Class::Preliminary => {
                self.details.on_preliminary(&reply, cx);
                self.into()
            }
            Class::Completion => self.on_completion(reply, cx),
            Class::Intermediate => {
                State::from(self).drop_backend(ProtocolError::UnexpectedReply, cx)
            }
            Class::TransientFailure | Class::PermanentFailure => self.details.on_failure(reply, cx),
        }
    }

    fn on_completion(mut self, reply: Reply, cx: &mut Context) -> State {
        match &mut self.stage {
            // Python's ftplib knows servers that say 200 and then 150. It says nothing about the transfer's end.
            Stage::Flowing if reply.number() == 200 && !self.details.begun => {}
            // It can't have seen the end of a file that we have not ended.
            Stage::Flowing | Stage::Unproven | Stage::Proven => {
                return self.details.fail(DataFailure::EarlyCompletion, cx);
            }
            Stage::Ending(confirmed @ None) | Stage::Ended(confirmed @ None) => {
                *confirmed = Some(Confirmed::by(reply));
                // Without a 1yz before it there is none to wait for any more.
                cx.push(Action::ExpectData);
            }
            Stage::Ending(Some(confirmed)) | Stage::Ended(Some(confirmed)) => {
                if confirmed.and_again(&reply).is_err() {
                    return State::from(self).drop_backend(ProtocolError::UnsolicitedReply, cx);
                }
            }
            Stage::Finished => return Confirmed::by(reply).conclude(self.details, cx),
        }
        self.into()
    }

    pub fn on_expired(mut self, cx: &mut Context) -> State {
        match self.stage {
            Stage::Unproven if !cx.queue.has_room_while_judging() => {
                self.abort(AbortReason::Data(DataFailure::ClientUnheard), cx)
            }
            Stage::Unproven | Stage::Proven => {
                self.stage = Stage::Ending(None);
                cx.push(Action::ProceedData);
                self.into()
            }
            // It is sure of the file, however late it closes.
            Stage::Ended(Some(confirmed)) => confirmed.conclude(self.details, cx),
            Stage::Ended(None) | Stage::Finished => {
                self.abort(AbortReason::Data(DataFailure::NoFinalReply), cx)
            }
            Stage::Flowing | Stage::Ending(_) => {
                cx.unexpected(self.into(), "the end of a time that is not limited")
            }
        }
    }

    pub(super) fn abort(self, reason: AbortReason, cx: &mut Context) -> State {
        Aborting::begin(self.is_confirmed(), self.details, reason, cx)
    }

    /// Whether it is over for the backend.
    pub fn is_confirmed(&self) -> bool {
        matches!(self.stage, Stage::Ending(Some(_)) | Stage::Ended(Some(_)))
    }

    /// See [`Transfer::is_being_judged`].
    pub fn is_being_judged(&self) -> bool {
        matches!(self.stage, Stage::Unproven | Stage::Proven)
    }

    /// See [`Transfer::needs_its_client`].
    pub fn needs_its_client(&self) -> bool {
        match self.stage {
            Stage::Unproven => true,
            // Under TLS it may still end with close_notify.
            Stage::Flowing => self.details.protection == Protection::Clear,
            Stage::Proven | Stage::Ending(_) | Stage::Ended(_) | Stage::Finished => false,
        }
    }

    /// See [`Transfer::outlives_its_client`].
    pub fn outlives_its_client(&self) -> bool {
        let has_ended = !matches!(self.stage, Stage::Flowing | Stage::Unproven);
        has_ended || self.details.is_private_upload()
    }

    /// Whether the end of its bytes is still to come, and proves by itself that they are complete.
    pub fn is_flowing_and_private(&self) -> bool {
        matches!(self.stage, Stage::Flowing) && self.details.is_private_upload()
    }

    pub fn wait(&self) -> Wait {
        match self.stage {
            Stage::Flowing | Stage::Ending(_) => Wait::Data,
            Stage::Unproven => Wait::UploadGrace,
            Stage::Proven => Wait::PendingInput,
            Stage::Ended(None) | Stage::Finished => Wait::FinalReply,
            Stage::Ended(Some(_)) => Wait::SinkEnd,
        }
    }
}

impl From<Upload> for State {
    fn from(upload: Upload) -> Self {
        Self::Transfer(Transfer::Upload(upload))
    }
}
