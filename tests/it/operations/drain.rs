//! The end of the process: SIGTERM and SIGINT let transfers finish, and what they don't let finish is cut for all to see.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::Stdio;

use rustls::version::TLS13;
use testkit::DEADLINE;
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::{self, Start};

/// The drain's last word.
const OVER: &str = "drain timeout reached, terminating the remaining sessions";

/// Sessions on their way to the site's backend.
const AT_SITE: &str = "portcullis_site_sessions{site=\"site\"}";

/// Logins that wait for a backend to have room.
const QUEUED: &str = "portcullis_backend_queue{site=\"site\"}";

fn proxy_with(front: &Front, backend: &Backend, drain: &str) -> Proxy {
    let site = Site::default("site", backend.address());
    Proxy::start(front.config().timeout("drain", drain).site(&site))
}

#[test]
fn running_transfers_finish_while_idle_sessions_and_new_clients_are_sent_away() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let front = Front::new(&[]);
        let content = content::bytes(1, 600_000);
        let (first, second) = content.split_at(200_000);
        let gate = Gate::new();
        let slow = [
            reply("150 here it comes"),
            Step::OpenData,
            Step::Send(first.to_vec()),
            Step::Wait(gate.clone()),
            Step::Send(second.to_vec()),
            Step::EndData(End::Fin),
            reply("226 done"),
        ];
        let backend = Backend::start(Script::new().on("RETR", slow));
        let mut proxy = proxy_with(&front, &backend, "5m");
        let mut idle = front.session(&proxy, "idle");
        let mut early = Raw::connect(proxy.explicit());
        early.expect(220);
        let mut downloading = front.session(&proxy, "downloading");
        let download = downloading.begin("RETR file");
        let mut uploading = front.session(&proxy, "uploading");
        let mut upload = uploading.begin("STOR stored");
        upload.write_all(first).expect("the proxy reads");

        proxy.signal(signal);
        for waiting in [&mut idle.control, &mut early] {
            let text = waiting.expect(421);
            assert!(text.contains("shutting down"), "{text}");
        }
        for address in [proxy.explicit(), proxy.implicit()] {
            assert!(TcpStream::connect(address).is_err(), "{address} accepts");
        }
        let (status, body) = proxy.get("/readyz");
        assert_eq!((status, body.trim()), (503, "draining"));
        assert_eq!(proxy.get("/healthz").0, 200);
        proxy.wait_for_metric("portcullis_sessions", |sessions| sessions <= 2.0);

        gate.open();
        let received = downloading.finish_download(download);
        assert_eq!(content::sha256(&received), content::sha256(&content));
        downloading.control.expect(421);
        upload.write_all(second).expect("the proxy reads");
        uploading.finish_upload(upload);
        uploading.control.expect(421);
        assert_eq!(backend.file("stored"), Some(content));
        drop((idle, early, downloading, uploading));
        assert_eq!(proxy.wait_exit(), Some(0));
        let lines = proxy.log_lines();
        assert!(lines.iter().all(|line| line.message() != OVER));
        assert_eq!(
            lines.last().map(|line| line.message()).as_deref(),
            Some("stopped")
        );
    }
}

#[test]
fn beyond_the_deadline_an_upload_is_reset_and_never_looks_whole_to_the_backend() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mut proxy = proxy_with(&front, &backend, "300ms");
    let mut session = front.session(&proxy, "alice");
    let mut upload = session.begin("STOR stored");
    upload
        .write_all(b"the first half")
        .expect("the proxy reads");
    proxy.signal(Signal::Terminate);
    let line = proxy.wait_for_log(|line| line.message() == OVER);
    assert_eq!(line.field("sessions").as_deref(), Some("1"));
    assert_eq!(backend.wait_for_upload(1).end, End::Reset);
    assert_eq!(upload.read_to_end().1, End::Reset);
    session.control.expect(421);
    drop(session);
    assert_eq!(proxy.wait_exit(), Some(0));
    let transfer = proxy.wait_for_log(|line| line.field("command").as_deref() == Some("STOR"));
    assert_eq!(transfer.message(), "transfer not complete");
}

#[test]
fn beyond_the_deadline_a_download_is_reset_and_never_looks_whole_to_the_client() {
    let front = Front::new(&[]);
    let gate = Gate::new();
    let stuck = [
        reply("150 here it comes"),
        Step::OpenData,
        Step::Send(b"the first half".to_vec()),
        Step::Wait(gate.clone()),
    ];
    let backend = Backend::start(Script::new().on("RETR", stuck));
    let mut proxy = proxy_with(&front, &backend, "300ms");
    let mut session = front.session(&proxy, "alice");
    let mut download = session.begin("RETR file");
    proxy.signal(Signal::Terminate);
    let (received, end) = download.read_to_end();
    assert_eq!(end, End::Reset);
    assert!(b"the first half".starts_with(&received[..]));
    session.control.expect(421);
    drop(session);
    gate.open();
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_second_signal_hastens_the_end() {
    for second in [Signal::Terminate, Signal::Interrupt] {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new());
        // Five minutes: longer than a test waits for anything.
        let mut proxy = proxy_with(&front, &backend, "5m");
        let mut session = front.session(&proxy, "alice");
        let mut upload = session.begin("STOR stored");
        upload
            .write_all(b"the first half")
            .expect("the proxy reads");
        proxy.signal(Signal::Terminate);
        proxy.wait_for_log(|line| line.message() == "draining");
        proxy.signal(second);
        assert_eq!(backend.wait_for_upload(1).end, End::Reset);
        assert_eq!(proxy.wait_exit(), Some(0));
    }
}

