//! A download or a listing whose command has been sent to the backend.
//!
//! The client doesn't get its end of file before the backend's 2xx. That one may come first: IIS sends 226 while the last bytes
//! are still under way. A backend's end counts without close_notify: IIS never sends one, and its 2xx confirms the same.

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
    stage: DownloadStage,
}

#[derive(Debug)]
enum DownloadStage {
    /// Bytes come from the backend, whether it has sent 2xx or not.
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
            stage: DownloadStage::Flowing(None),
        }
        .into()
    }

    pub fn on_data(mut self, event: DataEvent, cx: &mut Context) -> State {
        match (event, self.stage) {
            (DataEvent::SourceEnded { .. }, DownloadStage::Flowing(None)) => {
                self.stage = DownloadStage::SourceEnded;
                self.into()
            }
            (DataEvent::SourceEnded { .. }, DownloadStage::Flowing(Some(confirmed))) => {
                Self::proceed(self.details, confirmed, cx)
            }
            (DataEvent::Finished, DownloadStage::Ending(confirmed)) => {
                confirmed.conclude(self.details, cx)
            }
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
        cx.push(Action::FinishSink);
        let stage = DownloadStage::Ending(confirmed);
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
                State::from(self).fail_backend(ProtocolError::UnexpectedReply, cx)
            }
            Class::TransientFailure | Class::PermanentFailure => {
                let data = match self.stage {
                    DownloadStage::Flowing(_) => self.details.data_of_refusal(),
                    DownloadStage::SourceEnded | DownloadStage::Ending(_) => Action::DropData,
                };
                self.details.on_failure(reply, data, cx)
            }
        }
    }

    fn on_completion(mut self, reply: Reply, cx: &mut Context) -> State {
        match &mut self.stage {
            // Python's ftplib knows servers that say 200 and then 150. It says nothing about the transfer's end.
            DownloadStage::Flowing(_) if reply.number() == 200 && !self.details.begun => {}
            DownloadStage::Flowing(confirmed @ None) => {
                *confirmed = Some(Confirmed::new(reply));
                // Without a 1yz before it none is expected any more.
                cx.push(Action::TransferStarted);
            }
            DownloadStage::SourceEnded => {
                return Self::proceed(self.details, Confirmed::new(reply), cx);
            }
            DownloadStage::Flowing(Some(confirmed)) | DownloadStage::Ending(confirmed) => {
                if confirmed.repeat(&reply).is_err() {
                    return State::from(self).fail_backend(ProtocolError::UnsolicitedReply, cx);
                }
            }
        }
        self.into()
    }

    pub fn on_expired(self, cx: &mut Context) -> State {
        match self.stage {
            DownloadStage::SourceEnded => {
                self.abort(AbortReason::Data(DataFailure::NoFinalReply), cx)
            }
            DownloadStage::Flowing(_) | DownloadStage::Ending(_) => {
                cx.unexpected(self.into(), "the end of a time that is not limited")
            }
        }
    }

    pub(super) fn abort(self, reason: AbortReason, cx: &mut Context) -> State {
        Aborting::begin(self.is_confirmed(), self.details, reason, cx)
    }

    /// Whether the transfer is over for the backend.
    pub fn is_confirmed(&self) -> bool {
        match self.stage {
            DownloadStage::Flowing(Some(_)) | DownloadStage::Ending(_) => true,
            DownloadStage::Flowing(None) | DownloadStage::SourceEnded => false,
        }
    }

    pub fn wait(&self) -> Wait {
        match self.stage {
            DownloadStage::Flowing(_) | DownloadStage::Ending(_) => Wait::Data,
            DownloadStage::SourceEnded => Wait::FinalReply,
        }
    }
}

impl From<Download> for State {
    fn from(download: Download) -> Self {
        Self::Transfer(Transfer::Download(download))
    }
}
