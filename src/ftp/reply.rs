//! A server's replies: RFC 959 §4.2, and how real servers deviate from it.
//!
//! A reply is kept as the bytes that came, so that it can be passed on unchanged; only the code is read. The grammar is
//! the RFC's: a line `ddd-` opens a reply of several lines that ends with the first line of the same code and a space.
//! Servers leave out the space and the text (z/OS), and RFC 3659 §7.2 allows that.
//!
//! Some servers send an empty line (fineftp, goftp) or a line of text between two replies: curl, lftp and wget skip
//! those, and so does the parser, up to a bound. A line without a code can't be mistaken for a reply.
//!
//! A few scripts end a reply of several lines with another code (glFTPd: `553-`, `553-`, `150 Opening`). The grammar
//! can't tell that from a text that begins with a number, so only silence does: see
//! [`ReplyParser::take_reply_with_other_code`].

use bytes::{Bytes, BytesMut};

use super::line::Line;

/// The largest reply kept: a STAT listing of some ten thousand files.
pub const MAX_REPLY: usize = 1024 * 1024;

/// How many lines without a code are passed over between two replies.
pub const MAX_STRAY_LINES: u32 = 32;

/// How many 1yz replies may follow each other. RFC 959 §4.2 allows one for each command; without a bound, a backend could keep a
/// session or a check busy without end, and replies that arrive without a pause reach no time limit.
pub const MAX_PRELIMINARIES: u32 = 16;

/// HTTP, SSH, POP3, IMAP.
const OTHER_PROTOCOLS: [&[u8]; 4] = [b"HTTP/", b"SSH-", b"+OK", b"* OK"];

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

/// Why the received bytes are not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReply {
    /// A line outside a reply begins with a digit, and not with a code between 100 and 599, or is not of FTP at all.
    #[error("a line that does not begin with a reply code")]
    NoCode,
    /// More than [`MAX_STRAY_LINES`] lines without a code, one after the other.
    #[error("more than {MAX_STRAY_LINES} lines that do not begin with a reply code")]
    StrayLines,
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
    /// Whether the class is 4yz or 5yz.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::TransientFailure | Self::PermanentFailure)
    }
}

impl Reply {
    /// The number of the reply's code, for matching.
    pub fn number(&self) -> u16 {
        self.code.0
    }

    /// The class of the reply's code.
    pub fn class(&self) -> Class {
        self.code.class()
    }

    /// All its lines, each ended by CRLF.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The reply's lines, without endings.
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
    open: Option<OpenReply>,
    /// How many lines without a code have arrived since the last reply.
    stray: u32,
    /// The last one of those that is not empty.
    last_stray: Bytes,
}

/// Bytes from a server that are not a reply, or not a complete one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialReply {
    /// The first line of a reply whose last one has not arrived.
    Unterminated(Bytes),
    /// A line without a code.
    Stray(Bytes),
}

/// A reply whose last line has not arrived.
#[derive(Debug)]
struct OpenReply {
    code: Code,
    bytes: BytesMut,
    /// The last line so far is a whole reply by itself, with this other code.
    other: Option<Code>,
}

impl ReplyParser {
    /// Takes the next line; returns the reply that it completes.
    ///
    /// # Errors
    /// After an error the state of the connection is unknown, and it has to be closed.
    pub fn push(&mut self, line: Line) -> Result<Option<Reply>, BadReply> {
        let Line::Whole(line) = line else {
            return Err(BadReply::LineTooLong);
        };
        match self.open.take() {
            None => self.begin(&line),
            Some(open) => self.continue_reply(open, &line),
        }
    }

    fn begin(&mut self, line: &[u8]) -> Result<Option<Reply>, BadReply> {
        let Some(code) = Code::leading(line) else {
            if !is_stray(line) {
                return Err(BadReply::NoCode);
            }
            self.stray += 1;
            if !line.trim_ascii().is_empty() {
                self.last_stray = Bytes::copy_from_slice(line);
            }
            return if self.stray > MAX_STRAY_LINES {
                Err(BadReply::StrayLines)
            } else {
                Ok(None)
            };
        };
        self.stray = 0;
        self.last_stray.clear();
        let mut bytes = BytesMut::with_capacity(line.len() + 2);
        append(&mut bytes, line);
        match line.get(3) {
            None | Some(b' ') => Ok(Some(Reply {
                code,
                bytes: bytes.freeze(),
            })),
            Some(b'-') => {
                let other = None;
                self.open = Some(OpenReply { code, bytes, other });
                Ok(None)
            }
            Some(_) => Err(BadReply::NoCode),
        }
    }

