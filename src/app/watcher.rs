//! Polls of files that may be replaced while the process runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use crate::base::file_watch::FileWatch;
use crate::observe::reloads::{ReloadLog, Stall};
use crate::outcome::ReloadSubject;

/// How often files are polled. A change counts when two polls see it, so new content is in use within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// A poll looks at a few files, or some thousands: after so long one of them hangs.
const HANGS_AFTER: Duration = Duration::from_secs(30);

/// A watch over files. A poll runs on a blocking thread: a hung network mount must not delay signals, or the transfers that
/// SIGTERM lets finish.
#[derive(Debug)]
pub(super) struct Watcher<W: FileWatch> {
    subject: ReloadSubject,
    ticks: Interval,
    state: State<W>,
    /// The log of reloads, which records a poll that hangs.
    reloads: Arc<ReloadLog>,
}

#[derive(Debug)]
enum State<W: FileWatch> {
    Idle(Box<W>),
    Polling(Poll<W>),
    /// Nothing has to be watched, or a poll has panicked.
    Off,
}

#[derive(Debug)]
struct Poll<W: FileWatch> {
    task: JoinHandle<(Box<W>, Option<W::Found>)>,
    /// When the poll counts as one that hangs.
    hangs_at: Instant,
    /// Shows that the poll hangs.
    stall: Option<Stall>,
}

impl<W: FileWatch> Poll<W> {
    fn begin(mut watch: Box<W>) -> Self {
        Self {
            task: spawn_blocking(move || {
                let found = watch.poll(SystemTime::now());
                (watch, found)
            }),
            hangs_at: Instant::now() + HANGS_AFTER,
            stall: None,
        }
    }

    /// Waits for its end. May be cancelled.
    async fn end(
        &mut self,
        subject: ReloadSubject,
        reloads: &Arc<ReloadLog>,
    ) -> Result<(Box<W>, Option<W::Found>), JoinError> {
        if self.stall.is_none() {
            if let Ok(ended) = timeout_at(self.hangs_at, &mut self.task).await {
                return ended;
            }
            self.stall = Some(Stall::begin(Arc::clone(reloads), subject));
            tracing::error!(
                subject = subject.as_str(),
                "file watcher blocked for {} s (hung mount?): changed files are not loaded until the read returns",
                HANGS_AFTER.as_secs()
            );
        }
        (&mut self.task).await
    }
}

impl<W: FileWatch> Watcher<W> {
    /// Polls by this watch; never, if there is none.
    pub fn new(subject: ReloadSubject, watch: Option<W>, reloads: &Arc<ReloadLog>) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = watch.map_or(State::Off, |watch| State::Idle(Box::new(watch)));
        let reloads = Arc::clone(reloads);
        Self {
            subject,
            ticks,
            state,
            reloads,
        }
    }

    /// Polls the files until they have changed; returns what was found in them. May be cancelled.
    pub async fn changed(&mut self) -> W::Found {
        loop {
            if let State::Idle(_) = self.state {
                self.ticks.tick().await;
            }
            self.state = match std::mem::replace(&mut self.state, State::Off) {
                State::Idle(watch) => State::Polling(Poll::begin(watch)),
                busy => busy,
            };
            let State::Polling(poll) = &mut self.state else {
                return std::future::pending().await;
            };
            let Ok((watch, found)) = poll.end(self.subject, &self.reloads).await else {
                self.state = State::Off;
                tracing::error!(
                    subject = self.subject.as_str(),
                    "file watcher panicked: changed files are only loaded on SIGHUP"
                );
                continue;
            };
            self.state = State::Idle(watch);
            if let Some(found) = found {
                return found;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::observe::metrics::Metrics;

    /// Reads what it is sent, and waits for it as for a mount that hangs.
    struct Hanging(mpsc::Receiver<u32>);

    impl FileWatch for Hanging {
        type Found = u32;

        fn poll(&mut self, _: SystemTime) -> Option<u32> {
            self.0.recv().ok()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_can_not_be_read_to_its_end_is_told_for_as_long_as_that_is_so() {
        let reloads = Arc::new(ReloadLog::new(Arc::new(Metrics::new())));
        let (mount, file) = mpsc::channel();
        let subject = ReloadSubject::Users;
        let mut watcher = Watcher::new(subject, Some(Hanging(file)), &reloads);
        let is_told = || reloads.stalled().iter().any(|(of, _)| *of == subject);

        for (after, told) in [
            (Duration::ZERO, false),
            (HANGS_AFTER - Duration::from_secs(1), false),
            (Duration::from_secs(2), true),
        ] {
            tokio::time::advance(after).await;
            // Cancelled as by a command that comes first.
            let found = tokio::time::timeout(Duration::ZERO, watcher.changed()).await;
            assert!(found.is_err(), "{found:?}");
            assert_eq!(is_told(), told, "{after:?}");
        }
        mount.send(1).expect("it is read");
        assert_eq!(watcher.changed().await, 1);
        assert!(!is_told());
    }
}
