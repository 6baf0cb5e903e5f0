//! The HTTP/1.1 server of the admin endpoint, over TCP and over a Unix socket.
//!
//! It listens on loopback unless told otherwise, but is as careful as if it didn't: few connections at once, one
//! request on each, and a deadline for everything, so that misuse of it cannot affect the proxy, nor keep monitoring
//! out: when all slots are taken, the oldest connection that has sent no request yet is closed for a new one, or else
//! the oldest that doesn't read its response.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::access::{Operator, Via};
use super::{Admin, respond};
use crate::net::bounded_server::{self, Incoming, RequestSeen};
use crate::net::listen::Acceptor;

/// Room for a request's head; hyper answers 431 to more.
const HEAD_BYTES: usize = 8 * 1024;

/// How long to wait after a connection that could not be accepted over the Unix socket: without a free descriptor the next one
/// fails at once. [`Acceptor`] does so by itself.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// Deadlines for clients that read.
pub(super) const DEADLINES: Deadlines = Deadlines {
    head: Duration::from_secs(5),
    connection: Duration::from_secs(15),
};

/// Deadlines for operators, whose reload may have to wait for name servers and network file systems.
const SOCKET_DEADLINES: Deadlines = Deadlines {
    head: Duration::from_secs(5),
    connection: Duration::from_secs(90),
};

/// The deadlines of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From accept to the end of the request's head.
    pub head: Duration,
    /// From accept to the end of the response: a client that stops reading doesn't keep its slot.
    pub connection: Duration,
}

/// Connections over TCP.
struct TcpIncoming(Acceptor);

/// Connections over the Unix socket.
struct SocketIncoming(UnixListener);

impl Incoming for TcpIncoming {
    type Connection = (TcpStream, Via);

    async fn next(&mut self) -> io::Result<Self::Connection> {
        Ok((self.0.next().await?, Via::Tcp))
    }
}

impl Incoming for SocketIncoming {
    type Connection = (UnixStream, Via);

    async fn next(&mut self) -> io::Result<Self::Connection> {
        let (stream, _) = match self.0.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                sleep(ACCEPT_PAUSE).await;
                return Err(error);
            }
        };
        let peer = stream.peer_cred()?;
        let operator = Operator {
            uid: peer.uid(),
            pid: peer.pid(),
        };
        Ok((stream, Via::Socket(operator)))
    }
}

/// Serves the endpoint over TCP until its task is aborted; the responses under way end with it.
pub async fn serve(acceptor: Acceptor, admin: Arc<Admin>) {
    serve_within(DEADLINES, acceptor, admin).await;
}

pub(super) async fn serve_within(deadlines: Deadlines, acceptor: Acceptor, admin: Arc<Admin>) {
    let never = std::future::pending();
    serve_until(never, TcpIncoming(acceptor), deadlines, admin).await;
}

/// As [`serve`], but over the Unix socket, with actions, until it is `stopped`: then no connection is accepted any more, and
/// those that there are get their answers. The reload that closes the socket may have come over it.
pub async fn serve_socket(
    listener: UnixListener,
    admin: Arc<Admin>,
    stopped: oneshot::Receiver<()>,
) {
    let stopped = async { drop(stopped.await) };
    serve_until(stopped, SocketIncoming(listener), SOCKET_DEADLINES, admin).await;
}

async fn serve_until<S>(
    stopped: impl Future<Output = ()>,
    incoming: impl Incoming<Connection = (S, Via)>,
    deadlines: Deadlines,
    admin: Arc<Admin>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = |(stream, via), request_seen| {
        answer(
            stream,
            via,
            Arc::clone(&admin),
            request_seen,
            deadlines.head,
        )
    };
    let name = "admin endpoint";
    bounded_server::serve(name, incoming, deadlines.connection, answer, stopped).await;
}

/// Answers one request. Errors are the peer's, and a scanner could make any number of them: they aren't logged.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    via: Via,
    admin: Arc<Admin>,
    request_seen: RequestSeen,
    head_deadline: Duration,
) {
    let service = service_fn(|request: Request<body::Incoming>| {
        request_seen.set();
        let admin = Arc::clone(&admin);
        async move {
            let (head, _) = request.into_parts();
            let response = respond(admin, via, head).await.into_response();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_deadline)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        // `printf … | nc -N` ends its side behind the request, and would get no answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}
