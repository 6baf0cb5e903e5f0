//! The certificates of a configuration file beside the central one: pairs of files, and directories that hold many.

use std::path::{Path, PathBuf};

use super::error::{Fault, quoted_path};
use super::file;
use super::location::{Location, PathStep, steps};

/// Certificates for clients that name one of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoreCertificates {
    /// The two files of one.
    Pair {
        /// PEM chain, leaf first.
        certificate: PathBuf,
        /// PEM private key of the leaf.
        private_key: PathBuf,
    },
    /// All that a directory holds.
    Directory {
        /// The directory.
        directory: PathBuf,
        /// How they lie in it.
        layout: CertificateLayout,
    },
}

/// How certificates lie in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateLayout {
    /// As in certbot's `live`: `NAME/fullchain.pem` and `NAME/privkey.pem`.
    Certbot,
    /// `NAME.crt` and `NAME.key`.
    Pairs,
    /// `NAME.pem`, with the chain and the key in one file.
    Combined,
    /// `NAME/tls.crt` and `NAME/tls.key`, as a secret of Kubernetes is mounted.
    Kubernetes,
}

impl CertificateLayout {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Certbot => "certbot",
            Self::Pairs => "pairs",
            Self::Combined => "combined",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// The entries of `more` as written, beside the central certificate in `central`. Relative file names count from `base`.
pub(super) fn resolve(
    written: Vec<file::MoreCertificates>,
    central: &Path,
    base: &Path,
) -> Result<Vec<MoreCertificates>, Fault> {
    let mut all: Vec<MoreCertificates> = Vec::with_capacity(written.len());
    for (index, entry) in written.into_iter().enumerate() {
        let path = steps!["tls", "more", index];
        let entry = self::entry(entry, &path, base)?;
        refuse_second(&entry, &all, central, &path)?;
        all.push(entry);
    }
    Ok(all)
}

fn entry(
    written: file::MoreCertificates,
    path: &[PathStep],
    base: &Path,
) -> Result<MoreCertificates, Fault> {
    let key = |key: &'static str| {
        let steps = path.iter().copied().chain([PathStep::Key(key)]);
        Location::Key(steps.collect())
    };
    let file::MoreCertificates {
        certificate,
        private_key,
        directory,
        layout,
    } = written;
    match (certificate, private_key, directory, layout) {
        (Some(certificate), Some(private_key), None, None) => Ok(MoreCertificates::Pair {
            certificate: base.join(certificate.0),
            private_key: base.join(private_key.0),
        }),
        (None, None, Some(directory), Some(layout)) => Ok(MoreCertificates::Directory {
            directory: base.join(directory.0),
            layout,
        }),
        (None, None, Some(_), None) => Err(Fault::new(
            key("directory"),
            "`directory` without `layout`",
            "write how the certificates lie in it: `layout: certbot`, `pairs`, `combined` or `kubernetes`",
        )),
        (None, None, None, Some(_)) => Err(Fault::new(
            key("layout"),
            "`layout` without `directory`",
            "write the directory that holds the certificates",
        )),
        (None, None, None, None) => Err(Fault::new(
            Location::Value(path.to_vec()),
            "an entry without certificate",
            "write {certificate: FILE, private_key: FILE}, or {directory: DIR, layout: certbot}",
        )),
        (_, _, Some(_), _) => Err(Fault::new(
            key("directory"),
            "`directory` beside `certificate` or `private_key`",
            "make two entries of them",
        )),
        (_, _, None, Some(_)) => Err(Fault::new(
            key("layout"),
            "`layout` beside a pair of files",
            "leave it out: it says how certificates lie in a `directory`",
        )),
        (Some(_), None, None, None) => Err(Fault::new(
            key("certificate"),
            "`certificate` without `private_key`",
            "write the file with its key as well; it may be the same one",
        )),
        (None, Some(_), None, None) => Err(Fault::new(
            key("private_key"),
            "`private_key` without `certificate`",
            "write the file with its certificate as well; it may be the same one",
        )),
    }
}

/// Each is known by its file or directory, in log and metrics.
fn refuse_second(
    entry: &MoreCertificates,
    earlier: &[MoreCertificates],
    central: &Path,
    path: &[PathStep],
) -> Result<(), Fault> {
    let fault = |key: &'static str, what: String, remedy: &str| {
        let steps = path.iter().copied().chain([PathStep::Key(key)]);
        Err(Fault::new(Location::Value(steps.collect()), what, remedy))
    };
    match entry {
        MoreCertificates::Pair { certificate, .. } => {
            if certificate == central {
                return fault(
                    "certificate",
                    format!("{} is `tls.certificate` already", quoted_path(certificate)),
                    "leave it out: clients that name one of its names are shown it as it is",
                );
            }
            let is_same = |other: &MoreCertificates| matches!(other, MoreCertificates::Pair { certificate: it, .. } if it == certificate);
            if earlier.iter().any(is_same) {
                return fault(
                    "certificate",
                    format!(
                        "{} is the certificate of two entries",
                        quoted_path(certificate)
                    ),
                    "keep one of them",
                );
            }
        }
        MoreCertificates::Directory { directory, .. } => {
            let is_same = |other: &MoreCertificates| matches!(other, MoreCertificates::Directory { directory: it, .. } if it == directory);
            if earlier.iter().any(is_same) {
                return fault(
                    "directory",
                    format!("{} is the directory of two entries", quoted_path(directory)),
                    "keep one of them",
                );
            }
        }
    }
    Ok(())
}