    fn continue_reply(
        &mut self,
        mut open: OpenReply,
        line: &[u8],
    ) -> Result<Option<Reply>, BadReply> {
        if open.bytes.len() + line.len() > MAX_REPLY {
            return Err(BadReply::TooLong);
        }
        append(&mut open.bytes, line);
        let ends = Code::leading(line).filter(|_| matches!(line.get(3), None | Some(b' ')));
        if ends == Some(open.code) {
            return Ok(Some(Reply {
                code: open.code,
                bytes: open.bytes.freeze(),
            }));
        }
        open.other = ends;
        self.open = Some(open);
        Ok(None)
    }

    /// The bytes that have arrived since the last reply, for the log.
    pub fn partial_reply(&self) -> Option<PartialReply> {
        if let Some(open) = &self.open {
            let first = open.bytes.as_ref().split(|byte| *byte == b'\r').next()?;
            return Some(PartialReply::Unterminated(Bytes::copy_from_slice(first)));
        }
        let stray = Some(self.last_stray.clone());
        stray
            .filter(|line| !line.is_empty())
            .map(PartialReply::Stray)
    }

    /// Whether the last line would be the end of its reply, but for its code.
    pub fn may_end_with_other_code(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.other.is_some())
    }

    /// The reply whose last line has another code than its first, once its server has sent nothing more for a while.
    ///
    /// The last code counts, as it does for curl, lftp and wget. Clients that read as the RFC has it would wait for the
    /// first one without end, so the lines that begin with it are rewritten to the last one.
    pub fn take_reply_with_other_code(&mut self) -> Option<Reply> {
        let OpenReply { code, bytes, other } = self.open.take_if(|open| open.other.is_some())?;
        let last = other?;
        let (first, code_of_all) = (code.0.to_string(), last.0.to_string());
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let end = lines.pop()?;
        let mut rewritten = BytesMut::with_capacity(bytes.len() + lines.len());
        for line in lines {
            // A line that would end the reply too early is rewritten, too.
            let rest = [first.as_bytes(), code_of_all.as_bytes()]
                .into_iter()
                .find_map(|code| line.strip_prefix(code))
                .filter(|rest| rest.first().is_some_and(|next| b" -\r".contains(next)));
            if let Some(rest) = rest {
                rewritten.extend_from_slice(code_of_all.as_bytes());
                rewritten.extend_from_slice(b"-");
                let text = rest.strip_prefix(b" ").or(rest.strip_prefix(b"-"));
                rewritten.extend_from_slice(text.unwrap_or(rest));
            } else {
                rewritten.extend_from_slice(line);
            }
        }
        rewritten.extend_from_slice(end);
        Some(Reply {
            code: last,
            bytes: rewritten.freeze(),
        })
    }
}

