//! `portcullis health`: asks the admin endpoint of a running process how it is, for images that have no shell.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::base::text::escape;

/// Time limit of the whole question. Engines that run health checks kill one after some seconds, and then it has reported
/// nothing.
const DEADLINE: Duration = Duration::from_secs(3);
/// As much of a response as is read. Those of the endpoint are far shorter.
const MAX_RESPONSE: u64 = 4096;
/// As much of a response as is shown.
const MAX_SHOWN: usize = 100;

/// The question that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Whether the process runs.
    Alive,
    /// Whether new clients are accepted.
    Ready,
}

impl Question {
    fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// Why the answer isn't yes.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// The connection failed.
    #[error(
        "{address} can't be connected to: {cause}; either Portcullis isn't running, or its `admin.address` is another one: name \
         that by --address"
    )]
    Connect {
        /// The address asked.
        address: SocketAddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The connection was made, and no answer came on it.
    #[error("no answer from {address}: {cause}")]
    Answer {
        /// The address asked.
        address: SocketAddr,
        /// The operating system's error.
        cause: io::Error,
    },
    /// Another program listens there.
    #[error(
        "{address} doesn't speak HTTP, so it isn't `admin.address` of Portcullis: it says \"{said}\""
    )]
    NotHttp {
        /// The address asked.
        address: SocketAddr,
        /// The beginning of its answer, escaped.
        said: String,
    },
    /// The answer is no.
    #[error("{address} answers {status} to {path}: {reason}")]
    No {
        /// The address asked.
        address: SocketAddr,
        /// The path that was asked for.
        path: &'static str,
        /// The code of the response.
        status: u16,
        /// The text of the response, escaped.
        reason: String,
    },
}

/// Asks; blocks for three seconds at most.
///
/// # Errors
/// If the answer isn't yes.
pub fn ask(address: SocketAddr, question: Question) -> Result<(), Unhealthy> {
    ask_within(address, question, DEADLINE)
}

fn ask_within(
    address: SocketAddr,
    question: Question,
    deadline: Duration,
) -> Result<(), Unhealthy> {
    let end = Instant::now() + deadline;
    let stream = TcpStream::connect_timeout(&address, deadline)
        .map_err(|cause| Unhealthy::Connect { address, cause })?;
    let response = exchange(&stream, question.path(), end)
        .map_err(|cause| Unhealthy::Answer { address, cause })?;
    match status(&response) {
        Some(200) => Ok(()),
        Some(status) => Err(Unhealthy::No {
            address,
            path: question.path(),
            status,
            reason: shown(body(&response)),
        }),
        None => Err(Unhealthy::NotHttp {
            address,
            said: shown(&response),
        }),
    }
}

/// Sends the request, and reads the response to its end or for as long as it is of interest.
fn exchange(mut stream: &TcpStream, path: &str, end: Instant) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(time_left(end)?))?;
    // In HTTP/1.0 the end of the connection is the end of the response.
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = Vec::new();
    let mut part = [0; 512];
    while (response.len() as u64) < MAX_RESPONSE {
        stream.set_read_timeout(Some(time_left(end)?))?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => response.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) => return Err(error),
        }
    }
    Ok(response)
}

fn time_left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(too_late());
    }
    Ok(left)
}

fn too_late() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("it took longer than {} s", DEADLINE.as_secs()),
    )
}

/// The code in a status line such as `HTTP/1.1 200 OK`.
fn status(response: &[u8]) -> Option<u16> {
    let (version, rest) = response.split_at_checked("HTTP/1.1 ".len())?;
    let digits = rest.get(..3)?;
    let is_http = version.starts_with(b"HTTP/1.") && version.ends_with(b" ");
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    is_http.then_some(code)
}

fn body(response: &[u8]) -> &[u8] {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    match memchr::memmem::find(response, BLANK_LINE) {
        Some(at) => &response[at + BLANK_LINE.len()..],
        None => &[],
    }
}

fn shown(text: &[u8]) -> String {
    let text = text.trim_ascii();
    escape(&text[..text.len().min(MAX_SHOWN)])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// The error, if any, for an endpoint that answers a request by this, and then hangs up.
    fn verdict(answer: &'static [u8]) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let endpoint = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a whole request");
                request.extend(byte);
            }
            // It stops reading what is too long.
            drop(stream.write_all(answer));
            request
        });
        let verdict = ask(address, Question::Ready);
        let request = endpoint.join().expect("it has answered");
        assert_eq!(request, b"GET /readyz HTTP/1.0\r\n\r\n");
        verdict.map_err(|error| {
            let error = error.to_string();
            error.replace(&address.to_string(), "ADDRESS")
        })
    }

    #[test]
    fn ok_is_the_only_good_answer() {
        let good = verdict(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
        assert_eq!(good, Ok(()));
        let draining = verdict(b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n");
        let draining = draining.expect_err("it isn't ready");
        assert_eq!(draining, "ADDRESS answers 503 to /readyz: draining");
    }

    #[test]
    fn what_is_no_endpoint_of_ours_is_told_apart() {
        for (answer, said) in [
            (&b"220 Welcome\r\n"[..], "220 Welcome"),
            (b"", ""),
            (b"HTTP/1.1 2", "HTTP/1.1 2"),
            (b"HTTP/2.0 200 OK\r\n\r\n", "HTTP/2.0 200 OK\\r\\n\\r\\n"),
            (b"HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1 20x OK"),
            (b"\x1b[2J\x16\x03", "\\x1b[2J\\x16\\x03"),
        ] {
            let error = verdict(answer).expect_err("it is no good answer");
            let expected = format!(
                "ADDRESS doesn't speak HTTP, so it isn't `admin.address` of Portcullis: it says \"{}\"",
                said.trim_end_matches("\\r\\n").trim_end_matches("\\r\\n")
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        static ENDLESS: [u8; 1024 * 1024] = [b'x'; 1024 * 1024];
        let error = verdict(&ENDLESS).expect_err("it is no good answer");
        assert!(error.len() < 300, "{error}");
    }

    #[test]
    fn silence_ends_with_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let error = ask_within(address, Question::Alive, Duration::from_millis(50));
        let error = error.expect_err("nothing answers").to_string();
        assert!(error.ends_with("it took longer than 3 s"), "{error}");
    }

    #[test]
    fn where_nothing_listens_the_way_out_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let error = ask(address, Question::Alive).expect_err("nothing listens");
        let error = error.to_string();
        assert!(error.contains("Connection refused"), "{error}");
        assert!(error.contains("--address"), "{error}");
    }
}
