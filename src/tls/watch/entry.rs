//! The watch over the two files of one certificate.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Change, Event};
use crate::base::file_watch::{Debounce, FileStamp, Stability};
use crate::tls::certificate::{CertificateError, Entry, TryResult};

/// Watches one pair of certificate files.
#[derive(Debug)]
pub(super) struct EntryWatch {
    entry: Entry,
    /// Of the certificate and its key; settled when they were last tried.
    state: Debounce<[Option<FileStamp>; 2]>,
    /// When content that was refused for its dates deserves another try.
    retry: Option<Retry>,
}

impl EntryWatch {
    pub fn new(entry: Entry) -> Self {
        let refusal = entry.refusal().map(|error| &**error);
        Self {
            retry: refusal.and_then(Retry::after),
            entry,
            state: Debounce::new(),
        }
    }

    pub fn entry(&self) -> &Entry {
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
        match (self.state.observe(stamps), self.retry) {
            (Stability::Settled, _) => self.try_files(now),
            (Stability::Unchanged, Some(retry)) if retry.is_due(now) => self.try_again(now),
            (Stability::Unchanged | Stability::Changing, _) => None,
        }
    }

    fn try_again(&mut self, now: SystemTime) -> Option<TryResult> {
        self.entry.forget_what_was_tried();
        self.try_files(now)
    }

    fn try_files(&mut self, now: SystemTime) -> Option<TryResult> {
        let result = self.entry.try_files(now);
        if self.entry.is_unreadable() {
            self.state.try_again();
        }
        let result = result?;
        let error = result.as_ref().err();
        self.retry = error.and_then(|error| Retry::after(error));
        Some(result)
    }
}

/// When a certificate that was refused for its dates is good.
#[derive(Debug, Clone, Copy)]
enum Retry {
    /// From then on.
    From(SystemTime),
    /// Before then: the clock was ahead, and has been set back.
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
