//! Files that the operator names: regular ones, read whole, and no longer than is sensible.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Why a file isn't read.
#[derive(Debug)]
pub enum ReadError {
    /// The file can't be opened or read.
    Io(io::Error),
    /// The path is a directory, a pipe or a device.
    NotAFile,
    /// The file is longer than the limit.
    TooLong,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file whole, if it is a regular file of at most `limit` bytes. Blocks on the file system.
///
/// # Errors
/// See [`ReadError`].
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    // Asked by name and before opening: to open a FIFO would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let mut bytes = Vec::new();
    // The size in the metadata may be outdated by now, so the limit is put on the reading.
    let read = File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(ReadError::TooLong);
    }
    Ok(bytes)
}

/// Advice where a file can't be read, to follow the error.
pub fn unreadable(path: &Path, error: &io::Error) -> &'static str {
    let text = path.to_string_lossy();
    if text.contains('~') || text.contains('$') {
        "; ~ and variables are not expanded"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        ": the user that runs Portcullis needs permission to read it, and to search (x) each directory above it"
    } else {
        ""
    }
}
