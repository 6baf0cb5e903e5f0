//! TLS on both legs: the certificates and how they are replaced, the binding of data connections to their control
//! connection, and the verification of backends' certificates.
//!
//! Nothing here owns a socket: this module makes configurations, `net` runs handshakes with them, and
//! [`classify_error`] says afterwards what went wrong. Towards clients the way is [`CertificateSet`] (loaded and
//! checked) -> [`ServerTls`] (a snapshot) -> [`SessionTls`] (one session's) -> [`DataTls`] (one data connection's).
//! Towards backends it is [`BackendTlsClient`], with a [`BackendClientCertificate`] where they ask for one, ->
//! [`BackendSessionTls`].

use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{
    CipherSuiteCommon, SupportedCipherSuite, SupportedProtocolVersion, Tls12CipherSuite,
    Tls13CipherSuite,
};

use crate::config::TlsVersion;

pub mod backend;
pub mod binding;
pub mod certificate;
pub mod client_cache;
pub mod client_certificates;
pub mod client_hello;
mod content_digest;
mod date;
pub mod fault;
pub mod fips;
#[cfg(test)]
mod fixtures;
pub mod hello_rewrite;
pub mod peer;
pub mod pem;
mod renewal;
mod resumption_profile;
pub mod server;
pub mod session_store;
mod transcript;
mod validity;
mod verify;
pub mod watch;
mod x509;

pub use backend::{
    BackendClientCertificate, BackendClientCertificateLoader, BackendClientCertificates,
    BackendSessionTls, BackendTlsClient, BackendTlsError, NonCaTrustAnchor,
};
pub use binding::{ConnectionTls, DataTls, Proof, SessionTls, Tickets};
pub use certificate::assemble::{AssembleError, Assembled, assemble};
pub use certificate::{
    Asked, BeforeHandshake, CertificateError, CertificateOrigin, CertificatePair, CertificateSet,
    ChainBegin, ChainEnd, ConfiguredCertificate, DEFAULT_NAME, DirectoryFault, Fingerprint,
    Inventory, KeyCompatibility, Source, Verifies,
};
pub use client_cache::ClientCache;
pub use client_certificates::{ClientTrust, ClientTrustError, RevocationList};
pub use date::Date;
pub use fault::{HandshakeFault, classify_error};
pub use peer::ShownCertificate;
pub use renewal::{days_left, renewal_is_due, renewal_margin};
pub use server::ServerTls;
pub use session_store::{LoginId, SessionStore, TicketOwner};
pub use validity::Validity;
pub use watch::{
    BackendClientCertificateChange, BackendClientCertificateChanges, BackendClientCertificateWatch,
    CertificateWatch,
};

const FIRST_SUITES: [SupportedCipherSuite; 3] = [
    aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
];

/// The cryptography in use: aws-lc-rs, with AES-128-GCM in front. It is a tenth faster than AES-256-GCM, and for what
/// a session lasts nothing is gained by the longer key.
///
/// Every configuration names it explicitly; there is no process default to be overridden by accident.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        // Stable: the preferred suites keep their order among themselves, and so do the others.
        provider
            .cipher_suites
            .sort_by_key(|suite| !FIRST_SUITES.contains(suite));
        provider.cipher_suites = provider
            .cipher_suites
            .into_iter()
            .map(with_wire_transcript)
            .collect();
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// A suite whose handshakes are hashed as they are on the wire, and in TLS 1.2 without a limit to how much one
/// connection may carry.
///
/// At its limit of 2^24 records rustls says close_notify of its own accord in TLS 1.2, which can't change keys, and
/// from then on takes bytes to throw them away without an error: the end of a large file would be missing, and its
/// truncation authenticated. The limit keeps an attacker's advantage below 2^-60; other TLS libraries have none. TLS
/// 1.3 changes keys.
fn with_wire_transcript(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let common = |common: &CipherSuiteCommon, confidentiality_limit| CipherSuiteCommon {
        suite: common.suite,
        hash_provider: transcript::wire_transcript(common.hash_provider),
        confidentiality_limit,
    };
    // Once for each suite in the life of the process.
    match suite {
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&suite.common, u64::MAX),
                prf_provider: suite.prf_provider,
                kx: suite.kx,
                sign: suite.sign,
                aead_alg: suite.aead_alg,
            })))
        }
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&suite.common, suite.common.confidentiality_limit),
                hkdf_provider: suite.hkdf_provider,
                aead_alg: suite.aead_alg,
                quic: suite.quic,
            })))
        }
    }
}

/// The versions in `range`, as rustls takes them; the newest first.
fn versions(range: RangeInclusive<TlsVersion>) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    match (range.start(), range.end()) {
        (TlsVersion::V1_2, TlsVersion::V1_3) => &BOTH,
        (TlsVersion::V1_2, TlsVersion::V1_2) => &BOTH[1..],
        (TlsVersion::V1_3, _) => &BOTH[..1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_connection_comes_to_a_limit_at_which_bytes_are_thrown_away() {
        for suite in &provider().cipher_suites {
            if let SupportedCipherSuite::Tls12(suite) = suite {
                assert_eq!(suite.common.confidentiality_limit, u64::MAX, "{suite:?}");
            }
        }
    }
}
