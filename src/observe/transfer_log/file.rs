//! The file of a transfer log: appended to, and opened anew when it has been renamed or removed, or when it is asked for.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use crate::base::text::escape_path;
use crate::observe::lines::{Losses, Output, Unwritten, WholeLines};

/// How often the name of the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Names of users and files are in it: for its owner and group alone.
const MODE: u32 = 0o640;

/// Makes the header at the beginning of a file, at this time.
pub(super) type Header = fn(Timestamp) -> Vec<u8>;

/// Why the file of a log can't be opened anew, for as long as that is so. Shared with the views that report it.
#[derive(Debug, Clone, Default)]
pub(super) struct Misplacement(Arc<Mutex<Option<Misplaced>>>);

/// The file that has the name of a log can't be opened.
#[derive(Debug, Clone)]
pub(super) struct Misplaced {
    /// Since when the file can't be opened.
    pub since: SystemTime,
    /// The error of the last attempt.
    pub error: String,
}

impl Misplacement {
    /// The present misplacement, if any.
    pub fn current(&self) -> Option<Misplaced> {
        self.lock().clone()
    }

    /// Opening has failed; returns whether it had not before.
    fn note(&self, error: &io::Error) -> bool {
        let mut current = self.lock();
        let is_new = current.is_none();
        let since = current
            .take()
            .map_or_else(SystemTime::now, |former| former.since);
        *current = Some(Misplaced {
            since,
            error: error.to_string(),
        });
        is_new
    }

    fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Misplaced>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file that a queue's lines go to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    lines: WholeLines<File>,
    header: Option<Header>,
    /// The file has been opened or emptied, and no line written to it since.
    header_is_due: bool,
    /// Set to have it opened anew.
    reopen: Arc<AtomicBool>,
    looked: Instant,
    losses: Losses,
    /// A failure has been logged, and nothing has succeeded since.
    is_failing: bool,
    /// The state of failures to open it anew.
    misplacement: Misplacement,
}

impl LogFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If that is not possible, or it is neither a regular file nor a device.
    pub fn open(
        path: PathBuf,
        header: Option<Header>,
        reopen: Arc<AtomicBool>,
        losses: Losses,
        misplacement: Misplacement,
    ) -> io::Result<Self> {
        Ok(Self {
            lines: open(&path)?,
            path,
            header,
            header_is_due: header.is_some(),
            reopen,
            looked: Instant::now(),
            losses,
            is_failing: false,
            misplacement,
        })
    }

    fn write(&mut self, line: &[u8]) -> Result<(), Unwritten> {
        if self.header_is_due
            && let Some(header) = self.header
        {
            match self.lines.write(&header(Timestamp::now())) {
                // The rest of it is written in front of the line.
                Ok(()) | Err(Unwritten::InPart(_)) => self.header_is_due = false,
                Err(lost) => return Err(lost),
            }
        }
        self.lines.write(line)
    }

    /// The metadata of the open file; `None` if the kernel doesn't tell.
    fn metadata(&self) -> Option<Metadata> {
        self.lines.output().metadata().ok()
    }

    /// Whether the open file has no name any more: what is written there is gone once it is closed.
    fn is_removed(&self) -> bool {
        self.metadata().is_some_and(|own| own.nlink() == 0)
    }

    /// Makes the header be written once more into a file that has been emptied, as by `copytruncate` of logrotate: without it, a
    /// W3C log can't be read.
    fn note_emptied(&mut self) {
        let is_empty = |own: Metadata| own.is_file() && own.len() == 0;
        if self.header.is_some() && self.metadata().is_some_and(is_empty) {
            self.header_is_due = true;
        }
    }

    fn is_moved(&self) -> bool {
        let Some(own) = self.metadata() else {
            return true;
        };
        match fs::metadata(&self.path) {
            Ok(named) => (named.dev(), named.ino()) != (own.dev(), own.ino()),
            Err(_) => true,
        }
    }

    /// Goes on in the file that has the name now; in the old one where there can be none.
    fn open_anew(&mut self) {
        match open(&self.path) {
            Ok(lines) => {
                // The rest of a torn line belongs to the old file.
                if self.lines.complete().is_err() {
                    self.losses.count();
                }
                self.lines = lines;
                self.misplacement.end();
                self.header_is_due = self.header.is_some();
            }
            Err(error) => {
                if self.misplacement.note(&error) {
                    let file = escape_path(&self.path);
                    tracing::warn!(
                        %file,
                        %error,
                        "transfer log can't be reopened; its lines go to the renamed file, or are dropped and counted if it was \
                         removed"
                    );
                }
            }
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            let file = escape_path(&self.path);
            tracing::warn!(%file, %error, "transfer log can't be written; lines that are lost are counted");
        }
    }

    fn note_success(&mut self) {
        let lines = self.losses.take_unreported();
        if std::mem::take(&mut self.is_failing) || lines > 0 {
            let file = escape_path(&self.path);
            tracing::warn!(%file, lines, "transfer log is written again, these lines of it are lost");
        }
    }
}

