//! The two files of a pair: what they hold, and whether that can be served.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Version;

use super::{CertificateError, CertificatePair, ChainBegin, ChainEnd, fingerprint};
use crate::base::text::escape;
use crate::tls::content_digest::ContentDigest;
use crate::tls::date::system_time;
use crate::tls::pem::{self, FileError};
use crate::tls::provider;
use crate::tls::verify::{Rejection, signature};
use crate::tls::x509::{escaped_name, is_for_clients};

/// The content of a pair of files at one moment.
pub(in crate::tls) struct PairFiles<'a> {
    certificate: &'a Path,
    private_key: &'a Path,
    certificate_bytes: Vec<u8>,
    private_key_bytes: Vec<u8>,
}

impl<'a> PairFiles<'a> {
    /// Reads both files whole. Blocks on the file system.
    pub fn read(certificate: &'a Path, private_key: &'a Path) -> Result<Self, FileError> {
        Ok(Self {
            certificate,
            private_key,
            certificate_bytes: pem::read(certificate)?,
            private_key_bytes: pem::read(private_key)?,
        })
    }

    /// The content that a pair of files is to have.
    pub fn of(
        (certificate, certificate_bytes): (&'a Path, Vec<u8>),
        (private_key, private_key_bytes): (&'a Path, Vec<u8>),
    ) -> Self {
        Self {
            certificate,
            private_key,
            certificate_bytes,
            private_key_bytes,
        }
    }

    pub fn digest(&self) -> ContentDigest {
        ContentDigest::of([&*self.certificate_bytes, &*self.private_key_bytes])
    }

    /// Makes a pair of what was read, if it can be served at `now`.
    pub fn check(&self, now: SystemTime) -> Result<CertificatePair, CertificateError> {
        let pair = self.check_but_dates()?;
        self.check_dates(&pair, now)?;
        Ok(pair)
    }

    /// Whether the pair that was made of them is valid at `now`.
    pub fn check_dates(
        &self,
        pair: &CertificatePair,
        now: SystemTime,
    ) -> Result<(), CertificateError> {
        if now > pair.not_after {
            return Err(CertificateError::Expired {
                certificate: self.certificate.to_owned(),
                not_after: pair.not_after,
                now,
            });
        }
        if now < pair.not_before {
            return Err(CertificateError::NotYetValid {
                certificate: self.certificate.to_owned(),
                not_before: pair.not_before,
                now,
            });
        }
        Ok(())
    }

    /// As [`check`](Self::check), but without regard to the dates of validity.
    pub fn check_but_dates(&self) -> Result<CertificatePair, CertificateError> {
        let chain = pem::certificates(self.certificate, &self.certificate_bytes);
        let chain = chain.map_err(|error| self.of_one_file(error))?;
        let key = pem::private_key(self.private_key, &self.private_key_bytes);
        let key = key.map_err(|error| self.of_one_file(error))?;

        let parsed = self.parse_chain(&chain)?;
        self.check_age(&parsed)?;
        // `pem::certificates` never returns an empty chain.
        let leaf = &parsed[0];
        self.check_key_algorithm(&chain[0])?;
        let certified = self.match_key(&parsed, &chain, key)?;
        self.check_order(&parsed)?;
        let not_before = system_time(&leaf.validity().not_before);
        let not_after = system_time(&leaf.validity().not_after);
        Ok(CertificatePair {
            key: Arc::new(certified),
            not_before,
            not_after,
            subject: escaped_name(leaf.subject()),
            names: dns_names(leaf),
            addresses: addresses(leaf),
            issuer: escaped_name(leaf.issuer()),
            is_self_issued: leaf.issuer().as_raw() == leaf.subject().as_raw(),
            is_authority: leaf.is_ca(),
            is_for_clients: is_for_clients(leaf),
            is_for_servers: is_for_servers(leaf),
            chain_end: chain_end(&parsed),
            chain_begin: chain_begin(&parsed),
            broken_at: broken_at(&parsed),
            fingerprint: fingerprint(&chain[0]),
            content: self.digest(),
        })
    }

    /// The error for one of the files: one file that is to hold both can't be mistaken for the other.
    fn of_one_file(&self, error: FileError) -> FileError {
        if self.certificate != self.private_key {
            return error;
        }
        match error {
            FileError::CertificateNotKey { path } => FileError::NoKey { path },
            FileError::KeyNotCertificate { path } => FileError::NoCertificate { path },
            other => other,
        }
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

    /// Before the key is loaded, which the TLS library would report instead.
    fn check_age(&self, parsed: &[X509Certificate<'_>]) -> Result<(), CertificateError> {
        // Roots of version 1 still exist, at the end of chains, where clients ignore the version.
        let leaf = parsed
            .first()
            .filter(|leaf| leaf.version() != X509Version::V3);
        if let Some(leaf) = leaf {
            return Err(CertificateError::OldVersion {
                certificate: self.certificate.to_owned(),
                position: 1,
                // The number begins with 0.
                version: leaf.version().0 + 1,
            });
        }
        match parsed.first().and_then(signature::rsa_bits) {
            Some(bits) if bits < signature::MIN_RSA => Err(CertificateError::ShortKey {
                certificate: self.certificate.to_owned(),
                bits,
            }),
            _ => Ok(()),
        }
    }

    /// Before the key is loaded, likewise: the TLS library knows no name for what it doesn't support.
    fn check_key_algorithm(&self, leaf: &CertificateDer<'_>) -> Result<(), CertificateError> {
        match signature::unsupported_key(leaf) {
            Some(Rejection::KeyAlgorithm(algorithm)) => Err(CertificateError::UnsupportedKey {
                certificate: self.certificate.to_owned(),
                algorithm,
            }),
            _ => Ok(()),
        }
    }

    fn match_key(
        &self,
        parsed: &[X509Certificate<'_>],
        chain: &[CertificateDer<'static>],
        key: PrivateKeyDer<'static>,
    ) -> Result<CertifiedKey, CertificateError> {
        let unusable = |source| CertificateError::UnusableKey {
            private_key: self.private_key.to_owned(),
            source,
        };
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(unusable)?;
        let certified = CertifiedKey::new(chain.to_vec(), key);
        match certified.keys_match() {
            Ok(()) => return Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {}
            Err(source) => return Err(unusable(source)),
        }
        // A reversed chain is a common mistake, and "doesn't belong" would lead to a search for the wrong file.
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

    /// Checks the order of the chain by names only: many FTP clients verify nothing, so that a wrong signature is only worth a
    /// note.
    fn check_order(&self, parsed: &[X509Certificate<'_>]) -> Result<(), CertificateError> {
        for (index, pair) in parsed.windows(2).enumerate() {
            if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
                return Err(CertificateError::ChainOrder {
                    certificate: self.certificate.to_owned(),
                    position: index + 1,
                    issuer: escaped_name(pair[0].issuer()),
                    next: escaped_name(pair[1].subject()),
                });
            }
        }
        Ok(())
    }
}

/// The issuer that ends first, if it does so before the leaf. No client checks the dates of a root.
fn chain_end(chain: &[X509Certificate<'_>]) -> Option<ChainEnd> {
    let end = |certificate: &X509Certificate<'_>| system_time(&certificate.validity().not_after);
    let leaf = chain.first()?;
    let ends = issuers(chain).map(|(position, issuer)| ChainEnd {
        position,
        not_before: system_time(&issuer.validity().not_before),
        not_after: end(issuer),
    });
    let first = ends.min_by_key(|end| end.not_after);
    first.filter(|first| first.not_after < end(leaf))
}

/// The issuer that begins last, if it does so after the leaf.
fn chain_begin(chain: &[X509Certificate<'_>]) -> Option<ChainBegin> {
    let begin = |certificate: &X509Certificate<'_>| system_time(&certificate.validity().not_before);
    let leaf = chain.first()?;
    let begins = issuers(chain).map(|(position, issuer)| ChainBegin {
        position,
        not_before: begin(issuer),
    });
    let last = begins.max_by_key(|begin| begin.not_before);
    last.filter(|last| last.not_before > begin(leaf))
}

/// The certificates behind the leaf but roots, with their places counted from 1, the leaf.
fn issuers<'p, 'c>(
    chain: &'p [X509Certificate<'c>],
) -> impl Iterator<Item = (usize, &'p X509Certificate<'c>)> {
    let issuers = (1..).zip(chain).skip(1);
    issuers.filter(|(_, issuer)| issuer.subject().as_raw() != issuer.issuer().as_raw())
}

/// The first that the next one's key has not signed, counted from 1.
fn broken_at(chain: &[X509Certificate<'_>]) -> Option<usize> {
    let mut links = chain.windows(2);
    let broken = links.position(|pair| signature::has_signed(&pair[1], &pair[0]) == Some(false))?;
    Some(broken + 1)
}

/// Whether the certificate's purposes, if it has any, are a TLS server's among others. Clients that verify refuse others.
fn is_for_servers(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(purposes)) => purposes.value.server_auth || purposes.value.any,
        Ok(None) => true,
        Err(_) => false,
    }
}

fn addresses(certificate: &X509Certificate<'_>) -> Vec<IpAddr> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
            .ok(),
        _ => None,
    };
    names.filter_map(address).collect()
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
            // Names that clients ask for are the same escaped.
            GeneralName::DNSName(name) => Some(escape(name.to_ascii_lowercase().as_bytes())),
            _ => None,
        })
        .collect()
}
