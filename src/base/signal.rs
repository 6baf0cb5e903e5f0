//! A wake-up call between tasks, which look up what has changed.

use tokio::sync::Notify;

/// Wakes the tasks that wait for something to change. The change itself is to be looked up.
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
