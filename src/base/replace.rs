//! Files that others may be reading while they are written anew: each is there whole, as it was or as it is to be.
//!
//! A process that replaces files of a folder locks it meanwhile: two that replace several files each would otherwise leave a
//! mixture.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// How often a folder that another process has locked is asked for again. There is no lock that waits for a while.
const ASKED_EVERY: Duration = Duration::from_millis(50);

/// A locked folder: no other process replaces files in it by this until it is dropped. The lock ends with the process as well.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The folder itself: a file for the lock would be one more in it.
    locked: File,
}

impl Folder {
    /// Waits for it no longer than `patience`; `None` if another process still has it then.
    ///
    /// # Errors
    /// Those of `open(2)` and `flock(2)`.
    pub fn lock(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let path = match path {
            here if here == Path::new("") => Path::new("."),
            path => path,
        };
        let locked = File::open(path)?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&locked, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    let path = path.to_owned();
                    return Ok(Some(Self { path, locked }));
                }
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(left.min(ASKED_EVERY));
        }
    }
}

/// Writes a new file, for its owner alone, in the place of what an earlier process has left there: that could have another
/// mode, or be a link.
///
/// # Errors
/// Those of `unlink(2)`, `open(2)` and `write(2)`.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    Ok(file)
}

/// A file's new content, on the disk beside it and not in its place yet. Dropped, it is gone.
#[derive(Debug)]
#[must_use = "dropping it removes the new content"]
pub struct Replacement<'f> {
    folder: &'f Folder,
    beside: PathBuf,
    file: PathBuf,
}

impl<'f> Replacement<'f> {
    /// Writes `content` beside the file of this name. It gets these permissions, or those of the file that it is to replace as far
    /// as they let no others read it, and that one's owner and group.
    ///
    /// # Errors
    /// Those of the file system, or if this process may not give the file to that owner.
    pub fn prepare(
        folder: &'f Folder,
        name: &str,
        content: &[u8],
        permissions: u32,
    ) -> io::Result<Self> {
        let file = folder.path.join(name);
        let beside = folder.path.join(format!(".{name}.new"));
        // Removed from here on if anything fails.
        let replacement = Self {
            folder,
            beside,
            file,
        };
        let written = write_new(&replacement.beside, content)?;
        let permissions = match fs::metadata(&replacement.file) {
            Ok(former) => {
                let own = written.metadata()?;
                if (own.uid(), own.gid()) != (former.uid(), former.gid()) {
                    fchown(&written, Some(former.uid()), Some(former.gid()))?;
                }
                former.mode() & (permissions | 0o640)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => permissions,
            Err(error) => return Err(error),
        };
        written.set_permissions(fs::Permissions::from_mode(permissions))?;
        written.sync_all()?;
        Ok(replacement)
    }

    /// Moves the new file into the place of the old one, in one step.
    ///
    /// # Errors
    /// Those of `rename(2)` and `fsync(2)`.
    pub fn commit(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.file)?;
        // A rename is on the disk when its folder is.
        self.folder.locked.sync_all()
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        // Not there any more after the rename.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().mode() & 0o777
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    fn lock(folder: &Path) -> Option<Folder> {
        Folder::lock(folder, Duration::ZERO).unwrap()
    }

    #[test]
    fn a_folder_is_had_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_none());
        let path = folder.path().to_owned();
        let second = thread::spawn(move || Folder::lock(&path, Duration::MAX).unwrap());
        drop(first);
        let second = second.join().unwrap();
        assert!(second.is_some());
        assert!(lock(folder.path()).is_none());
        drop(second);
        assert!(lock(folder.path()).is_some());
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn a_new_file_has_the_permissions_and_one_that_is_replaced_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.key");
        let locked = lock(folder.path()).unwrap();
        let replace = |content: &[u8], permissions| {
            Replacement::prepare(&locked, "tls.key", content, permissions)
                .unwrap()
                .commit()
                .unwrap();
            assert_eq!(fs::read(&file).unwrap(), content);
            assert_eq!(entries(folder.path()), 1);
        };
        replace(b"one", 0o600);
        assert_eq!(mode(&file), 0o600);
        for (former, permissions, kept) in [
            (0o640, 0o600, 0o640),
            (0o400, 0o600, 0o400),
            (0o666, 0o600, 0o640),
            (0o644, 0o644, 0o644),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(former)).unwrap();
            replace(format!("{former}").as_bytes(), permissions);
            assert_eq!(mode(&file), kept, "{former:o}");
        }
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tls.key");
        fs::write(&file, "former").unwrap();
        let locked = lock(folder.path()).unwrap();
        drop(Replacement::prepare(&locked, "tls.key", b"new", 0o600).unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"former");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn a_link_in_the_place_of_the_new_content_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (file, victim) = (folder.path().join("tls.key"), folder.path().join("victim"));
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".tls.key.new")).unwrap();
        let locked = lock(folder.path()).unwrap();
        Replacement::prepare(&locked, "tls.key", b"new", 0o600)
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }
}
