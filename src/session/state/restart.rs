//! REST and who has heard of its end: an offset that the backend keeps for a transfer which it is never told of.
//!
//! A transfer command that is answered here, because a data port is missing or could not be reached, ends the client's
//! REST as any other would. The backend still has the offset (vsftpd keeps it until the next RETR), and the next file would
//! come without its beginning and with a 226. So it is told to forget.

use super::Machine;
use super::logged_in::Step;
use crate::ftp::command::{Command, Verb};

/// What the backend does with the next transfer command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    /// It begins where a file begins.
    Nowhere,
    /// It begins where the client's REST said, unless that was refused.
    Somewhere,
}

impl Machine {
    /// This goes to the backend.
    pub(super) fn note_restart(&mut self, command: &Command) {
        if command.verb() == Verb::Rest {
            self.restart = match command.argument().trim_ascii() {
                b"0" => Restart::Nowhere,
                _ => Restart::Somewhere,
            };
        } else if command.verb().transfer().is_some() {
            self.restart = Restart::Nowhere;
        }
    }

    /// A transfer command has been answered, with the backend or without it.
    pub(super) fn forget_restart(&mut self) {
        if std::mem::replace(&mut self.restart, Restart::Nowhere) == Restart::Somewhere {
            self.send(b"REST 0");
            self.set_step(Step::Rewinding);
        }
    }
}
