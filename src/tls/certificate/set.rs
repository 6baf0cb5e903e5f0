//! The certificates that clients are shown, and which of them a client gets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::choice::{self, Asked, NameIndex, Standing};
use super::entry::ConfiguredCertificate;
use super::source::{self, CertificateOrigin, ListedDirectory, Source};
use super::{CertificateError, CertificatePair};
use crate::config::{self, MoreCertificates};

/// The certificates of one configuration.
#[derive(Debug)]
pub struct CertificateSet {
    /// For clients that name no host, or one that no certificate is for.
    /// Where it is among the entries; none while what is ordered isn't there yet.
    default: Option<(usize, Arc<CertificatePair>)>,
    inventory: Inventory,
    names: NameIndex,
    /// The positions of the certificates that have every name of the default one.
    beside_default: Vec<usize>,
}

/// All certificates of a configuration, whether they can be served or not.
#[derive(Debug)]
pub struct Inventory {
    /// The first is the central pair.
    entries: Vec<ConfiguredCertificate>,
    directories: Vec<DirectoryState>,
}

/// A directory of certificates, and why it can't be read, if it can't.
#[derive(Debug, Clone)]
pub(in crate::tls) struct DirectoryState {
    pub directory: ListedDirectory,
    pub fault: Option<Arc<CertificateError>>,
}

/// A directory of certificates that can't be read. The certificates found before stay in use.
#[derive(Debug, Clone)]
pub struct DirectoryFault {
    /// The directory, as the configuration names it.
    pub directory: Arc<str>,
    /// The error.
    pub error: Arc<CertificateError>,
}

impl Inventory {
    /// Loads all certificates that the configuration names. A file that can't be served stays as `former` has it, while that is
    /// valid.
    ///
    /// Blocks on the file system.
    pub fn load(tls: &config::Tls, former: Option<&CertificateSet>, now: SystemTime) -> Self {
        let former_entries = || former.into_iter().flat_map(CertificateSet::entries);
        let by_name: HashMap<&str, &ConfiguredCertificate> = former_entries()
            .map(|entry| (&*entry.source.name, entry))
            .collect();
        let former_of = |source: &Source| {
            let former = by_name.get(&*source.name).copied();
            former.filter(|former| former.source == *source)
        };
        let load = |source: Source| {
            let former = former_of(&source);
            ConfiguredCertificate::load(source, former, now)
        };
        // The central pair is refused as a whole, and then so is the configuration. An ordered one that is not there yet
        // leaves what was shown by default until then.
        let central = Source::central(tls);
        let in_use = match central.origin {
            CertificateOrigin::Operator => None,
            CertificateOrigin::Ordered => {
                former_of(&central).or(former.map(CertificateSet::default_entry))
            }
        };
        let mut entries = vec![ConfiguredCertificate::load(central, in_use, now)];
        entries.extend(Source::ordered(tls).map(load));
        let mut directories = Vec::new();
        let named = source::named_files(tls);
        for more in &tls.more {
            match more {
                MoreCertificates::Pair {
                    certificate,
                    private_key,
                } => entries.push(load(Source::pair(certificate, private_key))),
                MoreCertificates::Directory { directory, layout } => {
                    let mut directory = former
                        .and_then(|former| former.listed(directory).cloned())
                        .unwrap_or_else(|| ListedDirectory::new(directory));
                    let of_it = |entry: &&ConfiguredCertificate| {
                        entry.source.directory.as_ref() == Some(directory.path())
                    };
                    let known: Vec<ConfiguredCertificate> =
                        former_entries().filter(of_it).cloned().collect();
                    let found = directory.list(*layout, &named, !known.is_empty());
                    let fault = match found {
                        Ok(found) => {
                            entries.extend(found.into_iter().map(load));
                            None
                        }
                        Err(error) => {
                            entries.extend(known);
                            Some(Arc::new(error))
                        }
                    };
                    directories.push(DirectoryState { directory, fault });
                }
            }
        }
        Self {
            entries,
            directories,
        }
    }

