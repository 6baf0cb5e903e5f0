//! Lines that are whole in the file or pipe they go to, though a full disk takes them in parts.

use std::io::{self, Write};

/// Writes lines so that none begins in the middle of another: what a write has left of one is written in front of the next.
#[derive(Debug)]
pub(in crate::observe) struct WholeLines<W> {
    output: W,
    /// The rest of a line that was written in part.
    rest: Vec<u8>,
}

/// Why a line is not written.
#[derive(Debug)]
pub(in crate::observe) enum Unwritten {
    /// Nothing of the line is written, and nothing will be.
    Lost(io::Error),
    /// The line's beginning is written, and the rest follows if it is taken later.
    InPart(io::Error),
}

impl<W: Write> WholeLines<W> {
    pub fn new(output: W) -> Self {
        Self {
            output,
            rest: Vec::new(),
        }
    }

    /// As [`new`](Self::new), where another writer has left a line without an end.
    pub fn behind_torn_line(output: W) -> Self {
        Self {
            output,
            rest: b"\n".to_vec(),
        }
    }

    pub fn output(&self) -> &W {
        &self.output
    }

    /// Writes a line, which has to have its ending.
    ///
    /// # Errors
    /// See [`Unwritten`].
    pub fn write(&mut self, line: &[u8]) -> Result<(), Unwritten> {
        self.complete().map_err(Unwritten::Lost)?;
        match write_out(&mut self.output, line) {
            (_, Ok(())) => Ok(()),
            (0, Err(error)) => Err(Unwritten::Lost(error)),
            (written, Err(error)) => {
                self.rest = line[written..].to_vec();
                Err(Unwritten::InPart(error))
            }
        }
    }

    /// Writes what is left of a line that was taken in part.
    ///
    /// # Errors
    /// If that isn't taken.
    pub fn complete(&mut self) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let (written, result) = write_out(&mut self.output, &self.rest);
        self.rest.drain(..written);
        result
    }
}

/// Writes as much as is taken; returns how much that is, and why it isn't all.
fn write_out(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A disk that has so much room left.
    #[derive(Default)]
    struct Disk {
        room: usize,
        content: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.content.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_torn_line_is_completed_in_front_of_the_next() {
        let disk = Disk {
            room: 8,
            ..Disk::default()
        };
        let mut lines = WholeLines::new(disk);
        assert!(lines.write(b"one 1\n").is_ok());
        assert!(matches!(lines.write(b"two 2\n"), Err(Unwritten::InPart(_))));
        assert!(matches!(lines.write(b"three\n"), Err(Unwritten::Lost(_))));
        lines.output.room = 100;
        assert!(lines.write(b"four\n").is_ok());
        assert_eq!(lines.output.content, b"one 1\ntwo 2\nfour\n");
    }

    #[test]
    fn a_line_that_somebody_left_without_an_end_gets_one() {
        let mut lines = WholeLines::behind_torn_line(Vec::new());
        assert!(lines.write(b"next\n").is_ok());
        assert_eq!(lines.output, b"\nnext\n");
    }

    proptest! {
        #[test]
        fn every_line_is_whole_or_lost_however_the_room_comes_and_goes(
            rooms in proptest::collection::vec(0_usize..12, 1..30),
        ) {
            let mut lines = WholeLines::new(Disk::default());
            let mut taken = Vec::new();
            for (number, room) in rooms.iter().enumerate() {
                lines.output.room = *room;
                let line = format!("line {number:02}\n");
                if !matches!(lines.write(line.as_bytes()), Err(Unwritten::Lost(_))) {
                    taken.push(line);
                }
            }
            lines.output.room = 100;
            prop_assert!(lines.complete().is_ok());
            let content = String::from_utf8(lines.output.content).expect("text");
            prop_assert_eq!(content, taken.concat());
        }
    }
}
