//! The directory of what is kept: the account, the certificate and its key, and the schedule. Everything blocks on the file
//! system.
//!
//! | file | content |
//! |---|---|
//! | `account.json` | the account's URL and key, and what it was made with |
//! | `default.crt`, `default.key` | the certificate's chain and its key, as the watch over certificates reads them |
//! | `schedule.json` | the recent orders, what the authority suggests, and what the certificate was ordered for |
//! | `records.json` | the TXT records of an order that runs, and those that earlier ones have left |
//! | `default.crt.new`, `default.key.new` | an issued pair until it is in place; by these names no layout of `tls.more` serves it |
//! | `lock` | held by the instance that orders; empty |
//!
//! Each file is replaced whole: readers find the old one or the new one, however the process ends.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use instant_acme::{AccountCredentials, CertificateIdentifier};
use rustix::fs::{FlockOperation, OFlags};
use serde::{Deserialize, Serialize};

use super::challenge::dns;
use super::schedule::{Attempts, Held, Suggestion};
use crate::base::file::{ReadError, read_bounded};
use crate::base::replace::write_new;
use crate::base::text::escape_path;
use crate::config::AcmeSettings;
use crate::tls::{CertificateError, CertificatePair};

/// How many names of a certificate that was not wanted are shown.
const NAMES_SHOWN: usize = 5;

/// How much room an order needs for its pair and the schedule, in bytes.
const ROOM_SIZE: usize = 32 * 1024;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 256 * 1024;

const ACCOUNT: &str = "account.json";
const SCHEDULE: &str = "schedule.json";
/// A schedule that can't be read.
const BROKEN_SCHEDULE: &str = "schedule.json.broken";
const RECORDS: &str = "records.json";
/// Records that can't be read.
const BROKEN_RECORDS: &str = "records.json.broken";
const CERTIFICATE: &str = "default.crt";
const PRIVATE_KEY: &str = "default.key";
/// The pair before it is in place.
const NEW_CERTIFICATE: &str = "default.crt.new";
const NEW_PRIVATE_KEY: &str = "default.key.new";
/// Written and removed again, to see whether the pair will find room.
const ROOM: &str = "room";
const LOCK: &str = "lock";

/// Why the directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or the directory itself can't be read or written.
    #[error("{}: {cause}", escape_path(path))]
    Io {
        /// The file, or the directory.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// A file holds something else.
    #[error(
        "{}: corrupt ({cause}); remove the file to start over",
        escape_path(path)
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The reader's error.
        cause: String,
    },
}

/// The settings that a certificate is ordered for: one for any others is not what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wanted {
    directory: String,
    names: Vec<String>,
    profile: Option<String>,
}

impl Wanted {
    pub fn by(settings: &AcmeSettings) -> Self {
        let mut names: Vec<String> = settings.names.iter().map(ToString::to_string).collect();
        names.sort();
        Self {
            directory: settings.directory_url.clone(),
            names,
            profile: settings.profile.clone(),
        }
    }

    /// Whether this certificate is for these names and no others: any other name would be shown to clients that ask for it.
    pub fn is_matched_by(&self, pair: &CertificatePair) -> bool {
        let set = |names: &[String]| -> BTreeSet<String> {
            names.iter().map(|name| name.to_ascii_lowercase()).collect()
        };
        pair.addresses.is_empty() && set(&pair.names) == set(&self.names)
    }

    /// The names, separated by blanks, for operators.
    pub fn names(&self) -> String {
        self.names.join(" ")
    }
}

/// Why an order failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastFailure {
    pub stage: String,
    pub text: String,
}

/// The schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoredSchedule {
    /// The settings that the certificate was ordered for.
    pub issued_for: Option<Wanted>,
    /// The settings that the attempts were made for.
    pub tried_for: Option<Wanted>,
    pub attempts: Attempts,
    pub suggestion: Option<Suggestion>,
    pub last_failure: Option<LastFailure>,
}

/// An account, and what it was made with.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAccount {
    pub directory: String,
    pub contact: Vec<String>,
    pub external_account: Option<String>,
    pub credentials: AccountCredentials,
}

/// The certificate that is there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Certificate {
    /// Whether the certificate is for the settings in use.
    pub is_wanted: bool,
    pub held: Held,
    /// By which the authority knows it; `None` if it can't be named.
    pub id: Option<CertificateIdentifier<'static>>,
}

