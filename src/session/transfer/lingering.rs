//! Data connections that are over on our side, while their peers may still have to read, or the reply to their command.
//!
//! They may outlast the session. A peer that never ends its side occupies a descriptor and a task for a while, and a
//! session could have thousands of those: so their number is bounded, and the oldest are closed first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long the peer may take to end its side after we ended ours.
const LINGER: Duration = Duration::from_secs(5);

/// How many of a session's connections are left so. Most are over with the next packet.
const MAX_LINGERING: usize = 4;

/// The lingering connections of one session.
#[derive(Debug, Clone, Default)]
pub struct Lingering(Arc<Mutex<VecDeque<AbortHandle>>>);

impl Lingering {
    /// Keeps a connection, for a while, until `closed`, its peer has ended its side. Closed with bytes unread, the connection
    /// would be reset, and the peer might lose data that it has not read.
    pub fn add(&self, closed: impl Future + Send + 'static) {
        let reading = tokio::spawn(async move {
            let _ = timeout(LINGER, closed).await;
        });
        // Nothing panics while it is held.
        let mut lingering = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lingering.retain(|one| !one.is_finished());
        while lingering.len() >= MAX_LINGERING
            && let Some(oldest) = lingering.pop_front()
        {
            oldest.abort();
        }
        lingering.push_back(reading.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::data::sink::Sink;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn a_session_has_a_few_at_most_and_the_oldest_go_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lingering = Lingering::default();
        let mut peers = Vec::new();
        for _ in 0..MAX_LINGERING + 2 {
            peers.push(TcpStream::connect(address).await.unwrap());
            let (socket, _) = listener.accept().await.unwrap();
            let mut sink = Sink::plain(socket);
            lingering.add(async move { sink.drain().await });
        }
        // The first two are closed; the others are read from, until their peers end their sides.
        for peer in &mut peers[..2] {
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
        let open = || {
            let connections = lingering.0.lock().unwrap();
            connections.iter().filter(|it| !it.is_finished()).count()
        };
        assert_eq!(open(), MAX_LINGERING);
        for peer in &mut peers[2..] {
            peer.shutdown().await.unwrap();
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        }
    }
}
