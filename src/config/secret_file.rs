//! Secrets that stand in files of their own: passwords and tokens, in one line.

use std::path::{Path, PathBuf};

use super::BYTE_ORDER_MARK;
use super::error::quoted_path;
use crate::base::file::{ReadError, read_bounded};
use crate::base::secret::Secret;

/// The longest that is read, in bytes.
const MAX_LENGTH: u64 = 1024;

/// A file and the secret in it, which is empty until it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// The file.
    pub path: PathBuf,
    /// What it holds.
    pub secret: Secret,
}

impl SecretFile {
    /// This file, which has not been read.
    pub(super) fn named(path: PathBuf) -> Self {
        Self {
            path,
            secret: Secret::default(),
        }
    }

    /// Reads the password in a file that a command names.
    ///
    /// # Errors
    /// What is wrong with the file, without its name.
    pub fn read_password(path: &Path) -> Result<Secret, String> {
        read(path, "password")
    }

    /// What is wrong with it, in a message about the configuration that names it.
    pub(super) fn fault(&self, wrong: &str) -> String {
        format!("{}: {wrong}", quoted_path(&self.path))
    }

    /// Reads it; returns what is wrong with it, in which it is called `what`.
    pub(super) fn read(&mut self, what: &str) -> Result<(), String> {
        self.secret = read(&self.path, what).map_err(|wrong| self.fault(&wrong))?;
        Ok(())
    }
}

/// What the file says, but for the end of its line; or what is wrong with it.
fn read(file: &Path, what: &str) -> Result<Secret, String> {
    let mut content = read_bounded(file, MAX_LENGTH).map_err(|error| match error {
        ReadError::Io(cause) => format!("the {what} can't be read: {cause}"),
        ReadError::NotAFile => format!("the {what} isn't in a regular file"),
        ReadError::TooLong => format!("the {what} is longer than 1 KiB"),
    })?;
    // Editors on Windows put it in front of UTF-8, and no user can type it.
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    for ending in [b'\n', b'\r'] {
        if content.last() == Some(&ending) {
            content.pop();
        }
    }
    if content.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    // It is sent as a line, or in one.
    if content.iter().any(|byte| b"\r\n\0".contains(byte)) {
        return Err(format!("the {what} is more than one line"));
    }
    Ok(Secret::new(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_was_typed_whatever_the_editor_has_put_around_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("pw");
        for content in ["secret", "secret\n", "secret\r\n", "\u{feff}secret\r\n"] {
            std::fs::write(&file, content).expect("it is writable");
            let read = SecretFile::read_password(&file).expect("a password");
            assert_eq!(read.expose(), b"secret", "{content:?}");
        }
        std::fs::write(&file, "\u{feff}\r\n").expect("it is writable");
        let wrong = SecretFile::read_password(&file).expect_err("there is none");
        assert_eq!(wrong, "the password is empty");
    }
}
