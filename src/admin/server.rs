//! The HTTP/1.1 server of the admin endpoint.
//!
//! It listens on loopback unless told otherwise, but is as careful as if it didn't: few connections at once, one
//! request on each, and a deadline for everything, so that misuse of it cannot affect the proxy, nor keep monitoring
//! out: when all slots are taken, the oldest connection that has sent no request yet is closed for a new one, or else
//! the oldest that doesn't read its response.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{Connections, RequestSeen, SLOW_READER_AFTER};
use super::{Admin, respond};
use crate::net::listen::Acceptor;

/// Room for a request's head; hyper answers 431 to more.
const HEAD_BYTES: usize = 8 * 1024;

pub(super) const DEADLINES: Deadlines = Deadlines {
    head: Duration::from_secs(5),
    connection: Duration::from_secs(15),
};

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From accept to the end of the request's head.
    pub head: Duration,
    /// From accept to the end of the response: a client that stops reading doesn't keep its slot.
    pub connection: Duration,
}

/// Serves the endpoint until its task is aborted; the responses under way end with it.
pub async fn serve(acceptor: Acceptor, admin: Arc<Admin>) {
    serve_within(acceptor, admin, DEADLINES).await;
}

pub(super) async fn serve_within(mut acceptor: Acceptor, admin: Arc<Admin>, deadlines: Deadlines) {
    let mut failing = false;
    let mut connections = JoinSet::new();
    let mut open = Connections::default();
    loop {
        let has_room = open.evict_if_full();
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            // Where all are being answered, further ones wait in the listener's backlog, and not for long.
            () = sleep(SLOW_READER_AFTER), if !has_room => {}
            accepted = acceptor.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    let request_seen = RequestSeen::default();
                    let answering = answer(stream, Arc::clone(&admin), request_seen.clone(), deadlines);
                    open.add(connections.spawn(answering), request_seen);
                }
                // Once for each time of trouble, as at the listeners.
                Err(error) => if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "admin endpoint cannot accept a connection");
                },
            },
        }
    }
}

/// Answers one request. Errors are the peer's, and a scanner could make any number of them: they aren't logged.
async fn answer(
    stream: TcpStream,
    admin: Arc<Admin>,
    request_seen: RequestSeen,
    deadlines: Deadlines,
) {
    let service = service_fn(|request: Request<Incoming>| {
        request_seen.set();
        let response = respond(&admin, request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    drop(timeout(deadlines.connection, connection).await);
}