/// How far the authority's clock may be ahead of ours: what it has issued by then is in use as soon as it is valid here.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);

/// A pair that the authority has issued.
fn load_issued(
    certificate: &Path,
    private_key: &Path,
    now: SystemTime,
) -> Result<CertificatePair, CertificateError> {
    match CertificatePair::load(certificate, private_key, now) {
        Err(CertificateError::NotYetValid { not_before, .. }) if not_before <= now + CLOCK_SKEW => {
            CertificatePair::load(certificate, private_key, not_before)
        }
        loaded => loaded,
    }
}

/// The directory with the state of orders.
#[derive(Debug, Clone)]
pub(super) struct State {
    directory: PathBuf,
}

/// Held by the one instance that orders. The system releases it with the process, however that ends, and NFS with its lease.
#[derive(Debug)]
pub(super) struct Lock {
    _held: File,
}

impl State {
    /// Opens this directory, and makes it if it isn't there.
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let state = Self {
            directory: directory.to_owned(),
        };
        state.make()?;
        Ok(state)
    }

    /// Makes the directory, if it isn't there any more.
    pub fn make(&self) -> Result<(), StateError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&self.directory).map_err(at(&self.directory))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The right to order; `None` if another instance has it.
    pub fn lock(&self) -> Result<Option<Lock>, StateError> {
        let path = self.path(LOCK);
        let mut options = OpenOptions::new();
        // Never read or written, but NFS wants a lock's file open for writing.
        options.write(true).create(true).truncate(false).mode(0o600);
        // A pipe without a reader is an error then, and not waited for.
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
        let file = options.open(&path).map_err(at(&path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { _held: file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(at(&path)(error.into())),
        }
    }

    /// The schedule; an empty one if there is none.
    pub fn schedule(&self) -> Result<StoredSchedule, StateError> {
        Ok(self.read(SCHEDULE)?.unwrap_or_default())
    }

    /// The schedule. One that can't be read would keep the certificate from being renewed for ever: it is set aside, and what it
    /// may have held against an order now is taken for one that has just failed.
    pub fn schedule_or_new(
        &self,
        wanted: &Wanted,
        now: SystemTime,
    ) -> Result<StoredSchedule, StateError> {
        match self.schedule() {
            Err(StateError::Malformed { .. }) => {}
            other => return other,
        }
        let lock = self.lock()?;
        let broken = match self.schedule() {
            // The holder of the lock does it.
            Err(error @ StateError::Malformed { .. }) if lock.is_some() => error,
            other => return other,
        };
        let aside = self.set_aside(SCHEDULE, BROKEN_SCHEDULE)?;
        tracing::warn!(error = %broken, aside = %escape_path(&aside), "corrupt schedule of orders renamed, starting a new one");
        let mut record = StoredSchedule {
            tried_for: Some(wanted.clone()),
            ..StoredSchedule::default()
        };
        record.attempts.begin(now);
        self.set_schedule(&record)?;
        Ok(record)
    }

    /// Keeps the schedule.
    pub fn set_schedule(&self, record: &StoredSchedule) -> Result<(), StateError> {
        self.write(SCHEDULE, record)
    }

    /// Keeps how an order has ended that was begun with the record `begun`, if that is still the record there: another instance
    /// may have ordered since. Returns whether that is done; not while another one is at work.
    pub fn catch_up(
        &self,
        begun: &StoredSchedule,
        ended: &StoredSchedule,
    ) -> Result<bool, StateError> {
        let Some(_lock) = self.lock()? else {
            return Ok(false);
        };
        match self.schedule() {
            Ok(kept) if is_kept_alike(&kept, begun) => self.set_schedule(ended)?,
            // A corrupt one is set aside when it is looked at next.
            Ok(_) | Err(StateError::Malformed { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// The records that earlier orders have left. Those that can't be read would fail each order from now on: they are set aside.
    /// For the holder of the lock.
    pub fn left_records_or_none(&self) -> Result<Vec<dns::TxtRecord>, StateError> {
        match self.read(RECORDS) {
            Err(error @ StateError::Malformed { .. }) => {
                let aside = self.set_aside(RECORDS, BROKEN_RECORDS)?;
                tracing::warn!(
                    %error,
                    aside = %escape_path(&aside),
                    "corrupt list of the TXT records that earlier orders have left renamed: they stay until they are removed by hand"
                );
                Ok(Vec::new())
            }
            read => Ok(read?.unwrap_or_default()),
        }
    }

    /// The file of the records.
    pub fn records_file(&self) -> PathBuf {
        self.path(RECORDS)
    }

    fn set_aside(&self, file: &str, name: &str) -> Result<PathBuf, StateError> {
        let (path, aside) = (self.path(file), self.path(name));
        fs::rename(&path, &aside).map_err(at(&path))?;
        Ok(aside)
    }

    /// Whether a pair could be written now. Leaves nothing.
    pub fn try_to_write(&self) -> Result<(), StateError> {
        let path = self.path(ROOM);
        let written = write_synced(&path, &[0; ROOM_SIZE]);
        let removed = remove_if_there(&path);
        written.and(removed)
    }

    /// Keeps these records, and no others.
    pub fn keep_records(&self, records: &[dns::TxtRecord]) -> Result<(), StateError> {
        if !records.is_empty() {
            return self.write(RECORDS, &records);
        }
        remove_if_there(&self.path(RECORDS))
    }

    /// The account, if there is one.
    pub fn account(&self) -> Result<Option<StoredAccount>, StateError> {
        self.read(ACCOUNT)
    }

    /// Keeps the account.
    pub fn set_account(&self, account: &StoredAccount) -> Result<(), StateError> {
        self.write(ACCOUNT, account)
    }

    /// Forgets the account, which the authority doesn't know any more.
    pub fn forget_account(&self) -> Result<(), StateError> {
        let path = self.path(ACCOUNT);
        fs::remove_file(&path).map_err(at(&path))
    }

    /// Whether a certificate file exists, of whatever kind.
    pub fn has_certificate(&self) -> bool {
        self.path(CERTIFICATE).exists()
    }

    /// The certificate that is there.
    ///
    /// # Errors
    /// Why it can't be served.
    pub fn certificate(
        &self,
        wanted: &Wanted,
        record: &StoredSchedule,
        now: SystemTime,
    ) -> Result<Certificate, CertificateError> {
        let pair = load_issued(&self.path(CERTIFICATE), &self.path(PRIVATE_KEY), now)?;
        // Without a schedule it is unknown what it was ordered for.
        let is_wanted = record.issued_for.as_ref().is_none_or(|it| it == wanted);
        let leaf = pair.key.cert.first();
        Ok(Certificate {
            is_wanted: is_wanted && wanted.is_matched_by(&pair),
            held: Held {
                not_before: pair.not_before,
                not_after: pair.not_after,
                spread: spread(&pair.fingerprint),
            },
            id: leaf.and_then(|leaf| {
                let id = CertificateIdentifier::try_from(leaf).ok()?;
                Some(id.into_owned())
            }),
        })
    }

    /// Puts a new pair in the place of the one there, if it can be served and is what is wanted: the key first, and both before
    /// the watch has looked twice. One that is refused doesn't stay.
    pub fn replace_pair(
        &self,
        certificate: &str,
        private_key: &str,
        wanted: &Wanted,
        now: SystemTime,
    ) -> Result<CertificatePair, PairError> {
        let written = self.write_new_pair(certificate, private_key, wanted, now);
        if written.is_err()
            && let Err(error) = self.remove_new_pair()
        {
            tracing::warn!(%error, "a new certificate that was refused can't be removed");
        }
        let pair = written?;
        self.put_in_place()?;
        Ok(pair)
    }

    fn write_new_pair(
        &self,
        certificate: &str,
        private_key: &str,
        wanted: &Wanted,
        now: SystemTime,
    ) -> Result<CertificatePair, PairError> {
        let (new_certificate, new_key) = (self.path(NEW_CERTIFICATE), self.path(NEW_PRIVATE_KEY));
        write_synced(&new_key, private_key.as_bytes())?;
        write_synced(&new_certificate, certificate.as_bytes())?;
        let pair = load_issued(&new_certificate, &new_key, now)?;
        match wanted.is_matched_by(&pair) {
            true => Ok(pair),
            false => Err(PairError::OtherNames(some_names(&pair))),
        }
    }

    fn remove_new_pair(&self) -> Result<(), StateError> {
        remove_if_there(&self.path(NEW_CERTIFICATE))?;
        remove_if_there(&self.path(NEW_PRIVATE_KEY))
    }

    fn put_in_place(&self) -> Result<(), StateError> {
        for (from, to) in [
            (NEW_PRIVATE_KEY, PRIVATE_KEY),
            (NEW_CERTIFICATE, CERTIFICATE),
        ] {
            let to = self.path(to);
            fs::rename(self.path(from), &to).map_err(at(&to))?;
        }
        sync_directory(&self.directory)
    }

    /// Finishes what a process left undone that ended between the two files of a pair: a certificate that belongs to the key in
    /// place goes beside it. Of one that ended before, nothing stays. For the holder of the lock.
    pub fn recover(&self, now: SystemTime) -> Result<(), StateError> {
        let (new, key) = (self.path(NEW_CERTIFICATE), self.path(PRIVATE_KEY));
        if self.path(NEW_PRIVATE_KEY).exists() {
            return self.remove_new_pair();
        }
        if load_issued(&new, &key, now).is_ok() {
            let to = self.path(CERTIFICATE);
            fs::rename(&new, &to).map_err(at(&to))?;
            sync_directory(&self.directory)?;
        }
        Ok(())
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, file: &str) -> Result<Option<T>, StateError> {
        let path = self.path(file);
        let bytes = match read_bounded(&path, MAX_FILE) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(ReadError::Io(error)) => return Err(at(&path)(error)),
            Err(ReadError::NotAFile) => return Err(malformed(path, "not a regular file")),
            Err(ReadError::TooLong) => return Err(malformed(path, "too long")),
        };
        // The reader's own words could repeat a part of the key.
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| malformed(path, "it can't be read"))
    }

    fn write(&self, file: &str, value: &impl Serialize) -> Result<(), StateError> {
        let (path, new) = (self.path(file), self.path(&format!("{file}.new")));
        let mut bytes = serde_json::to_vec(value).map_err(|error| at(&path)(error.into()))?;
        bytes.push(b'\n');
        write_synced(&new, &bytes)?;
        fs::rename(&new, &path).map_err(at(&path))?;
        sync_directory(&self.directory)
    }
}

/// Whether both are the same in the file, where times are whole seconds.
fn is_kept_alike(one: &StoredSchedule, other: &StoredSchedule) -> bool {
    let kept = |record| serde_json::to_value(record).ok();
    kept(one) == kept(other)
}

/// Why a pair is not put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PairError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("what was issued can't be served: {0}")]
    Certificate(#[from] CertificateError),
    #[error("what was issued is for other names: {0}")]
    OtherNames(String),
}

/// The first names of a certificate.
fn some_names(pair: &CertificatePair) -> String {
    let addresses = pair.addresses.iter().map(ToString::to_string);
    let all: Vec<String> = pair.names.iter().cloned().chain(addresses).collect();
    match all.len() {
        0 => "none".to_owned(),
        1..=NAMES_SHOWN => all.join(" "),
        count => {
            let first = all[..NAMES_SHOWN].join(" ");
            format!("{first} and {} more", count - NAMES_SHOWN)
        }
    }
}

/// A number from 0 to 1 that depends on a certificate's fingerprint alone.
fn spread(fingerprint: &[u8; 32]) -> f64 {
    let [a, b, c, d, ..] = *fingerprint;
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

fn remove_if_there(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    write_new(path, bytes)
        .and_then(|file| file.sync_all())
        .map_err(at(path))
}

/// Syncs a directory, so that names that were changed outlast a loss of power.
fn sync_directory(directory: &Path) -> Result<(), StateError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(at(directory))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |cause| StateError::Io { path, cause }
}

fn malformed(path: PathBuf, cause: &str) -> StateError {
    StateError::Malformed {
        path,
        cause: cause.to_owned(),
    }
}

/// Whether orders could use this directory, or one that they would have to make. Changes nothing.
///
/// # Errors
/// What is wrong with it.
pub fn check_directory(directory: &Path) -> Result<(), StateError> {
    let mut existing = directory;
    while !existing.exists() {
        match existing.parent().filter(|it| !it.as_os_str().is_empty()) {
            Some(parent) => existing = parent,
            None => existing = Path::new("."),
        }
    }
    let is_directory = fs::metadata(existing).map_err(at(existing))?.is_dir();
    if !is_directory {
        let kind = io::ErrorKind::NotADirectory;
        return Err(at(existing)(kind.into()));
    }
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(existing, access).map_err(|error| at(existing)(error.into()))
}

#[cfg(test)]
mod tests;
