//! The raw client straight against the scripted backend: shows that both do and see what the tests of the proxy rely on.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use testkit::certs::Authority;
use testkit::content;
use testkit::raw::{Raw, RawTls, open_data, protect};
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

#[test]
fn a_plain_session_transfers_in_both_directions() {
    let content = content::bytes(1, 300_000);
    let backend = Backend::start_at(
        "[::1]:0".parse().expect("an address"),
        Script::new().file("old", content.clone()),
    );
    let mut raw = Raw::connect(backend.address());
    raw.expect(220);
    raw.login("alice", "secret");
    assert_eq!(raw.command("FEAT", 211).lines().count(), 6);
    raw.command("REST 100000", 350);

    let mut data = open_data(raw.epsv());
    raw.command("RETR old", 150);
    let (rest, end) = data.read_to_end();
    assert_eq!(
        (content::sha256(&rest), end),
        (content::sha256(&content[100_000..]), End::Fin)
    );
    // The backend waits for our end, too, before it says so.
    drop(data);
    raw.expect(226);

    let mut data = open_data(raw.epsv());
    raw.command("STOR new", 150);
    data.write_all(&content).expect("the backend reads");
    data.end(End::Fin).expect("the backend is there");
    raw.expect(226);
    let stored = backend.file("new").expect("it was stored");
    assert_eq!(content::sha256(&stored), content::sha256(&content));
    raw.command("QUIT", 221);
    assert_eq!(raw.end(), (Vec::new(), End::Fin));
    assert_eq!(
        backend.commands()[..3],
        ["USER alice", "PASS secret", "FEAT"]
    );
}

#[test]
fn a_tls_session_is_resumed_by_its_data_connections_unless_they_are_told_not_to() {
    for (version, explicit) in [
        (&TLS12, true),
        (&TLS13, true),
        (&TLS12, false),
        (&TLS13, false),
    ] {
        let peers = Peers::new(version);
        let start = if explicit {
            ScriptTls::Explicit
        } else {
            ScriptTls::Implicit
        };
        let backend = Backend::start(Script::new().tls(start(peers.server)));
        let mut raw = if explicit {
            Raw::connect_auth_tls(backend.address(), &peers.client)
        } else {
            let mut raw = Raw::connect_tls(backend.address(), &peers.client);
            raw.expect(220);
            raw
        };
        assert_eq!(raw.wire().version(), Some(version.version));
        assert_eq!(raw.wire().peer_certificate(), Some(peers.certificate));
        raw.login("alice", "secret");
        raw.protect_data();
        let fresh = peers.client.without_resumption();
        for (count, tls, resumed) in [(1, &peers.client, true), (2, &fresh, false)] {
            let mut data = open_data(raw.pasv());
            raw.command("STOR file", 150);
            protect(&mut data, tls).expect("a handshake");
            data.write_all(b"content").expect("the backend reads");
            assert_eq!(data.resumed(), resumed, "{version:?}");
            data.end(End::CloseNotify).expect("the backend is there");
            raw.expect(226);
            let upload = backend.wait_for_upload(count);
            assert_eq!(
                (&upload.content[..], upload.end, upload.resumed),
                (&b"content"[..], End::CloseNotify, resumed)
            );
        }
        raw.close(End::CloseNotify);
        assert_eq!(backend.wait_for_end(1), End::CloseNotify);
    }
}

#[test]
fn every_end_of_an_upload_is_told_apart() {
    // A full handshake of TLS 1.2 is over on both sides at once; otherwise a reset could come in the middle of it.
    let peers = Peers::new(&TLS12);
    let fresh = peers.client.without_resumption();
    let plain = Backend::start(Script::new());
    let tls = Backend::start(Script::new().tls(ScriptTls::Explicit(peers.server)));
    for (protected, end, code) in [
        (false, End::Fin, 226),
        (false, End::Reset, 426),
        (true, End::CloseNotify, 226),
        (true, End::Fin, 426),
        (true, End::Reset, 426),
    ] {
        let backend = if protected { &tls } else { &plain };
        let mut raw = if protected {
            let mut raw = Raw::connect_auth_tls(backend.address(), &peers.client);
            raw.protect_data();
            raw
        } else {
            let mut raw = Raw::connect(backend.address());
            raw.expect(220);
            raw
        };
        let mut data = open_data(raw.epsv());
        raw.command("STOR file", 150);
        if protected {
            protect(&mut data, &fresh).expect("a handshake");
        }
        data.end(end).expect("the backend is there");
        raw.expect(code);
        let upload = backend.wait_for_upload(backend.connections());
        assert_eq!(upload.end, end, "protected: {protected}");
    }
}

