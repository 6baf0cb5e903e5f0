//! Work on the files of a configuration, which a network file system may hold up without end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// Time limit for one piece of work. SIGTERM would have to wait for it as well.
pub(super) const FILES_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one piece of work at a time: reloads that are repeated while a file system doesn't answer hold one thread up, and not one
/// each.
#[derive(Debug, Default)]
pub(super) struct FileWork(Arc<Mutex<()>>);

impl FileWork {
    /// Runs `work` on a thread where it may block. Past the limit its result is dropped.
    ///
    /// # Errors
    /// [`Elapsed`] past the limit, be it that an earlier piece of work has not returned yet.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<io::Result<T>, Elapsed> {
        let in_turn = async {
            let turn = Arc::clone(&self.0).lock_owned().await;
            let working = spawn_blocking(move || {
                let _turn = turn;
                work()
            });
            working.await.map_err(io::Error::other)
        };
        timeout(FILES_TIMEOUT, in_turn).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use tokio::time::advance;

    use super::*;

    /// As [`FileWork::run`], with the time limit over as soon as the work, if it is its turn, has begun.
    async fn run_late<T: Send + 'static>(
        files: &FileWork,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> bool {
        let (result, ()) = tokio::join!(files.run(work), advance(FILES_TIMEOUT * 2));
        result.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_while_earlier_work_has_not_returned() {
        let files = FileWork::default();
        let (release, held) = channel::<()>();
        assert!(run_late(&files, move || held.recv().is_err()).await);
        let begun = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&begun);
        assert!(run_late(&files, move || flag.store(true, Ordering::Relaxed)).await);
        drop(release);
        assert!(matches!(files.run(|| 7).await, Ok(Ok(7))));
        assert!(!begun.load(Ordering::Relaxed));
    }
}
