//! Lines of a control connection, cut out of whatever pieces the network delivers.
//!
//! A line ends with LF; a CR in front of it belongs to the ending. RFC 959 asks for CRLF, but clients and servers that
//! send a bare LF exist and the common servers accept it. A line beyond the buffer's limit is discarded up to
//! its end and reported once, so that no peer can make the buffer grow.

use bytes::{Buf, Bytes, BytesMut};

/// The longest command line accepted from a client, without its ending. Servers differ in what they do with a line that is too
/// long for them: pyftpdlib empties its buffer at 2 KiB and takes what follows for another command, ProFTPD and vsftpd don't
/// answer, or end the session, from 4 KiB on.
pub const MAX_COMMAND_LINE: usize = 2 * 1024 - 2;

/// The longest line of a backend's reply, without its ending.
pub const MAX_REPLY_LINE: usize = 8 * 1024;

/// How much is asked of the network at once.
const READ_AHEAD: usize = 1024;

/// A line, without its ending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The line's bytes; no LF among them.
    Whole(Bytes),
    /// The line was longer than the limit and has been dropped.
    TooLong,
}

/// Bytes that have arrived and are not yet lines.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: BytesMut,
    /// How much of `bytes` is known to hold no LF: one-byte writes must not cost a scan from the start each.
    scanned: usize,
    limit: usize,
    /// The beginning of the current line has been dropped.
    swallowing: bool,
}

impl LineBuffer {
    /// An empty buffer for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: BytesMut::new(),
            scanned: 0,
            limit,
            swallowing: false,
        }
    }

    /// Whether more may be read into the buffer; false while a peer sends faster than its lines are taken.
    pub fn has_room(&self) -> bool {
        self.bytes.len() < self.limit + 2
    }

    /// The buffer for the next bytes from the network.
    pub fn unread(&mut self) -> &mut BytesMut {
        self.bytes.reserve(READ_AHEAD);
        &mut self.bytes
    }

    /// Whether not a single byte waits, complete line or not.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.swallowing
    }

    /// Whether the line whose end has not arrived yet is over the limit.
    pub fn is_swallowing(&self) -> bool {
        self.swallowing
    }

    /// The first buffered bytes.
    pub fn peek(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether [`next_line`](Self::next_line) would return a line.
    pub fn has_line(&mut self) -> bool {
        self.find_end().is_some()
    }

    /// Takes the next line, if a whole one has arrived.
    pub fn next_line(&mut self) -> Option<Line> {
        let Some(end) = self.find_end() else {
            // One byte more than the limit may be the CR of an ending whose LF is still under way.
            if self.swallowing || self.bytes.len() > self.limit + 1 {
                self.swallowing = true;
                self.bytes.clear();
                self.scanned = 0;
            }
            return None;
        };
        let mut line = self.bytes.split_to(end);
        self.bytes.advance(1);
        self.scanned = 0;
        if self.bytes.is_empty() {
            // Releases the allocation: idle sessions hold no buffer.
            self.bytes = BytesMut::new();
        }
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if std::mem::take(&mut self.swallowing) || line.len() > self.limit {
            return Some(Line::TooLong);
        }
        Some(Line::Whole(line.freeze()))
    }

    fn find_end(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.bytes[self.scanned..]);
        match found {
            Some(at) => Some(self.scanned + at),
            None => {
                self.scanned = self.bytes.len();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines_of(chunks: &[&[u8]], limit: usize) -> Vec<Line> {
        let mut buffer = LineBuffer::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            buffer.unread().extend_from_slice(chunk);
            while let Some(line) = buffer.next_line() {
                lines.push(line);
            }
        }
        lines
    }

    fn whole(text: &str) -> Line {
        Line::Whole(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn crlf_and_bare_lf_end_a_line_and_a_lone_cr_does_not() {
        assert_eq!(
            lines_of(&[b"NOOP\r\nPWD\nCWD a\rb\r\n"], 100),
            [whole("NOOP"), whole("PWD"), whole("CWD a\rb")]
        );
    }

    #[test]
    fn a_line_may_arrive_a_byte_at_a_time() {
        let bytes: Vec<&[u8]> = b"STOR  a \r\n".chunks(1).collect();
        assert_eq!(lines_of(&bytes, 100), [whole("STOR  a ")]);
    }

    #[test]
    fn the_limit_counts_the_line_without_its_ending() {
        assert_eq!(lines_of(&[b"12345\r\n"], 5), [whole("12345")]);
        assert_eq!(lines_of(&[b"12345", b"\r", b"\n"], 5), [whole("12345")]);
        assert_eq!(lines_of(&[b"123456\r\n"], 5), [Line::TooLong]);
    }

    #[test]
    fn an_overlong_line_is_reported_once_and_the_next_one_is_read() {
        let long = vec![b'x'; 1000];
        assert_eq!(
            lines_of(&[&long, &long, b"x\r\nNOOP\r\n"], 10),
            [Line::TooLong, whole("NOOP")]
        );
    }

    #[test]
    fn an_endless_line_does_not_make_the_buffer_grow() {
        let mut buffer = LineBuffer::new(100);
        for _ in 0..10_000 {
            assert!(buffer.has_room());
            buffer.unread().extend_from_slice(&[b'x'; 100]);
            assert_eq!(buffer.next_line(), None);
            assert!(buffer.bytes.len() <= 101);
        }
    }

    #[test]
    fn a_partial_line_is_seen_as_waiting_bytes() {
        let mut buffer = LineBuffer::new(100);
        assert!(buffer.is_empty());
        buffer.unread().extend_from_slice(b"NO");
        assert!(!buffer.is_empty());
        assert!(!buffer.has_line());
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..400),
            cut in 1usize..17,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
            prop_assert_eq!(lines_of(&pieces, 20), lines_of(&[&bytes], 20));
        }
    }
}
