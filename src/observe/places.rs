//! The connections of the admin endpoint: few, and slow or silent ones are closed for new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The connections that there are, the oldest in front.
#[derive(Debug, Default)]
pub(super) struct Places(VecDeque<Place>);

#[derive(Debug)]
struct Place {
    handle: AbortHandle,
    asked: Asked,
    since: Instant,
}

/// Whether a connection's request has arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<AtomicBool>);

impl Asked {
    /// It is.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Place {
    fn is_silent(&self) -> bool {
        !self.asked.0.load(Ordering::Relaxed)
    }

    fn is_old(&self) -> bool {
        self.since.elapsed() >= LONG_FOR_AN_ANSWER
    }
}

impl Places {
    /// Whether there is space for one more connection. If not, closes the oldest that has sent no request, or else the
    /// oldest that doesn't read its response.
    pub fn make_room(&mut self) -> bool {
        self.0.retain(|place| !place.handle.is_finished());
        if self.0.len() < CONNECTIONS {
            return true;
        }
        let silent = self.0.iter().position(Place::is_silent);
        let slow = silent.or_else(|| self.0.iter().position(Place::is_old));
        let Some(place) = slow.and_then(|at| self.0.remove(at)) else {
            return false;
        };
        place.handle.abort();
        true
    }

    /// The task of a new connection.
    pub fn take(&mut self, handle: AbortHandle, asked: Asked) {
        self.0.push_back(Place {
            handle,
            asked,
            since: Instant::now(),
        });
    }
}

/// How many connections there are at once. A new one has asked before so many others come behind it.
pub(super) const CONNECTIONS: usize = 64;

/// A client that sends its request and reads the response is done far sooner.
pub(super) const LONG_FOR_AN_ANSWER: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_its_answer_makes_room_after_a_while() {
        let mut tasks = JoinSet::new();
        let mut places = Places::default();
        for _ in 0..CONNECTIONS {
            assert!(places.make_room());
            let asked = Asked::default();
            asked.note();
            places.take(tasks.spawn(std::future::pending::<()>()), asked);
        }
        assert!(!places.make_room());
        sleep(LONG_FOR_AN_ANSWER).await;
        assert!(places.make_room());
        let ended = tasks.join_next().await.expect("one of them");
        assert!(ended.expect_err("it was pending").is_cancelled());
        assert_eq!(places.0.len(), CONNECTIONS - 1);
    }
}
