//! The watch over a directory of certificates: those in it, those that appear, and those that vanish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::entry::EntryWatch;
use super::{Change, Event};
use crate::config::CertificateLayout;
use crate::tls::certificate::{
    CertificateError, CertificateSet, ConfiguredCertificate, DirectoryState, ListedDirectory,
    Source,
};

/// Watches the certificates in one directory.
#[derive(Debug)]
pub(super) struct DirectoryWatch {
    directory: ListedDirectory,
    layout: CertificateLayout,
    /// Files that the configuration names, which are watched already.
    named: Vec<PathBuf>,
    entries: BTreeMap<Arc<str>, EntryWatch>,
    /// The entries that the last poll didn't find: one that is gone in two polls is no longer served.
    missing: BTreeSet<Arc<str>>,
    state: State,
}

/// Whether the directory can be read. As with files, two polls have to agree.
#[derive(Debug)]
enum State {
    Readable,
    UnreadableOnce,
    Unreadable(Arc<CertificateError>),
}

impl DirectoryWatch {
    /// Watches the directory, beginning with the certificates of it that are in use.
    pub fn new(
        directory: &Path,
        layout: CertificateLayout,
        named: Vec<PathBuf>,
        in_use: &CertificateSet,
    ) -> Self {
        let entries = in_use.entries().filter(|entry| {
            let found_in = entry.source.directory.as_deref();
            found_in == Some(directory)
        });
        let entries = entries.map(|entry| {
            let name = Arc::clone(&entry.source.name);
            (name, EntryWatch::new(entry.clone()))
        });
        Self {
            directory: in_use
                .listed(directory)
                .cloned()
                .unwrap_or_else(|| ListedDirectory::new(directory)),
            layout,
            named,
            entries: entries.collect(),
            missing: BTreeSet::new(),
            state: match in_use.fault_of(directory) {
                Some(error) => State::Unreadable(Arc::clone(error)),
                None => State::Readable,
            },
        }
    }

    /// The certificates found in the directory; not those that have only just appeared.
    pub fn entries(&self) -> impl Iterator<Item = &ConfiguredCertificate> {
        let entries = self.entries.values().map(EntryWatch::entry);
        entries.filter(|entry| entry.was_tried())
    }

    /// The state of the directory itself.
    pub fn state(&self) -> DirectoryState {
        DirectoryState {
            directory: self.directory.clone(),
            fault: match &self.state {
                State::Unreadable(error) => Some(Arc::clone(error)),
                State::Readable | State::UnreadableOnce => None,
            },
        }
    }

    /// Lists the directory, and polls all certificates in it.
    pub fn poll(&mut self, now: SystemTime, changes: &mut Vec<Change>) {
        let known = !self.entries.is_empty();
        match self.directory.list(self.layout, &self.named, known) {
            Ok(sources) => {
                if let State::Unreadable(_) = self.state {
                    changes.push(self.change(Event::Readable));
                }
                self.state = State::Readable;
                self.compare(sources, changes);
            }
            Err(error) => {
                // All of them can't be read then, which is one fault.
                self.state = self.unreadable(error, changes);
                return;
            }
        }
        // One that isn't listed is gone with the next poll, or back.
        let polled = self.entries.iter_mut();
        let polled = polled.filter(|(name, _)| !self.missing.contains(*name));
        changes.extend(polled.filter_map(|(_, watch)| watch.poll_change(now)));
    }

    fn unreadable(&self, error: CertificateError, changes: &mut Vec<Change>) -> State {
        match &self.state {
            State::Readable => State::UnreadableOnce,
            State::UnreadableOnce => {
                let error = Arc::new(error);
                changes.push(self.change(Event::Refused(Arc::clone(&error))));
                State::Unreadable(error)
            }
            State::Unreadable(former) => State::Unreadable(Arc::clone(former)),
        }
    }

    fn compare(&mut self, sources: Vec<Source>, changes: &mut Vec<Change>) {
        let mut missing: BTreeSet<Arc<str>> = self.entries.keys().cloned().collect();
        for source in sources {
            missing.remove(&source.name);
            let name = Arc::clone(&source.name);
            let new = || EntryWatch::new(ConfiguredCertificate::new(source));
            self.entries.entry(name).or_insert_with(new);
        }
        let gone: Vec<Arc<str>> = missing.intersection(&self.missing).cloned().collect();
        for name in gone {
            missing.remove(&name);
            let removed = self.entries.remove(&name);
            if removed.is_some_and(|watch| watch.entry().was_tried()) {
                changes.push(Change {
                    name,
                    what: Event::Removed,
                });
            }
        }
        self.missing = missing;
    }

    fn change(&self, what: Event) -> Change {
        Change {
            name: Arc::clone(self.directory.name()),
            what,
        }
    }
}