#[test]
fn a_script_ends_a_download_as_it_likes_and_waits_for_the_test() {
    let peers = Peers::new(&TLS12);
    for (protected, end) in [
        (false, End::Fin),
        (false, End::Reset),
        (true, End::CloseNotify),
        (true, End::Fin),
        (true, End::Reset),
    ] {
        let gate = Gate::new();
        let steps = [
            reply("150 half of it"),
            Step::OpenData,
            Step::Send(b"half".to_vec()),
            Step::Wait(gate.clone()),
            Step::EndData(end),
            reply("426-broken\r\n426 really"),
        ];
        let server = Arc::clone(&peers.server);
        let backend = Backend::start(
            Script::new()
                .tls(ScriptTls::Explicit(server))
                .on("RETR", steps),
        );
        let mut raw = Raw::connect_auth_tls(backend.address(), &peers.client);
        if protected {
            raw.protect_data();
        }
        let mut data = open_data(raw.epsv());
        raw.command("RETR file", 150);
        if protected {
            protect(&mut data, &peers.client).expect("a handshake");
        }
        let mut half = [0; 4];
        data.read_exact(&mut half)
            .expect("the half came before the gate opened");
        gate.open();
        assert_eq!(
            data.read_to_end(),
            (Vec::new(), end),
            "protected: {protected}"
        );
        // The backend waits for the client's end as well.
        drop(data);
        assert_eq!(raw.expect(426), "426-broken\r\n426 really");
    }
}

#[test]
fn a_script_can_inject_clear_text_after_234_and_end_the_session_at_any_command() {
    let backend = Backend::start(
        Script::new()
            .greeting([reply("220-hello\r\n220 there")])
            .on(
                "AUTH",
                [Step::Bytes(b"234 go\r\n230 injected\r\n".to_vec())],
            )
            .on("NOOP", [Step::Default, Step::End(End::Reset)]),
    );
    let mut raw = Raw::connect(backend.address());
    raw.expect(220);
    raw.send_bytes(b"AUTH TLS\r\nNOOP\r\n");
    raw.expect(234);
    assert_eq!(raw.expect(230), "230 injected");
    raw.expect(200);
    assert_eq!(raw.end(), (Vec::new(), End::Reset));
    assert_eq!(backend.wait_for_command("NOOP"), "NOOP");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_script_can_leave_a_protected_data_connection_in_clear_text() {
    let peers = Peers::new(&TLS13);
    let steps = [
        reply("150 listen"),
        Step::OpenClearData,
        Step::Receive,
        reply("226 heard"),
    ];
    let backend = Backend::start(
        Script::new()
            .tls(ScriptTls::Explicit(peers.server))
            .on("STOR", steps),
    );
    let mut raw = Raw::connect_auth_tls(backend.address(), &peers.client.alpn(&["ftp"]));
    raw.protect_data();
    let mut data = open_data(raw.pasv());
    raw.command("STOR file", 150);
    data.write_all(b"in clear text").expect("the backend reads");
    data.fin().expect("the backend is there");
    raw.expect(226);
    assert_eq!(backend.wait_for_upload(1).content, b"in clear text");
}

struct Peers {
    client: RawTls,
    server: Arc<ServerConfig>,
    certificate: Vec<u8>,
}

impl Peers {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let authority = Authority::new("authority of the backend");
        let pair = authority.issue(&["backend.test"]);
        Self {
            client: RawTls::new(&authority, "backend.test", &[version]),
            server: pair.server_config(&[version]),
            certificate: pair.der().to_vec(),
        }
    }
}
