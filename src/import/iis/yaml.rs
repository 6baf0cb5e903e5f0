//! Writes YAML with comments, so that no text from outside ends where it shouldn't.

use std::fmt::{self, Display, Write};

/// The column at which comments go on in another line.
const WIDTH: usize = 118;

/// A text as a scalar: as it is where YAML reads it as that text, or else in double quotes.
pub struct Scalar<'a>(pub &'a str);

impl Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text) = self;
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:".contains(&byte);
        let starts_well = text.starts_with(|it: char| it.is_ascii_alphanumeric() || it == '/');
        let is_plain = starts_well && text.bytes().all(is_word) && !text.ends_with(':');
        // `no`, `1e3` and the like are words of another kind.
        if is_plain && serde_yaml::from_str(text).is_ok_and(|read: serde_yaml::Value| read == *text)
        {
            return f.write_str(text);
        }
        f.write_char('"')?;
        for character in text.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => f.write_char(character)?,
                _ => write!(f, "\\U{:08x}", u32::from(character))?,
            }
        }
        f.write_char('"')
    }
}

/// A list of scalars in brackets.
pub fn list<T: Display>(items: &[T]) -> String {
    let items = items.iter().map(|item| {
        let text = item.to_string();
        Scalar(&text).to_string()
    });
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// Lines, and comments between them.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    /// The beginning of each line.
    start: &'static str,
}

impl Lines {
    /// Makes every line that follows begin with this.
    pub fn begin_with(&mut self, start: &'static str) {
        self.start = start;
    }

    /// Adds a line.
    pub fn line(&mut self, text: impl Display) {
        let line = format!("{}{text}", self.start);
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// A comment of as many lines as it needs; all but the first one are indented by `hang`. `text` has to be printable.
    pub fn comment(&mut self, indent: &str, text: &str, hang: &str) {
        let mut line = format!("{indent}#");
        let mut is_empty = true;
        for word in text.split(' ') {
            if !is_empty
                && self.start.len() + line.chars().count() + 1 + word.chars().count() > WIDTH
            {
                self.line(&line);
                line = format!("{indent}#{hang}");
            }
            line.push(' ');
            line.push_str(word);
            is_empty = false;
        }
        self.line(line);
    }

    /// The text of all lines.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_yaml::Value;

    use super::*;

    #[test]
    fn words_stay_plain_where_yaml_reads_them_as_text() {
        for text in [
            "ftpa",
            "10.0.0.10:21",
            "/etc/portcullis/tls/tls.crt",
            "Default-FTP-Site",
        ] {
            assert_eq!(Scalar(text).to_string(), text);
        }
        for (text, written) in [
            ("", "\"\""),
            ("21", "\"21\""),
            ("true", "\"true\""),
            ("null", "\"null\""),
            ("*.branch.test", "\"*.branch.test\""),
            ("{host}|{user}", "\"{host}|{user}\""),
            ("a: [\"#\\", "\"a: [\\\"#\\\\\""),
            ("a\u{85}b", "\"a\\U00000085b\""),
        ] {
            assert_eq!(Scalar(text).to_string(), written);
        }
    }

    #[test]
    fn long_comments_go_on_in_the_next_line() {
        let mut lines = Lines::default();
        lines.begin_with("# ");
        let word = "x".repeat(60);
        lines.comment("  ", &format!("- {word} {word}"), "  ");
        assert_eq!(
            lines.into_text(),
            format!("#   # - {word}\n#   #   {word}\n")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_from_any_place(text in "\\PC{0,20}|[a-z:# \"'\\[\\]{},\\n]{0,20}|.{0,20}") {
            let yaml = format!("a: {}\nb: {}\n", Scalar(&text), list(&[&text, &text]));
            let read: Value = serde_yaml::from_str(&yaml).expect("YAML");
            prop_assert_eq!(read["a"].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["b"][1].as_str(), Some(text.as_str()));
        }
    }
}
