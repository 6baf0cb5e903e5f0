//! How to show bytes from outside.

use std::fmt::{self, Write};

/// Bytes of one value that [`Shown`] shows.
const SHOWN_BYTES: usize = 256;

/// Bytes from outside in a form that is safe in a log line, an error message or a terminal.
///
/// Printable UTF-8 stays as it is. Control, format and bidirectional characters, quotes, backslashes and what isn't
/// UTF-8 become `\xNN`, byte by byte, so that the bytes can be told from the text. What could be taken for several
/// fields (`bob peer=10.0.0.1`), or for nothing, is put into quotes. Only the first 256 bytes are shown; `…` follows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES)];
        let cut = shown.len() < self.0.len();
        let quoted = cut || shown.is_empty() || shown.iter().any(|byte| b" =".contains(byte));
        if quoted {
            f.write_char('"')?;
        }
        for chunk in shown.utf8_chunks() {
            for character in chunk.valid().chars() {
                if is_plain(character) {
                    f.write_char(character)?;
                } else {
                    escape(f, character.encode_utf8(&mut [0; 4]).as_bytes())?;
                }
            }
            escape(f, chunk.invalid())?;
        }
        if quoted {
            f.write_char('"')?;
        }
        if cut {
            f.write_char('…')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether `character` is shown as it is. The standard library knows which characters aren't printable; that of a
/// single quote is the only escape of its that isn't needed here.
fn is_plain(character: char) -> bool {
    character == '\'' || character.escape_debug().len() == 1
}

fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// The bytes that a text by [`Shown`] stands for.
#[cfg(test)]
pub(super) fn read_back(shown: &str) -> Vec<u8> {
    let text = shown
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(shown);
    let mut pieces = text.split("\\x");
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
            "alice",
            "ftpb.albigi.lab|alice",
            "Zoë",
            "日本語.txt",
            "o'neill",
            "a,b;c",
        ] {
            assert_eq!(Shown(text.as_bytes()).to_string(), text);
        }
    }

    #[test]
    fn what_does_not_print_is_shown_byte_by_byte() {
        assert_eq!(Shown(b"a\nb").to_string(), r"a\x0ab");
        assert_eq!(Shown(b"a\xffb").to_string(), r"a\xffb");
        assert_eq!(Shown(b"a\\x0ab").to_string(), r"a\x5cx0ab");
        assert_eq!(
            Shown("a\u{202e}b".as_bytes()).to_string(),
            r"a\xe2\x80\xaeb"
        );
    }

    #[test]
    fn what_looks_like_fields_or_like_nothing_is_quoted() {
        assert_eq!(Shown(b"bob peer=1").to_string(), r#""bob peer=1""#);
        assert_eq!(Shown(b"").to_string(), r#""""#);
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(Shown(&[b'a'; 256]).to_string(), "a".repeat(256));
        assert_eq!(
            Shown(&[b'a'; 4096]).to_string(),
            format!("\"{}\"…", "a".repeat(256))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read_back_and_stay_on_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..=SHOWN_BYTES),
        ) {
            let shown = Shown(&bytes).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(read_back(&shown), bytes);
        }

        #[test]
        fn any_text_can_be_read_back(text in "\\PC{0,60}") {
            prop_assert_eq!(read_back(&Shown(text.as_bytes()).to_string()), text.as_bytes());
        }
    }
}
