//! A configuration that was refused: whether the content of the file is still refused.
//!
//! A configuration is loaded at SIGHUP alone, but an operator who puts the old file back has nothing to reload, and a
//! certificate that was copied a moment later is in use without a signal. So what a refused reload has read is read again
//! now and then, without being put in force, until it could be.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::StartError;
use crate::base::file_watch::{FileStamp, FileWatch};
use crate::observe::reloads::Refusal;

/// How many polls pass between two tries while the file is the same: the fault may be in another one that it names.
const POLLS_PER_TRY: u32 = 20;

/// Why the files that make a configuration can't be used, if they can't.
type TryFiles = Box<dyn Fn() -> Result<(), Refusal> + Send>;

/// Watches what a refused reload was about.
pub(super) struct RefusedConfiguration {
    file: PathBuf,
    try_files: TryFiles,
    /// Whether trying again can show anything. A fault without a file, such as a port in use, does not show in them, and holds
    /// until there is another file.
    can_be_tried: bool,
    /// The state of the file when it was last looked at.
    stamp: Option<Option<FileStamp>>,
    polls: u32,
    refused: bool,
}

impl RefusedConfiguration {
    /// Watches over the configuration in `file`, which was refused for `error`.
    pub fn new(
        file: PathBuf,
        error: &StartError,
        try_files: impl Fn() -> Result<(), Refusal> + Send + 'static,
    ) -> Self {
        Self {
            file,
            try_files: Box::new(try_files),
            can_be_tried: error.is_in_files(),
            stamp: None,
            // Tried at once, since it may be another one by now.
            polls: POLLS_PER_TRY,
            refused: true,
        }
    }
}

impl FileWatch for RefusedConfiguration {
    /// Whether the configuration is good from now on, or why it is refused; only if that has changed.
    type Found = Result<(), Refusal>;

    fn poll(&mut self, _: SystemTime) -> Option<Self::Found> {
        let stamp = FileStamp::of(&self.file);
        let former = self.stamp.replace(stamp);
        let is_another = former.is_some() && former != self.stamp;
        self.can_be_tried |= is_another;
        self.polls += 1;
        if !self.can_be_tried || (!is_another && self.polls < POLLS_PER_TRY) {
            return None;
        }
        self.polls = 0;
        let found = (self.try_files)();
        let was_refused = std::mem::replace(&mut self.refused, found.is_err());
        (self.refused != was_refused).then_some(found)
    }
}

impl fmt::Debug for RefusedConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedConfiguration")
            .field("file", &self.file)
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Refused {
        directory: tempfile::TempDir,
        is_unusable: Arc<AtomicBool>,
        watch: RefusedConfiguration,
    }

    impl Refused {
        /// For this reason; what the files hold can't be used.
        fn for_error(error: &StartError) -> Self {
            let directory = tempfile::tempdir().expect("a folder");
            let file = directory.path().join("portcullis.yaml");
            fs::write(&file, "refused").expect("written");
            let is_unusable = Arc::new(AtomicBool::new(true));
            let fault = Arc::clone(&is_unusable);
            let unusable = move || match fault.load(Ordering::Relaxed) {
                true => Err("refused".to_owned().into()),
                false => Ok(()),
            };
            let watch = RefusedConfiguration::new(file, error, unusable);
            Self {
                directory,
                is_unusable,
                watch,
            }
        }

        fn replace(&self) {
            let beside = self.directory.path().join("new");
            fs::write(&beside, "another one").expect("written");
            fs::rename(beside, &self.watch.file).expect("renamed");
        }

        fn mend(&self, mended: bool) {
            self.is_unusable.store(!mended, Ordering::Relaxed);
        }

        /// Whether it is refused, if that has changed.
        fn poll(&mut self) -> Option<bool> {
            let found = self.watch.poll(SystemTime::now());
            found.map(|found| found.is_err())
        }

        /// The findings in the time in which unchanged files are tried once.
        fn found_in_time(&mut self) -> Vec<bool> {
            (0..POLLS_PER_TRY).filter_map(|_| self.poll()).collect()
        }
    }

    fn of_a_file() -> StartError {
        let unreadable = crate::config::load(Path::new("/nonexistent/portcullis.yaml"));
        StartError::from(unreadable.expect_err("it doesn't exist"))
    }

    fn of_a_port() -> StartError {
        StartError::from(io::Error::from(io::ErrorKind::AddrInUse))
    }

    #[test]
    fn another_file_is_tried_at_once() {
        for error in [of_a_file(), of_a_port()] {
            let mut refused = Refused::for_error(&error);
            assert_eq!(refused.poll(), None);
            refused.mend(true);
            refused.replace();
            assert_eq!(refused.poll(), Some(false));
            refused.mend(false);
            refused.replace();
            assert_eq!(refused.poll(), Some(true));
        }
    }

    #[test]
    fn another_file_that_is_no_better_changes_nothing() {
        let mut refused = Refused::for_error(&of_a_file());
        assert_eq!(refused.poll(), None);
        refused.replace();
        assert!(refused.found_in_time().is_empty());
    }

    #[test]
    fn a_fault_that_is_mended_in_another_file_is_noticed_in_time() {
        let mut refused = Refused::for_error(&of_a_file());
        assert!(refused.found_in_time().is_empty());
        refused.mend(true);
        assert_eq!(refused.found_in_time(), [false]);
        assert!(refused.found_in_time().is_empty());
    }

    #[test]
    fn what_no_file_has_caused_holds_until_there_is_another() {
        let mut refused = Refused::for_error(&of_a_port());
        refused.mend(true);
        assert!(refused.found_in_time().is_empty());
        refused.replace();
        assert_eq!(refused.poll(), Some(false));
    }
}
