//! An authority that speaks ACME and does what a test tells it: what no real one does on demand.
//!
//! It verifies no signature and finds every name proven. What is asked of it is kept.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use data_encoding::BASE64URL_NOPAD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::DEADLINE;
use super::certs::{Authority, Validity};
use super::loopback::Loopback;

/// How it takes an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// With a certificate.
    Issues,
    /// With 429, and this many seconds in Retry-After.
    RefusesFor(u64),
    /// With a page of HTML, as a gateway does whose server is gone.
    IsBroken,
    /// Not at all: the connection stays open.
    Hangs,
    /// With a certificate for another key.
    IssuesForAnotherKey,
    /// With a certificate for another name.
    IssuesForAnotherName,
    /// With more bytes than any client wants.
    Floods,
    /// Never: its directory has no URL for nonces.
    NamesNoNonce,
    /// By working on it, and refusing each look at it with 429 and this many seconds in Retry-After.
    RefusesLooksFor(u64),
}

/// What was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path.
    pub path: String,
    /// What was signed, or nothing.
    pub payload: String,
}

/// A running authority.
#[derive(Debug)]
pub struct ScriptedCa {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
    address: SocketAddr,
    ca: PathBuf,
    directory: TempDir,
    _loopback: Loopback,
}

struct Shared {
    issuer: Authority,
    base: String,
    stopped: AtomicBool,
    state: Mutex<State>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    manner: Manner,
    /// The window that it suggests, in seconds from now, and its Retry-After.
    window: Option<(i64, i64)>,
    profiles: Vec<&'static str>,
    asked: Vec<Asked>,
    names: Vec<String>,
    certificate: String,
    replaced: Option<String>,
}

impl ScriptedCa {
    /// Starts one that issues.
    pub fn start() -> Self {
        let loopback = Loopback::claim();
        let address = loopback.at(14_000);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let issuer = Authority::new("scripted authority");
        let own = issuer.issue(&[&loopback.ip().to_string()]);
        let ca = issuer.write(directory.path());
        let config = own.server_config(&[&rustls::version::TLS13, &rustls::version::TLS12]);
        let shared = Arc::new(Shared {
            issuer,
            base: format!("https://{address}"),
            stopped: AtomicBool::new(false),
            state: Mutex::new(State {
                manner: Manner::Issues,
                window: None,
                profiles: Vec::new(),
                asked: Vec::new(),
                names: Vec::new(),
                certificate: String::new(),
                replaced: None,
            }),
        });
        let listener = TcpListener::bind(address).expect("the address is ours");
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared, &config))
        };
        Self {
            shared,
            accepting: Some(accepting),
            address,
            ca,
            directory,
            _loopback: loopback,
        }
    }

    /// The URL of its directory.
    pub fn directory_url(&self) -> String {
        format!("{}/dir", self.shared.base)
    }

    /// By which its own server is verified, and what it issues.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// For files of the test's own.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Behaves like this from now on.
    pub fn behave(&self, manner: Manner) {
        self.shared.state().manner = manner;
    }

    /// Suggests that certificates be renewed in so many seconds from now on, until so many.
    pub fn suggest(&self, window: Option<(i64, i64)>) {
        self.shared.state().window = window;
    }

    /// Offers these profiles.
    pub fn offer(&self, profiles: &[&'static str]) {
        self.shared.state().profiles = profiles.to_vec();
    }

    /// What was asked of it under paths that begin like this.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.shared.state();
        let asked = state
            .asked
            .iter()
            .filter(|asked| asked.path.starts_with(path));
        asked.cloned().collect()
    }
}

impl Drop for ScriptedCa {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, config: &Arc<ServerConfig>) {
    for stream in listener.incoming().flatten() {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let (shared, config) = (Arc::clone(shared), Arc::clone(config));
        // Ends with its connection, which the program under test closes.
        std::thread::spawn(move || serve(stream, &shared, config));
    }
}

