//! Notices that files of users have new content, by looking at them now and then, as for certificates.

use std::sync::Arc;
use std::time::SystemTime;

use super::users::{NewNames, UserFile, UserFileError, UserFiles};
use crate::base::file::{FileStamp, Watch};

/// Watches the files of a configuration. The caller decides how often to [`poll`](Watch::poll).
#[derive(Debug)]
pub struct UserWatch(Vec<FileWatch>);

/// What was found in the files.
#[derive(Debug)]
pub struct UserChanges {
    /// Of those that have changed.
    pub changes: Vec<UserChange>,
    /// Whether what lies there of any of them is refused.
    pub any_refused: bool,
}

/// What was found in a file that has changed.
#[derive(Debug)]
pub struct UserChange {
    /// The file.
    pub file: Arc<UserFile>,
    /// Its names are in use now, or why the former ones stay.
    pub outcome: Result<(), UserFileError>,
}

#[derive(Debug)]
struct FileWatch {
    file: Arc<UserFile>,
    /// The state of the file when it was last read, for better or worse.
    settled: Option<Option<FileStamp>>,
    /// A newer state, seen once. Some programs write a file in several steps, so a state counts when it is seen twice.
    changing: Option<Option<FileStamp>>,
    /// What was read last is not in use.
    refused: bool,
}

impl UserWatch {
    /// Watches these files; `None` if there are none. A change since they were loaded is noticed, too.
    pub fn new(files: &UserFiles) -> Option<Self> {
        let watch = |file: &Arc<UserFile>| FileWatch {
            file: Arc::clone(file),
            settled: None,
            changing: None,
            refused: false,
        };
        let watches: Vec<FileWatch> = files.all().map(watch).collect();
        (!watches.is_empty()).then_some(Self(watches))
    }
}

impl Watch for UserWatch {
    /// Those that have new names, and were the same in two polls; the names are in use then.
    type Found = UserChanges;

    const CONTENT: &'static str = "users";

    fn poll(&mut self, _: SystemTime) -> Option<UserChanges> {
        let changes: Vec<UserChange> = self.0.iter_mut().filter_map(FileWatch::poll).collect();
        (!changes.is_empty()).then(|| UserChanges {
            changes,
            any_refused: self.0.iter().any(|watch| watch.refused),
        })
    }
}

impl FileWatch {
    fn poll(&mut self) -> Option<UserChange> {
        let stamp = Some(FileStamp::of(self.file.path()));
        if self.settled == stamp {
            self.changing = None;
            return None;
        }
        if self.changing != stamp {
            self.changing = stamp;
            return None;
        }
        // Stamped before reading: a change in between makes another stamp, and the next polls see it.
        self.changing = None;
        self.settled = stamp;
        let outcome = match NewNames::read(self.file.path()) {
            Ok(names) if self.file.has(&names) && !self.refused => return None,
            Ok(names) => {
                self.file.replace(names);
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.refused = outcome.is_err();
        Some(UserChange {
            file: Arc::clone(&self.file),
            outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    struct Watched {
        _directory: tempfile::TempDir,
        path: PathBuf,
        file: Arc<UserFile>,
        watch: UserWatch,
    }

    fn watched(content: &str) -> Watched {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("moved.txt");
        fs::write(&path, content).unwrap();
        let files = UserFiles::load([path.as_path()], &UserFiles::default())
            .unwrap()
            .apply();
        let file = Arc::clone(files.get(&path).unwrap());
        let watch = UserWatch::new(&files).unwrap();
        Watched {
            _directory: directory,
            path,
            file,
            watch,
        }
    }

    /// The outcome of two polls, the first of which finds nothing.
    fn outcome(watch: &mut UserWatch) -> Option<Result<(), String>> {
        assert!(watch.poll(SystemTime::now()).is_none());
        let found = watch.poll(SystemTime::now())?;
        let [change] = <[UserChange; 1]>::try_from(found.changes).unwrap();
        assert_eq!(found.any_refused, change.outcome.is_err());
        Some(change.outcome.map_err(|error| error.fault.to_string()))
    }

    #[test]
    fn without_files_there_is_nothing_to_watch() {
        assert!(UserWatch::new(&UserFiles::default()).is_none());
    }

    #[test]
    fn new_names_are_used_when_the_file_has_come_to_rest() {
        let mut it = watched("alice\n");
        assert_eq!(outcome(&mut it.watch), None, "as loaded");
        let beside = it.path.with_extension("new");
        fs::write(&beside, "alice\nbob\n").unwrap();
        fs::rename(&beside, &it.path).unwrap();
        assert_eq!(outcome(&mut it.watch), Some(Ok(())));
        assert!(it.file.contains(b"bob"));
    }

    #[test]
    fn a_half_written_file_is_told_once_and_the_former_names_stay() {
        let mut it = watched("alice\n");
        assert_eq!(outcome(&mut it.watch), None);
        fs::write(&it.path, "bob\nca").unwrap();
        let refused = "the last line has no line ending, so the file may be half written";
        assert_eq!(outcome(&mut it.watch), Some(Err(refused.to_owned())));
        assert!(it.watch.poll(SystemTime::now()).is_none());
        assert!(it.file.contains(b"alice") && !it.file.contains(b"bob"));
        fs::write(&it.path, "bob\ncarol\n").unwrap();
        assert_eq!(outcome(&mut it.watch), Some(Ok(())));
        assert!(it.file.contains(b"carol") && !it.file.contains(b"alice"));
    }

    #[test]
    fn a_file_that_is_put_back_as_it_was_is_told_too() {
        let mut it = watched("alice\n");
        assert_eq!(outcome(&mut it.watch), None);
        fs::write(&it.path, "al").unwrap();
        assert!(matches!(outcome(&mut it.watch), Some(Err(_))));
        fs::write(&it.path, "alice\n").unwrap();
        assert_eq!(outcome(&mut it.watch), Some(Ok(())));
    }

    #[test]
    fn one_file_that_is_refused_counts_while_another_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["one.txt", "other.txt"].map(|name| directory.path().join(name));
        for path in &paths {
            fs::write(path, "alice\n").unwrap();
        }
        let files = UserFiles::load(paths.iter().map(|it| it.as_path()), &UserFiles::default());
        let mut watch = UserWatch::new(&files.unwrap().apply()).unwrap();
        let mut found = |contents: [&str; 2]| {
            for (path, content) in paths.iter().zip(contents) {
                fs::write(path, content).unwrap();
            }
            watch.poll(SystemTime::now());
            watch.poll(SystemTime::now()).unwrap().any_refused
        };
        assert!(found(["al", "alice\nbob\n"]));
        assert!(found(["al", "alice\n"]));
        assert!(!found(["alice\n", "alice\nbob\n"]));
    }

    #[test]
    fn a_file_that_is_gone_is_told_and_the_former_names_stay() {
        let mut it = watched("alice\n");
        assert_eq!(outcome(&mut it.watch), None);
        fs::remove_file(&it.path).unwrap();
        assert!(matches!(outcome(&mut it.watch), Some(Err(_))));
        assert!(it.file.contains(b"alice"));
    }
}
