//! Whether files have changed that may be replaced while the process runs.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A watch over files, which its owner polls.
pub trait FileWatch: Send + 'static {
    /// The type of findings in files that have changed.
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

/// Debounces the states of files, `S` being a [`FileStamp`] for each: some programs write a file in several steps, and two
/// files are never replaced at one instant, so a state counts when two polls in a row find it.
#[derive(Debug)]
pub struct Debounce<S> {
    /// The state that counts.
    settled: Option<S>,
    /// A newer state, which one poll has found.
    changing: Option<S>,
}

/// The result of showing a state to a [`Debounce`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stability {
    /// The state has counted before.
    Unchanged,
    /// The state has been found by one poll.
    Changing,
    /// The state counts from now on.
    Settled,
}

impl<S> Default for Debounce<S> {
    /// No state has counted yet.
    fn default() -> Self {
        Self {
            settled: None,
            changing: None,
        }
    }
}

impl<S: PartialEq> Debounce<S> {
    /// Judges the state that a poll has found. Where it has settled, the files are read after this: a change in between makes
    /// another state, which the next polls find.
    pub fn observe(&mut self, state: S) -> Stability {
        let state = Some(state);
        if self.settled == state {
            self.changing = None;
            Stability::Unchanged
        } else if self.changing == state {
            self.changing = None;
            self.settled = state;
            Stability::Settled
        } else {
            self.changing = state;
            Stability::Changing
        }
    }

    /// The files of the settled state couldn't be read, which may be over without their changing, as when descriptors run out:
    /// the same state settles anew at the next poll.
    pub fn try_again(&mut self) {
        self.changing = self.settled.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_counts_once_two_polls_in_a_row_have_found_it() {
        let mut debounce = Debounce::default();
        let polls = [
            (1, Stability::Changing),
            (1, Stability::Settled),
            (1, Stability::Unchanged),
            (2, Stability::Changing),
            (3, Stability::Changing),
            (1, Stability::Unchanged),
            (3, Stability::Changing),
            (3, Stability::Settled),
        ];
        for (poll, (state, expected)) in polls.into_iter().enumerate() {
            assert_eq!(debounce.observe(state), expected, "poll {poll}");
        }
    }

    #[test]
    fn a_state_that_could_not_be_read_settles_anew_at_the_next_poll() {
        let mut debounce = Debounce::default();
        debounce.observe(1);
        debounce.observe(1);
        debounce.try_again();
        assert_eq!(debounce.observe(1), Stability::Settled);
        assert_eq!(debounce.observe(1), Stability::Unchanged);
    }
}
