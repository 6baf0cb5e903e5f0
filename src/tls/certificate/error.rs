//! Why a certificate pair isn't served: each fault with its file, and what to do.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use x509_parser::error::X509Error;

use crate::base::file::unreadable;
use crate::base::text::escape_path;
use crate::tls::date::{Date, Span};
use crate::tls::pem::FileError;

use super::source::MAX_ENTRIES;

/// Why a certificate pair isn't served. `certificate` and `private_key` are the files as configured; certificates of a
/// chain are counted from 1, the leaf.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum CertificateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "cannot read the directory {}: {source}{}",
        escape_path(directory),
        unreadable(directory, source)
    )]
    Directory {
        directory: PathBuf,
        source: io::Error,
    },
    #[error(
        "the directory {} has more than {MAX_ENTRIES} entries, so no certificate is looked for there: keep other files elsewhere",
        escape_path(directory)
    )]
    CrowdedDirectory { directory: PathBuf },
    #[error(
        "the directory {} is empty, and in another file system than before: is what was mounted there gone?",
        escape_path(directory)
    )]
    Unmounted { directory: PathBuf },
    #[error(
        "certificate {position} in {} is malformed: {source}",
        escape_path(certificate)
    )]
    Malformed {
        certificate: PathBuf,
        position: usize,
        source: X509Error,
    },
    #[error(
        "certificate {position} in {} is of X.509 version {version}, but must be of version 3: have it reissued (`openssl \
         x509 -req` before 3.4 needs an -extfile for that)",
        escape_path(certificate)
    )]
    OldVersion {
        certificate: PathBuf,
        position: usize,
        version: u32,
    },
    #[error(
        "certificate {} has an RSA key of {bits} bits, but at least 2048 are required: create a new key and have a certificate issued for it",
        escape_path(certificate)
    )]
    ShortKey { certificate: PathBuf, bits: usize },
    #[error(
        "certificate {} has a key of the algorithm {algorithm}, which is not supported: create one of ECDSA with P-256, P-384 or P-521, \
         or an RSA or Ed25519 key, and have a certificate issued for it",
        escape_path(certificate)
    )]
    UnsupportedKey {
        certificate: PathBuf,
        algorithm: String,
    },
    #[error("private key {} cannot be used: {source}", escape_path(private_key))]
    UnusableKey {
        private_key: PathBuf,
        source: rustls::Error,
    },
    #[error(
        "private key {} does not belong to the certificate in {}",
        escape_path(private_key),
        escape_path(certificate)
    )]
    KeyMismatch {
        certificate: PathBuf,
        private_key: PathBuf,
    },
    #[error(
        "chain out of order in {}: the private key belongs to certificate {position}, which has to come first",
        escape_path(certificate)
    )]
    LeafNotFirst {
        certificate: PathBuf,
        position: usize,
    },
    #[error(
        "chain out of order in {}: certificate {} ({next}) did not issue certificate {position} (issued by {issuer})",
        escape_path(certificate), position + 1
    )]
    ChainOrder {
        certificate: PathBuf,
        position: usize,
        issuer: String,
        next: String,
    },
    #[error(
        "certificate {} expired on {} ({} ago): renew it",
        escape_path(certificate), Date(*not_after), Span(now.duration_since(*not_after).unwrap_or_default())
    )]
    Expired {
        certificate: PathBuf,
        not_after: SystemTime,
        now: SystemTime,
    },
    #[error(
        "certificate {} is not valid before {} (in {}): check this machine's clock",
        escape_path(certificate), Date(*not_before), Span(not_before.duration_since(*now).unwrap_or_default())
    )]
    NotYetValid {
        certificate: PathBuf,
        not_before: SystemTime,
        now: SystemTime,
    },
}

impl CertificateError {
    /// Whether the error is about a directory, and so about all certificates in it.
    pub fn is_of_directory(&self) -> bool {
        matches!(
            self,
            Self::Directory { .. } | Self::CrowdedDirectory { .. } | Self::Unmounted { .. }
        )
    }

    /// The error's text without content of the files, for readers who may not know that.
    pub fn summary(&self) -> String {
        match self {
            Self::File(FileError::Pem { path, .. }) => {
                format!("{} is not valid PEM", escape_path(path))
            }
            Self::File(FileError::HalfWritten { path, .. }) => {
                format!(
                    "{} ends in the middle of a section: half written?",
                    escape_path(path)
                )
            }
            Self::Malformed {
                certificate,
                position,
                ..
            } => format!(
                "certificate {position} in {} is malformed",
                escape_path(certificate)
            ),
            Self::ChainOrder {
                certificate,
                position,
                ..
            } => format!(
                "chain out of order in {}: certificate {} did not issue certificate {position}",
                escape_path(certificate),
                position + 1
            ),
            Self::UnusableKey { private_key, .. } => {
                format!("private key {} cannot be used", escape_path(private_key))
            }
            _ => self.to_string(),
        }
    }
}
