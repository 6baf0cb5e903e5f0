//! Why a certificate pair isn't served: each fault with its file, and what to do.

use std::path::PathBuf;
use std::time::SystemTime;

use x509_parser::error::X509Error;

use crate::tls::date::{Date, Span};
use crate::tls::pem::FileError;

/// Why a certificate pair isn't served. `certificate` and `private_key` are the files as configured; certificates of a
/// chain are counted from 1, the leaf.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum CertificateError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("certificate {position} in {} is malformed: {source}", certificate.display())]
    Malformed {
        certificate: PathBuf,
        position: usize,
        source: X509Error,
    },
    #[error(
        "certificate {position} in {} is of X.509 version {version}, but must be of version 3: have it reissued (`openssl \
         x509 -req` before 3.4 needs an -extfile for that)",
        certificate.display()
    )]
    OldVersion {
        certificate: PathBuf,
        position: usize,
        version: u32,
    },
    #[error(
        "certificate {} has an RSA key of {bits} bits, but at least 2048 are required: create a new key and have a certificate issued for it",
        certificate.display()
    )]
    ShortKey { certificate: PathBuf, bits: usize },
    #[error("private key {} cannot be used: {source}", private_key.display())]
    UnusableKey {
        private_key: PathBuf,
        source: rustls::Error,
    },
    #[error(
        "private key {} does not belong to the certificate in {}",
        private_key.display(), certificate.display()
    )]
    KeyMismatch {
        certificate: PathBuf,
        private_key: PathBuf,
    },
    #[error(
        "chain out of order in {}: the private key belongs to certificate {position}, which has to come first",
        certificate.display()
    )]
    LeafNotFirst {
        certificate: PathBuf,
        position: usize,
    },
    #[error(
        "chain out of order in {}: certificate {} ({next}) did not issue certificate {position} (issued by {issuer})",
        certificate.display(), position + 1
    )]
    ChainOrder {
        certificate: PathBuf,
        position: usize,
        issuer: String,
        next: String,
    },
    #[error(
        "certificate {} expired on {} ({} ago): renew it",
        certificate.display(), Date(*not_after), Span(now.duration_since(*not_after).unwrap_or_default())
    )]
    Expired {
        certificate: PathBuf,
        not_after: SystemTime,
        now: SystemTime,
    },
    #[error(
        "certificate {} is not valid before {} (in {}): check this machine's clock",
        certificate.display(), Date(*not_before), Span(not_before.duration_since(*now).unwrap_or_default())
    )]
    NotYetValid {
        certificate: PathBuf,
        not_before: SystemTime,
        now: SystemTime,
    },
}
