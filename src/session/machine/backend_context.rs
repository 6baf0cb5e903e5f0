//! The state of the backend's session as it follows from the commands so far and their replies: the directory, the type, the
//! offset of the next transfer, the file that is about to be renamed, the size of a file.
//!
//! This state is for the records alone; nothing here decides anything.

use super::Protection;
use crate::base::text::decimal;
use crate::ftp::command::{Command, Verb};
use crate::ftp::directory::Directory;
use crate::ftp::reply::{Class, Reply};
use crate::outcome::{DataMode, Direction, HashedPart, Representation};

/// The state of a login at its backend.
#[derive(Debug, Clone, Default)]
pub(super) struct BackendContext {
    pub directory: Directory,
    representation: Representation,
    /// MODE S, which is the default: the bytes of the data connection are those of the file.
    stream_mode: StreamMode,
    /// The part of the file that the next transfer is about.
    part: Part,
    /// The RNFR that was accepted last.
    rename_from: Option<Box<(Command, Directory)>>,
    /// The last SIZE that was answered with a number of bytes, as far as nothing since could have changed that.
    size: Option<Box<KnownSize>>,
}

/// The size of a file, as its server has reported it.
#[derive(Debug, Clone)]
struct KnownSize {
    /// The SIZE, with the path as sent.
    asked: Command,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum StreamMode {
    #[default]
    On,
    Off,
}

/// The part of a file that the next transfer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Whole,
    /// The rest of the file from this offset on, as REST has set it.
    From(u64),
    /// From this offset to another one, by RANG.
    Range(u64),
}

/// Details of a transfer beside its command and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferDetails {
    /// The working directory that the command's path is relative to.
    pub directory: Directory,
    /// The byte of the file that it begins at, as REST or RANG has set it.
    pub offset: u64,
    /// In which form the bytes are sent.
    pub representation: Representation,
    /// The part of the file that a hash of the relayed bytes covers.
    pub hashed_part: HashedPart,
    /// How the client's data connection is established.
    pub mode: DataMode,
    /// Whether the client's data connection is under TLS.
    pub protection: Protection,
    /// The code of the reply to its command that the client was sent, if it was sent one.
    pub reply: Option<u16>,
}

/// A command that has changed files or directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// The command as sent: DELE, RNTO, MKD, RMD or SITE.
    pub command: Command,
    /// The working directory that the command's path is relative to.
    pub directory: Directory,
    /// For RNTO, the RNFR with the working directory that its path is relative to.
    pub renamed: Option<(Command, Directory)>,
    /// The code of the backend's reply.
    pub reply: u16,
}

impl BackendContext {
    /// Whether the reply to this command may change this state.
    pub fn is_about(command: &Command) -> bool {
        matches!(
            command.verb(),
            Verb::Cwd
                | Verb::Cdup
                | Verb::Pwd
                | Verb::Smnt
                | Verb::Dele
                | Verb::Rnfr
                | Verb::Rnto
                | Verb::Mkd
                | Verb::Rmd
                | Verb::Site
                | Verb::Size
                | Verb::Type
                | Verb::Mode
                | Verb::Rest
                | Verb::Rang
        )
    }

