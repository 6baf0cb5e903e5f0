//! The admin endpoint: `/metrics`, `/healthz` and `/readyz` over HTTP/1.1, for reading only.
//!
//! It listens on loopback unless told otherwise, but is as careful as if it didn't: few connections at once, one
//! request on each, and a deadline for everything, so that misuse of it cannot affect the proxy, nor keep monitoring
//! out: when all slots are taken, the oldest connection that has sent no request yet is closed for a new one, or else
//! the oldest that doesn't read its response.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connections::{Connections, RequestSeen, SLOW_READER_AFTER};
use super::metrics::Metrics;

/// Room for a request's head; hyper answers 431 to more.
const HEAD_BYTES: usize = 8 * 1024;

/// Pause after accept(2) failed. It fails at once while no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

const DEADLINES: Deadlines = Deadlines {
    head: Duration::from_secs(5),
    connection: Duration::from_secs(15),
};

/// The data that the endpoint serves.
#[derive(Debug)]
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/readyz` shows.
    pub readiness: watch::Receiver<Readiness>,
}

/// Whether new clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not every listener accepts yet.
    Starting,
    /// Every listener accepts.
    Ready,
    /// Running transfers finish, then the program exits.
    Draining,
}

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    /// From accept to the end of the request's head.
    head: Duration,
    /// From accept to the end of the response: a client that stops reading doesn't keep its slot.
    connection: Duration,
}

/// Serves the endpoint until its task is aborted; the responses under way end with it.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    serve_within(listener, admin, DEADLINES).await;
}

async fn serve_within(listener: TcpListener, admin: Arc<Admin>, deadlines: Deadlines) {
    let mut connections = JoinSet::new();
    let mut open = Connections::default();
    loop {
        let has_room = open.evict_if_full();
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            // Where all are being answered, further ones wait in the listener's backlog, and not for long.
            () = sleep(SLOW_READER_AFTER), if !has_room => {}
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    let request_seen = RequestSeen::default();
                    let answering = answer(stream, Arc::clone(&admin), request_seen.clone(), deadlines);
                    open.add(connections.spawn(answering), request_seen);
                }
                Err(error) => {
                    tracing::warn!(%error, "admin endpoint cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
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

fn respond(admin: &Admin, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/metrics" => {
            let tasks = Handle::current().metrics().num_alive_tasks();
            admin.metrics.tasks(tasks);
            response(StatusCode::OK, METRICS_TYPE, admin.metrics.render())
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => match *admin.readiness.borrow() {
            Readiness::Ready => text(StatusCode::OK, "ok\n"),
            Readiness::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Readiness::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /metrics, /healthz and /readyz\n",
        ),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    response(status, TEXT_TYPE, body)
}

fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::observe::connections::MAX_CONNECTIONS;

    /// Short enough for a test, long enough for a busy machine to answer within them.
    const SHORT: Deadlines = Deadlines {
        head: Duration::from_millis(300),
        connection: Duration::from_secs(10),
    };

    /// No test waits longer for anything.
    const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

    struct Endpoint {
        address: SocketAddr,
        readiness: watch::Sender<Readiness>,
    }

    impl Endpoint {
        async fn start(deadlines: Deadlines) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
            let address = listener.local_addr().expect("bound");
            let (readiness, receiver) = watch::channel(Readiness::Starting);
            let admin = Arc::new(Admin {
                metrics: Arc::new(Metrics::new()),
                readiness: receiver,
            });
            tokio::spawn(serve_within(listener, admin, deadlines));
            Self { address, readiness }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("accepted")
        }

        /// What comes back for `request`, to the end of the connection.
        async fn answer_to(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            // A refused request may be cut short.
            drop(stream.write_all(request.as_bytes()).await);
            everything_from(&mut stream).await
        }

        async fn get(&self, path: &str) -> String {
            self.answer_to(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .await
        }
    }

    async fn everything_from(stream: &mut TcpStream) -> String {
        let mut received = Vec::new();
        timeout(HEADER_TIMEOUT, async {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                received.extend_from_slice(&buffer[..count]);
            }
        })
        .await
        .expect("the endpoint ends the connection");
        String::from_utf8(received).expect("text")
    }

    #[tokio::test]
    async fn metrics_come_in_the_text_format() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let answer = endpoint.get("/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains("content-type: text/plain; version=0.0.4\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\nportcullis_sessions 0\n"), "{answer}");
    }

    #[tokio::test]
    async fn readiness_follows_the_program_and_says_why_not() {
        let endpoint = Endpoint::start(DEADLINES).await;
        for (readiness, status, reason) in [
            (Readiness::Starting, "503", "starting\n"),
            (Readiness::Ready, "200", "ok\n"),
            (Readiness::Draining, "503", "draining\n"),
        ] {
            endpoint.readiness.send_replace(readiness);
            let answer = endpoint.get("/readyz").await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.ends_with(reason), "{answer}");
            assert!(endpoint.get("/healthz").await.starts_with("HTTP/1.1 200 "));
        }
    }

    #[tokio::test]
    async fn head_gets_no_body() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let answer = endpoint
            .answer_to("HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn nothing_but_reading_is_allowed() {
        let endpoint = Endpoint::start(DEADLINES).await;
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = endpoint
                .answer_to(&format!(
                    "{method} /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
            assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
            assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn another_path_is_told_the_three_that_exist() {
        let endpoint = Endpoint::start(DEADLINES).await;
        for path in ["/", "/metrics/", "/debug/pprof", "/../etc/passwd"] {
            let answer = endpoint.get(path).await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            for known in ["/metrics", "/healthz", "/readyz"] {
                assert!(answer.contains(known), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn a_huge_head_is_refused() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let filler = "x".repeat(1024 * 1024);
        let answer = endpoint
            .answer_to(&format!(
                "GET /metrics HTTP/1.1\r\nFiller: {filler}\r\n\r\n"
            ))
            .await;
        // The refusal may be lost to the reset that unread bytes cause; the metrics never come.
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn what_is_not_http_gets_no_metrics() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let answer = endpoint
            .answer_to("USER alice\r\nPASS secret\r\n\r\n")
            .await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn slow_clients_lose_their_place_to_others() {
        let endpoint = Endpoint::start(SHORT).await;
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS * 2 {
            let mut stream = endpoint.connect().await;
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost:")
                .await
                .expect("sent");
            slow.push(stream);
        }
        let answer = endpoint.get("/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for mut stream in slow {
            let end = everything_from(&mut stream).await;
            assert!(!end.contains("portcullis_"), "{end}");
        }
    }

    #[tokio::test]
    async fn slow_clients_make_room_at_once() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS * 2 {
            let mut stream = endpoint.connect().await;
            // Connections that have been closed for others may see a reset.
            drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await);
            slow.push(stream);
        }
        // Before any of them has used up its time.
        let answer = timeout(DEADLINES.head / 2, endpoint.get("/healthz")).await;
        let answer = answer.expect("in time");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let end = everything_from(&mut slow[0]).await;
        assert_eq!(end, "", "the oldest had to go");
    }

    #[tokio::test]
    async fn one_request_is_answered_for_each_connection() {
        let endpoint = Endpoint::start(DEADLINES).await;
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = endpoint.answer_to(&request.repeat(3)).await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
}
