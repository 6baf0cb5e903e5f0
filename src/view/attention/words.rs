//! Sentences with names and commands in them.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::view::units;

/// A sentence or two, with what is a name in it, and what is typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(pub(super) Vec<Word>);

/// A part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// Plain text.
    Plain(String),
    /// A name, or what matters most.
    Strong(String),
    /// A file, a key of the configuration, or a command.
    Code(String),
}

impl Words {
    /// The parts of the text, one behind the other without anything between them.
    pub fn parts(&self) -> &[Word] {
        &self.0
    }
}

/// As plain text: what is typed stands between backquotes, and blanks are what a keyboard has.
impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| match word {
            Word::Plain(text) | Word::Strong(text) => f.write_str(&text.replace(units::THIN, " ")),
            Word::Code(text) => write!(f, "`{text}`"),
        })
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl From<String> for Word {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}

pub(super) fn strong(text: impl Into<String>) -> Word {
    Word::Strong(text.into())
}

pub(super) fn code(text: impl Into<String>) -> Word {
    Word::Code(text.into())
}

/// Sentences of these words, one behind the other.
macro_rules! words {
    ($($word:expr),* $(,)?) => {
        $crate::view::attention::Words(vec![$($crate::view::attention::Word::from($word)),*])
    };
}

pub(super) use words;