impl Output for LogFile {
    const INTERVAL: Option<Duration> = Some(LOOK_INTERVAL);

    fn write_line(&mut self, line: &[u8]) {
        if self.is_removed() {
            // One that can't be opened is tried again at the interval, not for each line.
            if self.misplacement.current().is_none() {
                self.open_anew();
            }
            if self.is_removed() {
                self.losses.count();
                return;
            }
        }
        self.note_emptied();
        match self.write(line) {
            Ok(()) => self.note_success(),
            Err(Unwritten::Lost(error)) => {
                self.losses.count();
                self.note_failure(&error);
            }
            Err(Unwritten::InPart(error)) => self.note_failure(&error),
        }
    }

    fn maintain(&mut self) {
        if self.reopen.swap(false, Ordering::Relaxed) {
            return self.open_anew();
        }
        if self.looked.elapsed() >= LOOK_INTERVAL {
            self.looked = Instant::now();
            if self.is_moved() {
                self.open_anew();
            } else {
                // It may have got its name back.
                self.misplacement.end();
            }
        }
    }

    fn close(&mut self) {
        if self.lines.complete().is_err() {
            self.losses.count();
        }
    }
}

/// Whether a log may be made there, or is there.
///
/// # Errors
/// If its directory is missing, or something else has its name.
pub(super) fn check_place(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if is_file_or_device(&metadata) => Ok(()),
        Ok(_) => Err(io::Error::other("it is neither a file nor a device")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(directory) if directory != Path::new("") => fs::metadata(directory).map(drop),
            _ => Ok(()),
        },
        Err(error) => Err(error),
    }
}

fn open(path: &Path) -> io::Result<WholeLines<File>> {
    // To open a FIFO would wait for its reader.
    check_place(path)?;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .open(path)?;
    Ok(if ends_within_a_line(path, &file) {
        WholeLines::behind_torn_line(file)
    } else {
        WholeLines::new(file)
    })
}

fn is_file_or_device(metadata: &Metadata) -> bool {
    metadata.is_file() || metadata.file_type().is_char_device()
}

