//! Judges of backends' certificates, for rustls to call during a handshake.
//!
//! All of them verify the handshake's signature, so that the backend is at least known to hold the key of the
//! certificate that it shows. A resumed handshake shows no certificate; it proves instead that the backend is the one
//! that was judged when the session began.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::certificate::{Fingerprint, fingerprint};

/// What is asked of a certificate.
pub(super) enum Judge {
    /// To be issued by one of the roots, for the right name, and valid now.
    Roots(Arc<WebPkiServerVerifier>),
    /// To have this SHA-256.
    Fingerprint([u8; 32]),
    /// Nothing.
    Nothing,
}

/// A [`Judge`] with the signature algorithms to verify handshakes by.
#[derive(Debug)]
pub(super) struct Verifier {
    judge: Judge,
    algorithms: WebPkiSupportedAlgorithms,
}

/// What rustls' own errors leave out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("self-signed certificate of {0}")]
    SelfSigned(String),
    #[error("certificate issued by unknown {0}")]
    UnknownIssuer(String),
    #[error("certificate authority's certificate of {0} used as a server's")]
    AuthorityAsServer(String),
    #[error("fingerprint {}", Fingerprint(.0))]
    Fingerprint([u8; 32]),
}

impl Verifier {
    pub(super) fn new(judge: Judge) -> Arc<Self> {
        Arc::new(Self {
            judge,
            algorithms: super::provider().signature_verification_algorithms,
        })
    }
}

impl Judge {
    /// `None` if `roots` is empty.
    pub(super) fn roots(roots: RootCertStore) -> Option<Self> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), super::provider())
            .build()
            .map(Self::Roots)
            .ok()
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
        match &self.judge {
            Judge::Nothing => Ok(ServerCertVerified::assertion()),
            Judge::Fingerprint(expected) => {
                let seen = fingerprint(end_entity);
                if seen == *expected {
                    Ok(ServerCertVerified::assertion())
                } else {
                    Err(Refusal::Fingerprint(seen).into())
                }
            }
            Judge::Roots(verifier) => verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| more_precise(error, end_entity)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
    match cause {
        CertificateError::UnknownIssuer
            if parsed.issuer().as_raw() == parsed.subject().as_raw() =>
        {
            Refusal::SelfSigned(parsed.subject().to_string()).into()
        }
        CertificateError::UnknownIssuer => {
            Refusal::UnknownIssuer(parsed.issuer().to_string()).into()
        }
        // webpki's `CaUsedAsEndEntity` has no name in rustls.
        CertificateError::Other(_) if parsed.is_ca() => {
            Refusal::AuthorityAsServer(parsed.subject().to_string()).into()
        }
        _ => error,
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roots(_) => f.write_str("Roots"),
            Self::Fingerprint(expected) => Fingerprint(expected).fmt(f),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}
