//! The admin endpoint as its clients see it.

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::server::{DEADLINES, Deadlines, serve_within};
use super::*;
use crate::app::names;
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings};
use crate::net::bounded_server::MAX_CONNECTIONS;
use crate::net::listen::Acceptor;
use crate::net::unix;
use crate::observe::metrics::Metrics;
use crate::observe::reloads::{Refusal, ReloadLog};
use crate::outcome::ReloadSubject;
use crate::passive::PassiveListeners;
use crate::policy::{CredentialFiles, UserFiles};
use crate::snapshot::Runtime;
use crate::tls::{CertificateSet, ClientTrust, SessionStore};

/// Short enough for a test, long enough for a busy machine to answer within them.
const SHORT: Deadlines = Deadlines {
    head: Duration::from_millis(300),
    connection: Duration::from_secs(10),
};

/// No test waits longer for anything.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

struct Endpoint {
    address: SocketAddr,
    admin: Arc<Admin>,
    readiness: watch::Sender<Readiness>,
    commands: mpsc::Receiver<Command>,
    /// With the certificate, the token and the socket.
    directory: TempDir,
}

impl Endpoint {
    async fn start(deadlines: Deadlines) -> Self {
        Self::configured(deadlines, "").await
    }

    /// With these lines under `admin`.
    async fn configured(deadlines: Deadlines, lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let own = rcgen::generate_simple_self_signed(["ftp.example.com".to_owned()]);
        let rcgen::CertifiedKey { cert, signing_key } = own.expect("a certificate");
        let write = |name: &str, content: &str| {
            std::fs::write(directory.path().join(name), content).expect("written");
        };
        write("tls.crt", &cert.pem());
        write("tls.key", &signing_key.serialize_pem());
        write("admin.token", "s3cret\n");
        write("portcullis.yaml", &format!("{CONFIG}{lines}"));
        let settings = config::load(&directory.path().join("portcullis.yaml"));
        let snapshot = snapshot(settings.expect("a configuration")).await;

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (readiness, receiver) = watch::channel(Readiness::Starting);
        let (command_sender, commands) = mpsc::channel(1);
        let metrics = Arc::new(Metrics::new());
        let admin = Arc::new(Admin {
            shared: Arc::new(Shared::new(Arc::clone(&metrics))),
            readiness: receiver,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            reloads: Arc::new(ReloadLog::new(metrics)),
            acme: Arc::default(),
            commands: command_sender,
            log: LogFilter::none(),
            config: "portcullis.yaml".into(),
            started: Started::now(),
        });
        let acceptor = Acceptor::new(listener);
        tokio::spawn(serve_within(deadlines, acceptor, Arc::clone(&admin)));
        Self {
            address,
            admin,
            readiness,
            commands,
            directory,
        }
    }

    /// The answer to a request over the Unix socket.
    async fn over_socket(&self, request: &str) -> String {
        let path = self.directory.path().join("admin.sock");
        let (listener, _name) = unix::bind(&path).expect("a socket");
        let (_stop, stopped) = oneshot::channel();
        tokio::spawn(serve_socket(listener, Arc::clone(&self.admin), stopped));
        let mut stream = UnixStream::connect(&path).await.expect("accepted");
        let sent = format!("{request} HTTP/1.1\r\nHost: portcullis\r\n\r\n");
        stream.write_all(sent.as_bytes()).await.expect("sent");
        everything_from(&mut stream).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("accepted")
    }