/// Whether a process that was killed, or a disk that was full, has left half a line there.
fn ends_within_a_line(path: &Path, file: &File) -> bool {
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    let mut last = [b'\n'];
    if metadata.is_file() && metadata.len() > 0 {
        // Without the right to read it, lines are appended to it as it is.
        let _ = File::open(path).and_then(|it| it.read_exact_at(&mut last, metadata.len() - 1));
    }
    last != [b'\n']
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::observe::lines::LineQueue;
    use crate::observe::metrics::{DroppedLines, Metrics};

    struct Log {
        queue: LineQueue,
        reopen: Arc<AtomicBool>,
        dropped: DroppedLines,
    }

    impl Log {
        fn start(path: &Path, header: Option<Header>) -> Self {
            let dropped = Metrics::new().dropped_lines("a file");
            let losses = Losses::new(dropped.clone());
            let reopen = Arc::<AtomicBool>::default();
            let (path, flag) = (path.to_owned(), Arc::clone(&reopen));
            let file = LogFile::open(path, header, flag, losses.clone(), Misplacement::default())
                .expect("it can be opened");
            Self {
                queue: LineQueue::start("test", file, losses).expect("a thread"),
                reopen,
                dropped,
            }
        }

        fn write(&self, line: &str) {
            self.queue.push(format!("{line}\n").into_bytes());
        }

        fn reopen(&self) {
            self.reopen.store(true, Ordering::Relaxed);
            self.queue.wake();
            self.queue.flush();
        }
    }

    fn open_file(path: &Path) -> (LogFile, DroppedLines, Misplacement) {
        let dropped = Metrics::new().dropped_lines("a file");
        let losses = Losses::new(dropped.clone());
        let misplacement = Misplacement::default();
        let (path, shared) = (path.to_owned(), misplacement.clone());
        let file = LogFile::open(path, None, Arc::default(), losses, shared).expect("it opens");
        (file, dropped, misplacement)
    }

    /// Makes it look at its name, as it does at its interval.
    fn look(file: &mut LogFile) {
        file.looked = Instant::now()
            .checked_sub(LOOK_INTERVAL)
            .expect("the machine is up for longer");
        file.maintain();
    }

    fn directory() -> TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn content(path: &Path) -> String {
        fs::read_to_string(path).expect("a file of text")
    }

    #[test]
    fn a_file_that_is_there_is_appended_to_behind_a_line_that_has_an_end() {
        let directory = directory();
        let path = directory.path().join("log");
        fs::write(&path, "whole\nhal").expect("it is writable");
        let log = Log::start(&path, None);
        log.write("next");
        log.queue.flush();
        assert_eq!(content(&path), "whole\nhal\nnext\n");
    }

    #[test]
    fn a_new_file_is_for_its_owner_and_group_and_has_the_header() {
        let directory = directory();
        let path = directory.path().join("log");
        let log = Log::start(&path, Some(|_| b"#one\n#two\n".to_vec()));
        log.write("line");
        log.write("line");
        log.queue.flush();
        assert_eq!(content(&path), "#one\n#two\nline\nline\n");
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o007, 0, "{mode:o}");
        fs::rename(&path, directory.path().join("log.1")).expect("a rename");
        log.reopen();
        log.write("more");
        log.queue.flush();
        assert_eq!(content(&path), "#one\n#two\nmore\n");
    }

    #[test]
    fn a_file_that_was_emptied_has_its_header_again() {
        let directory = directory();
        let path = directory.path().join("log");
        let log = Log::start(&path, Some(|_| b"#head\n".to_vec()));
        for _ in 0..2 {
            log.write("line");
            log.queue.flush();
            assert_eq!(content(&path), "#head\nline\n");
            fs::write(&path, "").expect("it is writable");
        }
    }

    #[test]
    fn rotated_a_hundred_times_under_load_no_line_is_lost_or_split() {
        let directory = directory();
        let path = directory.path().join("log");
        let log = Log::start(&path, None);
        let line = |number: usize| format!("{number:05} {}", "x".repeat(number % 200));
        for number in 0..5_000 {
            log.write(&line(number));
            if number % 50 == 49 {
                let to = directory.path().join(format!("log.{number:05}"));
                fs::rename(&path, to).expect("a rename");
                log.reopen();
            }
        }
        log.queue.flush();
        let mut files: Vec<PathBuf> = fs::read_dir(directory.path())
            .expect("the directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        // The file in use is the shortest name.
        files.rotate_left(1);
        assert!(files.len() > 50, "{}", files.len());
        let all: String = files.iter().map(|file| content(file)).collect();
        let expected: String = (0..5_000).map(|number| line(number) + "\n").collect();
        assert!(all == expected, "lines are lost, split or out of order");
        assert_eq!(log.dropped.total(), 0);
    }

    #[test]
    fn a_file_that_is_renamed_or_removed_is_opened_anew_unasked() {
        let directory = directory();
        let path = directory.path().join("log");
        let (mut file, dropped, _) = open_file(&path);
        file.write_line(b"one\n");
        fs::rename(&path, directory.path().join("log.1")).expect("a rename");
        file.write_line(b"two\n");
        look(&mut file);
        file.write_line(b"three\n");
        fs::remove_file(&path).expect("it is there");
        look(&mut file);
        file.write_line(b"four\n");
        look(&mut file);
        file.write_line(b"five\n");
        assert_eq!(content(&directory.path().join("log.1")), "one\ntwo\n");
        assert_eq!(content(&path), "four\nfive\n");
        assert_eq!(dropped.total(), 0);
    }

    #[test]
    fn no_line_goes_into_a_file_that_was_removed() {
        let directory = directory();
        let path = directory.path().join("log");
        let (mut file, dropped, _) = open_file(&path);
        fs::remove_file(&path).expect("it is there");
        file.write_line(b"one\n");
        assert_eq!(content(&path), "one\n");
        assert_eq!(dropped.total(), 0);
    }

    #[test]
    fn lines_of_a_file_that_was_removed_and_can_not_be_opened_are_counted_as_lost() {
        let directory = directory();
        let path = directory.path().join("log");
        let (mut file, dropped, misplacement) = open_file(&path);
        fs::remove_file(&path).expect("it is there");
        // Not even root opens that as a log.
        fs::create_dir(&path).expect("the name is free");
        file.write_line(b"one\n");
        let since = misplacement.current().expect("it is known").since;
        look(&mut file);
        file.write_line(b"two\n");
        assert_eq!(dropped.total(), 2);
        let still = misplacement.current().expect("it lasts");
        assert_eq!(still.since, since);
        assert_eq!(still.error, "it is neither a file nor a device");
        fs::remove_dir(&path).expect("it is empty");
        look(&mut file);
        file.write_line(b"three\n");
        assert_eq!(content(&path), "three\n");
        assert_eq!(dropped.total(), 2);
        assert!(misplacement.current().is_none());
    }

    #[test]
    fn a_file_that_gets_its_name_back_is_not_misplaced_any_more() {
        let directory = directory();
        let path = directory.path().join("log");
        let (mut file, dropped, misplacement) = open_file(&path);
        let aside = directory.path().join("log.1");
        fs::rename(&path, &aside).expect("a rename");
        fs::create_dir(&path).expect("the name is free");
        look(&mut file);
        assert!(misplacement.current().is_some());
        file.write_line(b"one\n");
        fs::remove_dir(&path).expect("it is empty");
        fs::rename(&aside, &path).expect("a rename");
        look(&mut file);
        assert!(misplacement.current().is_none());
        assert_eq!(content(&path), "one\n");
        assert_eq!(dropped.total(), 0);
    }

    #[test]
    fn a_full_disk_loses_lines_and_each_is_counted() {
        let log = Log::start(Path::new("/dev/full"), Some(|_| b"#head\n".to_vec()));
        for _ in 0..10 {
            log.write("line");
        }
        log.queue.flush();
        assert_eq!(log.dropped.total(), 10);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = directory();
        let losses = Losses::new(Metrics::new().dropped_lines("a file"));
        let open = |path: &Path| {
            let (reopen, misplacement) = (Arc::default(), Misplacement::default());
            LogFile::open(path.to_owned(), None, reopen, losses.clone(), misplacement).map(drop)
        };
        open(directory.path()).expect_err("a directory");
        open(&directory.path().join("missing/log")).expect_err("no directory");
    }
}
