//! Why authorities and revocation lists can't be used, and why no authority vouches for a certificate.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::VerifierBuilderError;
use rustls::{CertRevocationListError, CertificateError, Error, OtherError};
use x509_parser::certificate::X509Certificate;
use x509_parser::time::ASN1Time;

use crate::base::text::{escape, escape_path};
use crate::policy::client_certificate::{CertificateResult, ChainFault};
use crate::tls::fault::HandshakeFault;
use crate::tls::pem::FileError;
use crate::tls::verify::Rejection;
use crate::tls::x509::{escaped_name, is_for_clients};

/// The largest file of revocation lists that is read, in bytes: some 400,000 revoked certificates.
pub(super) const MAX_LIST_FILE: u64 = 16 * 1024 * 1024;

/// Why authorities and revocation lists can't be used. Certificates and lists in a file are counted from 1.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum ClientTrustError {
    #[error(transparent)]
    Ca(#[from] FileError),
    #[error(
        "certificate {position} in {} cannot be a trust anchor: {source}",
        escape_path(path)
    )]
    TrustAnchor {
        path: PathBuf,
        position: usize,
        source: Error,
    },
    #[error("cannot read {}: {source}", escape_path(path))]
    ReadList { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", escape_path(path))]
    ListNotAFile { path: PathBuf },
    #[error("{} is larger than {} MiB: not a file of revocation lists", escape_path(path), MAX_LIST_FILE / 1024 / 1024)]
    ListTooLarge { path: PathBuf },
    #[error("{} holds no revocation list", escape_path(path))]
    NoList { path: PathBuf },
    #[error(
        "{} ends in the middle of a revocation list: half written?",
        escape_path(path)
    )]
    HalfWritten { path: PathBuf },
    #[error("revocation list {position} in {} is malformed", escape_path(path))]
    MalformedList { path: PathBuf, position: usize },
    #[error(
        "{} has {surplus} bytes behind its revocation list: a file in DER holds one list and nothing else; write several in PEM",
        escape_path(path)
    )]
    BehindList { path: PathBuf, surplus: usize },
    #[error(
        "`crl` has lists of too many keys for authorities of one name, as {issuer} in {}: each such name multiplies the sets of \
         lists by its keys, and there may be {}; leave out those of former keys",
        escape_path(path),
        super::chains::MAX_SETS
    )]
    TooManyKeys { path: PathBuf, issuer: String },
    #[error(
        "revocation list {position} in {} is of version 1, or without extensions: with OpenSSL, set `crlnumber` and \
         `crl_extensions`",
        escape_path(path)
    )]
    OldList { path: PathBuf, position: usize },
    #[error(
        "the revocation list of {issuer} in {} cannot be used: {}",
        escape_path(path),
        why_unusable(source)
    )]
    UnusableList {
        path: PathBuf,
        issuer: String,
        source: VerifierBuilderError,
    },
    #[error("the authorities and revocation lists cannot be used: {0}")]
    Unusable(VerifierBuilderError),
}

fn why_unusable(source: &VerifierBuilderError) -> String {
    use CertRevocationListError as List;
    let VerifierBuilderError::InvalidCrl(error) = source else {
        return source.to_string();
    };
    let words = match error {
        List::UnsupportedDeltaCrl => {
            "it is a delta list, which has only what has changed since a complete one; write that one in `crl`"
        }
        List::UnsupportedIndirectCrl => "it is an indirect list, of other issuers' certificates",
        List::UnsupportedCriticalExtension => "it has a critical extension that is not supported",
        List::ParseError => "it is malformed",
        List::Other(OtherError(cause)) => return unsupported_list(&cause.to_string()),
        error => return format!("{error:?}"),
    };
    words.to_owned()
}

/// Words for an error of webpki's about a list that rustls has no name for.
fn unsupported_list(name: &str) -> String {
    let words = match name {
        "UnsupportedCrlIssuingDistributionPoint" => {
            "it is for a part of its issuer's certificates (issuingDistributionPoint), as those of users or of authorities alone, \
             without a distribution point; have its issuer publish one list for all, or one that has its distribution point"
        }
        "UnsupportedRevocationReasonsPartitioning" => {
            "it is for some reasons of a revocation alone (onlySomeReasons); write one for all of them in `crl`"
        }
        other => return format!("it is not supported ({})", escape(other.as_bytes())),
    };
    words.to_owned()
}

