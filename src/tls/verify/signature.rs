//! The signatures of handshakes with old devices: RSA keys of 1024 bits, certificates of X.509 version 1.
//!
//! Where the certificate is not checked, or is pinned by its fingerprint, its age is no reason to refuse it: the
//! signature shows that the backend holds the key, which is all that is required. webpki, with which rustls verifies,
//! reads certificates of version 3 alone, and keys from 2048 bits on.

use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    UnparsedPublicKey,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::AlgorithmIdentifier;

use super::Rejection;
use crate::tls::{fips, provider};

/// RSA keys below are too short for webpki and for rustls' own.
pub(in crate::tls) const MIN_RSA: usize = 2048;

/// The sizes of RSA keys by which every signature can be verified, in bits.
const RSA_SIZES: RangeInclusive<usize> = MIN_RSA..=8192;

/// Verifies a signature of the handshake by the key in the certificate alone, whatever else the certificate is: for one of
/// which no more is required.
pub(in crate::tls) fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    (scheme, signature): (SignatureScheme, &[u8]),
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let key = &parsed.public_key().subject_public_key.data;
    let of_scheme = algorithms.mapping.iter().find(|(one, _)| *one == scheme);
    let verifies = of_scheme
        .into_iter()
        .flat_map(|(_, algorithms)| algorithms.iter())
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok());
    let is_old = || {
        // Short keys are none of a FIPS module's.
        if fips::IS_REQUIRED {
            return false;
        }
        let legacy = match scheme {
            SignatureScheme::RSA_PKCS1_SHA256 => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            SignatureScheme::RSA_PKCS1_SHA512 => &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            _ => return false,
        };
        let key = UnparsedPublicKey::new(legacy, key);
        key.verify(message, signature).is_ok()
    };
    if verifies || is_old() {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}

/// Whether the key of `issuer` has signed `certificate`. `None` where that can't be known: the algorithm, or the key, is too old.
pub(in crate::tls) fn has_signed(
    issuer: &X509Certificate<'_>,
    certificate: &X509Certificate<'_>,
) -> Option<bool> {
    let key = &issuer.public_key().subject_public_key.data;
    let signed = is_signed_by(
        key,
        &certificate.signature_algorithm,
        certificate.tbs_certificate.as_ref(),
        &certificate.signature_value.data,
    );
    let is_short = rsa_bits(issuer).is_some_and(|bits| bits < MIN_RSA);
    signed.filter(|signed| *signed || !is_short)
}

/// Whether this key has signed what an authority has issued; `None` if handshakes have no such algorithm.
pub(in crate::tls) fn is_signed_by(
    key: &[u8],
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
) -> Option<bool> {
    let algorithms = provider().signature_verification_algorithms.all;
    let named = algorithms
        .iter()
        .filter(|one| is_of(&one.signature_alg_id(), &algorithm.algorithm));
    let verified =
        named.map(|algorithm| algorithm.verify_signature(key, message, signature).is_ok());
    verified.reduce(|one, other| one || other)
}

/// The schemes that a key of 1024 bits can be verified by. If PSS is offered, a server selects it, and short keys are
/// not supported for it here; TLS 1.2 works without it.
pub(super) fn without_pss(schemes: Vec<SignatureScheme>) -> Vec<SignatureScheme> {
    let is_pss = |scheme: &SignatureScheme| {
        matches!(
            scheme,
            SignatureScheme::RSA_PSS_SHA256
                | SignatureScheme::RSA_PSS_SHA384
                | SignatureScheme::RSA_PSS_SHA512
        )
    };
    schemes
        .into_iter()
        .filter(|scheme| !is_pss(scheme))
        .collect()
}

/// Whether TLS 1.3 has this scheme in a handshake (RFC 8446 §4.4.3).
pub(in crate::tls) fn is_of_tls13(scheme: SignatureScheme) -> bool {
    !matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

/// Why no signature by this certificate's key can be verified; `None` if one can.
///
/// A short RSA key can be where the client signs by PKCS#1, which TLS 1.3 doesn't have.
pub(in crate::tls) fn unsupported_key(certificate: &CertificateDer<'_>) -> Option<Rejection> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    if let Some(bits) = rsa_bits(&parsed) {
        return (!RSA_SIZES.contains(&bits)).then_some(Rejection::KeySize(bits));
    }
    let kind = &parsed.public_key().algorithm;
    let parameters = kind.parameters.as_ref().map_or(&[][..], |it| it.data);
    let is_supported = provider()
        .signature_verification_algorithms
        .all
        .iter()
        .any(|algorithm| {
            let identifier = algorithm.public_key_alg_id();
            is_of(&identifier, &kind.algorithm) && identifier.ends_with(parameters)
        });
    (!is_supported).then(|| Rejection::KeyAlgorithm(key_algorithm(kind)))
}

