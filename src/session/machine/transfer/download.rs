//! A download or a listing whose command has been sent to the backend.
//!
//! The client doesn't get its end of file before the backend's 2xx. That one may come first: IIS says 226 while the last
//! bytes are still under way. A backend's end counts without close_notify: IIS never sends one, and its 2xx says the same.

use super::super::context::Context;
use super::super::{Action, DataEvent, ProtocolError, State, Wait};
use super::abort::{AbortReason, Aborting};
use super::confirmed::Confirmed;
use super::{DataFailure, Details, Transfer};
use crate::ftp::reply::{Class, Reply};

/// The backend is to send a file or a listing.
#[derive(Debug)]
pub(in super::super) struct Download {
    pub(super) details: Box<Details>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Bytes come from the backend, whether it has said 2xx or not.
    Flowing(Option<Confirmed>),
    /// The source is done, and the backend's reply is awaited.
    SourceEnded,
    /// The client's leg is being ended.
    Ending(Confirmed),
}

impl Download {
    pub(super) fn begin(details: Box<Details>) -> State {
        Self {
            details,
            stage: Stage::Flowing(None),
        }
        .into()
    }

    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        match (event, self.stage) {
            (DataEvent::SourceEnded { .. }, Stage::Flowing(None)) => {
                self.stage = Stage::SourceEnded;
                self.into()
            }
            (DataEvent::SourceEnded { .. }, Stage::Flowing(Some(confirmed))) => {
                Self::proceed(self.details, confirmed, cx)
            }
            (DataEvent::Finished, Stage::Ending(confirmed)) => confirmed.conclude(self.details, cx),
            (DataEvent::Failed(failure), stage) => {
                self.stage = stage;
                self.abort(AbortReason::Data(failure), cx)
            }
            (event, stage) => {
                self.stage = stage;
                cx.unexpected(self.into(), &format!("{event:?}"))
            }
        }
    }

    fn proceed(details: Box<Details>, confirmed: Confirmed, cx: &mut Context) -> State {
        cx.push(Action::ProceedData);
        let stage = Stage::Ending(confirmed);
        Self { details, stage }.into()
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
            Stage::Flowing(_) if reply.number() == 200 && !self.details.begun => {}
            Stage::Flowing(confirmed @ None) => {
                *confirmed = Some(Confirmed::by(reply));
                // Without a 1yz before it there is none to wait for any more.
                cx.push(Action::ExpectData);
            }
            Stage::SourceEnded => {
                return Self::proceed(self.details, Confirmed::by(reply), cx);
            }
            Stage::Flowing(Some(confirmed)) | Stage::Ending(confirmed) => {
                if confirmed.and_again(&reply).is_err() {
                    return State::from(self).drop_backend(ProtocolError::UnsolicitedReply, cx);
                }
            }
        }
        self.into()
    }

    pub fn on_expired(self, cx: &mut Context) -> State {
        match self.stage {
            Stage::SourceEnded => self.abort(AbortReason::Data(DataFailure::NoFinalReply), cx),
            Stage::Flowing(_) | Stage::Ending(_) => {
                cx.unexpected(self.into(), "the end of a time that is not limited")
            }
        }
    }

    pub(super) fn abort(self, reason: AbortReason, cx: &mut Context) -> State {
        Aborting::begin(self.is_confirmed(), self.details, reason, cx)
    }

    /// Whether it is over for the backend.
    pub fn is_confirmed(&self) -> bool {
        match self.stage {
            Stage::Flowing(Some(_)) | Stage::Ending(_) => true,
            Stage::Flowing(None) | Stage::SourceEnded => false,
        }
    }

    pub fn wait(&self) -> Wait {
        match self.stage {
            Stage::Flowing(_) | Stage::Ending(_) => Wait::Data,
            Stage::SourceEnded => Wait::FinalReply,
        }
    }
}

impl From<Download> for State {
    fn from(download: Download) -> Self {
        Self::Transfer(Transfer::Download(download))
    }
}
