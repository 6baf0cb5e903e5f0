//! When a certificate that a server has shown is valid.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::date;
use super::renewal::renewal_is_due;

/// The validity period of a backend's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The beginning of the period; `None` for a certificate of which only the end is known, since it was refused for that.
    pub not_before: Option<SystemTime>,
    /// The end of the period.
    pub not_after: SystemTime,
}

impl Validity {
    /// The validity period of a certificate; `None` if it can't be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            not_before: Some(date::system_time(&validity.not_before)),
            not_after: date::system_time(&validity.not_after),
        })
    }

    /// Whether the certificate should have been renewed.
    pub fn renewal_is_due(&self, now: SystemTime) -> bool {
        match self.not_before {
            Some(not_before) => renewal_is_due(not_before, self.not_after, now),
            None => self.not_after <= now,
        }
    }

    /// The validity period of a certificate that was refused because it has expired; its beginning is unknown.
    pub fn expired(not_after: SystemTime) -> Self {
        Self {
            not_before: None,
            not_after,
        }
    }
}