fn serve(stream: TcpStream, shared: &Shared, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let lower = header.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if header.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let payload = payload(&body);
    let manner = {
        let mut state = shared.state();
        state.asked.push(Asked {
            path: path.clone(),
            payload: payload.clone(),
        });
        state.manner.clone()
    };
    let is_order = path == "/order";
    let answer = match manner {
        Manner::Hangs if is_order => {
            // Until the peer has had enough.
            let _ = stream.read(&mut [0]);
            return Ok(());
        }
        Manner::Floods if is_order => {
            let stream = stream.get_mut();
            stream.write_all(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n{\"status\":\"")?;
            loop {
                stream.write_all(&[b'a'; 16 * 1024])?;
            }
        }
        Manner::IsBroken => Answer::new("502 Bad Gateway", "text/html", "<h1>Bad Gateway</h1>"),
        Manner::RefusesFor(seconds) if is_order => {
            Answer::too_many("too many certificates already issued", seconds)
        }
        Manner::RefusesLooksFor(seconds) if path == "/order/1" => {
            Answer::too_many("too many requests", seconds)
        }
        manner => shared.answer(&path, &payload, &manner),
    };
    let stream = stream.get_mut();
    stream.write_all(answer.to_http(&shared.base).as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// What a signed request says.
fn payload(body: &[u8]) -> String {
    let body: serde_yaml::Value = serde_yaml::from_slice(body).unwrap_or_default();
    let payload = body.get("payload").and_then(|it| it.as_str());
    let decoded = BASE64URL_NOPAD.decode(payload.unwrap_or_default().as_bytes());
    String::from_utf8(decoded.unwrap_or_default()).unwrap_or_default()
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    headers: String,
    body: String,
}

impl Answer {
    fn new(status: &'static str, kind: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            headers: String::new(),
            body: body.into(),
        }
    }

    fn json(body: impl Into<String>) -> Self {
        Self::new("200 OK", "application/json", body)
    }

    fn too_many(detail: &str, seconds: u64) -> Self {
        let body = format!(
            r#"{{"type": "urn:ietf:params:acme:error:rateLimited", "detail": {detail:?}}}"#
        );
        Self::new("429 Too Many Requests", "application/problem+json", body)
            .with("Retry-After", seconds)
    }

    fn created(location: &str, body: impl Into<String>) -> Self {
        Self::new("201 Created", "application/json", body).with("Location", location)
    }

    fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    fn to_http(&self, base: &str) -> String {
        let Self {
            status,
            kind,
            headers,
            body,
        } = self;
        let (headers, body) = (headers.replace("BASE", base), body.replace("BASE", base));
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nReplay-Nonce: {}\r\n\
             Connection: close\r\n{headers}\r\n{body}",
            body.len(),
            BASE64URL_NOPAD.encode(b"a nonce like any other"),
        )
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn answer(&self, path: &str, payload: &str, manner: &Manner) -> Answer {
        let mut state = self.state();
        match path {
            "/dir" => {
                let profiles = state
                    .profiles
                    .iter()
                    .map(|name| format!("{name:?}: \"a profile\""));
                let profiles: Vec<String> = profiles.collect();
                let nonce = match manner {
                    Manner::NamesNoNonce => "",
                    _ => "BASE/nonce",
                };
                Answer::json(format!(
                    r#"{{"newNonce": "{nonce}", "newAccount": "BASE/account", "newOrder": "BASE/order",
                        "renewalInfo": "BASE/ari", "meta": {{"profiles": {{{}}}}}}}"#,
                    profiles.join(", ")
                ))
            }
            "/nonce" => Answer::json(""),
            "/account" => Answer::created("BASE/account/1", r#"{"status": "valid"}"#),
            "/order" => {
                let order: serde_yaml::Value = serde_yaml::from_str(payload).unwrap_or_default();
                let names = order.get("identifiers").and_then(|it| it.as_sequence());
                let names = names.into_iter().flatten();
                let names = names.filter_map(|it| it.get("value")?.as_str());
                state.names = names.map(str::to_owned).collect();
                state.certificate.clear();
                let replaced = order.get("replaces").and_then(|it| it.as_str());
                state.replaced = replaced.map(str::to_owned);
                let status = match manner {
                    Manner::RefusesLooksFor(_) => "pending",
                    _ => "ready",
                };
                Answer::created("BASE/order/1", state.order(status))
            }
            "/finalize" => {
                let request: serde_yaml::Value = serde_yaml::from_str(payload).unwrap_or_default();
                let csr = request
                    .get("csr")
                    .and_then(|it| it.as_str())
                    .unwrap_or_default();
                let csr = BASE64URL_NOPAD.decode(csr.as_bytes()).unwrap_or_default();
                state.certificate = match manner {
                    Manner::IssuesForAnotherKey => {
                        let names: Vec<&str> = state.names.iter().map(String::as_str).collect();
                        self.issuer.issue(&names).certificate
                    }
                    Manner::IssuesForAnotherName => {
                        let names = ["other.test".to_owned()];
                        self.issuer.sign_request(&csr, &names, Validity::Now)
                    }
                    _ => self.issuer.sign_request(&csr, &state.names, Validity::Now),
                };
                Answer::json(state.order("valid"))
            }
            "/order/1" => {
                let status = if state.certificate.is_empty() {
                    "ready"
                } else {
                    "valid"
                };
                Answer::json(state.order(status))
            }
            "/certificate" => Answer::new(
                "200 OK",
                "application/pem-certificate-chain",
                state.certificate.clone(),
            ),
            path if path.starts_with("/authorization/") => {
                let number = path
                    .rsplit('/')
                    .next()
                    .and_then(|it| it.parse::<usize>().ok());
                let name = number.and_then(|it| state.names.get(it)).cloned();
                let name = name.unwrap_or_default();
                Answer::json(format!(
                    r#"{{"status": "valid", "identifier": {{"type": "dns", "value": {name:?}}}, "challenges": []}}"#
                ))
            }
            path if path.starts_with("/ari/") => match state.window {
                Some((start, end)) => {
                    let moment = |seconds| {
                        let time = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
                        time.format(&Rfc3339).expect("a time of this century")
                    };
                    Answer::json(format!(
                        r#"{{"suggestedWindow": {{"start": "{}", "end": "{}"}}}}"#,
                        moment(start),
                        moment(end)
                    ))
                    .with("Retry-After", 21_600)
                }
                None => Answer::new("404 Not Found", "application/problem+json", "{}"),
            },
            _ => Answer::new("404 Not Found", "application/problem+json", "{}"),
        }
    }
}

impl State {
    fn order(&self, status: &str) -> String {
        let authorizations = (0..self.names.len()).map(|it| format!("\"BASE/authorization/{it}\""));
        let authorizations: Vec<String> = authorizations.collect();
        let certificate = match status {
            "valid" => r#", "certificate": "BASE/certificate""#,
            _ => "",
        };
        let replaces = match &self.replaced {
            Some(id) => format!(", \"replaces\": {id:?}"),
            None => String::new(),
        };
        format!(
            r#"{{"status": "{status}", "authorizations": [{}], "finalize": "BASE/finalize"{certificate}{replaces}}}"#,
            authorizations.join(", ")
        )
    }
}