#[test]
fn without_sessions_the_process_ends_at_once() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new());
        let mut proxy = proxy_with(&front, &backend, "5m");
        proxy.signal(signal);
        assert_eq!(proxy.wait_exit(), Some(0));
        let lines = proxy.log_lines();
        assert!(lines.iter().all(|line| line.message() != OVER));
    }
}

#[test]
fn clients_that_do_not_hang_up_cannot_hold_the_end_off() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mut proxy = proxy_with(&front, &backend, "5m");
    let _silent = Raw::connect(proxy.explicit());
    let _in_handshake = Raw::connect(proxy.implicit());
    let _logged_in = front.session(&proxy, "alice");
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 3.0);
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_session_that_waits_for_its_backend_is_sent_away_when_the_drain_is_over() {
    let front = Front::new(&[]);
    let gate = Gate::new();
    let backend = Backend::start(Script::new().on("PWD", [Step::Wait(gate.clone())]));
    let mut proxy = proxy_with(&front, &backend, "300ms");
    let mut session = front.session(&proxy, "alice");
    session.control.send("PWD");
    backend.wait_for_command("PWD");
    proxy.signal(Signal::Terminate);
    session.control.expect(421);
    drop(session);
    assert_eq!(proxy.wait_exit(), Some(0));
    gate.open();
}

#[test]
fn a_signal_during_a_handshake_reaches_the_session_after_it() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mut proxy = proxy_with(&front, &backend, "5m");
    let mut late = Raw::connect(proxy.implicit());
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 1.0);
    proxy.signal(Signal::Terminate);
    proxy.wait_for_log(|line| line.message() == "draining");
    late.handshake(&front.tls_of(&TLS13)).expect("a handshake");
    late.expect(220);
    late.expect(421);
    drop(late);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_client_that_reads_no_reply_is_cut_when_the_drain_is_over() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mut proxy = proxy_with(&front, &backend, "100ms");
    let client = Wire::connect_narrow(proxy.explicit());
    client.flood(&b"FEAT\r\n".repeat(10_000));
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    let lines = proxy.log_lines();
    let ended = lines.iter().find(|line| line.message() == "session ended");
    let ending = ended.and_then(|line| line.field("ending"));
    assert_eq!(ending.as_deref(), Some("drain"));
}

#[test]
fn no_login_under_way_holds_the_end_off() {
    for silent in ["greeting", "USER", "PASS"] {
        let front = Front::new(&[]);
        let gate = Gate::new();
        let waits = [Step::Wait(gate.clone())];
        let script = match silent {
            "greeting" => Script::new().greeting(waits),
            command => Script::new().on(command, waits),
        };
        let backend = Backend::start(script);
        let site = Site::default("site", backend.address());
        let config = front.config().tls("required", "false").site(&site);
        let config = ["drain", "login", "backend_reply"]
            .into_iter()
            .fold(config, |config, key| config.timeout(key, "5m"));
        let mut proxy = Proxy::start(config);
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client.send("USER alice");
        match silent {
            "greeting" => {
                proxy.wait_for_metric(AT_SITE, |sessions| sessions == 1.0);
            }
            "USER" => {
                backend.wait_for_command("USER");
            }
            _ => {
                client.expect(331);
                client.send("PASS secret");
                backend.wait_for_command("PASS");
            }
        }
        proxy.signal(Signal::Terminate);
        let text = client.expect(421);
        assert!(text.contains("shutting down"), "{silent}: {text}");
        drop(client);
        assert_eq!(proxy.wait_exit(), Some(0), "{silent}");
        gate.open();
    }
}

