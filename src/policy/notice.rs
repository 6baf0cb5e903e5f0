//! Text of the operator's in replies to clients.

/// The longest text, in lines and in bytes a line: a client shows it whole, and FTP's lines have an end somewhere.
const MAX_LINES: usize = 50;
const MAX_LINE: usize = 500;

/// Text of one or more lines, none of which can be taken for anything but text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice(Vec<String>);

/// The reasons why a text can't be sent to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// The text is empty.
    #[error("the text is empty")]
    Empty,
    /// The text has too many lines.
    #[error("the text has more than {MAX_LINES} lines")]
    TooManyLines,
    /// A line of the text is too long.
    #[error("a line of the text has more than {MAX_LINE} bytes")]
    LineTooLong,
    /// The text has a control character, which would end the line, or act on a terminal.
    #[error("the text has a control character")]
    ControlCharacter,
}

impl Notice {
    /// The lines of `text`, without empty ones at its end.
    ///
    /// # Errors
    /// If that can't be sent as part of a reply.
    pub fn new(text: &str) -> Result<Self, NoticeError> {
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        if lines.iter().all(|line| line.is_empty()) {
            return Err(NoticeError::Empty);
        }
        if lines.len() > MAX_LINES {
            return Err(NoticeError::TooManyLines);
        }
        if lines.iter().any(|line| line.len() > MAX_LINE) {
            return Err(NoticeError::LineTooLong);
        }
        if lines.iter().any(|line| line.contains(char::is_control)) {
            return Err(NoticeError::ControlCharacter);
        }
        Ok(Self(lines.into_iter().map(str::to_owned).collect()))
    }

    /// A whole reply with this code (RFC 959 §4.2).
    pub fn reply(&self, code: &str) -> Vec<u8> {
        let Some((last, before)) = self.0.split_last() else {
            return format!("{code} \r\n").into_bytes();
        };
        let before: String = before.iter().map(|line| part(code, line)).collect();
        format!("{before}{code} {last}\r\n").into_bytes()
    }

    /// A reply with this code, of which this is the beginning and `rest`, a whole reply itself, what follows.
    pub fn before(&self, code: &str, rest: &[u8]) -> Vec<u8> {
        let lines: String = self.0.iter().map(|line| part(code, line)).collect();
        [lines.as_bytes(), rest].concat()
    }
}

/// A line that others follow. Each has the code, so that no text is taken for the reply's last line.
fn part(code: &str, line: &str) -> String {
    format!("{code}-{line}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(text: &str) -> Notice {
        Notice::new(text).unwrap()
    }

    fn text(reply: Vec<u8>) -> String {
        String::from_utf8(reply).unwrap()
    }

    #[test]
    fn one_line_is_a_reply_of_one_line() {
        let reply = notice("Back on Monday.").reply("421");
        assert_eq!(text(reply), "421 Back on Monday.\r\n");
    }

    #[test]
    fn each_line_of_several_has_the_code() {
        let reply = notice("Down.\n\n421 is our code\nBye.\n\n").reply("421");
        assert_eq!(
            text(reply),
            "421-Down.\r\n421-\r\n421-421 is our code\r\n421 Bye.\r\n"
        );
    }

    #[test]
    fn it_stands_before_a_reply_of_any_number_of_lines() {
        let notice = notice("Authorised use only.");
        assert_eq!(
            text(notice.before("230", b"230 Logged in.\r\n")),
            "230-Authorised use only.\r\n230 Logged in.\r\n"
        );
        assert_eq!(
            text(notice.before("230", b"230-Hello,\r\n alice\r\n230 done\r\n")),
            "230-Authorised use only.\r\n230-Hello,\r\n alice\r\n230 done\r\n"
        );
    }

    #[test]
    fn what_a_client_could_not_show_is_refused() {
        let many = "x\n".repeat(MAX_LINES + 1);
        let long = "x".repeat(MAX_LINE + 1);
        for (text, error) in [
            ("", NoticeError::Empty),
            (" \n \n", NoticeError::Empty),
            (many.as_str(), NoticeError::TooManyLines),
            (long.as_str(), NoticeError::LineTooLong),
            ("a\u{1b}[2J", NoticeError::ControlCharacter),
            ("a\rb", NoticeError::ControlCharacter),
        ] {
            assert_eq!(Notice::new(text), Err(error), "{text:?}");
        }
        assert!(Notice::new("Zugang nur für Befugte").is_ok());
    }
}
