//! One request to the admin socket: HTTP/1.1 over a Unix socket, with a deadline and a bound for the answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::answer::ApiAnswer;
use super::error::ControlError;
use crate::base::task::Task;

/// The path at which the packages have the socket.
pub const DEFAULT: &str = "/run/portcullis/admin.sock";

/// For an answer that the process has at hand.
const DEADLINE: Duration = Duration::from_secs(10);
/// A reload looks names up and reads files, each of which may take its time.
const RELOAD_DEADLINE: Duration = Duration::from_secs(60);

/// The longest answer: ten thousand sessions with long names are a tenth of it.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// Room for the head of an answer.
const HEAD_BYTES: usize = 64 * 1024;

/// The admin socket of a process.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

/// A request to the process.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: &'static str,
    parameters: Vec<(&'static str, String)>,
    deadline: Duration,
}

impl Request {
    /// A request to read a value.
    pub fn read(path: &'static str) -> Self {
        Self::new(Method::GET, path, DEADLINE)
    }

    /// A request to list entries: as many as the process lists at a time.
    pub fn list(path: &'static str) -> Self {
        Self::read(path).with("limit", Some("10000"))
    }

    /// A request for an action.
    pub fn act(path: &'static str) -> Self {
        Self::new(Method::POST, path, DEADLINE)
    }

    /// To have the configuration put in force anew.
    pub fn reload() -> Self {
        Self::new(Method::POST, "/api/v1/reload", RELOAD_DEADLINE)
    }

    fn new(method: Method, path: &'static str, deadline: Duration) -> Self {
        Self {
            method,
            path,
            parameters: Vec::new(),
            deadline,
        }
    }

    /// Adds this parameter, if it has a value.
    pub fn with(mut self, name: &'static str, value: Option<&str>) -> Self {
        let value = value.map(|value| (name, value.to_owned()));
        self.parameters.extend(value);
        self
    }

    /// The request's target: path and query.
    fn target(&self) -> String {
        if self.parameters.is_empty() {
            return self.path.to_owned();
        }
        let mut query = Serializer::new(String::new());
        query.extend_pairs(&self.parameters);
        format!("{}?{}", self.path, query.finish())
    }
}

impl Socket {
    /// The one at this path.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The path of the socket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&self, request: Request) -> Result<ApiAnswer, ControlError> {
        let after = request.deadline;
        timeout(after, self.exchange(request))
            .await
            .unwrap_or_else(|_| {
                Err(ControlError::TimedOut {
                    path: self.path.clone(),
                    after,
                })
            })
    }

    async fn exchange(&self, request: Request) -> Result<ApiAnswer, ControlError> {
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| ControlError::connecting(&self.path, error))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        // Its error is the response's, too.
        let _connection = Task::spawn(async move { drop(connection.await) });
        let response = sender
            .send_request(self.http_request(&request)?)
            .await
            .map_err(|error| self.broken(error))?;
        self.read(response).await
    }

    fn http_request(
        &self,
        request: &Request,
    ) -> Result<hyper::Request<Empty<Bytes>>, ControlError> {
        hyper::Request::builder()
            .method(&request.method)
            .uri(request.target())
            .header(HOST, "localhost")
            .body(Empty::new())
            .map_err(|error| self.broken(error))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<ApiAnswer, ControlError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|error| match error.downcast::<LengthLimitError>() {
                Ok(_) => ControlError::TooLong(self.path.clone()),
                Err(error) => self.broken(error),
            })?
            .to_bytes();
        let answer = ApiAnswer::read(&body)
            .map_err(|error| ControlError::Foreign(self.path.clone(), error))?;
        if status.is_success() {
            return Ok(answer);
        }
        match answer.text("error") {
            Ok(text) => Err(ControlError::Refused(text)),
            Err(error) => Err(ControlError::Foreign(self.path.clone(), error)),
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ControlError {
        ControlError::Broken(self.path.clone(), error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_can_not_leave_its_parameter() {
        let request = Request::act("/api/v1/backends/drain")
            .with("site", Some("a&b=c d#é"))
            .with("group", None)
            .with("backend", Some("[::1]:21"));
        assert_eq!(
            request.target(),
            "/api/v1/backends/drain?site=a%26b%3Dc+d%23%C3%A9&backend=%5B%3A%3A1%5D%3A21"
        );
        assert_eq!(Request::reload().target(), "/api/v1/reload");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_does_not_answer_is_given_up_after_the_deadline() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("admin.sock");
        // Accepts in the kernel, and does nothing more.
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let socket = Socket::new(path);
        for (request, after) in [
            (Request::read("/api/v1/config"), "within 10s"),
            (Request::reload(), "within 60s"),
        ] {
            let error = socket.ask(request).await.expect_err("no answer");
            assert!(error.to_string().contains(after), "{error}");
        }
    }

    #[test]
    fn what_keeps_from_connecting_is_told_apart() {
        use std::io::{Error, ErrorKind};

        for (kind, text) in [
            (ErrorKind::NotFound, "admin: {socket: /run/x.sock}"),
            (
                ErrorKind::ConnectionRefused,
                "nothing listens on /run/x.sock",
            ),
            (ErrorKind::PermissionDenied, "its group alone"),
            (ErrorKind::InvalidInput, "can't connect to /run/x.sock"),
        ] {
            let error = ControlError::connecting(Path::new("/run/x.sock"), Error::from(kind));
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
