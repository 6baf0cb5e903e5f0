//! Notices that files in which logins look something up have new content, by looking at them now and then, as for certificates.

use std::sync::Arc;
use std::time::SystemTime;

use super::lookup::{
    Content, LookupFile, LookupFileError, LookupFileFault, LookupFiles, NewContent,
};
use crate::base::file_watch::{Debounce, FileStamp, FileWatch, Stability};

/// Watches the files of a configuration. The caller decides how often to [`poll`](FileWatch::poll).
#[derive(Debug)]
pub struct LookupWatch<C: Content>(Vec<LookupFileWatch<C>>);

/// The findings for the files that have changed.
pub type LookupChanges<C> = Vec<LookupChange<C>>;

/// The finding for a file that has changed.
#[derive(Debug)]
pub struct LookupChange<C: Content> {
    /// The file.
    pub file: Arc<LookupFile<C>>,
    /// `Ok` if the file's new content is in use now, or why the former one stays.
    pub outcome: Result<(), LookupFileError<C::LineFault>>,
}

#[derive(Debug)]
struct LookupFileWatch<C> {
    file: Arc<LookupFile<C>>,
    state: Debounce<Option<FileStamp>>,
    /// Whether the content read last was refused and so is not in use.
    refused: bool,
    /// The error with which it couldn't be read last, which is reported once.
    unreadable: Option<String>,
}

impl<C: Content> LookupWatch<C> {
    /// Watches these files; `None` if there are none. A change since they were loaded is noticed, too.
    pub fn new(files: &LookupFiles<C>) -> Option<Self> {
        let watch = |file: &Arc<LookupFile<C>>| LookupFileWatch {
            state: Debounce::default(),
            file: Arc::clone(file),
            refused: false,
            unreadable: None,
        };
        let watches: Vec<LookupFileWatch<C>> = files.all().map(watch).collect();
        (!watches.is_empty()).then_some(Self(watches))
    }
}

impl<C: Content> FileWatch for LookupWatch<C> {
    /// The files whose content is new and was the same in two polls; it is in use then.
    type Found = LookupChanges<C>;

    fn poll(&mut self, _: SystemTime) -> Option<LookupChanges<C>> {
        let changes: Vec<_> = self
            .0
            .iter_mut()
            .filter_map(LookupFileWatch::poll)
            .collect();
        (!changes.is_empty()).then_some(changes)
    }
}

impl<C: Content> LookupFileWatch<C> {
    fn poll(&mut self) -> Option<LookupChange<C>> {
        let stamp = FileStamp::of(self.file.path());
        if self.state.observe(stamp) != Stability::Settled {
            return None;
        }
        let outcome = match NewContent::read(self.file.path()) {
            Ok(content) if self.file.has(&content) && !self.refused => return None,
            Ok(content) => {
                self.file.replace(content);
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(LookupFileError {
            fault: LookupFileFault::Io { cause, .. },
            ..
        }) = &outcome
        {
            self.state.try_again();
            let unreadable = Some(cause.to_string());
            if std::mem::replace(&mut self.unreadable, unreadable.clone()) == unreadable {
                return None;
            }
        } else {
            self.unreadable = None;
        }
        self.refused = outcome.is_err();
        Some(LookupChange {
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
    use crate::policy::users::Names;
    use crate::policy::{CredentialFiles, UserFile, UserFiles};

    type UserWatch = LookupWatch<Names>;

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
        let [change] = <[LookupChange<Names>; 1]>::try_from(found).unwrap();
        Some(change.outcome.map_err(|error| error.fault.to_string()))
    }

    #[test]
    fn without_files_there_is_nothing_to_watch() {
        assert!(UserWatch::new(&UserFiles::default()).is_none());
        assert!(LookupWatch::new(&CredentialFiles::default()).is_none());
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
    fn one_file_that_is_refused_and_another_that_is_loaded_are_told_by_themselves() {
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
            let found = watch.poll(SystemTime::now()).unwrap();
            paths.each_ref().map(|path| {
                let of_it = found.iter().find(|change| change.file.path() == path);
                of_it.map(|change| change.outcome.is_ok())
            })
        };
        let (loaded, refused) = (Some(true), Some(false));
        assert_eq!(found(["al", "alice\nbob\n"]), [refused, loaded]);
        assert_eq!(found(["al", "alice\n"])[1], loaded);
        assert_eq!(found(["alice\n", "alice\nbob\n"]), [loaded, loaded]);
    }

    #[test]
    fn a_file_that_is_gone_is_told_and_the_former_names_stay() {
        let mut it = watched("alice\n");
        assert_eq!(outcome(&mut it.watch), None);
        fs::remove_file(&it.path).unwrap();
        assert!(matches!(outcome(&mut it.watch), Some(Err(_))));
        assert!(it.file.contains(b"alice"));
    }

    #[test]
    fn new_passwords_are_used_when_the_file_has_come_to_rest_and_bad_ones_never() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("partners");
        fs::write(&path, "acme:one\n").expect("written");
        let files = CredentialFiles::load([path.as_path()], &CredentialFiles::default());
        let files = files.expect("good").apply();
        let mut watch = LookupWatch::new(&files).expect("one to watch");
        let mut found = |content: &str| {
            fs::write(&path, content).expect("written");
            assert!(watch.poll(SystemTime::UNIX_EPOCH).is_none());
            let found = watch.poll(SystemTime::UNIX_EPOCH)?;
            Some(found[0].outcome.is_ok())
        };
        let is = |password: &[u8]| {
            let used = files.password(&path, b"acme").expect("there is one");
            assert_eq!(used.expose(), password);
        };
        assert_eq!(found("acme:one\n"), None, "the same");
        assert_eq!(found("acme:other\n"), Some(true));
        is(b"other");
        assert_eq!(found("acme:half"), Some(false));
        is(b"other");
        assert_eq!(found("acme:other\n"), Some(true), "put back");
        is(b"other");
    }
}
