//! Answers to rustls in a handshake: whether to ask for a certificate, and whether the client holds its key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::{ClientTrust, error, identity};
use crate::config::AskClients;
use crate::policy::client_certificate::{CertificateResult, ChainFault, ClientIdentity, KeyProof};
use crate::tls::verify::{Rejection, signature};
use crate::tls::{hello_rewrite, provider};

/// How many bytes of certificates a client may show. A session keeps them to its end, and so does each TLS session that its
/// data connections may resume; a chain of three has some 4 KB.
const MAX_CHAIN: usize = 16 * 1024;

/// A [`ClientTrust`] as rustls knows it.
#[derive(Debug)]
pub(super) struct Verifier {
    trust: ClientTrust,
    unverifiable: UnverifiableKeys,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The treatment of a handshake with a certificate whose key can't verify any signature.
#[derive(Debug)]
pub(super) enum UnverifiableKeys {
    /// The handshake fails, and that is noted where there is a place for it.
    Refused(Option<Arc<KeyCheck>>),
    /// The handshake goes on: the certificate proves nothing then, as USER will find.
    Noted(Arc<KeyCheck>),
}

/// The result of one control connection's handshake for the client's certificate and its key.
#[derive(Debug, Default)]
pub(in crate::tls) struct KeyCheck {
    is_unverifiable: AtomicBool,
    /// The certificate that the handshake has failed for.
    refused: OnceLock<ClientIdentity>,
}

impl KeyCheck {
    /// The certificate that the handshake has failed for. The client may not hold its key.
    pub fn refused(&self) -> Option<&ClientIdentity> {
        self.refused.get()
    }

    /// The result for the key, once the handshake is done.
    pub fn proof(&self) -> KeyProof {
        match self.is_unverifiable.load(Ordering::Acquire) {
            true => KeyProof::Unverifiable,
            false => KeyProof::Verified,
        }
    }
}

impl Verifier {
    pub fn new(trust: ClientTrust, unverifiable: UnverifiableKeys) -> Arc<Self> {
        Arc::new(Self {
            trust,
            unverifiable,
            algorithms: provider().signature_verification_algorithms,
        })
    }

    /// Verifies by the key alone what rustls doesn't for the certificate's age: nothing is required of a certificate that no
    /// site asks for. A signature that can't be verified is no wrong one.
    fn verify_by_key_alone(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        signature::verify(
            message,
            certificate,
            (signed.scheme, signed.signature()),
            &self.algorithms,
        )
        .or_else(|error| match signature::unsupported_key(certificate) {
            Some(key) => self.go_on_without_proof(key),
            None => Err(error),
        })
    }

    /// Notes whose certificate ends the handshake, for this reason.
    fn note(&self, leaf: &CertificateDer<'_>, fault: impl FnOnce() -> ChainFault) {
        let check = match &self.unverifiable {
            UnverifiableKeys::Refused(check) => check.as_ref(),
            UnverifiableKeys::Noted(check) => Some(check),
        };
        if let Some(check) = check {
            let _ = check.refused.set(identity::unverified(leaf, fault()));
        }
    }

    /// Notes a certificate whose client has not signed with its key.
    fn note_bad_signature(&self, leaf: &CertificateDer<'_>, error: &Error) {
        self.note(leaf, || match error {
            Error::InvalidCertificate(CertificateError::BadSignature) => ChainFault {
                result: CertificateResult::Invalid,
                detail: "the client does not hold its key".to_owned(),
            },
            error => error::chain_fault(error, leaf, &[]),
        });
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let length = leaf.len() + intermediates.iter().map(|it| it.len()).sum::<usize>();
        if length > MAX_CHAIN {
            return Err(Rejection::LongChain(length, MAX_CHAIN).into());
        }
        match self.trust.ask {
            AskClients::Required => self.trust.admit(leaf, intermediates, now),
            AskClients::None | AskClients::Optional => Ok(()),
        }
    }

    fn go_on_without_proof(&self, key: Rejection) -> Result<HandshakeSignatureValid, Error> {
        match &self.unverifiable {
            UnverifiableKeys::Refused(_) => Err(key.into()),
            UnverifiableKeys::Noted(check) => {
                check.is_unverifiable.store(true, Ordering::Release);
                Ok(HandshakeSignatureValid::assertion())
            }
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.trust.ask == AskClients::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.trust.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(()) => Ok(ClientCertVerified::assertion()),
            Err(error) => {
                self.note(end_entity, || {
                    error::chain_fault(&error, end_entity, intermediates)
                });
                Err(error)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // All messages so far, as rustls has read and written them, where the client has signed them as they went over the
        // wire. In TLS 1.3 their hash is signed, which is that of the wire already.
        let message = hello_rewrite::on_the_wire(message);
        verify_tls12_signature(&message, certificate, signed, &self.algorithms)
            .or_else(|_| self.verify_by_key_alone(&message, certificate, signed))
            .inspect_err(|error| self.note_bad_signature(certificate, error))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
            .or_else(|error| match signature::is_of_tls13(signed.scheme) {
                true => self.verify_by_key_alone(message, certificate, signed),
                false => Err(error),
            })
            .inspect_err(|error| self.note_bad_signature(certificate, error))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
