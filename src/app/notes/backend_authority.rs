//! Notes on the authorities by which backends are verified.

use super::{Note, NoteCode};
use crate::backend::Pools;
use crate::base::text::escape_path;

/// The notes about the authorities by which backends are verified.
pub fn on_backend_authorities(pools: &Pools) -> Vec<Note> {
    let non_ca = pools.non_ca_trust_anchors().into_iter();
    let notes = non_ca.map(|one| {
        Note::warning(
            NoteCode::BackendAuthorityNotCa,
            format!(
                "verify: the certificate of {} in {} is not a CA certificate (no CA:TRUE), so no backend can be verified by it: \
                 use that of the authority that has issued those of the backends, or pin the backend's by \
                 `verify: {{fingerprint: ...}}`",
                one.subject,
                escape_path(&one.file)
            ),
        )
    });
    notes.collect()
}
