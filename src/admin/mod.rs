//! The admin endpoint, for operators and monitoring: the state of the process over HTTP, and the actions that it can be asked
//! for.
//!
//! | path | response |
//! |---|---|
//! | `/metrics` | metrics in Prometheus' text format |
//! | `/healthz` | 200 as long as the process runs |
//! | `/readyz` | 200 while new clients are accepted; else 503 and why not |
//! | `/` | the status page |
//! | `/api/v1/…` | the live view, as JSON |
//!
//! Over TCP it is for reading alone. The Unix socket, which the file system guards, takes actions as well (`action`); `access`
//! decides what each client may see.

mod access;
mod action;
mod api;
mod page;
mod query;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;

use crate::acme;
use crate::base::text::escape_path;
use crate::command::Command;
use crate::observe::log::LogFilter;
use crate::observe::reloads::ReloadLog;
use crate::session::Shared;
use crate::snapshot::Snapshot;
use crate::view::{
    self, Disclosure, Listening, Moment, Overview, ProcessView, SessionFilter, SiteView,
};

use access::{Refusal, Via};
use page::Page;

pub use server::{serve, serve_socket};

const METRICS_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");
const TEXT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML_TYPE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON_TYPE: HeaderValue = HeaderValue::from_static("application/json");

/// How many requests are read for at once; others wait, and are given up with their connections.
static BLOCKING_REQUESTS: Semaphore = Semaphore::const_new(2);

/// The prefix of the paths of the live view's data.
const API: &str = "/api/v1/";

/// The data that the endpoint serves, and where its commands go.
#[derive(Debug)]
pub struct Admin {
    /// The state that `/readyz` shows.
    pub readiness: watch::Receiver<Readiness>,
    /// The metrics, the sessions, and clients with failed logins.
    pub shared: Arc<Shared>,
    /// The configuration and the certificates in use.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The last reloads.
    pub reloads: Arc<ReloadLog>,
    /// The state of the certificate's orders.
    pub acme: Arc<acme::Status>,
    /// Takes what the process itself has to do.
    pub commands: mpsc::Sender<Command>,
    /// The filter of the log, which operators can change.
    pub log: LogFilter,
    /// The configuration file.
    pub config: PathBuf,
    /// When the process started.
    pub started: Started,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// The wall-clock time, for operators.
    pub at: SystemTime,
    /// The monotonic time, to compute how long ago it was.
    pub since: Instant,
}

impl Started {
    /// The start, at this moment.
    pub fn now() -> Self {
        Self {
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }
}

/// Whether new clients are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The process starts: not every listener accepts yet.
    Starting,
    /// The central certificate is ordered, and not there yet; no client can begin TLS that names no other.
    NoCertificate,
    /// Every listener accepts clients.
    Ready,
    /// New clients are served until load balancers know that they are to go elsewhere.
    LameDuck,
    /// Running transfers finish, then the program exits.
    Draining,
}

impl Readiness {
    /// The readiness's text in the live view.
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::NoCertificate => "no_certificate",
            Self::Ready => "ready",
            Self::LameDuck => "lame_duck",
            Self::Draining => "draining",
        }
    }
}

impl Admin {
    /// Whether new clients can be served.
    fn readiness(&self) -> Readiness {
        let readiness = *self.readiness.borrow();
        let lacks_default = || self.snapshot.load().certificates.lacks_default();
        match readiness {
            Readiness::Ready if lacks_default() => Readiness::NoCertificate,
            other => other,
        }
    }

    /// The process and its configuration.
    fn overview(&self, disclosure: Disclosure) -> Overview {
        let snapshot = self.snapshot.load();
        let settings = &snapshot.runtime.settings;
        let listeners = settings.listeners.iter();
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            config: escape_path(&self.config),
            started: Moment::new(self.started.at),
            uptime_seconds: self.started.since.elapsed().as_secs_f64(),
            readiness: self.readiness().as_str(),
            sessions: self.shared.limiter.open(),
            max_sessions: settings.limits.sessions,
            transfers: self.shared.metrics.running_transfers(),
            listeners: listeners
                .map(|listener| Listening {
                    address: listener.address,
                    tls: listener.tls.as_str(),
                })
                .collect(),
            passive_ports: snapshot.runtime.passive.addresses().len(),
            reloads: view::reloads(&self.reloads, disclosure),
            refused: view::refused(&self.reloads, disclosure),
            stalled: view::stalled(&self.reloads),
            misplaced_logs: view::misplaced_logs(&self.shared.transfer_logs),
            acme: view::orders(&self.acme),
            revocation_lists: view::revocation_lists(&snapshot.clients, settings),
            backend_client_certificates: view::backend_client_certificates(
                snapshot.runtime.pools.backend_client_certificates(),
            ),
        }
    }

    fn sites(&self, snapshot: &Snapshot) -> Vec<SiteView> {
        let runtime = &snapshot.runtime;
        let most = runtime.settings.limits.sessions_per_site;
        view::sites(&runtime.pools, &self.shared.metrics, most)
    }

    /// Makes the views of the process at this moment, and a result from them by `make`.
    fn of_process<T>(
        &self,
        snapshot: &Snapshot,
        disclosure: Disclosure,
        make: impl FnOnce(ProcessView<'_>) -> T,
    ) -> T {
        make(ProcessView {
            now: Moment::new(SystemTime::now()),
            overview: &self.overview(disclosure),
            certificates: &view::certificates(&snapshot.certificates, disclosure),
            sites: &self.sites(snapshot),
            backends: &view::backends(&snapshot.runtime.pools, disclosure),
        })
    }
}

/// The answer to a request.
struct HttpAnswer {
    status: StatusCode,
    content_type: HeaderValue,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpAnswer {
    fn new(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            body: body.into(),
            headers: Vec::new(),
        }
    }