/// The kind of a key by its OIDs, for people.
fn key_algorithm(kind: &AlgorithmIdentifier<'_>) -> String {
    let algorithm = kind.algorithm.to_id_string();
    let curve = kind.parameters.as_ref().and_then(|it| it.as_oid().ok());
    match curve.map(|curve| curve.to_id_string()) {
        Some(curve) if curve == "1.3.132.0.10" => format!("{algorithm} with the curve secp256k1"),
        Some(curve) => format!("{algorithm} with the curve {curve}"),
        None => algorithm,
    }
}

/// Whether an identifier is of this OID. It begins with the tag and the length of its own.
fn is_of(identifier: &[u8], oid: &Oid<'_>) -> bool {
    let named = identifier.get(2..);
    named.is_some_and(|named| named.starts_with(oid.as_bytes()))
}

/// How many bits the certificate's RSA key has, if it has one.
pub(in crate::tls) fn rsa_bits(parsed: &X509Certificate<'_>) -> Option<usize> {
    match parsed.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;
    use crate::tls::provider;

    const MESSAGE: &[u8] = b"a handshake";
    const PKCS1: &[u8] = include_bytes!("../../../tests/old_certificates/rsa1024.pkcs1_sha256");
    const PSS: &[u8] = include_bytes!("../../../tests/old_certificates/rsa1024.pss_sha256");

    fn certificate(pem: &[u8]) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem).unwrap()
    }

    #[test]
    fn a_key_of_1024_bits_verifies_what_it_has_signed_and_nothing_else() {
        let certificate = certificate(include_bytes!(
            "../../../tests/old_certificates/rsa1024.crt"
        ));
        let algorithms = provider().signature_verification_algorithms;
        let verified = |message: &[u8], scheme, signature: &[u8]| {
            verify(message, &certificate, (scheme, signature), &algorithms).is_ok()
        };
        assert_eq!(
            verified(MESSAGE, SignatureScheme::RSA_PKCS1_SHA256, PKCS1),
            !fips::IS_REQUIRED
        );
        assert!(!verified(
            b"another",
            SignatureScheme::RSA_PKCS1_SHA256,
            PKCS1
        ));
        assert!(!verified(MESSAGE, SignatureScheme::RSA_PKCS1_SHA512, PKCS1));
        assert!(!verified(MESSAGE, SignatureScheme::RSA_PKCS1_SHA256, PSS));
        // This is why PSS is not on offer.
        assert!(!verified(MESSAGE, SignatureScheme::RSA_PSS_SHA256, PSS));
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        assert_eq!(rsa_bits(&parsed), Some(1024));
    }

    #[test]
    fn keys_of_usual_kinds_and_sizes_can_be_verified_and_short_ones_cannot() {
        let usual = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        for algorithm in usual {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let params = rcgen::CertificateParams::new(vec!["acme.test".to_owned()]).unwrap();
            let issued = params.self_signed(&key).unwrap();
            assert_eq!(unsupported_key(issued.der()), None, "{algorithm:?}");
        }
        let short = certificate(include_bytes!(
            "../../../tests/old_certificates/rsa1024.crt"
        ));
        assert_eq!(unsupported_key(&short), Some(Rejection::KeySize(1024)));
        let curve = certificate(include_bytes!(
            "../../../tests/old_certificates/secp256k1.crt"
        ));
        let named = "1.2.840.10045.2.1 with the curve secp256k1".to_owned();
        assert_eq!(
            unsupported_key(&curve),
            Some(Rejection::KeyAlgorithm(named))
        );
    }

    #[test]
    fn pss_is_left_out_and_all_else_stays_in_its_order() {
        let schemes = provider()
            .signature_verification_algorithms
            .supported_schemes();
        let left = without_pss(schemes.clone());
        assert!(left.contains(&SignatureScheme::RSA_PKCS1_SHA256));
        assert!(!left.contains(&SignatureScheme::RSA_PSS_SHA256));
        assert_eq!(left.len(), schemes.len() - 3);
    }

    #[test]
    fn bytes_that_are_no_certificate_verify_nothing() {
        let algorithms = provider().signature_verification_algorithms;
        let none = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x01]);
        let scheme = SignatureScheme::RSA_PKCS1_SHA256;
        assert!(verify(MESSAGE, &none, (scheme, PKCS1), &algorithms).is_err());
    }
}
