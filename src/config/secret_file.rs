//! Secrets that stand in files of their own: passwords and tokens, in one line.

use std::path::{Path, PathBuf};

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

    /// Reads it; returns what is wrong with it, in which it is called `what`.
    pub(super) fn read(&mut self, what: &str) -> Result<(), String> {
        self.secret =
            read(&self.path, what).map_err(|wrong| format!("{}: {wrong}", self.path.display()))?;
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
