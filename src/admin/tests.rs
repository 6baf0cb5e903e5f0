//! The admin endpoint as its clients see it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::connections::MAX_CONNECTIONS;
use super::server::{DEADLINES, Deadlines, serve_within};
use super::*;
use crate::net::listen::Acceptor;

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
        tokio::spawn(serve_within(Acceptor::new(listener), admin, deadlines));
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
