//! Data connections that are over on our side, while their peers may still have to read, or the reply to their command.
//!
//! They may outlast the session. A peer that never ends its side occupies a descriptor and a task for a while, and a
//! session could have thousands of those: so their number is bounded, and the oldest are closed first.
//!
//! What a 2xx has promised may still be with the kernel when the session is over. A process that is to end waits for it, since
//! the network may go with the process.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::net::data::sink::Sink;
use crate::net::delivery::Deliveries;
use crate::session::Drain;

/// How long the peer may take to end its side after we ended ours.
const LINGER: Duration = Duration::from_secs(5);

/// How many of a session's connections are left so. Most are over with the next packet.
const MAX_LINGERING: usize = 4;

/// Those of one session.
#[derive(Debug, Clone)]
pub struct Lingering {
    connections: Arc<Mutex<VecDeque<AbortHandle>>>,
    drain: watch::Receiver<Drain>,
    deliveries: Arc<Deliveries>,
}

impl Lingering {
    /// None yet; each keeps a receiver of `drain`, for whose end the process waits, until all is delivered.
    pub fn new(drain: watch::Receiver<Drain>, deliveries: Arc<Deliveries>) -> Self {
        Self {
            connections: Arc::default(),
            drain,
            deliveries,
        }
    }

    /// Keeps the connection of a sink that has been ended, until its peer has ended its side, and for a while at most. Closed with
    /// bytes unread, the connection would be reset, and the peer might lose data that it has not read.
    pub fn add_sink(&self, sink: Sink) {
        let (drain, deliveries) = (self.drain.clone(), Arc::clone(&self.deliveries));
        self.keep(linger(sink, drain, deliveries));
    }

    /// The same of another connection, until `closed`.
    pub fn add(&self, closed: impl Future + Send + 'static) {
        self.keep(async move {
            let _ = timeout(LINGER, closed).await;
        });
    }

    /// Performs a handshake with a backend, and returns its output. Where that is dropped before it is done, the handshake goes on
    /// for five seconds at most, and the connection is reset behind it: vsftpd and Pure-FTPd end the session where it is reset in
    /// the midst of it, and no client of theirs does that, whose handshake is over before it sends ABOR.
    pub async fn complete<T: Send + 'static>(
        &self,
        handshake: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut handshake = UndroppedHandshake {
            lingering: self,
            rest: Some(Box::pin(handshake)),
        };
        poll_fn(|context| handshake.poll(context)).await
    }

    fn keep(&self, lingering: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(lingering);
        // Nothing panics while it is held.
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.retain(|one| !one.is_finished());
        while connections.len() >= MAX_LINGERING
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(task.abort_handle());
    }
}

/// A handshake that goes on when this is dropped.
struct UndroppedHandshake<'a, T: Send + 'static> {
    lingering: &'a Lingering,
    /// `None` once it is done.
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

impl<T: Send + 'static> UndroppedHandshake<'_, T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<T> {
        let Some(rest) = &mut self.rest else {
            return Poll::Pending;
        };
        let output = ready!(rest.as_mut().poll(context));
        self.rest = None;
        Poll::Ready(output)
    }
}

impl<T: Send + 'static> Drop for UndroppedHandshake<'_, T> {
    fn drop(&mut self) {
        // Without a runtime, the process ends.
        if let Some(rest) = self.rest.take()
            && Handle::try_current().is_ok()
        {
            self.lingering.add(rest);
        }
    }
}

/// Reads from the peer until it has ended its side, for a while at most; in a drain, until it has acknowledged everything, or the
/// drain is over.
async fn linger(mut sink: Sink, mut drain: watch::Receiver<Drain>, deliveries: Arc<Deliveries>) {
    let until = Instant::now() + LINGER;
    let connection = sink.ends();
    let mut closed = pin!(sink.drain());
    let mut has_ended = tokio::select! {
        biased;
        closed = &mut closed => match closed {
            Ok(()) => true,
            Err(_) => return,
        },
        Ok(_) = drain.wait_for(|drain| *drain != Drain::No) => false,
        () = sleep_until(until) => return,
    };
    let is_draining = *drain.borrow() != Drain::No;
    if is_draining && let Some(connection) = connection {
        let mut delivered = pin!(deliveries.delivered(connection));
        loop {
            tokio::select! {
                () = &mut delivered => break,
                closed = &mut closed, if !has_ended => match closed {
                    // It may have ended its side before it has acknowledged everything.
                    Ok(()) => has_ended = true,
                    Err(_) => return,
                },
                Ok(_) = drain.wait_for(|drain| *drain == Drain::Over) => return,
            }
        }
    }
    // The process need not wait for the rest.
    drop(drain);
    if !has_ended {
        let _ = timeout_at(until, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_session_has_a_few_at_most_and_the_oldest_go_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_drain, draining) = watch::channel(Drain::No);
        let lingering = Lingering::new(draining, Arc::default());
        let mut peers = Vec::new();
        for _ in 0..MAX_LINGERING + 2 {
            peers.push(TcpStream::connect(address).await.unwrap());
            let (socket, _) = listener.accept().await.unwrap();
            lingering.add_sink(Sink::plain(socket));
        }
        // The first two are closed; the others are read from, until their peers end their sides.
        for peer in &mut peers[..2] {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
        let open = || {
            let connections = lingering.connections.lock().unwrap();
            connections.iter().filter(|it| !it.is_finished()).count()
        };
        assert_eq!(open(), MAX_LINGERING);
        for peer in &mut peers[2..] {
            peer.shutdown().await.unwrap();
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn a_peer_may_end_its_side_while_a_drain_waits_for_what_it_has_yet_to_acknowledge() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut peer = TcpStream::connect(address).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (_draining, drain) = watch::channel(Drain::Begun);
        let lingering = tokio::spawn(linger(Sink::plain(socket), drain, Arc::default()));
        // It gets as far as to wait.
        tokio::task::yield_now().await;
        peer.shutdown().await.unwrap();
        lingering.await.expect("it has not panicked");
    }
}
