//! The watch over the two files of one certificate.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Change, Event};
use crate::base::file_watch::{Debounce, FileStamp, Stability};
use crate::tls::certificate::{CertificateError, ConfiguredCertificate, TryResult};

/// Watches one pair of certificate files.
#[derive(Debug)]
pub(super) struct EntryWatch {
    entry: ConfiguredCertificate,
    /// State of the certificate and its key; settled when they were last tried.
    state: Debounce<[Option<FileStamp>; 2]>,
    /// When content that was refused for its dates deserves another try.
    retry: Option<Retry>,
    /// The error with which the files couldn't be read last, which is reported once.
    unreadable: Option<String>,
}

impl EntryWatch {
    pub fn new(entry: ConfiguredCertificate) -> Self {
        let refusal = entry.refusal().map(|error| &**error);
        let unreadable = refusal.filter(|_| entry.content().is_none());
        Self {
            retry: refusal.and_then(Retry::after),
            unreadable: unreadable.map(ToString::to_string),
            entry,
            state: Debounce::default(),
        }
    }

    pub fn entry(&self) -> &ConfiguredCertificate {
        &self.entry
    }

    /// As [`poll`](Self::poll), in the words of the watch over all.
    pub fn poll_change(&mut self, now: SystemTime) -> Option<Change> {
        let result = self.poll(now)?;
        Some(Change {
            name: Arc::clone(&self.entry.source.name),
            what: match result {
                Ok(_) => Event::InUse,
                Err(error) => Event::Refused(error),
            },
        })
    }

    /// Polls the files. When their content is new and was the same in two polls, returns the result of loading it: a pair to
    /// use, or why the pair in use stays. Each content that can be read is tried once, except that a certificate which isn't
    /// valid by its dates is tried again when it is: a clock that is wrong for a while must not cost a renewal.
    pub fn poll(&mut self, now: SystemTime) -> Option<TryResult> {
        let source = &self.entry.source;
        let stamps = [&source.certificate, &source.private_key].map(|file| FileStamp::of(file));
        let is_due = self.retry.is_some_and(|retry| retry.is_due(now));
        let result = match self.state.observe(stamps) {
            Stability::Settled => self.try_files(now, false),
            Stability::Unchanged if is_due => self.try_files(now, true),
            Stability::Unchanged | Stability::Changing => None,
        }?;
        let error = result.as_ref().err();
        self.retry = error.and_then(|error| Retry::after(error));
        Some(result)
    }

    /// Loads the files, unless that was done before; the content that was refused last once more, if it `is_retry`.
    fn try_files(&mut self, now: SystemTime, is_retry: bool) -> Option<TryResult> {
        let files = match self.entry.read() {
            Ok(files) => {
                self.unreadable = None;
                files?
            }
            Err(error) => {
                self.state.try_again();
                let unreadable = Some(error.to_string());
                let told = std::mem::replace(&mut self.unreadable, unreadable.clone());
                return (told != unreadable).then(|| self.entry.refuse_unreadable(error));
            }
        };
        let content = files.digest();
        if !is_retry && self.entry.content() == Some(content) {
            return None;
        }
        let checked = files.check(now);
        Some(self.entry.adopt(content, checked))
    }
}

/// When a certificate that was refused for its dates is good.
#[derive(Debug, Clone, Copy)]
enum Retry {
    /// The certificate is good from then on.
    From(SystemTime),
    /// The certificate is good before then: the clock was ahead, and has been set back.
    Until(SystemTime),
}

impl Retry {
    fn after(error: &CertificateError) -> Option<Self> {
        match error {
            CertificateError::NotYetValid { not_before, .. } => Some(Self::From(*not_before)),
            CertificateError::Expired { not_after, .. } => Some(Self::Until(*not_after)),
            _ => None,
        }
    }

    fn is_due(self, now: SystemTime) -> bool {
        match self {
            Self::From(time) => now >= time,
            Self::Until(time) => now <= time,
        }
    }
}