    /// The answer to `request`, to the end of the connection.
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

const CONFIG: &str = "\
listeners: [{address: 127.0.0.1:0, tls: explicit}]
tls: {certificate: tls.crt, private_key: tls.key}
passive: {ports: 0}
sites:
  - name: ftpa
    default: true
    backends: [{address: 192.0.2.1}, {address: 192.0.2.2, drain: true}]
admin:
  address: 127.0.0.1:0
";

async fn snapshot(settings: Settings) -> Snapshot {
    let certificates = CertificateSet::load(&settings.tls, SystemTime::now());
    let pools = Pools::load(&settings.sites, &Registry::default()).expect("pools");
    let metrics = Arc::new(Metrics::new());
    let mut passive = PassiveListeners::new(Arc::new(SessionStore::new()), metrics);
    let local = settings.listeners.iter().map(|it| it.address.ip());
    let ports = passive.open(local, &settings.passive.ports).await;
    let announcements = names::announcements(&settings.passive).await;
    let runtime = Runtime::new(
        settings,
        pools,
        ports.expect("a port"),
        announcements.expect("no names"),
        UserFiles::default(),
        CredentialFiles::default(),
    );
    Snapshot::new(
        Arc::new(runtime),
        Arc::new(certificates.expect("valid")),
        Arc::new(ClientTrust::none()),
    )
}

async fn everything_from(stream: &mut (impl AsyncRead + Unpin)) -> String {
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
async fn another_path_is_told_those_that_exist() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for path in ["/metrics/", "/debug/pprof", "/../etc/passwd"] {
        let answer = endpoint.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        for known in ["/metrics", "/healthz", "/readyz", "/api/v1/", "/ "] {
            assert!(answer.contains(known), "{answer}");
        }
    }
}

#[tokio::test]
async fn the_status_page_is_guarded_like_the_live_view() {
    for (lines, host, status) in [
        ("", "localhost", "200"),
        ("", "elsewhere.example.com", "403"),
        ("  status: \"off\"\n", "localhost", "404"),
        ("  token_file: admin.token\n", "localhost", "401"),
    ] {
        let endpoint = Endpoint::configured(DEADLINES, lines).await;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = endpoint.answer_to(&request).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{lines}{host}: {answer}");
        let is_page = answer.contains("<title>");
        assert_eq!(is_page, status == "200", "{lines}{host}: {answer}");
    }
}

#[tokio::test]
async fn the_status_page_may_load_nothing_and_is_kept_nowhere() {
    let endpoint = Endpoint::start(DEADLINES).await;
    let answer = endpoint.get("/").await;
    for header in [
        "content-type: text/html; charset=utf-8\r\n",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "x-frame-options: DENY\r\n",
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
        "cache-control: no-store\r\n",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
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

#[tokio::test]
async fn a_client_that_ends_its_side_behind_the_request_gets_its_answer() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for path in ["/healthz", "/metrics"] {
        let mut stream = endpoint.connect().await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: portcullis\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream.shutdown().await.expect("sent");
        let answer = everything_from(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_live_view_is_json() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for name in [
        "sessions",
        "transfers",
        "sites",
        "backends",
        "certificates",
        "guard",
        "config",
    ] {
        let answer = endpoint.get(&format!("/api/v1/{name}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("content-type: application/json"),
            "{answer}"
        );
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["version"], 1, "{name}");
        assert!(!body[name].is_null(), "{name}");
    }
    let sites = endpoint.get("/api/v1/sites").await;
    assert!(sites.contains("\"site\":\"ftpa\""), "{sites}");
}

#[tokio::test]
async fn a_parameter_that_is_not_known_is_an_error_and_not_left_out() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for wrong in [
        "sessions?sit=a",
        "sessions?client=x",
        "sites?limit=many",
        "nothing",
    ] {
        let answer = endpoint.get(&format!("/api/v1/{wrong}")).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
        assert!(answer.contains("\"error\":"), "{answer}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_reads_nothing_but_metrics_and_probes() {
    let endpoint = Endpoint::start(DEADLINES).await;
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        endpoint.answer_to(&request).await
    };
    let answer = ask("/api/v1/sessions").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(
        !answer.to_ascii_lowercase().contains("access-control"),
        "{answer}"
    );
    assert!(ask("/metrics").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn where_there_is_a_token_only_probes_do_without() {
    let endpoint = Endpoint::configured(DEADLINES, "  token_file: admin.token\n").await;
    for path in ["/metrics", "/api/v1/sessions"] {
        let answer = endpoint.get(path).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("www-authenticate: Basic"), "{answer}");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s3cret\r\n\r\n"
        );
        let answer = endpoint.answer_to(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(endpoint.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    let answer = endpoint.over_socket("GET /api/v1/sessions").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn what_is_off_over_tcp_is_there_on_the_socket() {
    let endpoint = Endpoint::configured(DEADLINES, "  status: off\n").await;
    let answer = endpoint.get("/api/v1/sessions").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let answer = endpoint.over_socket("GET /api/v1/sessions").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn actions_are_taken_over_the_socket_alone_and_never_on_get() {
    let endpoint = Endpoint::start(DEADLINES).await;
    let drain = "/api/v1/backends/drain?site=ftpa&backend=192.0.2.1:21";
    let states = async || endpoint.get("/api/v1/backends").await;
    let over_tcp = format!("POST {drain} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = endpoint.answer_to(&over_tcp).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let answer = endpoint.over_socket(&format!("GET {drain}")).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(!states().await.contains("operator"));

    let answer = endpoint.over_socket(&format!("POST {drain}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("no other backend"), "{answer}");
    assert!(states().await.contains("\"drained_by\":\"operator\""));
    let ready = drain.replace("drain", "ready");
    let answer = endpoint.over_socket(&format!("POST {ready}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!states().await.contains("operator"));
}

#[tokio::test]
async fn a_list_for_a_site_or_a_backend_that_there_is_not_is_an_error_and_not_empty() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for (list, status) in [
        ("sessions?site=ftpa", 200),
        ("sessions?site=ftpx", 400),
        ("sessions?backend=192.0.2.9", 200),
        ("sessions?backend=192.0.2.9:21", 200),
        ("sessions?backend=ftp.example.com", 400),
        ("transfers?site=ftpx", 400),
        ("backends?site=ftpa", 200),
        ("backends?site=ftpx", 400),
    ] {
        let answer = endpoint.over_socket(&format!("GET /api/v1/{list}")).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{list}: {answer}");
    }
}

#[tokio::test]
async fn an_action_on_what_there_is_not_says_so() {
    let endpoint = Endpoint::start(DEADLINES).await;
    for (action, status, says) in [
        ("sessions/end?id=7", 404, "no session 7"),
        ("sessions/end", 400, "name an id"),
        ("sessions/end?site=ftpa", 400, "name an id"),
        ("sessions/end?user=bob", 404, "no such session"),
        ("backends/drain?site=ftpx&backend=a", 404, "no site"),
        ("backends/drain?site=ftpa&backend=a", 404, "no backend"),
        (
            "backends/ready?site=ftpa&backend=192.0.2.2",
            404,
            "by the configuration",
        ),
        (
            "sites/maintenance?site=ftpa&state=maybe",
            400,
            "neither on nor off",
        ),
        ("guard/forget?client=192.0.2.9", 404, "no failed logins"),
        ("guard/forget?client=bob", 400, "an IP address"),
        ("shutdown", 404, "there are sessions/end"),
    ] {
        let answer = endpoint
            .over_socket(&format!("POST /api/v1/{action}"))
            .await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{action}: {answer}");
        assert!(answer.contains(says), "{action}: {answer}");
    }
}

#[tokio::test]
async fn the_answer_to_a_reload_is_what_has_become_of_it() {
    let mut endpoint = Endpoint::start(DEADLINES).await;
    for (result, status, says) in [
        (Ok(()), "200", "in force"),
        (Err("line 7 is wrong".to_owned()), "409", "line 7 is wrong"),
    ] {
        let path = endpoint.directory.path().join("reload.sock");
        let (listener, _name) = unix::bind(&path).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(serve_socket(listener, Arc::clone(&endpoint.admin), stopped));
        let mut stream = UnixStream::connect(&path).await.expect("accepted");
        let request = b"POST /api/v1/reload HTTP/1.1\r\nHost: portcullis\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let Some(Command::Reload(answer)) = endpoint.commands.recv().await else {
            panic!("no reload");
        };
        // It may be what closes the socket.
        drop(stop);
        answer.send(result).expect("it is waited for");
        let answer = everything_from(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains(says), "{answer}");
    }
}

#[tokio::test]
async fn where_names_are_not_shown_a_refusal_repeats_nothing_of_the_file() {
    let endpoint = Endpoint::start(DEADLINES).await;
    let refusal = Refusal {
        text: "p.yaml:3:1: `alice` is a user twice".to_owned(),
        summary: "p.yaml:3:1: an error".to_owned(),
    };
    let reloads = &endpoint.admin.reloads;
    reloads.record(ReloadSubject::Configuration, None, Some(refusal));
    for path in ["/api/v1/config", "/"] {
        let answer = endpoint.get(path).await;
        assert!(answer.contains("p.yaml:3:1"), "{answer}");
        assert!(!answer.contains("alice"), "{answer}");
    }
    let answer = endpoint.over_socket("GET /api/v1/config").await;
    assert!(answer.contains("alice"), "{answer}");
}