    fn text(status: StatusCode, body: &'static str) -> Self {
        Self::new(status, TEXT_TYPE, body)
    }

    /// An answer in JSON, whose content is of this moment alone and may not be cached.
    fn json(status: StatusCode, body: String) -> Self {
        Self::new(status, JSON_TYPE, body).with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type);
        headers.extend(
            self.headers
                .into_iter()
                .map(|(name, value)| (Some(name), value)),
        );
        response
    }
}

/// Answers a request. Nothing acts but POST, and that on the socket alone.
async fn respond(admin: Arc<Admin>, via: Via, request: Parts) -> HttpAnswer {
    let path = request.uri.path();
    match (&request.method, via) {
        (&Method::GET | &Method::HEAD, _) => match probe(&admin, path) {
            Some(answer) => answer,
            None => blocking(move || read(&admin, via, &request).unwrap_or_else(refused)).await,
        },
        (&Method::POST, Via::Socket(operator)) => match path.strip_prefix(API) {
            Some(action::RELOAD) => {
                action::act_on_process(&admin, operator, request.uri.query()).await
            }
            Some(action) => {
                let action = action.to_owned();
                let act = move || action::act(&admin, operator, &action, request.uri.query());
                blocking(act).await
            }
            None => method_not_allowed("only GET and HEAD\n"),
        },
        (&Method::POST, Via::Tcp) if path.starts_with(API) => {
            method_not_allowed("actions are taken over the Unix socket alone, see admin.socket\n")
        }
        _ => method_not_allowed("only GET and HEAD\n"),
    }
}

fn method_not_allowed(text: &'static str) -> HttpAnswer {
    HttpAnswer::text(StatusCode::METHOD_NOT_ALLOWED, text)
        .with(ALLOW, HeaderValue::from_static("GET, HEAD"))
}

/// Responses without access control, available at once.
fn probe(admin: &Admin, path: &str) -> Option<HttpAnswer> {
    Some(match path {
        "/healthz" => HttpAnswer::text(StatusCode::OK, "ok\n"),
        "/readyz" => match admin.readiness() {
            Readiness::Ready => HttpAnswer::text(StatusCode::OK, "ok\n"),
            Readiness::NoCertificate => {
                HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "no certificate yet\n")
            }
            Readiness::Starting => HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Readiness::LameDuck | Readiness::Draining => {
                HttpAnswer::text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
        },
        _ => return None,
    })
}

/// Answers on a thread of its own: a list of ten thousand sessions takes some 20 ms, in which no login on this one would get on.
async fn blocking(respond: impl FnOnce() -> HttpAnswer + Send + 'static) -> HttpAnswer {
    // It is never closed.
    let permit = BLOCKING_REQUESTS.acquire().await;
    let responding = spawn_blocking(move || {
        let _permit = permit;
        respond()
    });
    let failed = |_| HttpAnswer::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n");
    responding.await.unwrap_or_else(failed)
}

/// Responses with access control.
fn read(admin: &Admin, via: Via, request: &Parts) -> Result<HttpAnswer, Refusal> {
    let path = request.uri.path();
    let snapshot = admin.snapshot.load();
    let settings = &snapshot.runtime.settings.admin;
    let headers: &HeaderMap = &request.headers;
    if path == "/metrics" {
        access::admit_metrics(via, headers, settings)?;
        let tasks = Handle::current().metrics().num_alive_tasks();
        admin.shared.metrics.tasks(tasks);
        let body = admin.shared.metrics.render();
        return Ok(HttpAnswer::new(StatusCode::OK, METRICS_TYPE, body));
    }
    if path == "/" {
        let disclosure = access::admit_view(via, headers, settings)?;
        return Ok(status_page(admin, &snapshot, disclosure));
    }
    let Some(path) = path.strip_prefix(API) else {
        return Ok(HttpAnswer::text(
            StatusCode::NOT_FOUND,
            "there are / (the status page), /metrics, /healthz, /readyz and /api/v1/\n",
        ));
    };
    let disclosure = access::admit_view(via, headers, settings)?;
    Ok(api::read(admin, path, request.uri.query(), disclosure))
}

fn status_page(admin: &Admin, snapshot: &Snapshot, disclosure: Disclosure) -> HttpAnswer {
    let every_one = SessionFilter::default();
    let sessions = &admin.shared.sessions;
    let transfers = view::transfers(sessions, &every_one, disclosure, page::TRANSFERS_SHOWN);
    let html = admin.of_process(snapshot, disclosure, |process| {
        page::render(&Page {
            process,
            disclosure,
            transfers: &transfers.items,
            transfers_total: transfers.total,
        })
    });
    page::HEADERS.into_iter().fold(
        HttpAnswer::new(StatusCode::OK, HTML_TYPE, html),
        |answer, (name, value)| answer.with(name, value),
    )
}

fn refused(refusal: Refusal) -> HttpAnswer {
    match refusal {
        Refusal::Unauthorised => HttpAnswer::text(
            StatusCode::UNAUTHORIZED,
            "the token of admin.token_file is missing or wrong: send it as `Authorization: Bearer TOKEN`, or as a password\n",
        )
        .with(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Basic realm=\"portcullis\", charset=\"UTF-8\""),
        ),
        Refusal::ForeignHost => HttpAnswer::text(
            StatusCode::FORBIDDEN,
            "use the address of this endpoint, or localhost: it doesn't answer to other names, which may be made to lead here\n",
        ),
        Refusal::NotShown => HttpAnswer::text(
            StatusCode::NOT_FOUND,
            "the live view is off here: admin.status in the configuration\n",
        ),
    }
}

#[cfg(test)]
mod tests;
