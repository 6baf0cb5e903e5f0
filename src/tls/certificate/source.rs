//! Locations of certificates: the central pair, the pairs of `tls.more`, and the pairs found in its directories.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, iter};

use super::CertificateError;
use crate::base::text::escape_whole;
use crate::config::{self, CertificateLayout, MoreCertificates};

/// Name of the central pair in log, metrics and views.
pub const DEFAULT_NAME: &str = "default";

/// Name of the pair that is ordered beside the central one.
pub const ORDERED_NAME: &str = "acme";

/// How many entries a directory of certificates may hold, of whatever kind: each of them is looked at twice a second.
pub const MAX_ENTRIES: usize = 4096;

/// Suffix of a file that lego, whose layout is that of `pairs`, adds to each pair.
const ISSUER_OF_LEGO: &[u8] = b".issuer.crt";

/// The two files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the certificate in log, metrics and views, by the configuration: `default`, its file, or its place in a directory.
    /// Printable.
    pub name: Arc<str>,
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key of the leaf.
    pub private_key: PathBuf,
    /// The directory in which it was found, if the configuration doesn't name the files.
    pub directory: Option<Arc<Path>>,
    /// The origin of the files.
    pub origin: CertificateOrigin,
}

/// The origin of the files of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateOrigin {
    /// The operator puts them there.
    Operator,
    /// The process, which orders it: the files need not be there yet.
    Ordered,
}

impl Source {
    /// The central pair.
    pub fn central(tls: &config::Tls) -> Self {
        Self {
            name: DEFAULT_NAME.into(),
            certificate: tls.certificate.clone(),
            private_key: tls.private_key.clone(),
            directory: None,
            origin: match tls.is_central_ordered() {
                true => CertificateOrigin::Ordered,
                false => CertificateOrigin::Operator,
            },
        }
    }

    /// The pair that is ordered beside the central one, if one is.
    pub fn ordered(tls: &config::Tls) -> Option<Self> {
        let acme = tls.acme.as_ref().filter(|_| !tls.is_central_ordered())?;
        Some(Self {
            name: ORDERED_NAME.into(),
            certificate: acme.certificate(),
            private_key: acme.private_key(),
            directory: None,
            origin: CertificateOrigin::Ordered,
        })
    }

    /// A pair that the configuration names.
    pub fn pair(certificate: &Path, private_key: &Path) -> Self {
        Self {
            name: printable(certificate),
            certificate: certificate.to_owned(),
            private_key: private_key.to_owned(),
            directory: None,
            origin: CertificateOrigin::Operator,
        }
    }

    /// The entry `name` of a directory, if it is one by its name.
    fn in_directory(
        directory: &Arc<Path>,
        name: &OsStr,
        layout: CertificateLayout,
    ) -> Option<Self> {
        let bytes = name.as_bytes();
        if bytes.starts_with(b".") {
            return None;
        }
        let place = directory.join(name);
        let (certificate, private_key) = match layout {
            CertificateLayout::Certbot => (place.join("fullchain.pem"), place.join("privkey.pem")),
            CertificateLayout::Kubernetes => (place.join("tls.crt"), place.join("tls.key")),
            CertificateLayout::Pairs if bytes.ends_with(ISSUER_OF_LEGO) => return None,
            CertificateLayout::Pairs => {
                bytes.strip_suffix(b".crt")?;
                (place.clone(), place.with_extension("key"))
            }
            CertificateLayout::Combined => {
                bytes.strip_suffix(b".pem")?;
                (place.clone(), place.clone())
            }
        };
        let source = Self {
            name: printable(&place),
            certificate,
            private_key,
            directory: Some(Arc::clone(directory)),
            origin: CertificateOrigin::Operator,
        };
        let is_folder = matches!(
            layout,
            CertificateLayout::Certbot | CertificateLayout::Kubernetes
        );
        // A folder with one of the files is a certificate that lacks the other; one with neither is something else.
        (!is_folder || is_there(&source.certificate) || is_there(&source.private_key))
            .then_some(source)
    }
}

/// The path, so written that it is none of the names that stand for other certificates.
fn printable(path: &Path) -> Arc<str> {
    let name = escape_whole(path.as_os_str().as_bytes());
    match name.as_str() {
        DEFAULT_NAME | ORDERED_NAME => format!("./{name}").into(),
        _ => name.into(),
    }
}

/// The certificate files that the configuration names: a directory that holds one of them doesn't bring it a second
/// time.
pub fn named_files(tls: &config::Tls) -> Vec<PathBuf> {
    let more = tls.more.iter().filter_map(|more| match more {
        MoreCertificates::Pair { certificate, .. } => Some(certificate),
        MoreCertificates::Directory { .. } => None,
    });
    let ordered = tls.acme.as_ref().map(config::AcmeSettings::certificate);
    let named = iter::once(&tls.certificate).chain(more).cloned();
    named.chain(ordered).collect()
}

/// A directory of certificates, which is listed again and again.
#[derive(Debug, Clone)]
pub struct ListedDirectory {
    path: Arc<Path>,
    /// Name of the directory in log, metrics and views.
    name: Arc<str>,
    /// The file system in which there were certificates.
    device: Option<u64>,
}

impl ListedDirectory {
    /// A directory that has not been listed yet.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            name: printable(path),
            device: None,
        }
    }

    /// The directory's path.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// Name of the directory in log, metrics and views.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The certificates in it, in the order of their names, but for those with a file among `named`. Empty, and in another file
    /// system than before, it is the mount point of a file system that is gone, if certificates of it are `known`.
    ///
    /// Blocks on the file system.
    ///
    /// # Errors
    /// If it can't be read, has more than [`MAX_ENTRIES`] entries, or is such a mount point.
    pub fn list(
        &mut self,
        layout: CertificateLayout,
        named: &[PathBuf],
        known: bool,
    ) -> Result<Vec<Source>, CertificateError> {
        let sources = list(&self.path, layout, named)?;
        let device = fs::metadata(&self.path).ok().map(|it| it.dev());
        if !sources.is_empty() {
            self.device = device;
        } else if known && self.device.is_some_and(|it| device != Some(it)) {
            return Err(CertificateError::Unmounted {
                directory: self.path.to_path_buf(),
            });
        }
        Ok(sources)
    }
}

fn list(
    directory: &Arc<Path>,
    layout: CertificateLayout,
    named: &[PathBuf],
) -> Result<Vec<Source>, CertificateError> {
    let unreadable = |source| CertificateError::Directory {
        directory: directory.to_path_buf(),
        source,
    };
    let mut sources = Vec::new();
    for (count, entry) in fs::read_dir(directory).map_err(unreadable)?.enumerate() {
        if count == MAX_ENTRIES {
            return Err(CertificateError::CrowdedDirectory {
                directory: directory.to_path_buf(),
            });
        }
        let name = entry.map_err(unreadable)?.file_name();
        let source = Source::in_directory(directory, &name, layout);
        sources.extend(source.filter(|source| !named.contains(&source.certificate)));
    }
    sources.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(sources)
}

/// Whether a file of that name exists. A path that may not be looked at counts as one: reading it reports the error.
fn is_there(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}
