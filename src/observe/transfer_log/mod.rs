//! The transfer logs: files with a line for each transfer that is over and each file that was changed.
//!
//! A [`LogRecord`] is rendered once for each log (`format`) and goes through a queue (`observe::lines`) to the thread that has its
//! file (`file`): a slow disk makes no session wait, and a full one costs lines, which are counted.
//!
//! The logs belong to the process, not to a session: a reload replaces them for all that happens from then on.

mod file;
mod format;
pub mod record;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;

use self::file::{Header, LogFile, Misplaced, Misplacement};
use self::format::{json, w3c, xferlog};
use self::record::LogRecord;
use super::lines::{LineQueue, Losses};
use super::metrics::Metrics;
use crate::base::text::escape_path;
use crate::config::{TransferLog, TransferLogFormat};

/// Why a transfer log can't be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the transfer log {} can't be opened: {source}{}",
    escape_path(file),
    remedy(source)
)]
pub struct TransferLogError {
    file: PathBuf,
    source: io::Error,
}

/// The facts about the content of transfers that are logged; each implies those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToldOfContent {
    /// Nothing is logged of the content.
    Nothing,
    /// The time of the first byte is logged.
    FirstByte,
    /// The hash of the content.
    Hash,
}

/// A transfer log in use whose file can't be opened under the name that it has in the configuration.
#[derive(Debug, Clone)]
pub struct MisplacedLog {
    /// The name in the configuration.
    pub file: PathBuf,
    /// Since when the fault is known.
    pub since: SystemTime,
    /// The reason why it can't be.
    pub error: String,
}

/// The transfer logs in use.
#[derive(Debug)]
pub struct TransferLogs {
    open: ArcSwap<OpenLogs>,
    /// The name of this machine.
    computer: String,
    /// The machine's time zone, which is read from a file.
    zone: TimeZone,
}

/// The transfer logs of one configuration, open.
#[derive(Debug, Default)]
pub struct OpenLogs(Vec<Arc<OpenLog>>);

#[derive(Debug)]
struct OpenLog {
    settings: TransferLog,
    queue: LineQueue,
    /// Requests that the file be opened anew.
    reopen: Arc<AtomicBool>,
    misplacement: Misplacement,
}

impl Default for TransferLogs {
    /// The logs before any is configured: none.
    fn default() -> Self {
        let system = rustix::system::uname();
        Self {
            open: ArcSwap::default(),
            computer: system.nodename().to_string_lossy().into_owned(),
            zone: TimeZone::system(),
        }
    }
}

impl TransferLogs {
    /// Opens the logs of a configuration; those that are in use stay open. Blocks on the file system.
    ///
    /// # Errors
    /// If one can't be opened; those in use stay as they are.
    pub fn open(
        &self,
        configured: &[TransferLog],
        metrics: &Metrics,
    ) -> Result<OpenLogs, TransferLogError> {
        let former = self.open.load();
        let open = configured.iter().map(|settings| {
            let kept = former.0.iter().find(|log| log.settings == *settings);
            match kept {
                Some(log) => Ok(Arc::clone(log)),
                None => OpenLog::open(settings, metrics).map(Arc::new),
            }
        });
        Ok(OpenLogs(open.collect::<Result<_, _>>()?))
    }

    /// Makes all further records be written to these logs.
    pub fn replace(&self, open: OpenLogs, metrics: &Metrics) {
        let labels = open.0.iter().map(|log| label(&log.settings));
        let labels: Vec<String> = labels.collect();
        let former = self.open.swap(Arc::new(open));
        for label in former.0.iter().map(|log| label(&log.settings)) {
            if !labels.contains(&label) {
                metrics.forget_log(&label);
            }
        }
    }

    /// Whether no log is configured.
    pub fn is_empty(&self) -> bool {
        self.open.load().0.is_empty()
    }

    /// The facts about the content of transfers that the logs include.
    pub fn told_of_content(&self) -> ToldOfContent {
        let open = self.open.load();
        let told = open.0.iter().map(|log| match log.settings.format {
            TransferLogFormat::Json { sha256: true } => ToldOfContent::Hash,
            TransferLogFormat::Json { sha256: false } => ToldOfContent::FirstByte,
            TransferLogFormat::Xferlog | TransferLogFormat::W3c => ToldOfContent::Nothing,
        });
        told.max().unwrap_or(ToldOfContent::Nothing)
    }

    /// Writes a record to each of them.
    pub fn write(&self, record: &LogRecord<'_>) {
        for log in &self.open.load().0 {
            let line = match log.settings.format {
                TransferLogFormat::Json { sha256 } => Some(json::line(record, sha256)),
                TransferLogFormat::Xferlog => xferlog::line(record, &self.zone),
                TransferLogFormat::W3c => Some(w3c::line(record, &self.computer)),
            };
            if let Some(line) = line {
                log.queue.push(line);
            }
        }
    }

    /// Makes every file be opened anew, under the name that it has in the configuration.
    pub fn reopen(&self) {
        for log in &self.open.load().0 {
            log.reopen.store(true, Ordering::Relaxed);
            log.queue.wake();
        }
    }

    /// The logs whose files can't be opened under their names.
    pub fn misplaced(&self) -> Vec<MisplacedLog> {
        let open = self.open.load();
        let misplaced = open.0.iter().filter_map(|log| {
            let Misplaced { since, error } = log.misplacement.current()?;
            Some(MisplacedLog {
                file: log.settings.file.clone(),
                since,
                error,
            })
        });
        misplaced.collect()
    }

    /// Waits until the lines so far are written, but only a moment for each log. Blocks.
    pub fn flush(&self) {
        for log in &self.open.load().0 {
            log.queue.flush();
        }
    }
}

impl OpenLog {
    fn open(settings: &TransferLog, metrics: &Metrics) -> Result<Self, TransferLogError> {
        let failed = |source| TransferLogError {
            file: settings.file.clone(),
            source,
        };
        let header: Option<Header> = match settings.format {
            TransferLogFormat::W3c => Some(w3c::header),
            TransferLogFormat::Json { .. } | TransferLogFormat::Xferlog => None,
        };
        let losses = Losses::new(metrics.dropped_lines(&label(settings)));
        let reopen = Arc::<AtomicBool>::default();
        let (path, flag) = (settings.file.clone(), Arc::clone(&reopen));
        let misplacement = Misplacement::default();
        let file = LogFile::open(path, header, flag, losses.clone(), misplacement.clone())
            .map_err(failed)?;
        Ok(Self {
            settings: settings.clone(),
            queue: LineQueue::start("transfer-log", file, losses).map_err(failed)?,
            reopen,
            misplacement,
        })
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": make its directory",
        io::ErrorKind::PermissionDenied => ": let the user that Portcullis runs as write there",
        _ => "",
    }
}

/// Whether there is a place for the file of this log; whether this process may write there is not tried.
///
/// # Errors
/// If its directory is missing, or it is neither a file nor a device.
pub fn check_place(log: &TransferLog) -> Result<(), TransferLogError> {
    file::check_place(&log.file).map_err(|source| TransferLogError {
        file: log.file.clone(),
        source,
    })
}

/// The label of a log in the metrics.
fn label(settings: &TransferLog) -> String {
    escape_path(&settings.file)
}
