//! Notes on the certificate that clients see.

use std::time::SystemTime;

use super::{Note, NoteCode};
use crate::config::Settings;
use crate::tls::{CertificatePair, RENEWAL_MARGIN};

/// The note on a certificate that ends before long.
pub const EXPIRES_SOON: &str = "the certificate expires soon, renew it";

/// Whether the certificate ends before long.
pub fn expires_soon(certificate: &CertificatePair, now: SystemTime) -> bool {
    certificate
        .not_after
        .duration_since(now)
        .unwrap_or_default()
        < RENEWAL_MARGIN
}

/// What is worth a note about the certificate that clients are shown by default.
pub(super) fn notes(
    settings: &Settings,
    certificate: &CertificatePair,
    now: SystemTime,
) -> Vec<Note> {
    let mut notes = Vec::new();
    if expires_soon(certificate, now) {
        notes.push(Note::warning(
            NoteCode::CertificateExpiresSoon,
            EXPIRES_SOON,
        ));
    }
    match (&certificate.names[..], &certificate.addresses[..]) {
        ([], []) => {
            notes.push(Note::warning(
                NoteCode::CertificateWithoutName,
                "the certificate has no DNS name: clients will reject it",
            ));
        }
        ([], addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            notes.push(Note::warning(NoteCode::CertificateForAddresses, format!(
                "the certificate is only for {}: clients that connect by a host name will reject it",
                addresses.join(", ")
            )));
        }
        _ => {}
    }
    if certificate.is_authority {
        notes.push(Note::warning(
            NoteCode::CertificateOfAuthority,
            "the certificate is a certificate authority's (CA:TRUE), which some clients reject for a \
             server",
        ));
    }
    if certificate.shuts_out_old_windows() {
        // Most certificates are RSA's, and those programs are rare.
        notes.push(Note::hint(
            NoteCode::CertificateRsaKey,
            "the certificate has an RSA key: programs that use the TLS of Windows before 10 and \
             Server 2016 can't connect; with an ECDSA key they can (docs/tls-limits.md)",
        ));
    }
    if certificate.is_leaf_alone() {
        notes.push(Note::hint(NoteCode::CertificateLeafAlone, format!(
            "{} contains only the leaf certificate, issued by {}: append the issuer's certificate unless clients have it as a root, or most of \
             them will refuse the connection",
            settings.tls.certificate.display(),
            certificate.issuer
        )));
    }
    notes
}
