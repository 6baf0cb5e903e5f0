//! What the metrics say of the process, its sessions and their transfers.

use std::time::{SystemTime, UNIX_EPOCH};

use testkit::content;
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::script::Script;
use testkit::wire::End;

use crate::stage::Stage;

/// Large enough to have a rate.
const SIZE: usize = 2 << 20;

fn stage() -> Stage {
    Stage::new(Script::new().file("file", content::bytes(1, SIZE)))
}

/// Downloads the file; in clear text without `tls`.
fn download(control: &mut Raw, tls: Option<&RawTls>) {
    let mut data = open_data(control.epsv());
    control.command("RETR file", 150);
    let expected = match tls {
        Some(tls) => {
            protect(&mut data, tls).expect("a handshake");
            End::CloseNotify
        }
        None => End::Fin,
    };
    let (received, end) = data.read_to_end();
    assert_eq!((received.len(), end), (SIZE, expected));
    control.expect(226);
}

#[test]
fn sessions_are_counted_by_how_their_clients_resume_and_protect_their_data() {
    let stage = stage();
    let (mut always, mut never, mut sometimes) =
        (stage.session(), stage.session(), stage.session());
    let mut unprotected = stage.session();
    let logins_only = stage.session();
    for client in [&mut always, &mut sometimes] {
        download(&mut client.control, Some(&client.tls));
    }
    for client in [&mut never, &mut sometimes] {
        download(&mut client.control, Some(&client.tls.without_resumption()));
    }
    unprotected.control.command("PROT C", 200);
    download(&mut unprotected.control, None);
    for mut client in [always, never, sometimes, unprotected, logins_only] {
        client.control.command("QUIT", 221);
    }
    stage
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 0.0);

    let metrics = stage.proxy.metrics();
    let all = r#"direction="download",site="only""#;
    for (name, expected) in [
        (
            r#"portcullis_sessions_by_resumption_total{resumed="always",site="only"}"#,
            1.0,
        ),
        (
            r#"portcullis_sessions_by_resumption_total{resumed="sometimes",site="only"}"#,
            1.0,
        ),
        (
            r#"portcullis_sessions_by_resumption_total{resumed="never",site="only"}"#,
            1.0,
        ),
        (r#"portcullis_clear_transfers_total{site="only"}"#, 1.0),
        (r#"portcullis_login_seconds_count{site="only"}"#, 5.0),
        (&format!("portcullis_transfer_seconds_count{{{all}}}"), 5.0),
        (
            &format!("portcullis_transfer_bytes_per_second_count{{{all}}}"),
            5.0,
        ),
        (
            r#"portcullis_tls_handshakes_total{result="ok",version="1.3"}"#,
            5.0,
        ),
    ] {
        assert_eq!(metrics.get(name), Some(&expected), "{name}");
    }
    let by_group = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("portcullis_tls_key_exchanges_total{"));
    assert_eq!(by_group.map(|(_, count)| count).sum::<f64>(), 5.0);
}

#[test]
fn a_login_again_and_a_transfer_cut_short_are_in_no_histogram() {
    let stage = stage();
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR nothing", 550);
    data.read_to_end();
    client.control.command("REIN", 220);
    client.control.login("alice", "secret");
    client.control.command("QUIT", 221);
    stage
        .proxy
        .wait_for_metric("portcullis_sessions", |open| open == 0.0);
    let metrics = stage.proxy.metrics();
    for (name, expected) in [
        (r#"portcullis_login_seconds_count{site="only"}"#, 1.0),
        (
            r#"portcullis_logins_total{result="accepted",site="only"}"#,
            2.0,
        ),
        (
            r#"portcullis_transfer_seconds_count{direction="download",site="only"}"#,
            0.0,
        ),
        (
            r#"portcullis_transfers_total{direction="download",site="only",verdict="refused"}"#,
            1.0,
        ),
    ] {
        assert_eq!(metrics.get(name), Some(&expected), "{name}");
    }
}

#[test]
fn the_process_shows_what_it_uses() {
    let before = SystemTime::now();
    let stage = stage();
    let metrics = stage.proxy.metrics();
    let value = |name: &str| *metrics.get(name).unwrap_or_else(|| panic!("no {name}"));
    // Its standard streams, its runtime's, and what it listens at.
    assert!(value("process_open_fds") > 5.0);
    assert!(value("process_open_fds") < value("process_max_fds"));
    assert!(value("process_threads") >= 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    let used = value("process_cpu_seconds_total");
    assert!(used > 0.0 && used < 60.0, "{used}");
    let unix_time = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).expect("it is after 1970");
        since.as_secs() as f64
    };
    let started = value("process_start_time_seconds");
    assert!((unix_time(before)..=unix_time(SystemTime::now())).contains(&started));
}
