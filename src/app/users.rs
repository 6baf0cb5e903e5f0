//! New files of users while the process runs: the next login looks names up in them.

use super::App;
use super::watcher::Watcher;
use crate::outcome::ReloadSubject;
use crate::policy::user_watch::{UserChange, UserChanges, UserWatch};
use crate::snapshot::Snapshot;

/// A watch over the files of users in use.
pub(super) fn watcher(snapshot: &Snapshot) -> Watcher<UserWatch> {
    Watcher::new(UserWatch::new(&snapshot.runtime.user_files))
}

impl App {
    /// Says what has become of new files of users.
    pub(super) fn report_users(&self, found: &UserChanges) {
        let metrics = &self.shared.metrics;
        for UserChange { file, outcome } in &found.changes {
            match outcome {
                Ok(()) => {
                    self.note_reload(ReloadSubject::Users, None);
                    tracing::info!(file = %file.path().display(), count = file.count(), "users loaded");
                }
                Err(error) => {
                    self.note_reload(ReloadSubject::Users, Some(error.to_string().into()));
                    tracing::error!(%error, "new users refused, keeping the current ones");
                }
            }
        }
        metrics.is_refused(ReloadSubject::Users, found.any_refused);
    }
}
