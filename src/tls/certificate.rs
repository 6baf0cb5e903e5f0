//! The certificate that clients are shown: loaded from its two files, checked before anybody sees it.
//!
//! A pair that got through [`CertificatePair::load`] can be served: the key belongs to the leaf, the leaf is valid now,
//! the chain is in order. Whatever doesn't get through is a [`CertificateError`] that names the file and the remedy,
//! and the pair in use stays in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;

use super::date::{Date, Span, system_time};
use super::pem::{self, FileError};

/// A certificate chain with its private key, fit to be served.
#[derive(Debug)]
pub struct CertificatePair {
    /// Chain and key as rustls wants them.
    pub key: Arc<CertifiedKey>,
    /// When the leaf becomes valid.
    pub not_before: SystemTime,
    /// When the leaf expires.
    pub not_after: SystemTime,
    /// The leaf's subject, for example `CN=ftp.example.com`.
    pub subject: String,
    /// The DNS names in the leaf's subjectAltName, in lower case; wildcards as `*.example.com`.
    pub names: Vec<String>,
    /// SHA-256 of the leaf's DER form.
    pub fingerprint: [u8; 32],
    /// What the two files held.
    pub(super) content: ContentDigest,
}

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
    #[error("private key {} is of no use: {source}", private_key.display())]
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

/// What the files of a pair held at one moment.
pub(super) struct PairFiles<'a> {
    certificate: &'a Path,
    private_key: &'a Path,
    certificate_bytes: Vec<u8>,
    private_key_bytes: Vec<u8>,
}

/// Tells two contents of a pair of files apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentDigest([u8; 32]);

impl<'a> PairFiles<'a> {
    /// Reads both files whole. Blocks on the file system.
    pub(super) fn read(certificate: &'a Path, private_key: &'a Path) -> Result<Self, FileError> {
        Ok(Self {
            certificate,
            private_key,
            certificate_bytes: pem::read(certificate)?,
            private_key_bytes: pem::read(private_key)?,
        })
    }

    pub(super) fn digest(&self) -> ContentDigest {
        let mut context = digest::Context::new(&digest::SHA256);
        // The length in front, so that no byte can move from one file to the other unnoticed.
        context.update(&(self.certificate_bytes.len() as u64).to_be_bytes());
        context.update(&self.certificate_bytes);
        context.update(&self.private_key_bytes);
        ContentDigest(sha256_array(context.finish()))
    }

    /// Makes a pair of what was read, if it can be served at `now`.
    pub(super) fn check(&self, now: SystemTime) -> Result<CertificatePair, CertificateError> {
        let chain = pem::certificates(self.certificate, &self.certificate_bytes)?;
        let key = pem::private_key(self.private_key, &self.private_key_bytes)?;

        let parsed = self.parse_chain(&chain)?;
        // `pem::certificates` never gives an empty chain.
        let leaf = &parsed[0];
        let not_before = system_time(&leaf.validity().not_before);
        let not_after = system_time(&leaf.validity().not_after);
        let subject = leaf.subject().to_string();
        let names = dns_names(leaf);
        let fingerprint = fingerprint(&chain[0]);

        let certified = self.match_key(&parsed, &chain, key, &super::provider())?;
        self.check_order(&parsed)?;
        if now > not_after {
            return Err(CertificateError::Expired {
                certificate: self.certificate.to_owned(),
                not_after,
                now,
            });
        }
        if now < not_before {
            return Err(CertificateError::NotYetValid {
                certificate: self.certificate.to_owned(),
                not_before,
                now,
            });
        }
        Ok(CertificatePair {
            key: Arc::new(certified),
            not_before,
            not_after,
            subject,
            names,
            fingerprint,
            content: self.digest(),
        })
    }

