//! How to show bytes from outside.

use std::fmt::Write;

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
    let whole = bytes.len() <= MAX_ESCAPED_BYTES;
    let bytes = if whole {
        bytes
    } else {
        &bytes[..MAX_ESCAPED_BYTES]
    };
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
    if !whole {
        text.push('…');
    }
    text
}

/// What [`escape`] looks at: all that has to be kept of a value that is only shown.
pub fn shown_part(bytes: &[u8]) -> &[u8] {
    // One more than is shown tells that there are more.
    &bytes[..bytes.len().min(MAX_ESCAPED_BYTES + 1)]
}

/// Whether `character` is shown as it is. The standard library knows which characters aren't printable; those of quotes
/// and backslashes are the only escapes of its that aren't needed here.
fn is_plain(character: char, next: Option<&char>) -> bool {
    match character {
        '\'' | '"' => true,
        '\\' => next != Some(&'x'),
        other => other.escape_debug().len() == 1,
    }
}

fn push_escaped(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // A String takes whatever is written.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// The bytes that a text by [`escape`] stands for.
#[cfg(test)]
pub(super) fn read_back(shown: &str) -> Vec<u8> {
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
    fn long_values_are_cut() {
        assert_eq!(escape(&[b'a'; 256]), "a".repeat(256));
        assert_eq!(escape(&[b'a'; 4096]), format!("{}…", "a".repeat(256)));
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