/// Why no authority vouches for a certificate, from what rustls says of it and the issuers that came with it.
pub(super) fn chain_fault(
    error: &Error,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> ChainFault {
    let result = result_of(error);
    let issuer_at_fault = issuer_at_fault(error, leaf, intermediates);
    let fault = HandshakeFault::from(error).to_string();
    let detail = match (result, issuer_at_fault) {
        (CertificateResult::Purpose, Some(issuer)) => format!(
            "{issuer} is not for clients (clientAuth), so what it has issued isn't, either; `pinned` takes the certificate by its \
             fingerprint"
        ),
        (_, Some(issuer)) => {
            format!("{issuer} {}", fault.strip_prefix("certificate ").unwrap_or(&fault))
        }
        (CertificateResult::UnknownCa, None) => format!("issued by unknown {}", issuer(leaf)),
        (CertificateResult::Purpose, None) => {
            "the certificate is not for clients (clientAuth), as those of public authorities; `pinned` takes it by its \
             fingerprint"
                .to_owned()
        }
        (CertificateResult::CrlMissing, None) => {
            "`crl` has no revocation list of an issuer in its chain".to_owned()
        }
        (CertificateResult::CrlExpired, None) => {
            "the revocation list of an issuer in its chain is past its next update".to_owned()
        }
        (CertificateResult::Revoked, None) => "revoked by its issuer".to_owned(),
        _ => fault,
    };
    ChainFault { result, detail }
}

/// The issuer, among those that came with a certificate, that an error is about; `None` if it is about the certificate itself, or
/// doesn't say.
fn issuer_at_fault(
    error: &Error,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Option<String> {
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    let is_at_fault = |certificate: &X509Certificate<'_>| {
        let validity = certificate.validity();
        let is_at =
            |time: &ASN1Time, at: &UnixTime| u64::try_from(time.timestamp()) == Ok(at.as_secs());
        match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                is_at(&validity.not_after, not_after)
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                is_at(&validity.not_before, not_before)
            }
            CertificateError::InvalidPurposeContext { .. } => !is_for_clients(certificate),
            _ => false,
        }
    };
    let (_, own) = x509_parser::parse_x509_certificate(leaf).ok()?;
    if is_at_fault(&own) {
        return None;
    }
    (2..).zip(intermediates).find_map(|(position, issuer)| {
        let (_, issuer) = x509_parser::parse_x509_certificate(issuer).ok()?;
        is_at_fault(&issuer).then(|| {
            let subject = escaped_name(issuer.subject());
            format!("certificate {position} of its chain ({subject})")
        })
    })
}

/// The fault of a certificate whose key the client isn't known to hold.
pub(super) fn unverifiable_key(key: Option<&Rejection>) -> ChainFault {
    let detail = match key {
        Some(key) => format!("the client may not hold its key: {key}"),
        None => "the client may not hold its key".to_owned(),
    };
    ChainFault {
        result: CertificateResult::Invalid,
        detail,
    }
}

/// The error of a chain as one that ends a handshake: an authority of the same name with another key is another one, where a
/// signature that is wrong would be taken for the client's own.
pub(super) fn of_chain(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            CertificateError::UnknownIssuer.into()
        }
        error => error,
    }
}

/// The kind of fault of a client's certificate that an error of rustls stands for.
pub(in crate::tls) fn result_of(error: &Error) -> CertificateResult {
    let Error::InvalidCertificate(error) = error else {
        return match error {
            Error::NoCertificatesPresented => CertificateResult::Missing,
            _ => CertificateResult::Invalid,
        };
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateResult::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateResult::NotYetValid
        }
        // An authority of the same name with another key is another one.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            CertificateResult::UnknownCa
        }
        CertificateError::Revoked => CertificateResult::Revoked,
        CertificateError::UnknownRevocationStatus => CertificateResult::CrlMissing,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => CertificateResult::CrlExpired,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            CertificateResult::Purpose
        }
        _ => CertificateResult::Invalid,
    }
}

fn issuer(leaf: &CertificateDer<'_>) -> String {
    match x509_parser::parse_x509_certificate(leaf) {
        Ok((_, parsed)) => escaped_name(parsed.issuer()),
        Err(_) => "authority".to_owned(),
    }
}
