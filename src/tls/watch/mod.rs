//! Notices that the certificate files have new content, by looking at them now and then.
//!
//! Polling finds every way in which files are replaced: a rename over the file, a rewrite in place, a Kubernetes
//! `..data` swap, a symbolic link into another directory that is put elsewhere. Notifications from the kernel miss some
//! of these and stop after others.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::certificate::{
    CertificateError, CertificatePair, CertificateSet, ContentDigest, PairFiles,
};
use crate::base::file::{self, FileStamp};
use crate::config;

/// Watches the files of all certificates of a set. The caller decides how often to [`poll`](file::Watch::poll).
#[derive(Debug)]
pub struct Watch {
    default: PairWatch,
}

impl Watch {
    /// Watches the files from which `in_use` was loaded. A change since then is noticed too.
    pub fn new(tls: &config::Tls, in_use: &CertificateSet) -> Self {
        let in_use = in_use.default_pair();
        Self {
            default: PairWatch::new(&tls.certificate, &tls.private_key, in_use),
        }
    }
}

impl file::Watch for Watch {
    /// The result of loading them: a set to use, or why the set in use stays.
    type Found = Result<CertificateSet, CertificateError>;

    const CONTENT: &'static str = "certificate";

    fn poll(&mut self, now: SystemTime) -> Option<Self::Found> {
        let found = self.default.poll(now)?;
        Some(found.map(CertificateSet::from))
    }
}

/// Watches one pair of certificate files.
#[derive(Debug)]
struct PairWatch {
    certificate: PathBuf,
    private_key: PathBuf,
    /// What was last tried, for better or worse.
    last_content: LastContent,
    /// The state of the files when that was.
    settled: Option<PairStamp>,
    /// A newer state, seen once. Two files are never replaced at one instant, so a state counts when it is seen twice.
    changing: Option<PairStamp>,
    /// When content that was refused for not being valid yet deserves another try.
    retry_at: Option<SystemTime>,
}

#[derive(Debug, PartialEq, Eq)]
enum LastContent {
    Content(ContentDigest),
    Unreadable,
}

impl PairWatch {
    fn new(certificate: &Path, private_key: &Path, in_use: &CertificatePair) -> Self {
        Self {
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            last_content: LastContent::Content(in_use.content),
            settled: None,
            changing: None,
            retry_at: None,
        }
    }

    /// Polls the files. When their content is new and was the same in two polls, returns the result of loading it: a
    /// pair to use, or why the pair in use stays. Each content is tried once, except that a certificate which isn't
    /// valid yet is tried again when it is: a clock that is a minute late must not cost a renewal.
    fn poll(&mut self, now: SystemTime) -> Option<Result<CertificatePair, CertificateError>> {
        let stamp = PairStamp::of(&self.certificate, &self.private_key);
        if self.settled.as_ref() == Some(&stamp) {
            self.changing = None;
            return match self.retry_at {
                Some(at) if now >= at => self.try_again(now),
                _ => None,
            };
        }
        if self.changing.as_ref() != Some(&stamp) {
            self.changing = Some(stamp);
            return None;
        }
        // Stamped before reading: a change in between makes another stamp, and the next polls see it.
        self.changing = None;
        self.settled = Some(stamp);
        let files = match PairFiles::read(&self.certificate, &self.private_key) {
            Ok(files) => files,
            Err(error) => {
                self.retry_at = None;
                let known = std::mem::replace(&mut self.last_content, LastContent::Unreadable);
                return (known != LastContent::Unreadable).then(|| Err(error.into()));
            }
        };
        let content = LastContent::Content(files.digest());
        if self.last_content == content {
            return None;
        }
        self.last_content = content;
        let result = files.check(now);
        self.retry_at = valid_from(&result);
        Some(result)
    }

    fn try_again(&mut self, now: SystemTime) -> Option<Result<CertificatePair, CertificateError>> {
        let result = CertificatePair::load(&self.certificate, &self.private_key, now);
        self.retry_at = valid_from(&result);
        if let Ok(pair) = &result {
            self.last_content = LastContent::Content(pair.content);
        }
        Some(result)
    }
}

fn valid_from(result: &Result<CertificatePair, CertificateError>) -> Option<SystemTime> {
    match result {
        Err(CertificateError::NotYetValid { not_before, .. }) => Some(*not_before),
        _ => None,
    }
}

/// Distinguishes two states of a pair of files without reading them.
#[derive(Debug, PartialEq, Eq)]
struct PairStamp {
    certificate: Option<FileStamp>,
    private_key: Option<FileStamp>,
}

impl PairStamp {
    fn of(certificate: &Path, private_key: &Path) -> Self {
        Self {
            certificate: FileStamp::of(certificate),
            private_key: FileStamp::of(private_key),
        }
    }
}

#[cfg(test)]
mod tests;
