//! Accepting the authority's connections, among those of anybody else: few at once, a moment for each, and silent ones are
//! closed for new ones.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::net::connections::{Connections, RequestSeen, SLOW_READER_AFTER};
use crate::net::listen::Acceptor;

/// From accept to the last byte of the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Answers each connection by `answer` until it is dropped, and its connections with it.
pub async fn serve<F>(mut acceptor: Acceptor, answer: impl Fn(TcpStream, RequestSeen) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut open = Connections::default();
    loop {
        let has_room = open.evict_if_full();
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            () = sleep(SLOW_READER_AFTER), if !has_room => {}
            // Errors pass, and the authority comes again.
            accepted = acceptor.accept(), if has_room => if let Ok((stream, _)) = accepted {
                let request_seen = RequestSeen::default();
                let answering = answer(stream, request_seen.clone());
                let answering = async { drop(timeout(CONNECTION_TIMEOUT, answering).await) };
                open.add(connections.spawn(answering), request_seen);
            },
        }
    }
}
