//! Text from outside: how to show it, and numbers of digits alone.

use std::fmt::{self, Write};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Bytes of one value that [`escape`] shows.
const MAX_ESCAPED_BYTES: usize = 256;

/// Bytes from outside as text that is safe in a log line, an error message or a terminal.
///
/// Printable UTF-8 stays as it is. Control, format and bidirectional characters and what isn't UTF-8 become `\xNN`,
/// byte by byte, and so does a backslash before an x, so that escapes can't be confused with text. Only the first 256
/// bytes are shown; `…` follows, and with it the text is longer than any that is shown whole.
///
/// It is for a field that is text, `user = escape(name)`: each format puts quotes around those and escapes the quotes
/// within, so that a field can't be forged. `%` and `{}` don't.
pub fn escape(bytes: &[u8]) -> String {
    if bytes.len() <= MAX_ESCAPED_BYTES {
        return escape_whole(bytes);
    }
    let mut text = escape_whole(&bytes[..MAX_ESCAPED_BYTES]);
    text.push('…');
    text
}

/// As [`escape`], however many bytes there are.
pub fn escape_whole(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(character) = characters.next() {
            if is_plain(character, characters.peek()) {
                text.push(character);
            } else {
                push_escaped(&mut text, character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_escaped(&mut text, chunk.invalid());
    }
    text
}

/// Bytes of several lines as one: each as [`escape`] shows text, with ` / ` between them in place of their ends.
pub fn escape_lines(bytes: &[u8]) -> String {
    let bytes = bytes.trim_ascii_end();
    let shown = &bytes[..bytes.len().min(MAX_ESCAPED_BYTES)];
    let lines = shown.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| escape_whole(line.strip_suffix(b"\r").unwrap_or(line)));
    let mut text = lines.collect::<Vec<_>>().join(" / ");
    if shown.len() < bytes.len() {
        text.push('…');
    }
    text
}

/// A path, as [`escape_whole`] shows text: file names may hold anything but a zero byte and a slash.
pub fn escape_path(path: &Path) -> String {
    escape_whole(path.as_os_str().as_encoded_bytes())
}

/// The part of a value that [`escape`] looks at: all that has to be kept of a value that is only shown.
pub fn shown_part(bytes: &[u8]) -> &[u8] {
    // One more than is shown tells that there are more.
    &bytes[..bytes.len().min(MAX_ESCAPED_BYTES + 1)]
}

/// How long something took, in an error message: as configurations write times, to a tenth of a second, or a millisecond
/// below one.
pub fn rounded(time: &Duration) -> String {
    let unit = if time.as_secs() > 0 { 100 } else { 1 };
    let millis = (time.as_micros() + unit * 500) / (unit * 1000) * unit;
    match u64::try_from(millis) {
        Ok(0) | Err(_) => "0s".to_owned(),
        Ok(millis) => format!("{:?}", Duration::from_millis(millis)),
    }
}

/// Text of one line that can't act on a terminal: a tab becomes a blank and every other character that doesn't print `?`,
/// one for one, so that what points at a column still does.
pub struct Masked<'a>(pub &'a str);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            f.write_char(match character {
                '\t' => ' ',
                plain if is_printable(plain) => plain,
                _ => '?',
            })?;
        }
        Ok(())
    }
}

/// A number of digits alone: `parse` would take a sign as well.
pub fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether [`escape`] shows `character` as it is.
fn is_plain(character: char, next: Option<&char>) -> bool {
    is_printable(character) && !(character == '\\' && next == Some(&'x'))
}

/// Whether a character prints: controls, formats and marks of direction don't.
///
/// The standard library knows which characters aren't printable; those of quotes and backslashes are the only escapes of
/// its that aren't needed here.
pub fn is_printable(character: char) -> bool {
    matches!(character, '\'' | '"' | '\\') || character.escape_debug().len() == 1
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// The bytes that a text by [`escape`] stands for.
#[cfg(test)]
pub(crate) fn read_back(shown: &str) -> Vec<u8> {
    let mut pieces = shown.split("\\x");
    let mut bytes = pieces
        .next()
        .expect("split yields a first piece")
        .as_bytes()
        .to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two hexadecimal digits"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_rounded_as_a_reader_would() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (499_999, "0s"),
            (500_000, "1ms"),
            (249_600_000, "250ms"),
            (999_900_000, "1s"),
            (4_934_123_999, "4.9s"),
            (10_000_000_000, "10s"),
            (300_000_000_000, "300s"),
        ] {
            assert_eq!(rounded(&Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn readable_text_stays_as_it_is() {
        for text in [
            "",
            "alice",
            "ftpb.albigi.lab|alice",
            "CORP\\alice",
            "Zoë",
            "日本語.txt",
            "o'neill's \"old\" file",
            "bob peer=1",
            "a,b;c",
        ] {
            assert_eq!(escape(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_does_not_print_is_shown_byte_by_byte() {
        assert_eq!(escape(b"a\nb"), r"a\x0ab");
        assert_eq!(escape(b"a\xffb"), r"a\xffb");
        assert_eq!(escape(b"a\\x0ab"), r"a\x5cx0ab");
        assert_eq!(escape("a\u{202e}b".as_bytes()), r"a\xe2\x80\xaeb");
    }

    #[test]
    fn a_path_is_shown_whole_and_without_what_acts_on_a_terminal() {
        let name = format!("/srv/\u{1b}[2J\u{202e}{}", "x".repeat(300));
        let shown = escape_path(Path::new(&name));
        assert!(
            shown.starts_with("/srv/\\x1b[2J\\xe2\\x80\\xaex"),
            "{shown}"
        );
        assert!(shown.ends_with('x'));
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(
            escape_lines(b"221-Bye\r\n  now\r\n221 \x1b\r\n"),
            r"221-Bye /   now / 221 \x1b"
        );
        assert_eq!(escape_lines(&[b'a'; 300]), format!("{}…", "a".repeat(256)));
        assert_eq!(escape(&[b'a'; 256]), "a".repeat(256));
        assert_eq!(escape(&[b'a'; 4096]), format!("{}…", "a".repeat(256)));
    }

    #[test]
    fn what_does_not_print_is_masked_one_for_one() {
        let masked = Masked("\u{1b}[2J\t\u{202e}x: 'a\\b'").to_string();
        assert_eq!(masked, "?[2J ?x: 'a\\b'");
    }

    #[test]
    fn a_number_is_digits_and_nothing_else() {
        assert_eq!(decimal("021"), Some(21_u16));
        for other in ["", "+21", "-0", " 21", "21 ", "2_1", "65536", "\u{661}"] {
            assert_eq!(decimal::<u16>(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read_back_and_stay_on_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..=MAX_ESCAPED_BYTES),
        ) {
            let text = escape(&bytes);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(read_back(&text), bytes);
        }

        #[test]
        fn any_text_can_be_read_back(text in "(\\PC|[\\\\x]){0,60}") {
            prop_assert_eq!(read_back(&escape(text.as_bytes())), text.as_bytes());
        }
    }
}
