//! New content of the files in which logins look something up, users and passwords, while the process runs: the next login uses
//! it.

use super::App;
use crate::base::text::escape_path;
use crate::outcome::ReloadSubject;
use crate::policy::lookup::Content;
use crate::policy::lookup_watch::{LookupChange, LookupChanges};

impl App {
    /// Says what has become of files that have changed.
    pub(super) fn report_lookup<C: Content>(
        &self,
        subject: ReloadSubject,
        found: &LookupChanges<C>,
    ) {
        for LookupChange { file, outcome } in found {
            let name = escape_path(file.path()).into();
            match outcome {
                Ok(()) => {
                    self.note_reload_of(subject, name, None);
                    tracing::info!(file = %escape_path(file.path()), count = file.count(), "{} loaded", C::NAME);
                }
                Err(error) => {
                    self.note_reload_of(subject, name, Some(error.to_string().into()));
                    tracing::error!(%error, "new {} refused, keeping the current ones", C::NAME);
                }
            }
        }
    }
}
