//! An upload whose command has been sent to the backend.
//!
//! The backend doesn't get its end of file before the client's end was checked. Under TLS that is in order only with
//! close_notify, unless its site is configured otherwise. In clear text half a file ends like a whole one, so an ABOR counts that
//! comes with it, and so does the end of the control connection.
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
    stage: UploadStage,
}

#[derive(Debug)]
enum UploadStage {
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
    /// The backend's leg has ended in order, and the backend has yet to reply 2xx.
    Finished,
}

impl Upload {
    pub(super) fn begin(details: Box<Details>) -> State {
        Self {
            details,
            stage: UploadStage::Flowing,
        }
        .into()
    }

    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        self.stage = match (event, self.stage) {
            (DataEvent::SourceEnded { proven }, UploadStage::Flowing) => {
                self.stage = if proven {
                    UploadStage::Proven
                } else {
                    UploadStage::Unproven
                };
                return Transfer::Upload(self).abandon_if_client_needed(cx);
            }
            (DataEvent::Ended, UploadStage::Ending(confirmed)) => UploadStage::Ended(confirmed),
            (DataEvent::Finished, UploadStage::Ending(None) | UploadStage::Ended(None)) => {
                UploadStage::Finished
            }
            (
                DataEvent::Finished,
                UploadStage::Ending(Some(confirmed)) | UploadStage::Ended(Some(confirmed)),
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
                State::from(self).fail_backend(ProtocolError::UnexpectedReply, cx)
            }
            Class::TransientFailure | Class::PermanentFailure => {
                let data = match self.stage {
                    UploadStage::Flowing => self.details.data_of_refusal(),
                    // The client has ended its side, and the backend may wait for our end before it goes on.
                    _ => Action::DropData,
                };
                self.details.on_failure(reply, data, cx)
            }
        }
    }

    fn on_completion(mut self, reply: Reply, cx: &mut Context) -> State {
        match &mut self.stage {
            // Python's ftplib knows servers that say 200 and then 150. It says nothing about the transfer's end.
            UploadStage::Flowing if reply.number() == 200 && !self.details.begun => {}
            // It can't have seen the end of a file that we have not ended.
            UploadStage::Flowing | UploadStage::Unproven | UploadStage::Proven => {
                return self.details.fail(DataFailure::EarlyCompletion, cx);
            }
            UploadStage::Ending(confirmed @ None) | UploadStage::Ended(confirmed @ None) => {
                *confirmed = Some(Confirmed::new(reply));
                // Without a 1yz before it none is expected any more.
                cx.push(Action::TransferStarted);
            }
            UploadStage::Ending(Some(confirmed)) | UploadStage::Ended(Some(confirmed)) => {
                if confirmed.repeat(&reply).is_err() {
                    return State::from(self).fail_backend(ProtocolError::UnsolicitedReply, cx);
                }
            }
            UploadStage::Finished => return Confirmed::new(reply).conclude(self.details, cx),
        }
        self.into()
    }

    pub fn on_expired(mut self, cx: &mut Context) -> State {
        match self.stage {
            UploadStage::Unproven if !cx.queue.has_room_while_judging() => {
                self.abort(AbortReason::Data(DataFailure::TooManyPendingCommands), cx)
            }
            UploadStage::Unproven | UploadStage::Proven => {
                self.stage = UploadStage::Ending(None);
                cx.push(Action::FinishSink);
                self.into()
            }
            // It is sure of the file, however late it closes.
            UploadStage::Ended(Some(confirmed)) => confirmed.conclude(self.details, cx),
            UploadStage::Ended(None) | UploadStage::Finished => {
                self.abort(AbortReason::Data(DataFailure::NoFinalReply), cx)
            }
            UploadStage::Flowing | UploadStage::Ending(_) => {
                cx.unexpected(self.into(), "the end of a time that is not limited")
            }
        }
    }

    pub(super) fn abort(self, reason: AbortReason, cx: &mut Context) -> State {
        Aborting::begin(self.is_confirmed(), self.details, reason, cx)
    }

    /// Whether the transfer is over for the backend.
    pub fn is_confirmed(&self) -> bool {
        matches!(
            self.stage,
            UploadStage::Ending(Some(_)) | UploadStage::Ended(Some(_))
        )
    }

    /// See [`Transfer::awaits_verdict`].
    pub fn awaits_verdict(&self) -> bool {
        matches!(self.stage, UploadStage::Unproven | UploadStage::Proven)
    }

    /// See [`Transfer::needs_client`].
    pub fn needs_client(&self) -> bool {
        match self.stage {
            UploadStage::Unproven => true,
            // Under TLS it may still end with close_notify.
            UploadStage::Flowing => self.details.protection == Protection::Clear,
            UploadStage::Proven
            | UploadStage::Ending(_)
            | UploadStage::Ended(_)
            | UploadStage::Finished => false,
        }
    }

    /// See [`Transfer::outlives_client`].
    pub fn outlives_client(&self) -> bool {
        let has_ended = !matches!(self.stage, UploadStage::Flowing | UploadStage::Unproven);
        has_ended || self.details.is_private_upload()
    }

    /// Whether the end of the bytes is still to come, and proves by itself that they are complete.
    pub fn is_flowing_and_private(&self) -> bool {
        matches!(self.stage, UploadStage::Flowing) && self.details.is_private_upload()
    }

    pub fn wait(&self) -> Wait {
        match self.stage {
            UploadStage::Flowing | UploadStage::Ending(_) => Wait::Data,
            UploadStage::Unproven => Wait::UploadGrace,
            UploadStage::Proven => Wait::PendingInput,
            UploadStage::Ended(None) | UploadStage::Finished => Wait::FinalReply,
            UploadStage::Ended(Some(_)) => Wait::SinkEnd,
        }
    }
}

impl From<Upload> for State {
    fn from(upload: Upload) -> Self {
        Self::Transfer(Transfer::Upload(upload))
    }
}
