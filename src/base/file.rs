//! Files that the operator names: regular ones, read whole, and no longer than is sensible; and whether they have changed.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a file isn't read.
#[derive(Debug)]
pub enum ReadError {
    /// It can't be opened or read.
    Io(io::Error),
    /// A directory, a pipe or a device.
    NotAFile,
    /// Longer than the limit.
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

/// What helps where a file can't be read.
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

/// What polls files that may be replaced while the process runs.
pub trait Watch: Send + 'static {
    /// What it finds in files that have changed.
    type Found: fmt::Debug + Send + 'static;

    /// Looks at the files. Blocks on the file system.
    fn poll(&mut self, now: SystemTime) -> Option<Self::Found>;
}

/// A file's state, which tells a changed file from an unchanged one without reading it. The change time finds what the rest
/// can't: a rewrite of the same length by a tool that puts the modification time back.
#[derive(Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// With every symbolic link on the way followed.
    path: PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileStamp {
    /// The state now; `None` if the file does not exist or can't be read.
    pub fn of(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        let metadata = fs::metadata(&path).ok()?;
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Some(Self {
            path,
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Looks for a file that has changed and come to rest. Some programs write a file in several steps, so a state counts when it
/// is seen twice.
#[derive(Debug)]
pub struct SettlingFile {
    path: PathBuf,
    /// The state when it last counted.
    settled: Option<Option<FileStamp>>,
    /// A newer state, seen once.
    changing: Option<Option<FileStamp>>,
}

impl SettlingFile {
    /// No state of this file has counted yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            settled: None,
            changing: None,
        }
    }

    /// Whether a state counts from now on that didn't before. Whoever reads the file then, reads it after it was looked at: a
    /// change in between makes another state.
    pub fn has_settled_anew(&mut self) -> bool {
        let stamp = Some(FileStamp::of(&self.path));
        if self.settled == stamp {
            self.changing = None;
            return false;
        }
        if self.changing != stamp {
            self.changing = stamp;
            return false;
        }
        self.changing = None;
        self.settled = stamp;
        true
    }

    /// The file couldn't be read, which may be over without its state changing, as when descriptors run out: the same state
    /// counts anew at the next look.
    pub fn try_again(&mut self) {
        self.changing = self.settled.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_could_not_be_read_counts_again_at_the_next_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "content").unwrap();
        let mut file = SettlingFile::new(&path);
        assert!(!file.has_settled_anew());
        assert!(file.has_settled_anew());
        file.try_again();
        assert!(file.has_settled_anew());
        assert!(!file.has_settled_anew());
    }
}
