//! HTTP towards the authority: one request on each connection, over TLS that is verified, and no answer without bounds.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{
    CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::refusal::{LastRefusal, is_refusal};
use super::retry_after::bound_retry_after;
use super::schedule::{ASK_EVERY, MAX_RETRY_AFTER};
use super::urls::{BadUrl, refuse_bad_urls};
use crate::base::task::Task;
use crate::base::text::escape;
use crate::config::https_port;
use crate::net::{connect, resolve};
use crate::tls::{BackendTlsClient, BackendTlsError, HandshakeFault, classify_error};

/// From looking the name up to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer, in bytes: a chain of certificates has some 10 KB.
const MAX_ANSWER: usize = 256 * 1024;

/// The longest time between two looks at an order that the authority is working on, whatever its Retry-After says: ZeroSSL says a
/// day, and is done in seconds.
const POLL_EVERY: Duration = Duration::from_secs(30);

/// How much of a header of an answer is shown, in bytes.
const MAX_HEADER: usize = 256;

/// The client's User-Agent (RFC 8555 §6.1).
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION")));

/// The reason why a request has got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0} isn't an https URL")]
    Url(String),
    #[error("connection to {host}: {cause}")]
    Connect { host: String, cause: io::Error },
    #[error("TLS with {host}: {fault}{}", trusted(fault, *roots))]
    Tls {
        host: String,
        fault: HandshakeFault,
        roots: Roots,
    },
    #[error(transparent)]
    Certificates(#[from] BackendTlsError),
    #[error("HTTP with {host}: {cause}")]
    Http { host: String, cause: hyper::Error },
    #[error("the answer of {host}: {cause}")]
    Body {
        host: String,
        cause: Box<dyn StdError + Send + Sync>,
    },
    #[error("{url} answers {status}")]
    Status { url: String, status: StatusCode },
    #[error(
        "{url} answers {status} (to {location}), and redirects are not followed: give the other URL"
    )]
    Redirect {
        url: String,
        status: StatusCode,
        location: String,
    },
    #[error(transparent)]
    BadUrl(#[from] BadUrl),
    #[error("{url} answers {status} with {content_type}, which is no answer of an ACME server")]
    NotAcme {
        url: String,
        status: StatusCode,
        content_type: String,
    },
    #[error("no answer from {0} within 30 s")]
    TimedOut(String),
}

/// By which roots the authority's server is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Roots {
    /// The system's roots.
    System,
    /// The roots in the configured file.
    File,
}

/// Tells which roots are trusted, if the fault is that they lack the issuer; else empty.
fn trusted(fault: &HandshakeFault, roots: Roots) -> &'static str {
    match (fault, roots) {
        (
            HandshakeFault::UnknownIssuer { .. }
            | HandshakeFault::OtherIssuerKey { .. }
            | HandshakeFault::SelfSigned { .. },
            Roots::File,
        ) => "; trusted are the authorities in the file of `tls.acme.ca`",
        (
            HandshakeFault::UnknownIssuer { .. }
            | HandshakeFault::OtherIssuerKey { .. }
            | HandshakeFault::SelfSigned { .. },
            Roots::System,
        ) => "; trusted are the system's roots, as `tls.acme.ca` is not set",
        _ => "",
    }
}

/// Asks the authority, and keeps its Retry-After.
#[derive(Debug, Clone)]
pub(super) struct Client {
    tls: Arc<BackendTlsClient>,
    roots: Roots,
    last: LastRefusal,
}

impl Client {
    /// Verifies the authority's server by these roots. Blocks on the file system.
    pub fn new(ca: Option<&std::path::Path>) -> Result<Self, BackendTlsError> {
        Ok(Self {
            tls: Arc::new(BackendTlsClient::for_any_server(ca)?),
            roots: match ca {
                Some(_) => Roots::File,
                None => Roots::System,
            },
            last: LastRefusal::default(),
        })
    }

