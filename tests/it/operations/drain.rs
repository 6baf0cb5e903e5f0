//! The end of the process: SIGTERM and SIGINT let transfers finish, and what they don't let finish is cut for all to see.

use std::io::Write;
use std::net::TcpStream;

use rustls::version::TLS13;
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;

/// The drain's last word.
const OVER: &str = "drain timeout reached, terminating the remaining sessions";

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