    /// An inventory of entries that are known already, the central one first.
    pub(in crate::tls) fn new(
        entries: Vec<ConfiguredCertificate>,
        directories: Vec<DirectoryState>,
    ) -> Self {
        Self {
            entries,
            directories,
        }
    }

    /// All certificates, the central one first.
    pub fn entries(&self) -> impl Iterator<Item = &ConfiguredCertificate> {
        self.entries.iter()
    }

    /// The directories that can't be read.
    pub fn directory_faults(&self) -> impl Iterator<Item = DirectoryFault> {
        self.directories.iter().filter_map(|it| {
            Some(DirectoryFault {
                directory: Arc::clone(it.directory.name()),
                error: Arc::clone(it.fault.as_ref()?),
            })
        })
    }

    /// The set, if the central pair can be served; without those that can't.
    ///
    /// # Errors
    /// What is wrong with the central pair.
    pub fn into_set(self) -> Result<CertificateSet, Arc<CertificateError>> {
        let central = self
            .entries
            .first()
            .expect("invariant: an inventory has the central pair");
        match (central.pair(), central.source.origin, central.refusal()) {
            (None, CertificateOrigin::Operator, Some(error)) => Err(Arc::clone(error)),
            _ => Ok(CertificateSet::new(self)),
        }
    }
}

impl CertificateSet {
    /// Loads and checks all that the configuration names. Only the central pair has to be good.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// As [`CertificatePair::load`], for the central pair.
    pub fn load(tls: &config::Tls, now: SystemTime) -> Result<Self, Arc<CertificateError>> {
        Inventory::load(tls, None, now).into_set()
    }

    /// The set of those that can be served, even without a central pair.
    pub(in crate::tls) fn new(inventory: Inventory) -> Self {
        // The central one is the first. No other is shown in its place: it would be that of a customer by chance.
        let central = inventory
            .entries
            .first()
            .and_then(ConfiguredCertificate::pair);
        let default = central.map(|pair| (0, Arc::clone(pair)));
        let pairs = inventory.entries.iter().enumerate();
        let pairs = pairs.filter_map(|(place, entry)| Some((place, &**entry.pair()?)));
        let names = NameIndex::of(pairs.clone());
        let beside_default = pairs
            .filter(|(place, pair)| {
                let Some((default_place, default)) = &default else {
                    return false;
                };
                if place == default_place {
                    return false;
                }
                let has_all = default.names.iter().all(|name| pair.has_name(name));
                has_all && !default.names.is_empty()
            })
            .map(|(place, _)| place)
            .collect();
        Self {
            default,
            names,
            beside_default,
            inventory,
        }
    }

    /// The pair for clients that name no host, or one that no certificate is for.
    pub fn default_pair(&self) -> Option<&Arc<CertificatePair>> {
        self.default.as_ref().map(|(_, pair)| pair)
    }

    /// Whether the set has no certificate at all: the one that is ordered isn't there yet.
    pub fn is_empty(&self) -> bool {
        self.pairs().next().is_none()
    }

    /// Whether the central one is missing, which is ordered and isn't there yet: clients that name no other can't begin TLS.
    pub fn lacks_default(&self) -> bool {
        self.default.is_none()
    }

    /// All pairs in use, the default one first.
    pub fn pairs(&self) -> impl Iterator<Item = &CertificatePair> {
        let pairs = self.entries().filter_map(ConfiguredCertificate::pair);
        pairs.map(|pair| &**pair)
    }

    /// All certificates of the configuration, in use or not, the default one first.
    pub fn entries(&self) -> impl Iterator<Item = &ConfiguredCertificate> {
        self.inventory.entries()
    }

    /// The central one, with what was last refused of it.
    pub(in crate::tls) fn default_entry(&self) -> &ConfiguredCertificate {
        &self.inventory.entries[0]
    }

