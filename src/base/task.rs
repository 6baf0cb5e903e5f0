//! A task that doesn't outlive its handle.

use tokio::task::{AbortHandle, JoinHandle};

/// A task that ends with its handle.
#[derive(Debug)]
pub struct Task<T> {
    handle: JoinHandle<T>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    /// Starts it.
    pub fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        let handle = tokio::spawn(future);
        Self {
            abort: handle.abort_handle(),
            handle,
        }
    }

    /// The task's output; `None` if it panicked. May be cancelled.
    pub async fn join(&mut self) -> Option<T> {
        (&mut self.handle).await.ok()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}