#[test]
fn a_login_that_waits_for_a_full_backend_hears_of_the_end_at_once() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("site", backend.address()).backend("max_sessions", "1");
    let config = front.config().timeout("drain", "5m").timeout("login", "5m");
    let mut proxy = Proxy::start(config.site(&site.set("queue", "5m")));
    let mut uploading = front.session(&proxy, "uploading");
    let upload = uploading.begin("STOR stored");
    let mut waiting = front.explicit(&proxy);
    waiting.send("USER waiting");
    proxy.wait_for_metric(QUEUED, |waiting| waiting == 1.0);
    proxy.signal(Signal::Terminate);
    waiting.expect(421);
    drop(waiting);
    uploading.finish_upload(upload);
    uploading.control.expect(421);
    drop(uploading);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_client_that_says_nothing_in_its_handshake_cannot_hold_the_end_off() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("site", backend.address());
    let config = ["drain", "login", "tls_handshake"]
        .into_iter()
        .fold(front.config(), |config, key| config.timeout(key, "5m"));
    let mut proxy = Proxy::start(config.site(&site));
    let _implicit = Raw::connect(proxy.implicit());
    let mut explicit = Raw::connect(proxy.explicit());
    explicit.expect(220);
    explicit.command("AUTH TLS", 234);
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 2.0);
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_client_that_reads_no_reply_cannot_hold_the_end_off() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mut proxy = proxy_with(&front, &backend, "5m");
    let client = Wire::connect_narrow(proxy.explicit());
    client.flood(&b"FEAT\r\n".repeat(10_000));
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_process_that_is_to_end_during_its_start_waits_for_no_name_server() {
    let front = Front::new(&[]);
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    silent
        .set_read_timeout(Some(DEADLINE))
        .expect("it isn't zero");
    let asked = silent.local_addr().expect("it is bound");
    let config = front
        .config()
        .site(&Site::service("only", "_ftp._tcp.names.test"));
    let config = config.set("dns", &format!("{{servers: [\"{asked}\"]}}"));
    let file = front.directory().join("portcullis.yaml");
    std::fs::write(&file, config.to_yaml()).expect("it is writable");
    let started = program::command()
        .args(["run", "--config"])
        .arg(&file)
        .stderr(Stdio::piped())
        .spawn()
        .expect("cargo built it");
    silent.recv_from(&mut [0; 512]).expect("a query");
    send_signal("TERM", &started.id().to_string());
    let ended = started.wait_with_output().expect("it is ours");
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{log}");
    assert!(!log.contains("listening"), "{log}");
    assert!(log.trim_end().ends_with("stopped"), "{log}");
}

/// A client that has its 226 for this file, and nothing of that read; it is logged in.
fn download_unread(proxy: &Proxy) -> (Raw, Wire) {
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.login("alice", "secret");
    let data = Wire::connect_narrow(client.pasv());
    client.command("RETR file", 150);
    client.expect(226);
    (client, data)
}

fn proxy_of_file(front: &Front, content: &[u8], drain: &str) -> (Backend, Proxy) {
    let backend = Backend::start(Script::new().file("file", content));
    let site = Site::default("site", backend.address());
    let config = front.config().tls("required", "false");
    let proxy = Proxy::start(config.timeout("drain", drain).site(&site));
    (backend, proxy)
}

#[test]
fn what_a_226_has_promised_is_delivered_before_the_process_ends() {
    let front = Front::new(&[]);
    let content = content::bytes(1, 200_000);
    let (_backend, mut proxy) = proxy_of_file(&front, &content, "5m");
    let (mut client, mut data) = download_unread(&proxy);
    proxy.signal(Signal::Terminate);
    client.expect(421);
    drop(client);
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 0.0);
    assert_eq!(proxy.get("/readyz").0, 503);
    let (received, end) = data.read_to_end();
    assert_eq!(content::sha256(&received), content::sha256(&content));
    assert_eq!(end, End::Fin);
    drop(data);
    assert_eq!(proxy.wait_exit(), Some(0));
    let lines = proxy.log_lines();
    assert!(lines.iter().all(|line| line.message() != OVER));
}

#[test]
fn a_client_that_has_its_file_and_does_not_hang_up_cannot_hold_the_end_off() {
    let front = Front::new(&[]);
    let content = content::bytes(1, 200_000);
    let (_backend, mut proxy) = proxy_of_file(&front, &content, "5m");
    let (mut client, mut data) = download_unread(&proxy);
    proxy.signal(Signal::Terminate);
    client.expect(421);
    drop(client);
    let mut received = vec![0; content.len()];
    data.read_exact(&mut received).expect("all of it comes");
    assert_eq!(proxy.wait_exit(), Some(0));
}

#[test]
fn a_client_that_never_reads_its_file_holds_the_end_off_no_longer_than_the_drain_lasts() {
    let front = Front::new(&[]);
    let (_backend, mut proxy) = proxy_of_file(&front, &content::bytes(1, 200_000), "1s");
    let (mut client, _data) = download_unread(&proxy);
    proxy.signal(Signal::Terminate);
    client.expect(421);
    drop(client);
    let over = proxy.wait_for_log(|line| line.message() == OVER);
    assert_eq!(over.field("sessions").as_deref(), Some("0"));
    assert_eq!(over.field("undelivered").as_deref(), Some("1"));
    assert_eq!(proxy.wait_exit(), Some(0));
}
