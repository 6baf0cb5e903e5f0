//! REST and RANG, and who has heard of their end: what the backend keeps for a transfer that it is never told of.
//!
//! A transfer command that is answered here, because a data port is missing or could not be reached, ends the client's REST
//! and RANG as any other would. The backend still has the offset (vsftpd keeps it until the next RETR) and the range
//! (ProFTPD), and the next file would come in part and with a 226. So it is told to forget, one after the other.
//!
//! These are all: ALLO and PRET, which also speak of the next transfer, say nothing about its bytes.

use super::Machine;
use super::logged_in::Step;
use crate::ftp::command::{Command, Verb};

/// What part of a file the backend takes for the next transfer command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestOffset {
    /// Where REST makes it begin.
    offset: Kept,
    /// What RANG (draft-bryan-ftp-range) leaves of it.
    range: Kept,
}

/// Whether the backend has something that it was told for its next transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    None,
    /// What the client said, unless that was refused.
    Pending,
}

impl RestOffset {
    /// Files are whole.
    pub const NONE: Self = Self {
        offset: Kept::None,
        range: Kept::None,
    };

    /// Takes the next thing that the backend has to forget, and gives the command that makes it.
    fn clear_one(&mut self) -> Option<&'static [u8]> {
        let kept = [
            (&mut self.offset, &b"REST 0"[..]),
            // A range that ends before it begins is none (draft-bryan-ftp-range §3).
            (&mut self.range, b"RANG 1 0"),
        ];
        kept.into_iter().find_map(|(kept, command)| {
            let was_kept = std::mem::replace(kept, Kept::None) == Kept::Pending;
            was_kept.then_some(command)
        })
    }
}

impl Machine {
    /// This goes to the backend.
    pub(super) fn track_rest(&mut self, command: &Command) {
        let argument = command.argument().trim_ascii();
        match command.verb() {
            Verb::Rest => self.rest.offset = kept_unless(argument == b"0"),
            Verb::Rang => self.rest.range = kept_unless(argument == b"1 0"),
            verb if verb.transfer().is_some() => self.rest = RestOffset::NONE,
            _ => {}
        }
    }

    /// A transfer command has been answered, with the backend or without it.
    pub(super) fn clear_rest(&mut self) {
        if let Some(command) = self.rest.clear_one() {
            self.send(command);
            self.set_step(Step::ClearingOffset);
        }
    }
}

fn kept_unless(over: bool) -> Kept {
    if over { Kept::None } else { Kept::Pending }
}
