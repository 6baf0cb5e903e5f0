//! The certificates that clients are shown: a set of pairs, each loaded from its two files and checked before it is used.
//!
//! The central pair is for every client; those of `tls.more` (`source` says where they lie) are for clients that name
//! one of their names. `choice` decides, and `shown` keeps to it for the whole FTP session. An [`ConfiguredCertificate`] is one
//! certificate of the configuration with what is in use of it and what was refused.
//!
//! A pair that got through [`CertificatePair::load`] can be served: the key belongs to the leaf, the leaf is valid now,
//! the chain is in order. Whatever doesn't get through is a [`CertificateError`] that names the file and the remedy,
//! and the pair in use stays in use.

pub mod assemble;
mod choice;
mod entry;
mod error;
mod files;
mod set;
mod shown;
mod source;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{self, Digest};
use rustls::SignatureAlgorithm;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use crate::tls::content_digest::ContentDigest;
pub use choice::{Asked, Verifies};
pub use entry::ConfiguredCertificate;
pub(super) use entry::TryResult;
pub use error::CertificateError;
pub(super) use files::PairFiles;
pub(super) use set::DirectoryState;
pub use set::{CertificateSet, DirectoryFault, Inventory};
pub use shown::BeforeHandshake;
pub(super) use shown::{OnData, SessionCertificate};
pub use source::{CertificateOrigin, DEFAULT_NAME, Source};
pub(super) use source::{ListedDirectory, named_files};

/// A certificate chain with its private key, fit to be served.
#[derive(Debug)]
pub struct CertificatePair {
    /// Chain and key in rustls' form.
    pub key: Arc<CertifiedKey>,
    /// When the leaf becomes valid.
    pub not_before: SystemTime,
    /// When the leaf expires.
    pub not_after: SystemTime,
    /// The leaf's subject, for example `CN=ftp.example.com`; escaped, as all text here.
    pub subject: String,
    /// The DNS names in the leaf's subjectAltName, in lower case; wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// The IP addresses there.
    pub addresses: Vec<IpAddr>,
    /// The issuer of the leaf.
    pub issuer: String,
    /// Whether the leaf names itself as its issuer.
    pub is_self_issued: bool,
    /// Whether the leaf is a certificate authority's own.
    pub is_authority: bool,
    /// Whether the leaf may be shown as a client: it names no purposes, or that one among them.
    pub is_for_clients: bool,
    /// Whether the leaf may be shown as a server, likewise.
    pub is_for_servers: bool,
    /// The issuer in the chain that expires first, if that is before the leaf does.
    pub chain_end: Option<ChainEnd>,
    /// The issuer in the chain that becomes valid last, if that is after the leaf does.
    pub chain_begin: Option<ChainBegin>,
    /// The first in the chain that the next one has the name to have issued, and not the key; counted from 1.
    pub broken_at: Option<usize>,
    /// SHA-256 of the leaf's DER form.
    pub fingerprint: [u8; 32],
    /// Digest of the content of the two files.
    pub(super) content: ContentDigest,
}

/// The clients that support the signatures of a certificate's key; the greater, the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyCompatibility {
    /// ECDSA: all clients.
    All,
    /// RSA: all but the TLS of Windows before 10 and Server 2016 (Schannel), which has no cipher suite in common with us then.
    /// It knows AES-GCM with ECDHE for ECDSA keys alone.
    NoLegacySchannel,
    /// Ed25519: all but the TLS of every Windows, and whatever is some years old.
    NoSchannel,
}

/// Clients that verify refuse a chain from the end of any certificate in it but a root on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainEnd {
    /// The certificate's position in the chain, counted from 1, the leaf.
    pub position: usize,
    /// When the certificate became valid.
    pub not_before: SystemTime,
    /// When the certificate expires.
    pub not_after: SystemTime,
}

/// Clients that verify refuse a chain until every certificate in it but a root is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainBegin {
    /// The certificate's position in the chain, counted from 1, the leaf.
    pub position: usize,
    /// When the certificate becomes valid.
    pub not_before: SystemTime,
}

impl CertificatePair {
    /// Whether clients that verify accept it at `now`, as far as dates go.
    pub fn is_good(&self, now: SystemTime) -> bool {
        let has_begun = |begin: ChainBegin| begin.not_before <= now;
        now <= self.chain_not_after() && self.chain_begin.is_none_or(has_begun)
    }

    /// The end of the time in which clients that verify accept it: that of the leaf, or of an issuer that ends before it.
    pub fn chain_not_after(&self) -> SystemTime {
        self.chain_end.map_or(self.not_after, |end| end.not_after)
    }

    /// From when on the one is valid that [`Self::chain_not_after`] goes by: what is left is measured by that one's life, however
    /// new the leaf.
    pub fn chain_not_before(&self) -> SystemTime {
        self.chain_end.map_or(self.not_before, |end| end.not_before)
    }

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

    /// As [`load`](Self::load), but for the content that the files are to have.
    ///
    /// # Errors
    /// As [`CertificatePair::load`].
    pub fn check(
        (certificate, certificate_pem): (&Path, &str),
        (private_key, private_key_pem): (&Path, &str),
        now: SystemTime,
    ) -> Result<Self, CertificateError> {
        let (certificate_pem, private_key_pem) =
            (certificate_pem.as_bytes(), private_key_pem.as_bytes());
        PairFiles::of(
            (certificate, certificate_pem.to_vec()),
            (private_key, private_key_pem.to_vec()),
        )
        .check(now)
    }

    /// The clients that can use the certificate's key.
    pub fn key_compatibility(&self) -> KeyCompatibility {
        match self.key.key.algorithm() {
            SignatureAlgorithm::RSA => KeyCompatibility::NoLegacySchannel,
            SignatureAlgorithm::ED25519 => KeyCompatibility::NoSchannel,
            _ => KeyCompatibility::All,
        }
    }

    /// The names and addresses of the leaf, in readable form: names first.
    pub fn names_and_addresses(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let all: Vec<String> = self.names.iter().cloned().chain(addresses).collect();
        if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(" ")
        }
    }

    /// The kind of its key: `ecdsa`, `rsa` or `ed25519`.
    pub fn key_kind(&self) -> &'static str {
        match self.key.key.algorithm() {
            SignatureAlgorithm::ECDSA => "ecdsa",
            SignatureAlgorithm::RSA => "rsa",
            SignatureAlgorithm::ED25519 => "ed25519",
            _ => "other",
        }
    }

    /// Whether the leaf hasn't expired at `now`. It was valid already when it was loaded.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now <= self.not_after
    }

    /// Whether the certificate is for this name, which may be a wildcard, too.
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name) || !name.starts_with("*.") && self.covers(name)
    }

    /// The certificate's public key, in DER form.
    pub fn public_key(&self) -> Option<Vec<u8>> {
        let key = self.key.key.public_key()?;
        Some(key.as_ref().to_vec())
    }

    /// Whether the leaf is the only certificate though it is not self-signed: an intermediate may be missing.
    pub fn is_leaf_alone(&self) -> bool {
        self.key.cert.len() == 1 && !self.is_self_issued
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

pub(super) fn sha256_array(digest: Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests;
