//! What the machine has concluded goes into the records of the session, with what else is known of it here.

use std::fmt::Display;

use super::Session;
use super::journal::{Entry, LoginRecord};
use super::machine::{Outcome, ProtocolError, Record, Stage};
use crate::outcome::LoginResult;

impl Session {
    /// Records what the machine has concluded, with what else is known of it here.
    pub(super) fn record(&mut self, record: Record) {
        // Before a transfer's record, which leaves no connection to ask.
        self.note_progress();
        match record {
            Record::Login(result) => {
                let mut elapsed = None;
                if result == LoginResult::Accepted {
                    elapsed = self.awaits_login_since.take().map(|since| since.elapsed());
                    self.info.set_logged_in();
                    self.tls.logged_in(self.info.account());
                }
                let login = LoginRecord::new(result, elapsed, &self.info);
                self.journal.write(&Entry::Login(login));
            }
            Record::Transfer {
                command,
                direction,
                outcome,
            } => {
                if let Some(running) = self.data.take_running()
                    && outcome == Outcome::Complete
                {
                    running.complete();
                }
                self.info.clear_transfer();
                let transfer = self.transfers.end(&command, direction, &outcome);
                self.journal.write(&Entry::Transfer(transfer));
            }
            Record::Refused { command, answer } => self.journal.write(&Entry::Refused {
                command: &command,
                answer,
            }),
            Record::Denied(command) => self.journal.write(&Entry::Denied(&command)),
            Record::BackendLost(stage, why) => {
                let reason = self.reason_of_loss(stage, why);
                self.report_backend_loss(stage, &reason);
            }
            Record::NoDataPort(reply) => {
                self.journal.write(&Entry::NoBackendPort(reply.as_ref()));
            }
        }
    }

    pub(super) fn report_backend_loss(&self, stage: Stage, reason: &dyn Display) {
        let at_login = self.dialled.as_ref().filter(|_| stage == Stage::Login);
        self.journal.write(&Entry::BackendLost {
            stage,
            reason,
            hint: at_login.and_then(|backend| backend.login_hint()),
        });
    }

    /// Why the backend was dropped; with what it has said so far, where it was too slow.
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
