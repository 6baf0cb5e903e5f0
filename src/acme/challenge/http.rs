//! HTTP-01 (RFC 8555 §8.3): the answer is a file at a path that has the challenge's token.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{Proof, serve_challenge};
use crate::net::bounded_server::RequestSeen;
use crate::net::listen::Acceptor;

const PATH: &str = "/.well-known/acme-challenge/";

/// Room for a request's head; hyper answers 431 to more.
const HEAD_BYTES: usize = 8 * 1024;

/// From accept to the end of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers to challenges, by token.
type Answers = Arc<HashMap<String, Bytes>>;

/// Answers what these proofs answer, and nothing else.
pub fn serve(acceptor: Acceptor, proofs: &[Proof]) -> impl Future<Output = ()> + Send + use<> {
    let answers = proofs.iter().map(|proof| {
        let text = proof.authorization.as_str().to_owned();
        (proof.token.clone(), text.into())
    });
    let answers: Answers = Arc::new(answers.collect());
    serve_challenge(acceptor, move |stream, request_seen| {
        answer(stream, request_seen, Arc::clone(&answers))
    })
}

/// Answers one request. Errors are the peer's, and a scanner could make any number of them: they aren't logged.
async fn answer(stream: TcpStream, request_seen: RequestSeen, answers: Answers) {
    let service = service_fn(|request: Request<Incoming>| {
        request_seen.set();
        let response = respond(&request, &answers);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

fn respond<B>(request: &Request<B>, answers: &HashMap<String, Bytes>) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PATH);
    let found = token.and_then(|token| answers.get(token));
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    match found.filter(|_| is_read) {
        Some(answer) => {
            let mut response = Response::new(Full::new(answer.clone()));
            let kind = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        None => {
            let mut response = Response::new(Full::new(Bytes::from_static(b"not found\n")));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_known_tokens_is_answered() {
        let answers = HashMap::from([("token".to_owned(), Bytes::from_static(b"token.thumb"))]);
        let status = |method: Method, path: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(())
                .unwrap();
            respond(&request, &answers).status()
        };
        let known = "/.well-known/acme-challenge/token";
        assert_eq!(status(Method::GET, known), StatusCode::OK);
        assert_eq!(status(Method::HEAD, known), StatusCode::OK);
        assert_eq!(status(Method::POST, known), StatusCode::NOT_FOUND);
        for path in [
            "/",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/other",
            "/.well-known/acme-challenge/token/",
            "/.well-known/acme-challenge/../acme-challenge/token",
            "/.well-known/acme-challenge/%74oken",
        ] {
            assert_eq!(status(Method::GET, path), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
