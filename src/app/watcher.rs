//! Polls of files that may be replaced while the process runs.

use std::time::{Duration, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::base::file::Watch;

/// How often files are polled. A change counts when two polls see it, so new content is in use within a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// A watch over files. A poll runs on a blocking thread: a hung network mount must not delay signals, or the transfers that
/// SIGTERM lets finish.
#[derive(Debug)]
pub(super) struct Watcher<W: Watch> {
    ticks: Interval,
    state: State<W>,
}

#[derive(Debug)]
enum State<W: Watch> {
    Idle(Box<W>),
    Polling(JoinHandle<(Box<W>, Option<W::Found>)>),
    /// There is nothing to watch, or a poll has panicked.
    Off,
}

impl<W: Watch> Watcher<W> {
    /// Polls by this watch; never, if there is none.
    pub fn new(watch: Option<W>) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = watch.map_or(State::Off, |watch| State::Idle(Box::new(watch)));
        Self { ticks, state }
    }

    /// Polls the files until they have changed; returns what was found in them. May be cancelled.
    pub async fn changed(&mut self) -> W::Found {
        loop {
            if let State::Idle(_) = self.state {
                self.ticks.tick().await;
            }
            self.state = match std::mem::replace(&mut self.state, State::Off) {
                State::Idle(mut watch) => State::Polling(spawn_blocking(move || {
                    let found = watch.poll(SystemTime::now());
                    (watch, found)
                })),
                busy => busy,
            };
            let State::Polling(polling) = &mut self.state else {
                return std::future::pending().await;
            };
            let Ok((watch, found)) = polling.await else {
                self.state = State::Off;
                tracing::error!(
                    content = W::CONTENT,
                    "the watch over a file panicked: new content is only loaded on SIGHUP"
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
