//! A queue of tasks.

use tokio::sync::{Mutex, MutexGuard};

/// A queue of tasks that act one after the other, in the order in which they came.
#[derive(Debug, Default)]
pub struct FairQueue(Mutex<()>);

/// A turn in the queue; over when this is dropped.
#[must_use = "the turn ends when this is dropped"]
pub struct Turn<'a> {
    _guard: MutexGuard<'a, ()>,
}

impl FairQueue {
    /// A turn now, unless a task has one or waits for it.
    pub fn try_enter(&self) -> Option<Turn<'_>> {
        let guard = self.0.try_lock().ok()?;
        Some(Turn { _guard: guard })
    }

    /// Waits for a turn behind all tasks that wait already. May be cancelled, which leaves the queue.
    pub async fn enter(&self) -> Turn<'_> {
        Turn {
            _guard: self.0.lock().await,
        }
    }
}