    /// The directories that can't be read.
    pub fn directory_faults(&self) -> impl Iterator<Item = DirectoryFault> {
        self.inventory.directory_faults()
    }

    fn directory(&self, path: &Path) -> Option<&DirectoryState> {
        let mut directories = self.inventory.directories.iter();
        directories.find(|it| **it.directory.path() == *path)
    }

    /// The directory at this path, as it was listed last.
    pub(in crate::tls) fn listed(&self, path: &Path) -> Option<&ListedDirectory> {
        self.directory(path).map(|it| &it.directory)
    }

    /// Why this directory can't be read, if it can't.
    pub fn fault_of(&self, directory: &Path) -> Option<&Arc<CertificateError>> {
        self.directory(directory)?.fault.as_ref()
    }

    /// The certificates that are refused although their files are there, by their names, with the reasons.
    pub fn refusals(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<CertificateError>)> {
        let entries = self
            .entries()
            .filter_map(|entry| Some((&entry.source.name, entry.refusal()?)));
        let directories = self.inventory.directories.iter();
        entries.chain(directories.filter_map(|it| Some((it.directory.name(), it.fault.as_ref()?))))
    }

    /// Whether there is more than one certificate to choose from.
    pub fn has_choice(&self) -> bool {
        self.inventory.entries.len() > 1
    }

    /// Whether a pair with all names of `pair` has a key that shuts out fewer clients, so that each is shown what it can use.
    pub fn has_more_usable_than(&self, pair: &CertificatePair) -> bool {
        let is_one = |other: &CertificatePair| {
            other.key_compatibility() < pair.key_compatibility()
                && pair.names.iter().all(|name| other.has_name(name))
        };
        self.pairs().any(is_one)
    }

    /// The certificate to show to a client that has asked so, and verifies signatures of these kinds.
    pub fn choose(
        &self,
        asked: &Asked<'_>,
        schemes: &[SignatureScheme],
        now: SystemTime,
    ) -> Option<(&Source, &Arc<CertificatePair>)> {
        let entries = &self.inventory.entries;
        let pair_at = |place: usize| entries.get(place)?.pair().map(|pair| &**pair);
        let standing = |pair: &CertificatePair| Standing::of(pair, schemes, now);
        let by_name = || self.names.choose(asked, pair_at, standing);
        // The default one or its chain has expired, or a client that names nothing can't use its key.
        let in_place_of_default = || {
            let of_default = standing(self.default_pair()?);
            if of_default == Standing::Good {
                return None;
            }
            let places = self.beside_default.iter().copied();
            let ranked = places.filter_map(|place| {
                let pair = pair_at(place)?;
                Some(((standing(pair), choice::rank(pair)), place))
            });
            let better = ranked.filter(|((standing, _), _)| *standing > of_default);
            let best = better.max_by_key(|(rank, _)| *rank);
            best.map(|(_, place)| place)
        };
        let place = match self.has_choice() {
            true => by_name().or_else(in_place_of_default),
            false => None,
        };
        let default = self.default.as_ref().map(|(place, _)| *place);
        let entry = entries.get(place.or(default)?)?;
        Some((&entry.source, entry.pair()?))
    }
}

impl From<CertificatePair> for CertificateSet {
    /// The set of one pair, whose files need not be known.
    fn from(default: CertificatePair) -> Self {
        let default = Arc::new(default);
        let source = Source {
            name: source::DEFAULT_NAME.into(),
            certificate: PathBuf::new(),
            private_key: PathBuf::new(),
            directory: None,
            origin: CertificateOrigin::Operator,
        };
        let entry = ConfiguredCertificate::loaded(source, default);
        Self::new(Inventory::new(vec![entry], Vec::new()))
    }
}

impl ResolvesServerCert for CertificateSet {
    /// The default certificate: where there is a choice, each session makes its own.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.default_pair().map(|pair| Arc::clone(&pair.key))
    }
}
