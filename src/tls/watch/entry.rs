//! The watch over the two files of one certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Change, Event};
use crate::base::file::FileStamp;
use crate::tls::certificate::{CertificateError, Entry, TryResult};

/// Watches one pair of certificate files.
#[derive(Debug)]
pub(super) struct EntryWatch {
    entry: Entry,
    /// The state of the files when they were last tried.
    settled: Option<PairStamp>,
    /// A newer state, seen once. Two files are never replaced at one instant, so a state counts when it is seen twice.
    changing: Option<PairStamp>,
    /// When content that was refused for its dates deserves another try.
    retry: Option<Retry>,
}

impl EntryWatch {
    pub fn new(entry: Entry) -> Self {
        let refusal = entry.refusal().map(|error| &**error);
        Self {
            retry: refusal.and_then(Retry::after),
            entry,
            settled: None,
            changing: None,
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
        let stamp = PairStamp::of(&source.certificate, &source.private_key);
        if self.settled.as_ref() == Some(&stamp) {
            self.changing = None;
            return match self.retry {
                Some(retry) if retry.is_due(now) => self.try_again(now),
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
        self.try_files(now)
    }

    fn try_again(&mut self, now: SystemTime) -> Option<TryResult> {
        self.entry.forget_what_was_tried();
        self.try_files(now)
    }

    fn try_files(&mut self, now: SystemTime) -> Option<TryResult> {
        let result = self.entry.try_files(now);
        if self.entry.is_unreadable() {
            // That may be over without the files changing, as when descriptors run out: the next poll tries them again.
            self.changing = self.settled.take();
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
