//! Clears a REST offset or a RANG range that the backend still holds because the transfer command was answered here.
//!
//! A transfer command that is answered here, because a data port is missing or could not be reached, ends the client's
//! REST and RANG. The backend still has the offset (vsftpd keeps it until the next RETR) and the
//! range (ProFTPD), and the next file would come in part and with a 226. So both are cleared, one after the other.
//!
//! There are no others: ALLO and PRET also concern the next transfer, but not its bytes.

use super::State;
use super::context::Context;
use super::ready::{LoggedIn, Ready};
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::{Class, Reply};
use crate::outcome::Direction;

/// The part of a file that the backend applies the next transfer command to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestartMarkers {
    /// The offset at which REST makes it begin.
    offset: Marker,
    /// The byte range that RANG (draft-bryan-ftp-range) sets for it.
    range: Marker,
}

/// Whether the backend still holds a value for its next transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    None,
    /// The client has sent a value, and the backend has accepted it.
    Pending,
    /// The client's value is still in force after a listing, across which it holds: it is for the file that follows.
    Held,
}

/// The backend is to answer a command of ours whose reply is ignored: one that clears an offset, or EPSV, PASV or PORT
/// for a transfer that has ended meanwhile.
#[derive(Debug)]
pub(super) struct Discarding {
    pub login: Box<LoggedIn>,
}

impl RestartMarkers {
    /// The backend holds no marker: files are whole.
    pub const NONE: Self = Self {
        offset: Marker::None,
        range: Marker::None,
    };

    /// The backend's final reply to this command. What it has refused did not take place (RFC 959 §4.2), and what it has accepted
    /// before stays: ProFTPD and pyftpdlib keep that, Pure-FTPd doesn't, and to clear it once more does no harm.
    pub fn on_reply(&mut self, command: &Command, reply: &Reply) {
        let (marker, none) = match command.verb() {
            Verb::Rest => (&mut self.offset, &b"0"[..]),
            Verb::Rang => (&mut self.range, &b"1 0"[..]),
            _ => return,
        };
        if !reply.class().is_failure() {
            *marker = pending_unless(command.argument().trim_ascii() == none);
        }
    }

    /// The client sends a transfer command, which is what both are for.
    pub fn begin_transfer(&mut self) {
        self.replace(Marker::Held, Marker::Pending);
    }

    /// The backend is sent that command. vsftpd, ProFTPD, Pure-FTPd and pyftpdlib keep both across a listing.
    pub fn sent(&mut self, direction: Direction) {
        match direction {
            Direction::Listing => self.replace(Marker::Pending, Marker::Held),
            Direction::Upload | Direction::Download => *self = Self::NONE,
        }
    }

    fn replace(&mut self, former: Marker, new: Marker) {
        for marker in [&mut self.offset, &mut self.range] {
            if *marker == former {
                *marker = new;
            }
        }
    }

    /// Takes the next value that the backend still holds, and returns the command that clears it.
    fn clear_one(&mut self) -> Option<&'static [u8]> {
        let markers = [
            (&mut self.offset, &b"REST 0"[..]),
            // A range that ends before it begins is none (draft-bryan-ftp-range §3).
            (&mut self.range, b"RANG 1 0"),
        ];
        markers.into_iter().find_map(|(marker, command)| {
            let is_pending = *marker == Marker::Pending;
            is_pending.then(|| {
                *marker = Marker::None;
                command
            })
        })
    }
}

impl LoggedIn {
    /// A transfer command has been answered, with the backend or without it.
    pub fn clear_restart_markers(mut self: Box<Self>, cx: &mut Context) -> State {
        match self.connection.restart_markers.clear_one() {
            Some(command) => {
                self.backend.forget_part();
                cx.request(command);
                State::Discarding(Discarding { login: self })
            }
            None => State::Ready(Ready { login: self }),
        }
    }
}

impl Discarding {
    /// Even a refusal means that there is no offset: a server that doesn't know REST never had one.
    pub fn on_reply(self, reply: &Reply, cx: &mut Context) -> State {
        if reply.class() == Class::Preliminary {
            return State::Discarding(self);
        }
        self.login.clear_restart_markers(cx)
    }
}

fn pending_unless(over: bool) -> Marker {
    if over { Marker::None } else { Marker::Pending }
}
