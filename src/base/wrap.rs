//! Lines for a terminal, broken where they would be too long.

/// Appends a line of at most `width` characters, broken between words where it is longer; the rest is indented by
/// `indentation`, which is less than the width.
pub fn push_wrapped(text: &mut String, line: &str, indentation: usize, width: usize) {
    let (mut rest, mut before) = (line, 0);
    while let Some((end, next)) = rest.char_indices().nth(width - before) {
        let at = match next {
            ' ' => end,
            // A word that is longer than its line is cut.
            _ => rest[..end]
                .rfind(' ')
                .filter(|blank| before > 0 || *blank > indentation)
                .unwrap_or(end),
        };
        text.push_str(rest[..at].trim_end());
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indentation));
        (rest, before) = (rest[at..].trim_start(), indentation);
    }
    text.push_str(rest);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_broken_between_words_and_a_long_word_is_cut() {
        for (line, wrapped) in [
            ("a bc", "a bc\n"),
            ("ab cdefgh ij", "ab cdefgh\n  ij\n"),
            ("abcdefghijklmn", "abcdefghij\n  klmn\n"),
        ] {
            let mut text = String::new();
            push_wrapped(&mut text, line, 2, 10);
            assert_eq!(text, wrapped);
        }
    }
}
