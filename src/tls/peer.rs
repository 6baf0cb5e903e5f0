//! What a certificate that a peer has shown says of itself, for people.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::certificate::fingerprint;
use super::date;
use crate::base::text::escape;

/// A certificate with less left than this expires soon. ACME clients renew a month ahead; less than two weeks means that the
/// renewal fails.
pub const RENEWAL_MARGIN: Duration = Duration::from_secs(14 * 86_400);

/// Whether so many days are less than [`RENEWAL_MARGIN`].
pub fn renewal_is_due(days_left: i64) -> bool {
    let margin = RENEWAL_MARGIN.as_secs() / 86_400;
    i64::try_from(margin).is_ok_and(|margin| days_left < margin)
}

/// A certificate that a peer has shown; its texts are printable and short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    /// For example `CN=ftp.example.com`.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// When it expires.
    pub not_after: SystemTime,
    /// SHA-256 of its DER form, by which it can be pinned.
    pub fingerprint: [u8; 32],
}

impl ShownCertificate {
    /// Reads it; `None` if it can't be read.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        Some(Self {
            subject: escape(parsed.subject().to_string().as_bytes()),
            issuer: escape(parsed.issuer().to_string().as_bytes()),
            not_after: date::system_time(&parsed.validity().not_after),
            fingerprint: fingerprint(certificate),
        })
    }
}