/// Whether a line outside a reply is skipped: an empty line, or plain text. A leading digit was meant as a code;
/// control characters belong to another protocol, as do the greetings of other protocols, whose servers send nothing
/// more.
fn is_stray(line: &[u8]) -> bool {
    let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    // A line may end in CR CR LF.
    let line = line.trim_ascii();
    line.iter().all(is_text)
        && !line.first().is_some_and(u8::is_ascii_digit)
        && !OTHER_PROTOCOLS.iter().any(|begin| line.starts_with(begin))
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
            &b"20 x\r\n"[..],
            b"220ready\r\n",
            b"2000 x\r\n",
            b"099 x\r\n",
            b"631 x\r\n",
            b"HTTP/1.1 400\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"\0\0\0\0\n",
            b"\x15\x03\x01\0\x02\x02\x28\n",
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
    fn empty_lines_and_words_between_replies_are_passed_over_up_to_a_bound() {
        assert_eq!(
            codes(b"\r\n220 a\n\r\n  \r\n331 b\r\nWelcome, everybody\r\n\r\r\n230 c\r\n"),
            [220, 331, 230]
        );
        // Inside a reply they belong to it.
        let text = b"214-Help\r\n\r\nwords\r\n214 End\r\n";
        assert_eq!(replies(text).unwrap()[0].bytes(), &text[..]);
        for line in [&b"\r\n"[..], b"words\r\n"] {
            let most = line.repeat(MAX_STRAY_LINES as usize);
            assert_eq!(codes(&[&most[..], b"200 x\r\n", &most].concat()), [200]);
            let more = [&most[..], line].concat();
            assert_eq!(replies(&more), Err(BadReply::StrayLines));
        }
    }

    #[test]
    fn what_has_come_of_a_reply_can_be_told() {
        let mut parser = ReplyParser::default();
        let mut after = |line: &'static str| {
            parser.push(Line::Whole(line.into())).unwrap();
            parser.partial_reply()
        };
        assert_eq!(after("220 ready"), None);
        assert_eq!(after(""), None);
        let stray = Some(PartialReply::Stray("who are you?".into()));
        assert_eq!(after("who are you?"), stray);
        assert_eq!(after(""), stray);
        let begun = Some(PartialReply::Unterminated("230-Hello".into()));
        assert_eq!(after("230-Hello"), begun);
        assert_eq!(after("more"), begun);
        assert_eq!(after("230 in"), None);
    }

    #[test]
    fn silence_behind_another_code_ends_a_reply_with_that_code() {
        let mut parser = ReplyParser::default();
        let mut push = |line: &'static str| {
            let pushed = parser.push(Line::Whole(Bytes::from_static(line.as_bytes())));
            assert_eq!(pushed, Ok(None), "{line}");
            (parser.may_end_with_other_code()).then(|| parser.take_reply_with_other_code().unwrap())
        };
        assert_eq!(push("553-Not allowed"), None);
        assert_eq!(push("12 of 20"), None);
        assert_eq!(push("600 words"), None);
        assert_eq!(push("553-but"), None);
        let reply = push("150 Opening").unwrap();
        assert_eq!(reply.number(), 150);
        let rewritten = b"150-Not allowed\r\n12 of 20\r\n600 words\r\n150-but\r\n150 Opening\r\n";
        assert_eq!(reply.bytes(), &rewritten[..]);
        assert_eq!(replies(reply.bytes()), Ok(vec![reply]));
        // Nothing is left of it.
        assert_eq!(codes(b"226 done\r\n"), [226]);
        assert!(parser.take_reply_with_other_code().is_none());
        assert_eq!(parser.push(Line::Whole("211-x".into())), Ok(None));
        assert_eq!(parser.push(Line::Whole("226 y".into())), Ok(None));
        assert_eq!(parser.push(Line::Whole("z".into())), Ok(None));
        // The line behind it was text after all.
        assert!(!parser.may_end_with_other_code());
        assert!(parser.take_reply_with_other_code().is_none());
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
        fn a_reply_that_another_code_ended_is_one_reply_to_whoever_reads_it(
            middle in proptest::collection::vec("(150|553|200)?[ -]?[a-z]{0,3}", 0..6),
        ) {
            let mut parser = ReplyParser::default();
            let mut push = |line: &str| parser.push(Line::Whole(line.to_owned().into())).unwrap();
            push("553-begun");
            for line in &middle {
                if push(line).is_some() {
                    push("553-begun");
                }
            }
            prop_assert_eq!(push("150 end"), None);
            let reply = parser.take_reply_with_other_code().unwrap();
            prop_assert_eq!(replies(reply.bytes()), Ok(vec![reply]));
        }

        #[test]
        fn any_bytes_are_a_reply_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for reply in replies(&bytes).unwrap_or_default() {
                prop_assert!((100..600).contains(&reply.number()));
                prop_assert!(reply.bytes().ends_with(b"\r\n"));
            }
        }
    }
}
