//! A task that doesn't outlive its handle, and work whose panic is noticed.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use tokio::task::{AbortHandle, JoinHandle};

/// A task that ends with its handle.
#[derive(Debug)]
pub struct Task<T> {
    handle: JoinHandle<T>,
    abort: AbortHandle,
}

impl<T: Send + 'static> Task<T> {
    /// Spawns the future as a task.
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

    /// Ends the task, and waits until its values are dropped: after `drop` alone it may be used a moment longer.
    pub async fn end(mut self) {
        self.abort.abort();
        // Aborted, or done before.
        let _ = (&mut self.handle).await;
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// The result of `work`; `None` if it panicked. It is dropped then, and whatever it shares with others has to bear that.
pub async fn unless_it_panics<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(progress) => progress.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_a_task_owns_is_dropped_when_it_has_been_ended() {
        let owned = Arc::new(());
        let kept = Arc::clone(&owned);
        let task = Task::spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&owned), 2);
        task.end().await;
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}
