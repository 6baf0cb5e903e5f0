//! A certificate that a peer has shown, in readable form.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::certificate::fingerprint;
use super::date;
use super::validity::Validity;
use super::x509::escaped_name;

/// A certificate that a peer has shown; its texts are printable and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// The subject's name, for example `CN=ftp.example.com`.
    pub subject: String,
    /// The issuer's name, in the same form.
    pub issuer: String,
    /// The time from which on it is valid.
    pub not_before: SystemTime,
    /// The time at which it expires.
    pub not_after: SystemTime,
    /// SHA-256 of its DER form, by which it can be pinned.
    pub fingerprint: [u8; 32],
}

impl ShownCertificate {
    /// Reads the certificate; `None` if it can't be read.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self {
            subject: escaped_name(parsed.subject()),
            issuer: escaped_name(parsed.issuer()),
            not_before: date::system_time(&parsed.validity().not_before),
            not_after: date::system_time(&parsed.validity().not_after),
            fingerprint: fingerprint(certificate),
        })
    }

    /// The validity period.
    pub fn validity(&self) -> Validity {
        Validity {
            not_before: Some(self.not_before),
            not_after: self.not_after,
        }
    }
}
