//! Problems that are not errors (yet), or only for some clients: `check` prints them as notes, `run` logs them as
//! warnings.

use std::fmt;
use std::time::SystemTime;

use crate::config::{HostPattern, Settings};
use crate::tls::{CertificatePair, CertificateSet, RENEWAL_MARGIN};

/// The note on a certificate that ends before long.
pub(super) const EXPIRES_SOON: &str = "the certificate expires soon, renew it";

/// The port of implicit TLS (deprecated by RFC 4217, and still in wide use).
const IMPLICIT_PORT: u16 = 990;

/// Something worth a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Some clients will fail.
    Warning(String),
    /// Probably intended.
    Hint(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Warning(text) | Self::Hint(text) => f.write_str(text),
        }
    }
}

/// All that is worth a note about a configuration and its certificates.
pub fn notes(settings: &Settings, certificates: &CertificateSet, now: SystemTime) -> Vec<Note> {
    let mut notes = certificate_notes(settings, certificates.default_pair(), now);
    for site in &settings.sites {
        for host in &site.hosts {
            if let HostPattern::Exact(name) = host
                && !certificates.pairs().any(|pair| pair.covers(name.as_str()))
            {
                // Clients may say that name in USER alone.
                notes.push(Note::Hint(format!(
                    "site {}: the certificate does not cover {name}; clients that connect to that name will refuse it",
                    site.name
                )));
            }
        }
        for backend in &site.backends {
            let port = backend.servers.endpoint().map(|endpoint| endpoint.port);
            if port == Some(IMPLICIT_PORT) && backend.tls.is_none() {
                notes.push(Note::Warning(format!(
                    "site {}: backend {} has the port of implicit TLS but no `tls`, so it is connected to in clear text; write `tls: implicit` \
                     if it expects TLS",
                    site.name, backend
                )));
            }
        }
    }
    notes
}

/// Whether the certificate ends before long.
pub(super) fn expires_soon(certificate: &CertificatePair, now: SystemTime) -> bool {
    certificate
        .not_after
        .duration_since(now)
        .unwrap_or_default()
        < RENEWAL_MARGIN
}

fn certificate_notes(
    settings: &Settings,
    certificate: &CertificatePair,
    now: SystemTime,
) -> Vec<Note> {
    let mut notes = Vec::new();
    if expires_soon(certificate, now) {
        notes.push(Note::Warning(EXPIRES_SOON.to_owned()));
    }
    match (&certificate.names[..], &certificate.addresses[..]) {
        ([], []) => {
            notes.push(Note::Warning(
                "the certificate has no DNS name: clients will reject it".to_owned(),
            ));
        }
        ([], addresses) => {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            notes.push(Note::Warning(format!(
                "the certificate is only for {}: clients that connect by a host name will reject it",
                addresses.join(", ")
            )));
        }
        _ => {}
    }
    if certificate.is_authority {
        notes.push(Note::Warning("the certificate is a certificate authority's (CA:TRUE), which some clients reject for a server"
                .to_owned()));
    }
    if certificate.shuts_out_old_windows() {
        // Most certificates are RSA's, and those programs are rare.
        notes.push(Note::Hint(
            "the certificate has an RSA key: programs that use the TLS of Windows before 10 and Server 2016 can't connect; \
             with an ECDSA key they can (docs/tls-limits.md)"
                .to_owned(),
        ));
    }
    if certificate.is_leaf_alone() {
        notes.push(Note::Hint(format!(
            "{} contains only the leaf certificate, issued by {}: append the issuer's certificate unless clients have it as a root, or most of \
             them will refuse the connection",
            settings.tls.certificate.display(),
            certificate.issuer
        )));
    }
    notes
}
