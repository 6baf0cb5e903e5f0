//! Policies for backends' certificates, called by rustls during a handshake.
//!
//! All of them verify the handshake's signature, so that the backend is at least known to hold the key of the
//! certificate that it shows; those that check nothing else of a certificate accept old ones, too, see `signature`. A
//! resumed handshake shows no certificate; it proves instead that the backend is the one that was verified when the
//! session began.

pub(super) mod signature;

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use x509_parser::x509::X509Version;

use super::certificate::{Fingerprint, fingerprint};
use crate::config::TlsVersion;

/// The requirements on a certificate.
pub(super) enum CertificatePolicy {
    /// The certificate has to be issued by one of the roots, for the right name, and valid now.
    Roots(Arc<WebPkiServerVerifier>),
    /// The certificate has to have this SHA-256.
    Fingerprint([u8; 32]),
    /// Nothing is required of the certificate.
    Nothing,
}

/// A [`CertificatePolicy`] with the signature algorithms to verify handshakes by.
#[derive(Debug)]
pub(super) struct Verifier {
    policy: CertificatePolicy,
    algorithms: WebPkiSupportedAlgorithms,
    max_version: TlsVersion,
}

/// Reasons of a rejection that rustls' own errors don't distinguish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("self-signed certificate of {0}")]
    SelfSigned(String),
    #[error("certificate issued by unknown {0}")]
    UnknownIssuer(String),
    #[error("certificate issued by {0} with another key than the trusted one")]
    OtherIssuerKey(String),
    #[error("certificate authority's certificate of {0} used as a server's")]
    AuthorityAsServer(String),
    #[error("fingerprint {}", Fingerprint(.0))]
    Fingerprint([u8; 32]),
    #[error("RSA key of {0} bits")]
    ShortKey(usize),
    #[error("RSA key of {0} bits, by which no signature can be verified")]
    KeySize(usize),
    #[error("key of the algorithm {0}, by which no signature can be verified")]
    KeyAlgorithm(String),
    #[error("certificate of X.509 version {0}")]
    OldVersion(u32),
    #[error("chain of {0} bytes, but at most {1} are taken")]
    LongChain(usize, usize),
}

impl Verifier {
    /// A verifier for handshakes up to this version of TLS.
    pub(super) fn new(policy: CertificatePolicy, max_version: TlsVersion) -> Arc<Self> {
        Arc::new(Self {
            policy,
            algorithms: super::provider().signature_verification_algorithms,
            max_version,
        })
    }

    /// Verifies by the key alone where the policy requires no more; `error` is what rustls found wrong with the
    /// signature.
    fn verify_by_key_alone(
        &self,
        error: Error,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.policy.checks_certificate() {
            return Err(more_precise(error, certificate));
        }
        signature::verify(
            message,
            certificate,
            (signed.scheme, signed.signature()),
            &self.algorithms,
        )
        .map_err(|error| more_precise(error, certificate))
    }
}

impl CertificatePolicy {
    /// `None` if `roots` is empty.
    pub(super) fn roots(roots: RootCertStore) -> Option<Self> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), super::provider())
            .build()
            .map(Self::Roots)
            .ok()
    }

    fn checks_certificate(&self) -> bool {
        match self {
            Self::Roots(_) => true,
            Self::Fingerprint(_) | Self::Nothing => false,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.policy {
            CertificatePolicy::Nothing => Ok(ServerCertVerified::assertion()),
            CertificatePolicy::Fingerprint(expected) => {
                let seen = fingerprint(end_entity);
                if seen == *expected {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(Rejection::Fingerprint(seen).into())
                }
            }
            CertificatePolicy::Roots(verifier) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| of_chain(error, end_entity)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
            .or_else(|error| self.verify_by_key_alone(error, message, certificate, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms).or_else(|error| {
            if signature::is_of_tls13(signed.scheme) {
                self.verify_by_key_alone(error, message, certificate, signed)
            } else {
                Err(error)
            }
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let schemes = self.algorithms.supported_schemes();
        if self.policy.checks_certificate() || self.max_version > TlsVersion::V1_2 {
            schemes
        } else {
            signature::without_pss(schemes)
        }
    }
}

/// The fault of a chain: a wrong signature in it is an issuer's, where in the handshake it is the peer's own.
fn of_chain(error: Error, certificate: &CertificateDer<'_>) -> Error {
    match (&error, x509_parser::parse_x509_certificate(certificate)) {
        (Error::InvalidCertificate(CertificateError::BadSignature), Ok((_, parsed))) => {
            Rejection::OtherIssuerKey(parsed.issuer().to_string()).into()
        }
        _ => more_precise(error, certificate),
    }
}

/// Looks into the certificate where rustls only says that it knows no issuer, or that something is wrong.
fn more_precise(error: Error, certificate: &CertificateDer<'_>) -> Error {
    let Error::InvalidCertificate(cause) = &error else {
        return error;
    };
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return error;
    };
    let short = signature::rsa_bits(&parsed).filter(|bits| *bits < signature::MIN_RSA);
    if let (CertificateError::BadSignature, Some(bits)) = (cause, short) {
        return Rejection::ShortKey(bits).into();
    }
    match cause {
        // webpki's `UnsupportedCertVersion` has no name in rustls.
        CertificateError::Other(_) if parsed.version() != X509Version::V3 => {
            // The number begins with 0.
            Rejection::OldVersion(parsed.version().0 + 1).into()
        }
        CertificateError::UnknownIssuer
            if parsed.issuer().as_raw() == parsed.subject().as_raw() =>
        {
            Rejection::SelfSigned(parsed.subject().to_string()).into()
        }
        CertificateError::UnknownIssuer => {
            Rejection::UnknownIssuer(parsed.issuer().to_string()).into()
        }
        // webpki's `CaUsedAsEndEntity` has no name in rustls.
        CertificateError::Other(_) if parsed.is_ca() => {
            Rejection::AuthorityAsServer(parsed.subject().to_string()).into()
        }
        _ => error,
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(rejection))))
    }
}

impl fmt::Debug for CertificatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(_) => f.write_str("Roots"),
            Self::Fingerprint(expected) => Fingerprint(expected).fmt(f),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}
