//! Notices that the certificate files have new content, by looking at them now and then.
//!
//! Polling finds every way in which files are replaced: a rename over the file, a rewrite in place, a Kubernetes
//! `..data` swap, a symbolic link into another directory that is put elsewhere. Notifications from the kernel miss some
//! of these and stop after others. Directories of certificates are listed each time, for the same reason.

mod backend_client_certificates;
mod directory;
mod entry;

use std::sync::Arc;
use std::time::SystemTime;

use super::certificate::{
    CertificateError, CertificateSet, ConfiguredCertificate, Inventory, Source, named_files,
};
use crate::base::file_watch::FileWatch;
use crate::config::{self, MoreCertificates};
pub use backend_client_certificates::{
    BackendClientCertificateChange, BackendClientCertificateChanges, BackendClientCertificateWatch,
};
use directory::DirectoryWatch;
use entry::EntryWatch;

/// Watches the files of all certificates of a set. The caller decides how often to [`poll`](FileWatch::poll).
#[derive(Debug)]
pub struct CertificateWatch {
    default: EntryWatch,
    more: Vec<MoreWatch>,
}

#[derive(Debug)]
enum MoreWatch {
    Pair(Box<EntryWatch>),
    Directory(DirectoryWatch),
}

/// The findings of a poll.
#[derive(Debug)]
pub struct Found {
    /// The certificates to be used from now on.
    pub certificates: CertificateSet,
    /// The changes, at least one.
    pub changes: Vec<Change>,
}

/// A change of a certificate, or of a directory of certificates.
#[derive(Debug)]
pub struct Change {
    /// The name of the certificate or directory.
    pub name: Arc<str>,
    /// The event.
    pub what: Event,
}

/// An event for a certificate or a directory of certificates.
#[derive(Debug)]
pub enum Event {
    /// New content is in use.
    InUse,
    /// New content is refused; what was in use stays.
    Refused(Arc<CertificateError>),
    /// The certificate's files are gone from their directory.
    Removed,
    /// The directory, which couldn't be read, can be read again.
    Readable,
}

impl CertificateWatch {
    /// Watches the files from which `in_use` was loaded. A change since then is noticed too.
    pub fn new(tls: &config::Tls, in_use: &CertificateSet) -> Self {
        let named = named_files(tls);
        let ordered = Source::ordered(tls).and_then(|source| {
            let entry = in_use.entries().find(|entry| entry.source == source)?;
            Some(MoreWatch::Pair(Box::new(EntryWatch::new(entry.clone()))))
        });
        let more = tls.more.iter().filter_map(|more| match more {
            MoreCertificates::Pair { certificate, .. } => {
                let of_it = |entry: &&ConfiguredCertificate| {
                    entry.source.directory.is_none() && entry.source.certificate == *certificate
                };
                let entry = in_use.entries().skip(1).find(of_it)?;
                let watch = EntryWatch::new(entry.clone());
                Some(MoreWatch::Pair(Box::new(watch)))
            }
            MoreCertificates::Directory { directory, layout } => {
                let watch = DirectoryWatch::new(directory, *layout, named.clone(), in_use);
                Some(MoreWatch::Directory(watch))
            }
        });
        Self {
            default: EntryWatch::new(in_use.default_entry().clone()),
            more: ordered.into_iter().chain(more).collect(),
        }
    }

    fn certificates(&self) -> CertificateSet {
        let mut entries = vec![self.default.entry().clone()];
        let mut directories = Vec::new();
        for more in &self.more {
            match more {
                MoreWatch::Pair(watch) => entries.push(watch.entry().clone()),
                MoreWatch::Directory(watch) => {
                    entries.extend(watch.entries().cloned());
                    directories.push(watch.state());
                }
            }
        }
        // What is in use of the central pair stays in use, however its files change.
        CertificateSet::new(Inventory::new(entries, directories))
    }
}

impl FileWatch for CertificateWatch {
    type Found = Found;

    fn poll(&mut self, now: SystemTime) -> Option<Self::Found> {
        let mut changes: Vec<Change> = self.default.poll_change(now).into_iter().collect();
        for more in &mut self.more {
            match more {
                MoreWatch::Pair(watch) => changes.extend(watch.poll_change(now)),
                MoreWatch::Directory(watch) => watch.poll(now, &mut changes),
            }
        }
        (!changes.is_empty()).then(|| Found {
            certificates: self.certificates(),
            changes,
        })
    }
}

#[cfg(test)]
mod tests;