    fn parse_chain<'c>(
        &self,
        chain: &'c [CertificateDer<'static>],
    ) -> Result<Vec<X509Certificate<'c>>, CertificateError> {
        let malformed = |index: usize, source| CertificateError::Malformed {
            certificate: self.certificate.to_owned(),
            position: index + 1,
            source,
        };
        chain
            .iter()
            .enumerate()
            .map(
                |(index, der)| match x509_parser::parse_x509_certificate(der) {
                    Ok((_, parsed)) => Ok(parsed),
                    Err(x509_parser::nom::Err::Error(source))
                    | Err(x509_parser::nom::Err::Failure(source)) => Err(malformed(index, source)),
                    Err(x509_parser::nom::Err::Incomplete(_)) => {
                        Err(malformed(index, X509Error::InvalidCertificate))
                    }
                },
            )
            .collect()
    }

    fn match_key(
        &self,
        parsed: &[X509Certificate<'_>],
        chain: &[CertificateDer<'static>],
        key: rustls::pki_types::PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, CertificateError> {
        let unusable = |source| CertificateError::UnusableKey {
            private_key: self.private_key.to_owned(),
            source,
        };
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(unusable)?;
        let certified = CertifiedKey::new(chain.to_vec(), key);
        match certified.keys_match() {
            Ok(()) => return Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {}
            Err(source) => return Err(unusable(source)),
        }
        // A reversed chain is a common slip, and "doesn't belong" would send its author after the wrong file.
        let owner = certified.key.public_key().and_then(|public_key| {
            parsed
                .iter()
                .position(|certificate| certificate.public_key().raw == public_key.as_ref())
        });
        Err(match owner {
            Some(index) => CertificateError::LeafNotFirst {
                certificate: self.certificate.to_owned(),
                position: index + 1,
            },
            None => CertificateError::KeyMismatch {
                certificate: self.certificate.to_owned(),
                private_key: self.private_key.to_owned(),
            },
        })
    }

    /// By names only: whether the signatures hold is for clients to say, who know the roots.
    fn check_order(&self, parsed: &[X509Certificate<'_>]) -> Result<(), CertificateError> {
        for (index, pair) in parsed.windows(2).enumerate() {
            if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
                return Err(CertificateError::ChainOrder {
                    certificate: self.certificate.to_owned(),
                    position: index + 1,
                    issuer: pair[0].issuer().to_string(),
                    next: pair[1].subject().to_string(),
                });
            }
        }
        Ok(())
    }
}

/// SHA-256 of a certificate's DER form, by which certificates are pinned and named in messages.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    sha256_array(digest::digest(&digest::SHA256, certificate))
}

fn sha256_array(digest: digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::tls::fixtures::{Authority, Identity, now};

    struct Files {
        directory: tempfile::TempDir,
    }

    impl Files {
        fn with(certificate: &str, private_key: &str) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("tls.crt"), certificate).unwrap();
            fs::write(directory.path().join("tls.key"), private_key).unwrap();
            Self { directory }
        }

        fn load(&self) -> Result<CertificatePair, CertificateError> {
            self.load_at(now())
        }

        fn load_at(&self, now: SystemTime) -> Result<CertificatePair, CertificateError> {
            let path = self.directory.path();
            CertificatePair::load(&path.join("tls.crt"), &path.join("tls.key"), now)
        }

        /// The message, without the directory.
        fn fault(&self) -> String {
            self.fault_at(now())
        }

        fn fault_at(&self, now: SystemTime) -> String {
            let path = format!("{}/", self.directory.path().display());
            self.load_at(now)
                .unwrap_err()
                .to_string()
                .replace(&path, "")
        }
    }

    #[test]
    fn a_good_pair_says_what_it_is() {
        let leaf = Authority::new("Test CA").issue(&["Ftp.Example.com", "*.branch.example.com"]);
        let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
        let pair = files.load().unwrap();
        assert_eq!(pair.names, ["ftp.example.com", "*.branch.example.com"]);
        assert_eq!(pair.subject, "CN=Ftp.Example.com");
        assert_eq!(pair.fingerprint, fingerprint(&leaf.chain[0]));
        assert_eq!(pair.key.cert.len(), 2);
        assert!(pair.not_before < now() && now() < pair.not_after);
    }

    #[test]
    fn names_are_covered_exactly_or_by_one_label() {
        let leaf = Identity::self_signed(&["ftp.example.com", "*.branch.example.com"]);
        let pair = Files::with(&leaf.chain_pem(), &leaf.key_pem())
            .load()
            .unwrap();
        assert!(pair.covers("ftp.example.com"));
        assert!(pair.covers("FTP.Example.COM."));
        assert!(pair.covers("berlin.branch.example.com"));
        assert!(!pair.covers("branch.example.com"));
        assert!(!pair.covers(".branch.example.com"));
        assert!(!pair.covers("a.berlin.branch.example.com"));
        assert!(!pair.covers("example.com"));
        assert!(!pair.covers(""));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (Identity::self_signed(&["a"]), Identity::self_signed(&["b"]));
        assert_eq!(
            Files::with(&one.chain_pem(), &other.key_pem()).fault(),
            "private key tls.key does not belong to the certificate in tls.crt"
        );
    }

    #[test]
    fn an_expired_certificate_is_refused_with_its_date() {
        let leaf = Identity::self_signed(&["a"]);
        let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
        let not_after = files.load().unwrap().not_after;
        let date = Date(not_after);
        assert_eq!(
            files.fault_at(not_after + Duration::from_secs(12 * 86_400 + 1)),
            format!("certificate tls.crt expired on {date} (12 days ago): renew it")
        );
        assert!(files.load_at(not_after).is_ok());
    }

    #[test]
    fn a_certificate_from_the_future_is_refused_with_its_date() {
        let leaf = Identity::self_signed(&["a"]);
        let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
        let not_before = files.load().unwrap().not_before;
        let date = Date(not_before);
        assert_eq!(
            files.fault_at(not_before - Duration::from_secs(7_200)),
            format!(
                "certificate tls.crt is not valid before {date} (in 2 hours): check this machine's clock"
            )
        );
    }

    #[test]
    fn a_chain_out_of_order_is_refused_naming_the_certificates() {
        let leaf = Authority::new("Test CA").issue(&["a"]);
        let stranger = Authority::new("Other CA");
        let chain = format!("{}{}", leaf.leaf_pem(), stranger.pem());
        assert_eq!(
            Files::with(&chain, &leaf.key_pem()).fault(),
            "chain out of order in tls.crt: certificate 2 (CN=Other CA) did not issue certificate 1 \
             (issued by CN=Test CA)"
        );
    }

    #[test]
    fn a_reversed_chain_is_told_from_a_wrong_key() {
        let authority = Authority::new("Test CA");
        let leaf = authority.issue(&["a"]);
        let chain = format!("{}{}", authority.pem(), leaf.leaf_pem());
        assert_eq!(
            Files::with(&chain, &leaf.key_pem()).fault(),
            "chain out of order in tls.crt: the private key belongs to certificate 2, which has to come first"
        );
    }

    #[test]
    fn garbage_in_a_pem_envelope_is_refused() {
        let leaf = Identity::self_signed(&["a"]);
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(
            Files::with(garbage, &leaf.key_pem())
                .fault()
                .starts_with("certificate 1 in tls.crt is malformed: ")
        );
        let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(
            Files::with(&leaf.chain_pem(), garbage)
                .fault()
                .starts_with("private key tls.key is of no use: ")
        );
    }

    #[test]
    fn swapped_and_missing_files_are_named() {
        let leaf = Identity::self_signed(&["a"]);
        assert_eq!(
            Files::with(&leaf.key_pem(), &leaf.chain_pem()).fault(),
            "tls.crt holds a private key, not a certificate: are the two files swapped?"
        );
        let files = Files::with(&leaf.chain_pem(), &leaf.key_pem());
        fs::remove_file(files.directory.path().join("tls.key")).unwrap();
        assert!(files.fault().starts_with("cannot read tls.key: "));
    }
}
