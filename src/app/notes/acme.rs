//! A note on the directory of what is ordered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Note, NoteCode};
use crate::base::text::escape_path;

/// Permission bits by which the owner's group and others may make and take away files in a directory.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The note about the directory, if it is there yet and anything about it is worth one.
pub(super) fn notes(state: &Path) -> Option<Note> {
    let mode = fs::metadata(state).ok()?.permissions().mode();
    (mode & WRITABLE_BY_OTHERS != 0).then(|| {
        Note::warning(
            NoteCode::AcmeStateWritable,
            format!(
                "other users of this machine may replace the account, the certificate and its key in {0}; fix: `chmod go-w {0}`",
                escape_path(state)
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_others_may_write_to_is_worth_a_note_and_a_private_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let with_mode = |mode| {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            notes(directory.path()).map(|note| note.code)
        };
        assert_eq!(with_mode(0o777), Some(NoteCode::AcmeStateWritable));
        assert_eq!(with_mode(0o770), Some(NoteCode::AcmeStateWritable));
        assert_eq!(with_mode(0o755), None);
        assert_eq!(with_mode(0o700), None);
        fs::remove_dir(directory.path()).unwrap();
        assert_eq!(notes(directory.path()), None);
    }
}
