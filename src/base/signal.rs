//! A wake-up call between tasks, which look up what has changed, and a queue of tasks.

use tokio::sync::{Mutex, MutexGuard, Notify};

/// Wakes the tasks that wait for something to change. What has changed is to be looked up.
#[derive(Debug, Default)]
pub struct Signal(Notify);

impl Signal {
    /// Wakes every task that waits now.
    pub fn wake_all(&self) {
        self.0.notify_waiters();
    }

    /// Resolves with the next [`Signal::wake_all`] after this call, whether it has been polled by then or not.
    pub fn woken(&self) -> impl Future<Output = ()> + '_ {
        self.0.notified()
    }
}

/// A queue of tasks that act one after the other, in the order in which they came.
#[derive(Debug, Default)]
pub struct Turns(Mutex<()>);

/// Whose turn it is; over when this is dropped.
#[must_use = "the turn ends when this is dropped"]
pub struct Turn<'a> {
    _guard: MutexGuard<'a, ()>,
}

impl Turns {
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