    /// The details of the last answer, if it was a refusal.
    pub fn last_refusal(&self) -> &LastRefusal {
        &self.last
    }

    async fn answer(
        self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, HttpError> {
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or_default().to_owned();
        self.last.forget();
        match timeout(TIMEOUT, self.exchange(request, &uri)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::TimedOut(host)),
        }
    }

    async fn exchange(
        &self,
        mut request: Request<BodyWrapper<Bytes>>,
        uri: &Uri,
    ) -> Result<Response<Bytes>, HttpError> {
        let (Some(port), Some(authority)) = (https_port(uri), uri.authority()) else {
            return Err(HttpError::Url(uri.to_string()));
        };
        let host = || authority.host().to_owned();
        let name = authority.host().trim_matches(['[', ']']);
        let tls = self.tls.named(name)?.session();
        let connected = async {
            let addresses = resolve::look_up(name, port).await?;
            connect::first_of(&addresses, TIMEOUT).await
        };
        let stream = connected.await.map_err(|cause| HttpError::Connect {
            host: host(),
            cause,
        })?;
        let connector = TlsConnector::from(tls.config());
        let stream = connector.connect(tls.server_name(), stream).await;
        let stream = stream.map_err(|cause| HttpError::Tls {
            host: host(),
            fault: classify_error(&cause),
            roots: self.roots,
        })?;

        let http = |cause| HttpError::Http {
            host: host(),
            cause,
        };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let _connection = Task::spawn(connection);
        let host_header = HeaderValue::from_str(authority.as_str());
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = Uri::from_str(path).map_err(|_| HttpError::Url(uri.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(
            HOST,
            host_header.map_err(|_| HttpError::Url(uri.to_string()))?,
        );
        headers.insert(hyper::header::USER_AGENT, USER_AGENT);
        let is_read = request.method() == Method::GET;
        let (mut parts, body) = sender
            .send_request(request)
            .await
            .map_err(http)?
            .into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body
            .map_err(|cause| HttpError::Body {
                host: host(),
                cause,
            })?
            .to_bytes();

        let longest = match is_read || is_refusal(parts.status) {
            true => MAX_RETRY_AFTER,
            false => POLL_EVERY,
        };
        bound_retry_after(&mut parts.headers, SystemTime::now(), longest);
        self.last
            .note(parts.status, &parts.headers, &body, SystemTime::now());
        refuse_unreadable(uri, is_read, &parts, &body)?;
        refuse_bad_urls(uri, &body)?;
        if is_read && !parts.headers.contains_key(RETRY_AFTER) {
            // The library would take renewal information without it for an error.
            parts
                .headers
                .insert(RETRY_AFTER, ASK_EVERY.as_secs().into());
        }
        Ok(Response::from_parts(parts, body))
    }
}

/// Refuses what the library would take for a document that it couldn't read, whatever that is. Not every server says of JSON that
/// it is.
fn refuse_unreadable(
    uri: &Uri,
    is_read: bool,
    parts: &Parts,
    body: &[u8],
) -> Result<(), HttpError> {
    let (url, status) = (uri.to_string(), parts.status);
    if status.is_redirection() {
        let location = header(&parts.headers, LOCATION, "nowhere");
        return Err(HttpError::Redirect {
            url,
            status,
            location,
        });
    }
    if is_refusal(status) {
        return match is_read || !is_problem(&parts.headers) {
            true => Err(HttpError::Status { url, status }),
            false => Ok(()),
        };
    }
    let is_readable = match is_read {
        true => body.trim_ascii_start().starts_with(b"{"),
        false => !mentions(&parts.headers, b"html"),
    };
    match is_readable {
        true => Ok(()),
        false => Err(HttpError::NotAcme {
            url,
            status,
            content_type: header(&parts.headers, CONTENT_TYPE, "no content type"),
        }),
    }
}

/// A header of the answer for operators, or a text in its place if there is none.
fn header(headers: &HeaderMap, name: HeaderName, otherwise: &str) -> String {
    let text = headers
        .get(name)
        .map_or(otherwise.as_bytes(), |value| value.as_bytes());
    escape(&text[..text.len().min(MAX_HEADER)])
}

/// Whether the answer describes its problem in a form that is understood (RFC 7807).
fn is_problem(headers: &HeaderMap) -> bool {
    mentions(headers, b"json")
}

/// Whether the type of the answer has this word in it, in whatever case.
fn mentions(headers: &HeaderMap, word: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|it| it.as_bytes());
    kind.is_some_and(|kind| memchr::memmem::find(&kind.to_ascii_lowercase(), word).is_some())
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let answer = self.clone().answer(request);
        Box::pin(async {
            let answer = answer.await;
            let answer = answer.map_err(|error| instant_acme::Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_not_trusted_is_said_to_be_and_by_which_roots() {
        let error = |fault, roots| {
            let host = "ca.test".to_owned();
            HttpError::Tls { host, fault, roots }.to_string()
        };
        let issuer = "CN=Root".to_owned();
        let unknown = HandshakeFault::UnknownIssuer { issuer };
        assert_eq!(
            error(unknown.clone(), Roots::File),
            "TLS with ca.test: certificate issued by CN=Root, which is not trusted; trusted are the authorities in the file of \
             `tls.acme.ca`"
        );
        assert!(error(unknown, Roots::System).contains("the system's roots"));
        assert!(!error(HandshakeFault::Closed, Roots::File).contains("tls.acme.ca"));
    }

    /// The error for an answer that doesn't describe its problem to the library.
    fn refused(is_read: bool, status: u16, headers: &[(HeaderName, &str)], body: &str) -> String {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(name, *value);
        }
        let (parts, ()) = answer.body(()).unwrap().into_parts();
        let url = Uri::from_static("https://ca.test/dir");
        match refuse_unreadable(&url, is_read, &parts, body.as_bytes()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_answer_that_is_none_of_an_acme_server_is_told_with_its_url_and_what_it_is() {
        let html = [(CONTENT_TYPE, "text/html; charset=utf-8")];
        let moved = [(LOCATION, "https://ca2.test/dir")];
        assert_eq!(
            refused(true, 301, &moved, ""),
            "https://ca.test/dir answers 301 Moved Permanently (to https://ca2.test/dir), and redirects are not followed: give \
             the other URL"
        );
        assert!(refused(false, 308, &[], "").contains("(to nowhere)"));
        let portal = "https://ca.test/dir answers 200 OK with text/html; charset=utf-8, which is no answer of an ACME server";
        assert_eq!(refused(true, 200, &html, "<html>"), portal);
        assert_eq!(refused(false, 200, &html, "<html>"), portal);
        assert!(refused(true, 200, &[], "").contains("with no content type"));
        assert_eq!(
            refused(true, 404, &html, "<html>"),
            "https://ca.test/dir answers 404 Not Found"
        );
        assert_eq!(
            refused(false, 502, &html, "<html>"),
            "https://ca.test/dir answers 502 Bad Gateway"
        );
    }

    #[test]
    fn an_answer_that_the_library_reads_is_left_to_it_whatever_its_type_is_called() {
        for kind in ["application/json", "text/plain", "text/html"] {
            assert_eq!(refused(true, 200, &[(CONTENT_TYPE, kind)], " {}"), "");
        }
        for kind in ["application/problem+json", "Application/Problem+JSON"] {
            assert_eq!(refused(false, 403, &[(CONTENT_TYPE, kind)], "{}"), "");
        }
        let chain = [(CONTENT_TYPE, "application/pem-certificate-chain")];
        assert_eq!(refused(false, 200, &chain, "-----BEGIN"), "");
        // A nonce comes without any.
        assert_eq!(refused(false, 200, &[], ""), "");
    }
}