    /// Takes note of a final reply; returns the change that it confirms.
    pub fn on_reply(&mut self, command: Command, reply: &Reply) -> Option<Box<FileChange>> {
        let renamed = self.rename_from.take();
        if !keeps_size(command.verb()) {
            self.size = None;
        }
        let argument = command.argument();
        match (command.verb(), reply.class()) {
            (Verb::Pwd, _) => {
                self.directory = std::mem::take(&mut self.directory).after_pwd(reply);
            }
            (Verb::Cwd, _) => {
                self.directory = std::mem::take(&mut self.directory).after_cwd(argument, reply);
            }
            (Verb::Cdup, _) => {
                self.directory = std::mem::take(&mut self.directory).after_cwd(b"..", reply);
            }
            // Another file system is mounted.
            (Verb::Smnt, Class::Completion) => self.directory = Directory::UNKNOWN,
            (Verb::Rnfr, Class::Intermediate) => {
                self.rename_from = Some(Box::new((command, self.directory.clone())));
            }
            (Verb::Rest, Class::Intermediate) => self.part = Part::of(argument),
            (Verb::Rang, Class::Intermediate) => {
                let first = argument.trim_ascii().split(|byte| *byte == b' ').next();
                self.part = match argument.trim_ascii() {
                    b"1 0" => Part::Whole,
                    _ => Part::Range(number(first.unwrap_or_default()).unwrap_or_default()),
                };
            }
            (Verb::Type, Class::Completion) => self.representation = representation(argument),
            (Verb::Mode, Class::Completion) => {
                self.stream_mode = match argument.trim_ascii() {
                    b"S" | b"s" => StreamMode::On,
                    _ => StreamMode::Off,
                };
            }
            // In another type, servers count what they would send, or refuse.
            (Verb::Size, Class::Completion) if self.representation == Representation::Binary => {
                let size = number(reply.text()).filter(|_| reply.number() == 213);
                self.size = size.map(|bytes| {
                    Box::new(KnownSize {
                        asked: command,
                        bytes,
                    })
                });
            }
            (Verb::Dele | Verb::Rnto | Verb::Mkd | Verb::Rmd | Verb::Site, Class::Completion) => {
                return Some(Box::new(FileChange {
                    renamed: renamed
                        .map(|it| *it)
                        .filter(|_| command.verb() == Verb::Rnto),
                    directory: self.directory.clone(),
                    reply: reply.number(),
                    command,
                }));
            }
            _ => {}
        }
        None
    }

    /// The state that remains for another login on the same connection, which may lead to another directory.
    pub fn for_next_login(self) -> Self {
        Self {
            directory: Directory::UNKNOWN,
            rename_from: None,
            size: None,
            ..self
        }
    }

    /// How many bytes this download is to have, by the SIZE before it: for people who look, since the file may have grown.
    pub fn size_of(&self, command: &Command) -> Option<u64> {
        let known = self.size.as_ref().filter(|known| {
            command.verb() == Verb::Retr
                && known.asked.argument() == command.argument()
                && self.stream_mode == StreamMode::On
                && self.representation == Representation::Binary
        })?;
        match self.part {
            Part::Whole => Some(known.bytes),
            Part::From(offset) => known.bytes.checked_sub(offset),
            Part::Range(_) => None,
        }
    }

    /// The next transfer is of a whole file, whatever REST and RANG have set.
    pub fn forget_part(&mut self) {
        self.part = Part::Whole;
    }

    /// The details of a transfer that ends now; the file after it is whole again.
    pub fn end_transfer(
        &mut self,
        command: &Command,
        mode: DataMode,
        protection: Protection,
        reply: Option<u16>,
    ) -> TransferDetails {
        self.rename_from = None;
        if command.verb().transfer() == Some(Direction::Upload) {
            self.size = None;
        }
        let is_file =
            self.stream_mode == StreamMode::On && self.representation == Representation::Binary;
        // A listing is a text, and whole as it is. Servers keep the part for the file behind it.
        let is_listing = command.verb().transfer() == Some(Direction::Listing);
        let part = match is_listing {
            true => Part::Whole,
            false => std::mem::take(&mut self.part),
        };
        TransferDetails {
            directory: self.directory.clone(),
            offset: match part {
                Part::Whole => 0,
                Part::From(offset) | Part::Range(offset) => offset,
            },
            representation: self.representation,
            hashed_part: match (is_file && !is_listing, part, command.verb()) {
                (false, _, _) => HashedPart::Wire,
                (true, Part::From(_), _) | (true, _, Verb::Appe) => HashedPart::Tail,
                (true, Part::Range(_), _) => HashedPart::Range,
                (true, Part::Whole, _) => HashedPart::File,
            },
            mode,
            protection,
            reply,
        }
    }
}

impl Part {
    fn of(offset: &[u8]) -> Self {
        match number(offset) {
            Some(0) => Self::Whole,
            // A marker of MODE B is no number.
            offset => Self::From(offset.unwrap_or_default()),
        }
    }
}

/// Whether a file and the path to it are the same behind this command, and a transfer is of all that follows its offset.
fn keeps_size(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Pwd | Verb::Rest | Verb::Type | Verb::Mode | Verb::Mkd
    )
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text.trim_ascii())
        .ok()
        .and_then(decimal)
}

fn representation(argument: &[u8]) -> Representation {
    match argument.trim_ascii().to_ascii_uppercase().as_slice() {
        b"I" | b"L 8" | b"L8" => Representation::Binary,
        b"A" | b"A N" => Representation::Ascii,
        _ => Representation::Other,
    }
}
