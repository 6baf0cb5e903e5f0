//! Names of users, as a site's groups list them.
//!
//! Names are compared with ASCII letters folded to lower case, as servers on Windows do.

use std::collections::HashSet;
use std::fmt;

use super::lookup::{Content, LoadedFiles, LookupFile, LookupFileError, LookupFiles, NewContent};

/// Names and prefixes of names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserList {
    names: Names,
    prefixes: Vec<Vec<u8>>,
}

/// The names in a file, folded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names(HashSet<Box<[u8]>>);

/// The fault of a text that is no pattern for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// A star elsewhere than at the end, or a second one.
    #[error("has a `*` that is not its last character")]
    Star,
    /// The text has a control character, so it can't be the argument of USER.
    #[error("has a control character")]
    ControlCharacter,
}

/// A pattern of a list: `alice`, or `acme-*` for all names that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserPattern {
    /// A name, folded.
    Name(Vec<u8>),
    /// A prefix, folded, without the star.
    Prefix(Vec<u8>),
}

impl UserPattern {
    /// # Errors
    /// See [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let folded = text.to_ascii_lowercase();
        let (name, has_star) = match folded.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (folded.as_str(), false),
        };
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if name.contains('*') {
            return Err(PatternError::Star);
        }
        if name.contains(char::is_control) {
            return Err(PatternError::ControlCharacter);
        }
        let name = name.as_bytes().to_vec();
        Ok(match has_star {
            true => Self::Prefix(name),
            false => Self::Name(name),
        })
    }

    /// Whether the pattern covers each user that `other` does.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(one), Self::Name(other)) => one == other,
            (Self::Name(_), Self::Prefix(_)) => false,
            (Self::Prefix(prefix), Self::Name(name) | Self::Prefix(name)) => {
                name.starts_with(prefix)
            }
        }
    }
}

impl fmt::Display for UserPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&String::from_utf8_lossy(name)),
            Self::Prefix(prefix) => write!(f, "{}*", String::from_utf8_lossy(prefix)),
        }
    }
}

impl FromIterator<UserPattern> for UserList {
    fn from_iter<I: IntoIterator<Item = UserPattern>>(patterns: I) -> Self {
        let mut list = Self::default();
        for pattern in patterns {
            match pattern {
                UserPattern::Name(name) => drop(list.names.0.insert(name.into())),
                UserPattern::Prefix(prefix) => list.prefixes.push(prefix),
            }
        }
        list
    }
}

impl UserList {
    /// Whether the list has every user, by a star alone.
    pub fn has_everybody(&self) -> bool {
        self.prefixes.iter().any(Vec::is_empty)
    }

    /// Whether the list has this user, folded.
    pub fn contains(&self, folded: &[u8]) -> bool {
        self.names.0.contains(folded)
            || self
                .prefixes
                .iter()
                .any(|prefix| folded.starts_with(prefix))
    }
}

/// A file with a name a line.
pub type UserFile = LookupFile<Names>;

/// The files of users that a configuration names.
pub type UserFiles = LookupFiles<Names>;

/// The user files of a configuration that is not in force yet.
pub type LoadedUsers = LoadedFiles<Names>;

/// The names in a file, not yet in use.
pub type NewNames = NewContent<Names>;

/// Why a file of users is not used.
pub type UserFileError = LookupFileError<NameFault>;

/// A line that can't be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub struct NameFault {
    /// The line's number, from 1.
    pub line: usize,
    /// The fault.
    pub why: PatternError,
}

impl Content for Names {
    type LineFault = NameFault;

    const NAME: &'static str = "users";

    /// 100,000 long names are a tenth of it.
    const MAX_FILE: u64 = 64 * 1024 * 1024;

