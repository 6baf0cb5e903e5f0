//! Replies for people to read, without the secrets that they may repeat.
//!
//! A server may put a refused password into its reply, as it came or with its quotes doubled, cut short or in capitals.

use std::ops::RangeInclusive;

use super::reply::Reply;
use crate::base::secret::Secret;
use crate::base::text::escape;

/// Placeholder for text that is not shown.
pub const HIDDEN: &str = "***";
/// Number of letters and digits of a secret that can't be told from other text: fewer than any word has.
const TOO_SHORT: usize = 4;
/// Number of its first letters and digits that are taken for a secret that was cut short.
const CUT_SHORT: usize = 8;
/// Characters of a whole reply that are shown.
const MAX_SHOWN: usize = 256;
/// How many lines of a reply are shown.
pub const MAX_LINES: usize = 32;

/// The part of a command that the reply to it may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Repeats {
    /// The reply may repeat nothing that may not be shown.
    #[default]
    Nothing,
    /// The command's argument, a password. It is left out wherever it occurs, and with it all text where it is too short to be
    /// found.
    Secret(Secret),
    /// A secret, without its being known which part of the command it is: no text is shown.
    Unknown,
}

impl Repeats {
    /// A line of a reply that answers such a command, without its ending.
    pub fn line(&self, line: &[u8]) -> String {
        match self {
            Self::Nothing => escape(line),
            Self::Secret(secret) => with_code(line, |text| without(text, secret)),
            Self::Unknown => with_code(line, |_| None),
        }
    }

    /// The whole reply in one text, as far as one bears it.
    pub fn reply(&self, reply: &Reply) -> String {
        let lines = reply.lines().take(MAX_LINES);
        let shown: Vec<String> = lines.map(|line| self.line(line.trim_ascii_end())).collect();
        let text = shown.join(" / ");
        match text.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// The line with its code, if it has one, and what may be shown of the text behind it.
fn with_code(line: &[u8], shown: impl Fn(&[u8]) -> Option<Vec<u8>>) -> String {
    let has_code = line
        .get(..3)
        .is_some_and(|code| code.iter().all(u8::is_ascii_digit));
    // With the blank or the hyphen.
    let (code, text) = line.split_at(if has_code { line.len().min(4) } else { 0 });
    match shown(text) {
        Some(text) => escape(&[code, &text].concat()),
        None if has_code => format!("{} {HIDDEN}", escape(&line[..3])),
        None => HIDDEN.to_owned(),
    }
}

/// `text` without the secret; `None` if that can't be found in it.
fn without(text: &[u8], secret: &Secret) -> Option<Vec<u8>> {
    let secret: Vec<u8> = letters(secret.expose()).map(|(_, letter)| letter).collect();
    if secret.len() < TOO_SHORT {
        return None;
    }
    let mut shown = Vec::with_capacity(text.len());
    let mut rest = 0;
    for found in occurrences(text, &secret) {
        shown.extend_from_slice(&text[rest..*found.start()]);
        shown.extend_from_slice(HIDDEN.as_bytes());
        rest = found.end() + 1;
    }
    shown.extend_from_slice(&text[rest..]);
    Some(shown)
}

/// The ranges of `text` in which the letters of the secret occur, with the marks before, between and behind them, which may be
/// its own.
fn occurrences(text: &[u8], secret: &[u8]) -> Vec<RangeInclusive<usize>> {
    let letters: Vec<(usize, u8)> = letters(text).collect();
    let mut found = Vec::new();
    let mut start = 0;
    let mut free = 0;
    while start < letters.len() {
        let pairs = letters[start..].iter().zip(secret);
        let common = pairs.take_while(|((_, one), other)| one == *other).count();
        if common < secret.len().min(CUT_SHORT) {
            start += 1;
            continue;
        }
        let (first, last) = (letters[start].0, letters[start + common - 1].0);
        let before = text[free..first].iter().rev();
        let behind = text[last + 1..].iter();
        let from = first - before.take_while(|byte| is_mark(**byte)).count();
        let to = last + behind.take_while(|byte| is_mark(**byte)).count();
        found.push(from..=to);
        free = to + 1;
        start += common;
    }
    found
}

/// Letters and digits, in lower case, with their places. Any byte beyond ASCII counts as a letter.
fn letters(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let all = text.iter().enumerate();
    all.filter(|(_, byte)| is_letter(**byte))
        .map(|(at, byte)| (at, byte.to_ascii_lowercase()))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn is_mark(byte: u8) -> bool {
    !is_letter(byte) && !byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;

    fn secret(text: &str) -> Repeats {
        Repeats::Secret(Secret::new(text.into()))
    }

    #[test]
    fn a_secret_is_left_out_wherever_and_however_a_reply_repeats_it() {
        for (password, line, shown) in [
            ("hunter2", "530 hunter2 is wrong", "530 *** is wrong"),
            ("hunter2", "530 No: HUNTER2", "530 No: ***"),
            ("hunter2", "530-no 'hunter2', Hunter2!", "530-no *** ***"),
            ("hunter2", "530 hunter2hunter2", "530 ******"),
            ("hunter2 ", "530 [hunter2]", "530 ***"),
            ("a\"bc'def", "530 a\"\"bc\\'def no", "530 *** no"),
            ("correct horse", "530 no Correct  Horse", "530 no ***"),
            (
                "a-very-long-password",
                "530 no a-very-long-pa...",
                "530 no ***",
            ),
            ("z\u{fc}rich", "530 z\u{fc}rich", "530 ***"),
            ("hunter2", "200 PBSZ=0", "200 PBSZ=0"),
            ("5301", "530 1 try", "530 1 try"),
            ("abc", "530 abc is wrong", "530 ***"),
            ("", "530 Login incorrect.", "530 ***"),
            ("a.b,c!!!!!!", "530-no", "530 ***"),
            ("a", "a text", "***"),
        ] {
            assert_eq!(secret(password).line(line.as_bytes()), shown);
        }
    }

    #[test]
    fn without_a_secret_all_is_shown_and_where_it_is_not_known_nothing_is() {
        assert_eq!(Repeats::Nothing.line(b"530 a\x1bb"), "530 a\\x1bb");
        assert_eq!(Repeats::Unknown.line(b"530 a"), "530 ***");
        assert_eq!(Repeats::Unknown.line(b"530-a"), "530 ***");
        assert_eq!(Repeats::Unknown.line(b" a"), "***");
    }

    #[test]
    fn a_reply_is_one_text_of_bounded_length() {
        let reply = |lines: &[String]| {
            let mut parser = ReplyParser::default();
            let mut parsed = None;
            for line in lines {
                let line = Line::Whole(line.clone().into());
                parsed = parser.push(line).expect("a reply");
            }
            parsed.expect("a whole one")
        };
        let short = reply(&["530-No hunter2".to_owned(), "530 Bye".to_owned()]);
        assert_eq!(secret("hunter2").reply(&short), "530-No *** / 530 Bye");
        let long = reply(&[
            format!("530-{}", "a".repeat(200)),
            format!("530 {}", "b".repeat(200)),
        ]);
        assert_eq!(Repeats::Nothing.reply(&long).chars().count(), 257);
    }
}
