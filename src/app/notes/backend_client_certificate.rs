//! Notes on the certificates that backends are shown.

use std::time::SystemTime;

use super::{Note, NoteCode};
use crate::backend::Pools;
use crate::base::text::escape_path;
use crate::tls::{BackendClientCertificate, Date, renewal_is_due};

/// The notes about the client certificates that backends are shown.
pub fn on_backend_client_certificates(pools: &Pools, now: SystemTime) -> Vec<Note> {
    let all = pools.backend_client_certificates().all();
    all.flat_map(|certificate| notes(certificate, now))
        .collect()
}

fn notes(certificate: &BackendClientCertificate, now: SystemTime) -> Vec<Note> {
    let file = escape_path(&certificate.files().certificate);
    let pair = certificate.in_use();
    let mut notes = Vec::new();
    if now > pair.not_after {
        notes.push(Note::warning(NoteCode::BackendCertificateNotValid, format!(
            "client certificate {file} expired on {}: renew it; the backends that are shown it will refuse it",
            Date(pair.not_after)
        )));
    } else if now < pair.not_before {
        notes.push(Note::warning(
            NoteCode::BackendCertificateNotValid,
            format!(
                "client certificate {file} is not valid before {}: check this machine's clock",
                Date(pair.not_before)
            ),
        ));
    } else if renewal_is_due(pair.not_before, pair.not_after, now) {
        notes.push(Note::warning(
            NoteCode::BackendCertificateExpiresSoon,
            format!(
                "client certificate {file} expires soon, on {}: renew it",
                Date(pair.not_after)
            ),
        ));
    }
    if !pair.is_for_clients {
        notes.push(Note::warning(NoteCode::BackendCertificatePurpose, format!(
            "client certificate {file} is not for TLS clients: its extended key usage lacks clientAuth, so most servers will \
             refuse it"
        )));
    }
    notes
}
