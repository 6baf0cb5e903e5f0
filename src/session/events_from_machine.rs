//! The machine's conclusions go into the records of the session, with what else is known of it here.

use std::fmt::Display;

use super::Session;
use super::data_side::{DataSide, progress_of};
use super::events::{LoginContext, LoginRecord, Progress, Refusal, RunningRecord, SessionEvent};
use super::machine::{Outcome, ProtocolError, Record, Stage};
use crate::outcome::LoginResult;

impl Session {
    /// Records what the machine has concluded, with what else is known of it here.
    pub(super) fn record(&mut self, record: Record) {
        // Before a transfer's record, which leaves no connection to ask.
        self.note_progress();
        match record {
            Record::Login(result) => self.record_login(result, None),
            Record::LoginRefused {
                result,
                command,
                reply,
            } => {
                let backend = self.dialled.as_ref();
                let refusal = Refusal {
                    reply: self.repeats.reply(&reply),
                    hint: backend.and_then(|backend| backend.refusal_hint(command, &reply)),
                };
                self.record_login(result, Some(refusal));
            }
            Record::Certificate(admission) => self.events.write(&SessionEvent::Certificate {
                admission,
                identity: self.info.certificate().as_deref(),
            }),
            Record::CredentialsRefused(code) => {
                self.events
                    .write(&SessionEvent::CredentialsRefused { code });
            }
            Record::Transfer {
                command,
                direction,
                outcome,
                details,
            } => {
                if let Some(running) = self.data.take_running()
                    && outcome == Outcome::Complete
                {
                    running.complete();
                }
                self.info.clear_transfer();
                let transfer = (self.transfers).end(&command, direction, &outcome, &details);
                self.events.write(&SessionEvent::Transfer(transfer));
            }
            Record::FileChanged(change) => self.events.write(&SessionEvent::FileChanged(&change)),
            Record::Refused { command, answer } => self.events.write(&SessionEvent::Refused {
                command: &command,
                answer,
            }),
            Record::Denied(command) => self.events.write(&SessionEvent::Denied(&command)),
            Record::Unexpected { state, event } => {
                self.events.write(&SessionEvent::UnexpectedEvent {
                    state,
                    event: &event,
                });
            }
            Record::BackendLost(stage, why) => {
                let reason = self.reason_of_loss(stage, why);
                self.report_backend_loss(stage, &reason);
            }
            Record::NoDataPort(reply) => {
                self.events
                    .write(&SessionEvent::NoBackendPort(reply.as_ref()));
            }
        }
    }

    fn record_login(&mut self, result: LoginResult, refusal: Option<Refusal>) {
        let mut elapsed = None;
        if result == LoginResult::Accepted {
            elapsed = self.awaits_login_since.take().map(|since| since.elapsed());
            self.info.set_logged_in();
            self.tls.logged_in(self.info.account());
        }
        let context = LoginContext {
            server_name: self.machine.server_name().cloned(),
            protection: self.machine.protection(),
            elapsed: self.login_began.elapsed(),
        };
        let login = LoginRecord::new(result, refusal, context, elapsed, &self.info);
        self.events.write(&SessionEvent::Login(login));
    }

    /// Records the transfer that has run for a minute.
    pub(super) fn record_running_transfer(&self) {
        if let (Some((command, directory)), DataSide::Running(running)) =
            (self.machine.running_transfer(), &self.data)
        {
            self.events
                .write(&SessionEvent::TransferRuns(RunningRecord {
                    command,
                    directory,
                    progress: progress_of(running),
                }));
        }
    }

    /// Records the transfer that begins.
    pub(super) fn record_beginning_transfer(&self) {
        if let Some((command, directory)) = self.machine.running_transfer() {
            self.events
                .write(&SessionEvent::TransferBegins(RunningRecord {
                    command,
                    directory,
                    progress: Progress::default(),
                }));
        }
    }

    pub(super) fn report_backend_loss(&self, stage: Stage, reason: &dyn Display) {
        let at_login = self.dialled.as_ref().filter(|_| stage == Stage::Login);
        self.events.write(&SessionEvent::BackendLost {
            stage,
            reason,
            hint: at_login.and_then(|backend| backend.login_hint()),
        });
    }

    /// Why the backend was dropped; with what it has sent so far, where it was too slow.
    fn reason_of_loss(&self, stage: Stage, why: ProtocolError) -> String {
        // In a login the reply may repeat the password.
        if why == ProtocolError::ReplyTimeout
            && stage != Stage::Login
            && let Some(said) = self.backend.as_ref().and_then(|it| it.partial_reply())
        {
            return format!("{}, but {said}", why.as_str());
        }
        why.as_str().to_owned()
    }
}
