//! A server for small requests, one on each connection: few connections at once, a deadline for each, and slow or silent ones
//! are closed for new ones.

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::listen::{AcceptFailures, Acceptor};

/// Limit of connections at the same time. A new one has sent its request before this many others follow.
pub const MAX_CONNECTIONS: usize = 64;

/// A client that sends its request and reads the response is done far sooner.
const SLOW_READER_AFTER: Duration = Duration::from_millis(500);

/// A source of connections.
pub trait Incoming {
    /// The type of a connection.
    type Connection;

    /// The next one. After an error the next call waits as long as it should.
    fn next(&mut self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Incoming for Acceptor {
    type Connection = TcpStream;

    async fn next(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        Ok(stream)
    }
}

/// Answers each connection by `answer`, which may take it that long, until `stopped`: then no connection is accepted any more,
/// and those that there are get their answers. Dropped, it closes them all. `name` is what the log calls it.
pub async fn serve<I: Incoming, F>(
    name: &'static str,
    mut incoming: I,
    deadline: Duration,
    answer: impl Fn(I::Connection, RequestSeen) -> F,
    stopped: impl Future<Output = ()>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut stopped = pin!(stopped);
    let mut failures = AcceptFailures::default();
    let mut tasks = JoinSet::new();
    let mut open = Connections::default();
    loop {
        let has_room = open.evict_if_full();
        tokio::select! {
            biased;
            () = &mut stopped => break,
            Some(_) = tasks.join_next() => {}
            // Where all are being answered, further ones wait in the listener's backlog, and not for long.
            () = sleep(SLOW_READER_AFTER), if !has_room => {}
            accepted = incoming.next(), if has_room => match accepted {
                Ok(connection) => {
                    failures.end();
                    let request_seen = RequestSeen::default();
                    let answering = timeout(deadline, answer(connection, request_seen.clone()));
                    open.add(tasks.spawn(async { drop(answering.await) }), request_seen);
                }
                Err(error) => {
                    if failures.is_first() {
                        tracing::warn!(%error, "{name} cannot accept a connection");
                    }
                }
            },
        }
    }
    drop(incoming);
    while tasks.join_next().await.is_some() {}
}

/// The connections that there are, the oldest in front.
#[derive(Debug, Default)]
struct Connections(VecDeque<Open>);

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
    /// Records that a request has been seen.
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
    fn evict_if_full(&mut self) -> bool {
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
    fn add(&mut self, handle: AbortHandle, request_seen: RequestSeen) {
        self.0.push_back(Open {
            handle,
            request_seen,
            since: Instant::now(),
        });
    }
}

#[cfg(test)]
mod tests {
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
