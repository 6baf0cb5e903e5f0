//! The certificates that clients are shown: a set of pairs, each loaded from its two files and checked before it is used.
//!
//! A pair that got through [`CertificatePair::load`] can be served: the key belongs to the leaf, the leaf is valid now,
//! the chain is in order. Whatever doesn't get through is a [`CertificateError`] that names the file and the remedy,
//! and the pair in use stays in use.

mod error;
mod files;
mod set;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{self, Digest};
use rustls::SignatureAlgorithm;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

pub use error::CertificateError;
pub(super) use files::{ContentDigest, PairFiles};
pub use set::CertificateSet;

/// A certificate chain with its private key, fit to be served.
#[derive(Debug)]
pub struct CertificatePair {
    /// Chain and key in rustls' form.
    pub key: Arc<CertifiedKey>,
    /// When the leaf becomes valid.
    pub not_before: SystemTime,
    /// When it expires.
    pub not_after: SystemTime,
    /// The leaf's subject, for example `CN=ftp.example.com`.
    pub subject: String,
    /// The DNS names in the leaf's subjectAltName, in lower case; wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// The IP addresses there.
    pub addresses: Vec<IpAddr>,
    /// The issuer of the leaf.
    pub issuer: String,
    /// Whether the leaf is a certificate authority's own.
    pub is_authority: bool,
    /// SHA-256 of the leaf's DER form.
    pub fingerprint: [u8; 32],
    /// What the two files held.
    pub(super) content: ContentDigest,
}

impl CertificatePair {
    /// Reads the PEM files of a chain (leaf first) and of its private key, and checks that they can be served at `now`.
    ///
    /// Blocks on the file system.
    pub fn load(
        certificate: &Path,
        private_key: &Path,
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        PairFiles::read(certificate, private_key)?.check(now)
    }

    /// Whether the TLS of Windows before 10 and Server 2016 has no cipher suite in common with this certificate: it knows
    /// AES-GCM with ECDHE for ECDSA keys alone.
    pub fn shuts_out_old_windows(&self) -> bool {
        self.key.key.algorithm() == SignatureAlgorithm::RSA
    }

    /// What the leaf is for, for people: names, then addresses.
    pub fn names_and_addresses(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let all: Vec<String> = self.names.iter().cloned().chain(addresses).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(" ")
        }
    }

    /// Whether the leaf is the only certificate though it is not self-signed: an intermediate may be missing.
    pub fn is_leaf_alone(&self) -> bool {
        self.key.cert.len() == 1 && self.issuer != self.subject
    }

    /// Whether the certificate is valid for `host`: by one of its names, or by a wildcard for exactly one label
    /// (RFC 6125 section 6.4.3).
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let parent = host
            .split_once('.')
            .filter(|(label, _)| !label.is_empty())
            .map(|(_, parent)| parent);
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            Some(suffix) => parent == Some(suffix),
            None => *name == host,
        })
    }
}

/// SHA-256 of a certificate's DER form, by which certificates are pinned and named in messages.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256_array(digest::digest(&digest::SHA256, certificate))
}

/// Writes a fingerprint as the configuration has it.
#[derive(Debug)]
pub struct Fingerprint<'a>(pub &'a [u8; 32]);

impl fmt::Display for Fingerprint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn sha256_array(digest: Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests;