    /// Blanks around a name don't count, and neither do empty lines and those that begin with `#`.
    fn add(&mut self, number: usize, line: &[u8]) -> Result<(), NameFault> {
        let name = line.trim_ascii();
        if name.is_empty() || name.starts_with(b"#") {
            return Ok(());
        }
        let fault = |why| NameFault { line: number, why };
        if name.contains(&b'*') {
            return Err(fault(PatternError::Star));
        }
        if name.iter().any(u8::is_ascii_control) {
            return Err(fault(PatternError::ControlCharacter));
        }
        self.0.insert(name.to_ascii_lowercase().into());
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

impl UserFile {
    /// Whether the file has this user, folded.
    pub fn contains(&self, folded: &[u8]) -> bool {
        self.content().0.contains(folded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::lookup::{LookupFileFault, parse};
    use super::*;

    fn names(content: &[u8]) -> Result<Names, LookupFileFault<NameFault>> {
        parse(content)
    }

    fn list(patterns: &[&str]) -> UserList {
        patterns
            .iter()
            .map(|text| UserPattern::new(text).unwrap())
            .collect()
    }

    #[test]
    fn a_list_has_its_names_in_any_case_and_what_begins_as_its_prefixes() {
        let list = list(&["Alice", "acme-*"]);
        for (user, is_in) in [
            ("alice", true),
            ("alices", false),
            ("acme-", true),
            ("acme-bob", true),
            ("acme", false),
            ("xacme-", false),
        ] {
            assert_eq!(list.contains(user.as_bytes()), is_in, "{user}");
        }
        assert!(super::tests::list(&["*"]).contains(b"anybody"));
    }

    #[test]
    fn a_pattern_has_one_star_at_its_end() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("a*b", PatternError::Star),
            ("a**", PatternError::Star),
            ("*a*", PatternError::Star),
            ("a\tb", PatternError::ControlCharacter),
        ] {
            assert_eq!(UserPattern::new(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_covers_what_a_later_one_can_not_get_any_more() {
        let covers = |one: &str, other: &str| {
            UserPattern::new(one)
                .unwrap()
                .covers(&UserPattern::new(other).unwrap())
        };
        assert!(covers("alice", "ALICE") && covers("acme-*", "acme-bob") && covers("a*", "acme-*"));
        assert!(
            !covers("acme-bob", "acme-*") && !covers("acme-*", "a*") && !covers("alice", "bob")
        );
    }

    #[test]
    fn a_file_has_a_name_a_line() {
        let names = names(b"\xEF\xBB\xBF# moved\r\nAlice\r\n\r\n  two words \nbob\nBOB\n").unwrap();
        let mut names: Vec<_> = names.0.into_iter().collect();
        names.sort();
        let names: Vec<&[u8]> = names.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, [&b"alice"[..], b"bob", b"two words"]);
        assert_eq!(super::tests::names(b"# no users yet\n").unwrap().0.len(), 0);
    }

    #[test]
    fn a_file_that_is_being_written_is_refused() {
        for (content, message) in [
            (
                &b""[..],
                "the file is empty; if that is intended, write a comment such as `# no users yet`",
            ),
            (
                b"\xEF\xBB\xBF",
                "the file is empty; if that is intended, write a comment such as `# no users yet`",
            ),
            (
                b"alice\nbo",
                "the last line has no line ending, so the file may be half written",
            ),
            (
                b"alice\nacme-*\n",
                "line 2 has a `*` that is not its last character",
            ),
            (b"alice\n\nb\0b\n", "line 3 has a control character"),
        ] {
            assert_eq!(names(content).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn names_are_replaced_for_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moved.txt");
        std::fs::write(&path, "alice\n").unwrap();
        let file = UserFile::new(&path, NewNames::read(&path).unwrap());
        assert!(file.contains(b"alice") && !file.contains(b"bob"));
        std::fs::write(&path, "alice\nbob\n").unwrap();
        file.replace(NewNames::read(&path).unwrap());
        assert!(file.contains(b"bob"));
        assert_eq!(file.count(), 2);
    }

    #[test]
    fn a_file_that_the_configuration_before_has_too_stays_the_same_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moved.txt");
        std::fs::write(&path, "alice\n").unwrap();
        let load = |former: &UserFiles| UserFiles::load([path.as_path()], former).unwrap();
        let former = load(&UserFiles::default()).apply();
        std::fs::write(&path, "bob\n").unwrap();
        let loaded = load(&former);
        let file = former.get(&path).unwrap();
        assert!(
            file.contains(b"alice"),
            "a reload that is refused changes nothing"
        );
        let files = loaded.apply();
        assert!(Arc::ptr_eq(file, files.get(&path).unwrap()));
        assert!(file.contains(b"bob") && !file.contains(b"alice"));
    }
}
