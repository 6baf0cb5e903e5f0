//! A wake-up call between tasks, which look up what has changed.

use tokio::sync::Notify;

/// Wakes the tasks that wait for something to change. The change itself is to be looked up.
#[derive(Debug, Default)]
pub struct Wakeup(Notify);

impl Wakeup {
    /// Wakes every task that waits now.
    pub fn notify_waiters(&self) {
        self.0.notify_waiters();
    }

    /// Resolves with the next [`Wakeup::notify_waiters`] after this call, whether it has been polled by then or not.
    pub fn notified(&self) -> impl Future<Output = ()> + '_ {
        self.0.notified()
    }
}
