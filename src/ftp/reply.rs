//! A server's replies: RFC 959 §4.2, and what real servers make of it.
//!
//! A reply is kept as the bytes that came, so that it can be passed on unchanged; only the code is read. The grammar is
//! the RFC's: a line `ddd-` opens a reply of several lines that ends with the first line of the same code and a space.
//! Servers leave out the space and the text (z/OS), and RFC 3659 §7.2 allows that.

use bytes::{Bytes, BytesMut};

use super::line::Line;

/// The largest reply kept: a STAT listing of some ten thousand files.
pub const MAX_REPLY: usize = 1024 * 1024;

/// A three-digit code, 100 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Code(u16);

/// The first digit of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 1yz: begun, another reply follows.
    Preliminary,
    /// 2yz: done.
    Completion,
    /// 3yz: the next command of a sequence is awaited.
    Intermediate,
    /// 4yz: failed, may be tried again.
    TransientFailure,
    /// 5yz: failed.
    PermanentFailure,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: Code,
    bytes: Bytes,
}

/// Why what a server sent is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// A line outside a reply does not begin with a code between 100 and 599.
    #[error("a line that does not begin with a reply code")]
    NoCode,
    /// A line over [`MAX_REPLY_LINE`](super::line::MAX_REPLY_LINE).
    #[error("a reply line longer than {} bytes", super::line::MAX_REPLY_LINE)]
    LineTooLong,
    /// More than [`MAX_REPLY`] in one reply.
    #[error("a reply longer than {MAX_REPLY} bytes")]
    TooLong,
}

impl Code {
    fn leading(line: &[u8]) -> Option<Self> {
        let digits = line.get(..3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits
            .iter()
            .fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        (100..600).contains(&number).then_some(Self(number))
    }

    fn class(self) -> Class {
        match self.0 / 100 {
            1 => Class::Preliminary,
            2 => Class::Completion,
            3 => Class::Intermediate,
            4 => Class::TransientFailure,
            _ => Class::PermanentFailure,
        }
    }
}

impl Class {
    /// Whether this is 4yz or 5yz.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::TransientFailure | Self::PermanentFailure)
    }
}

impl Reply {
    /// Its code's number, for matching.
    pub fn number(&self) -> u16 {
        self.code.0
    }

    /// Its code's class.
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// All its lines, each ended by CRLF.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its lines, without endings.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
    }

    /// The text of its last line, behind the code.
    pub fn text(&self) -> &[u8] {
        let last = self.lines().last().unwrap_or_default();
        last.get(4..).unwrap_or_default()
    }
}

/// Puts lines together to replies.
#[derive(Debug, Default)]
pub struct ReplyParser {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    code: Code,
    bytes: BytesMut,
}

impl ReplyParser {
    /// Takes the next line; gives the reply that it completes.
    ///
    /// # Errors
    /// After an error the connection has no known state any more and has to be given up.
    pub fn push(&mut self, line: Line) -> Result<Option<Reply>, BadReply> {
        let Line::Whole(line) = line else {
            return Err(BadReply::LineTooLong);
        };
        match self.open.take() {
            None => {
                let code = Code::leading(&line).ok_or(BadReply::NoCode)?;
                let mut bytes = BytesMut::with_capacity(line.len() + 2);
                append(&mut bytes, &line);
                match line.get(3) {
                    None | Some(b' ') => Ok(Some(Reply {
                        code,
                        bytes: bytes.freeze(),
                    })),
                    Some(b'-') => {
                        self.open = Some(Open { code, bytes });
                        Ok(None)
                    }
                    Some(_) => Err(BadReply::NoCode),
                }
            }
            Some(mut open) => {
                if open.bytes.len() + line.len() > MAX_REPLY {
                    return Err(BadReply::TooLong);
                }
                append(&mut open.bytes, &line);
                if Code::leading(&line) == Some(open.code)
                    && matches!(line.get(3), None | Some(b' '))
                {
                    return Ok(Some(Reply {
                        code: open.code,
                        bytes: open.bytes.freeze(),
                    }));
                }
                self.open = Some(open);
                Ok(None)
            }
        }
    }
}

