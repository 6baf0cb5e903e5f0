//! The connections of a small HTTP server: few, and slow or silent ones are closed for new ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How many connections there are at once. A new one has sent its request before so many others follow.
pub const MAX_CONNECTIONS: usize = 64;

/// A client that sends its request and reads the response is done far sooner.
pub const SLOW_READER_AFTER: Duration = Duration::from_millis(500);

/// The connections that there are, the oldest in front.
#[derive(Debug, Default)]
pub struct Connections(VecDeque<Open>);

#[derive(Debug)]
struct Open {
    handle: AbortHandle,
    request_seen: RequestSeen,
    since: Instant,
}

/// Whether a connection's request has arrived.
#[derive(Debug, Clone, Default)]
pub struct RequestSeen(Arc<AtomicBool>);

impl RequestSeen {
    /// It is.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Open {
    fn is_silent(&self) -> bool {
        !self.request_seen.0.load(Ordering::Relaxed)
    }

    fn is_old(&self) -> bool {
        self.since.elapsed() >= SLOW_READER_AFTER
    }
}

impl Connections {
    /// Whether there is space for one more connection. If not, closes the oldest that has sent no request, or else the
    /// oldest that doesn't read its response.
    pub fn evict_if_full(&mut self) -> bool {
        self.0.retain(|connection| !connection.handle.is_finished());
        if self.0.len() < MAX_CONNECTIONS {
            return true;
        }
        let silent = self.0.iter().position(Open::is_silent);
        let slow = silent.or_else(|| self.0.iter().position(Open::is_old));
        let Some(connection) = slow.and_then(|at| self.0.remove(at)) else {
            return false;
        };
        connection.handle.abort();
        true
    }

    /// The task of a new connection.
    pub fn add(&mut self, handle: AbortHandle, request_seen: RequestSeen) {
        self.0.push_back(Open {
            handle,
            request_seen,
            since: Instant::now(),
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_its_answer_makes_room_after_a_while() {
        let mut tasks = JoinSet::new();
        let mut connections = Connections::default();
        for _ in 0..MAX_CONNECTIONS {
            assert!(connections.evict_if_full());
            let request_seen = RequestSeen::default();
            request_seen.set();
            connections.add(tasks.spawn(std::future::pending::<()>()), request_seen);
        }
        assert!(!connections.evict_if_full());
        sleep(SLOW_READER_AFTER).await;
        assert!(connections.evict_if_full());
        let ended = tasks.join_next().await.expect("one of them");
        assert!(ended.expect_err("it was pending").is_cancelled());
        assert_eq!(connections.0.len(), MAX_CONNECTIONS - 1);
    }
}
