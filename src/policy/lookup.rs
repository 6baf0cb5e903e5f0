//! Files that logins look something up in, an entry a line: read whole, replaced while the process runs, and the same value
//! from one configuration to the next.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::file::{ReadError, read_bounded};
use crate::base::text::escape_path;

/// The content of a file.
pub trait Content: fmt::Debug + Default + PartialEq + Send + Sync + 'static {
    /// Why a line can't be taken.
    type LineFault: std::error::Error + Send + Sync + 'static;

    /// Name of the content in messages.
    const NAME: &'static str;

    /// The longest file that is read, in bytes.
    const MAX_FILE: u64;

    /// Takes a line, without its line feed; lines are counted from 1.
    ///
    /// # Errors
    /// If it has no entry, and isn't one that doesn't count.
    fn add(&mut self, number: usize, line: &[u8]) -> Result<(), Self::LineFault>;

    /// The number of entries.
    fn count(&self) -> usize;
}

/// A file whose content may be replaced while logins look it up.
pub struct LookupFile<C> {
    path: PathBuf,
    content: ArcSwap<C>,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", escape_path(path))]
pub struct LookupFileError<F: std::error::Error> {
    /// The file's path.
    pub path: PathBuf,
    /// The fault.
    pub fault: LookupFileFault<F>,
}

/// The fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum LookupFileFault<F: std::error::Error> {
    /// The file can't be read.
    #[error("the {content} can't be read: {cause}")]
    Io {
        /// See [`Content::NAME`].
        content: &'static str,
        /// The operating system's error.
        cause: std::io::Error,
    },
    /// The path is a directory, a pipe or a device.
    #[error("the {0} aren't in a regular file")]
    NotAFile(&'static str),
    /// The file has more than this many bytes.
    #[error("the file is longer than {} MiB", .0 / 1024 / 1024)]
    TooLong(u64),
    /// The file is empty, as one that is being replaced.
    #[error("the file is empty; if that is intended, write a comment such as `# no users yet`")]
    Empty,
    /// The file's last line doesn't end, as that of a file which is being written.
    #[error("the last line has no line ending, so the file may be half written")]
    HalfWritten,
    /// A line that can't be taken.
    #[error("{0}")]
    Line(F),
}

/// The content of a file, not yet in use.
pub struct NewContent<C>(C);

impl<C: Content> NewContent<C> {
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If the file can't be read, isn't complete, or has a line that can't be taken.
    pub fn read(path: &Path) -> Result<Self, LookupFileError<C::LineFault>> {
        let read = || {
            let bytes = read_bounded(path, C::MAX_FILE).map_err(|error| match error {
                ReadError::Io(cause) => LookupFileFault::Io {
                    content: C::NAME,
                    cause,
                },
                ReadError::NotAFile => LookupFileFault::NotAFile(C::NAME),
                ReadError::TooLong => LookupFileFault::TooLong(C::MAX_FILE),
            })?;
            parse(&bytes).map(Self)
        };
        read().map_err(|fault| LookupFileError {
            path: path.to_owned(),
            fault,
        })
    }

    /// The number of entries.
    pub fn count(&self) -> usize {
        self.0.count()
    }
}

/// The files of one kind that a configuration names.
pub struct LookupFiles<C>(Arc<HashMap<PathBuf, Arc<LookupFile<C>>>>);

/// The files of a configuration that is not in force yet.
pub struct LoadedFiles<C> {
    files: LookupFiles<C>,
    /// New content for files that are in use.
    new: Vec<(Arc<LookupFile<C>>, NewContent<C>)>,
}

impl<C: Content> LoadedFiles<C> {
    /// Uses the content from the next login on.
    pub fn apply(self) -> LookupFiles<C> {
        for (file, content) in self.new {
            file.replace(content);
        }
        self.files
    }
}

impl<C> Default for LookupFiles<C> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<C> Clone for LookupFiles<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Content> LookupFiles<C> {
    /// Loads these files, each of which may be named several times. A file that the former configuration has, too, keeps its
    /// object: its sessions look up what is watched. Blocks on the file system.
    ///
    /// # Errors
    /// If one of them can't be used, see [`NewContent::read`].
    pub fn load<'a>(
        paths: impl IntoIterator<Item = &'a Path>,
        former: &Self,
    ) -> Result<LoadedFiles<C>, LookupFileError<C::LineFault>> {
        let mut files = HashMap::new();
        let mut new = Vec::new();
        for path in paths {
            if files.contains_key(path) {
                continue;
            }
            let content = NewContent::read(path)?;
            let file = match former.get(path) {
                Some(known) => {
                    new.push((Arc::clone(known), content));
                    Arc::clone(known)
                }
                None => Arc::new(LookupFile::new(path, content)),
            };
            files.insert(path.to_owned(), file);
        }
        let files = Self(Arc::new(files));
        Ok(LoadedFiles { files, new })
    }

    /// A file with this content, which is on no disk.
    #[cfg(test)]
    pub fn holding(path: &Path, content: &str) -> Self {
        let content = NewContent(parse(content.as_bytes()).expect("it is in order"));
        let file = Arc::new(LookupFile::new(path, content));
        Self(Arc::new([(path.to_owned(), file)].into()))
    }

    /// The one at this path.
    pub fn get(&self, path: &Path) -> Option<&Arc<LookupFile<C>>> {
        self.0.get(path)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<LookupFile<C>>> {
        self.0.values()
    }
}

impl<C: Content> LookupFile<C> {
    pub(super) fn new(path: &Path, NewContent(content): NewContent<C>) -> Self {
        Self {
            path: path.to_owned(),
            content: ArcSwap::from_pointee(content),
        }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content in use.
    pub(super) fn content(&self) -> arc_swap::Guard<Arc<C>> {
        self.content.load()
    }

    /// Whether this is the content in use.
    pub fn has(&self, NewContent(content): &NewContent<C>) -> bool {
        **self.content.load() == *content
    }

    /// Uses this content from the next login on.
    pub fn replace(&self, NewContent(content): NewContent<C>) {
        self.content.store(Arc::new(content));
    }

    /// The number of entries it has.
    pub fn count(&self) -> usize {
        self.content.load().count()
    }
}

// Without the content, which may be secret, and long.

impl<C> fmt::Debug for LookupFile<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for LookupFiles<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<C> fmt::Debug for LoadedFiles<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl<C> fmt::Debug for NewContent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewContent").finish_non_exhaustive()
    }
}

pub(super) fn parse<C: Content>(content: &[u8]) -> Result<C, LookupFileFault<C::LineFault>> {
    // Editors on Windows put a byte order mark in front.
    let content = content
        .strip_prefix("\u{feff}".as_bytes())
        .unwrap_or(content);
    let Some(content) = content.strip_suffix(b"\n") else {
        return Err(match content {
            [] => LookupFileFault::Empty,
            _ => LookupFileFault::HalfWritten,
        });
    };
    let mut entries = C::default();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        entries
            .add(index + 1, line)
            .map_err(LookupFileFault::Line)?;
    }
    Ok(entries)
}