fn append(bytes: &mut BytesMut, line: &[u8]) {
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::{LineBuffer, MAX_REPLY_LINE};
    use proptest::prelude::*;

    fn replies(text: &[u8]) -> Result<Vec<Reply>, BadReply> {
        let mut buffer = LineBuffer::new(MAX_REPLY_LINE);
        buffer.unread().extend_from_slice(text);
        let mut parser = ReplyParser::default();
        let mut replies = Vec::new();
        while let Some(line) = buffer.next_line() {
            replies.extend(parser.push(line)?);
        }
        Ok(replies)
    }

    fn codes(text: &[u8]) -> Vec<u16> {
        replies(text).unwrap().iter().map(Reply::number).collect()
    }

    #[test]
    fn single_lines_are_replies_of_their_own() {
        assert_eq!(
            codes(b"331 Password please.\r\n230 Welcome\r\n"),
            [331, 230]
        );
    }

    #[test]
    fn a_reply_of_several_lines_ends_at_the_same_code_and_a_space() {
        let text = b"123-First line\r\nSecond line\r\n  234 A line beginning with numbers\r\n123 The last line\r\n";
        assert_eq!(codes(text), [123]);
        assert_eq!(replies(text).unwrap()[0].bytes(), &text[..]);
    }

    #[test]
    fn other_codes_and_dashes_inside_do_not_end_it() {
        assert_eq!(
            codes(b"220-a\r\n226 done\r\n220-b\r\n221-c\r\n220 d\r\n"),
            [220]
        );
        assert_eq!(
            codes(b"150-Accepted\r\n150 293.0 kbytes\r\n226-ok\r\n226 0.1 s\r\n"),
            [150, 226]
        );
    }

    #[test]
    fn a_bare_code_is_a_whole_reply_and_a_bare_code_ends_one() {
        assert_eq!(codes(b"200\r\n"), [200]);
        assert_eq!(codes(b"234-x\r\n234\r\n"), [234]);
    }

    #[test]
    fn bare_lf_is_passed_on_as_crlf() {
        assert_eq!(replies(b"200 ok\n").unwrap()[0].bytes(), &b"200 ok\r\n"[..]);
    }

    #[test]
    fn what_has_no_code_is_refused() {
        for text in [
            &b"hello\r\n"[..],
            b"20 x\r\n",
            b"2000 x\r\n",
            b"099 x\r\n",
            b"631 x\r\n",
            b"\r\n",
            b"HTTP/1.1 400\r\n",
        ] {
            assert_eq!(
                replies(text),
                Err(BadReply::NoCode),
                "{}",
                text.escape_ascii()
            );
        }
    }

    #[test]
    fn replies_are_bounded_by_the_line_and_as_a_whole() {
        let long = [b"200 ", &vec![b'x'; MAX_REPLY_LINE][..], b"\r\n"].concat();
        assert_eq!(replies(&long), Err(BadReply::LineTooLong));
        let endless = [&b"211-x\r\n"[..], &b" y\r\n".repeat(MAX_REPLY / 3)].concat();
        assert_eq!(replies(&endless), Err(BadReply::TooLong));
    }

    #[test]
    fn the_text_is_that_of_the_last_line() {
        assert_eq!(replies(b"226-a\r\n226 b c\r\n").unwrap()[0].text(), b"b c");
        assert_eq!(replies(b"226\r\n").unwrap()[0].text(), b"");
    }

    #[test]
    fn only_the_cr_of_its_ending_is_cut_from_a_line() {
        let text = b"226-a\r\r\n b\r\r\n226 c\r\r\n";
        let replies = replies(text).unwrap();
        let lines: Vec<&[u8]> = replies[0].lines().collect();
        assert_eq!(lines, [&b"226-a\r"[..], b" b\r", b"226 c\r"]);
        assert_eq!(replies[0].bytes(), &text[..]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reply_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for reply in replies(&bytes).unwrap_or_default() {
                prop_assert!((100..600).contains(&reply.number()));
                prop_assert!(reply.bytes().ends_with(b"\r\n"));
            }
        }
    }
}
