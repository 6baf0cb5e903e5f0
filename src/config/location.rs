//! Where in a configuration file something is: by its path of keys, and as people count.

/// A step from a value into one that it contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathStep {
    /// Into a map, at this key.
    Key(&'static str),
    /// Into a list, at this index from 0.
    Index(usize),
}

impl From<&'static str> for PathStep {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}

impl From<usize> for PathStep {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// A path from keys and indices.
macro_rules! steps {
    ($($step:expr),*) => { vec![$($crate::config::location::PathStep::from($step)),*] };
}
pub(super) use steps;

/// A location in the text, by its path from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// The key that the path ends with.
    Key(Vec<PathStep>),
    /// The value that the path leads to.
    Value(Vec<PathStep>),
}

/// A position in a text: line and column from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Position {
    pub(super) fn of(error: &serde_yaml::Error) -> Option<Self> {
        let location = error.location()?;
        Some(Self {
            line: location.line(),
            column: location.column(),
        })
    }
}
