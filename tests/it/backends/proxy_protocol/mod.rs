//! Backends that expect a PROXY header, which names the client, on the connections that Portcullis opens: byte by
//! byte, as a scripted backend sees it. `receivers` has programs that act on them.

mod receivers;

use std::net::SocketAddr;

use rustls::version::TLS12;
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy};
use testkit::proxy_header::{extension, v1, v2_of, v2_with};
use testkit::raw::Raw;
use testkit::script::{Headers, Script, ScriptTls, Step};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

/// Types of extensions.
const AUTHORITY: u8 = 0x02;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;

/// A client with TLS 1.3, as SSL tells it: flags, `verify`, version and cipher.
fn tls_1_3() -> Vec<u8> {
    let parts = [
        b"\x01\x00\x00\x00\x01".to_vec(),
        extension(0x21, b"TLSv1.3"),
        extension(0x23, b"TLS_AES_128_GCM_SHA256"),
    ];
    parts.concat()
}

/// The kinds of connections that there are to backends.
fn every_kind() -> [(&'static str, ScriptTls); 3] {
    [
        ("none", ScriptTls::None),
        ("explicit", ScriptTls::explicit(&TLS12)),
        ("implicit", ScriptTls::implicit(&TLS12)),
    ]
}

/// The site `ftpb.test` with this backend, reached in this way and sent such headers.
fn site(backend: &Backend, tls: &str, proxy_protocol: &str) -> Site {
    let site = Site::hosts("ftpb", &["ftpb.test"], backend.address()).backend("tls", tls);
    let site = match tls {
        "none" => site,
        _ => site.backend("verify", "none"),
    };
    site.backend("proxy_protocol", proxy_protocol)
}

/// Where a client's control connection comes from.
fn address(control: &Raw) -> SocketAddr {
    let socket = control.wire().socket();
    socket.local_addr().expect("it is connected")
}

/// The id of the session in the log.
fn id(proxy: &Proxy) -> String {
    let line = proxy.wait_for_log(|line| line.message() == "logged in");
    line.field("id").expect("the session's id")
}

#[test]
fn every_connection_to_a_backend_begins_with_a_header_that_names_the_client() {
    let front = Front::new(&[]);
    let content = content::bytes(1, 100_000);
    for version in [1, 2] {
        for (kind, tls) in every_kind() {
            let script = Script::new().file("old", content.clone()).tls(tls);
            let backend = Backend::start(script.headers(Headers::All));
            let sent = format!("{{version: {version}, data: true}}");
            let config = front.config().site(&site(&backend, kind, &sent));
            let proxy = Proxy::start(config);
            let mut client = front.session(&proxy, "ftpb.test|alice");
            assert!(client.download("old") == content);
            client.upload("new", &content);
            assert!(backend.file("new").as_ref() == Some(&content));

            let (from, to) = (address(&client.control), proxy.explicit());
            let id = id(&proxy);
            let host = (AUTHORITY, &b"ftpb.test"[..]);
            let control = match version {
                1 => v1(from, to),
                _ => v2_with(
                    from,
                    to,
                    &[host, (UNIQUE_ID, id.as_bytes()), (SSL, &tls_1_3())],
                ),
            };
            assert_eq!(backend.headers(), [control], "version {version}, {kind}");
            let data = backend.data_headers();
            assert_eq!(data.len(), 2);
            for (port, header) in data {
                let to = SocketAddr::new(to.ip(), port);
                let expected = match version {
                    1 => v1(from, to),
                    _ => v2_with(from, to, &[host, (UNIQUE_ID, id.as_bytes())]),
                };
                assert_eq!(header, expected, "version {version}, {kind}");
            }
        }
    }
}

#[test]
fn data_connections_have_none_unless_they_are_to_have_one() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().headers(Headers::Control));
    let config = front
        .config()
        .site(&site(&backend, "none", "{version: 2}"))
        .tls("required", "false");
    let proxy = Proxy::start(config);
    let mut client = front.session(&proxy, "ftpb.test|alice");
    client.upload("new", b"content");
    assert_eq!(backend.file("new").as_deref(), Some(&b"content"[..]));
    assert_eq!(backend.headers().len(), 1);
}

#[test]
fn a_data_connection_that_the_backend_opens_has_none() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().headers(Headers::All));
    let site = site(&backend, "none", "{version: 2, data: true}").set("passive_mode", "active");
    let proxy = Proxy::start(front.config().site(&site));
    let mut client = front.session(&proxy, "ftpb.test|alice");
    client.upload("new", b"content");
    assert_eq!(backend.file("new").as_deref(), Some(&b"content"[..]));
}

#[test]
fn a_client_without_tls_and_without_a_host_is_told_as_such() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().headers(Headers::Control));
    let site = Site::default("only", backend.address()).backend("proxy_protocol", "{version: 2}");
    let proxy = Proxy::start(front.config().site(&site).tls("required", "false"));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.login("alice", "secret");
    let id = id(&proxy);
    let expected = v2_with(
        address(&client),
        proxy.explicit(),
        &[(UNIQUE_ID, id.as_bytes())],
    );
    assert_eq!(backend.headers(), [expected]);
}

#[test]
fn a_server_name_that_leads_to_the_site_is_told_too() {
    let front = Front::new(&["ftpb.test"]);
    let backend = Backend::start(Script::new().headers(Headers::Control));
    let proxy = Proxy::start(front.config().site(&site(&backend, "none", "{version: 2}")));
    let mut client = front.implicit_as(&proxy, "ftpb.test");
    client.login("alice", "secret");
    let id = id(&proxy);
    let expected = v2_with(
        address(&client),
        proxy.implicit(),
        &[
            (AUTHORITY, b"ftpb.test"),
            (UNIQUE_ID, id.as_bytes()),
            (SSL, &tls_1_3()),
        ],
    );
    assert_eq!(backend.headers(), [expected]);
}

#[test]
fn what_a_balancer_says_of_the_client_is_passed_on() {
    let front = Front::new(&[]);
    for (client, balancer) in [
        ("192.0.2.7:40000", "198.51.100.1:21"),
        ("[2001:db8::7]:40000", "[2001:db8::1]:21"),
    ] {
        let backend = Backend::start(Script::new().headers(Headers::Control));
        let config = front
            .config()
            .proxy_protocol("127.0.0.0/8")
            .tls("required", "false")
            .site(&site(&backend, "none", "{version: 1}"));
        let proxy = Proxy::start(config);
        let end = |text: &str| text.parse().expect("an address");
        let header = v1(end(client), end(balancer));
        let mut control = Raw::connect(proxy.explicit());
        control.send_bytes(&header);
        control.expect(220);
        control.login("ftpb.test|alice", "secret");
        assert_eq!(backend.headers(), [header]);
    }
}

#[test]
fn the_id_is_in_all_lines_of_the_session_and_in_no_line_where_no_header_is_sent() {
    let front = Front::new(&[]);
    let told = Backend::start(Script::new().headers(Headers::Control));
    let plain = Backend::start(Script::new());
    let config = front
        .config()
        .site(&site(&told, "none", "{version: 2}"))
        .site(&Site::default("only", plain.address()));
    let proxy = Proxy::start(config);
    for user in ["ftpb.test|alice", "alice"] {
        let mut client = front.session(&proxy, user);
        client.upload("new", b"content");
        client.control.command("QUIT", 221);
    }
    proxy.wait_for_logs(2, |line| line.message() == "session ended");
    let lines = proxy.log_lines();
    let id = |line: &LogLine| line.field("id");
    let of = |session: &str| -> Vec<Option<String>> {
        let lines = lines.iter();
        let lines = lines.filter(|line| line.field("session").as_deref() == Some(session));
        lines.map(id).collect()
    };
    let (with, without) = (of("1"), of("2"));
    assert!(
        with.len() >= 3 && with.iter().all(|it| *it == with[0]),
        "{with:?}"
    );
    assert!(with[0].as_ref().is_some_and(|id| id.ends_with("-1")));
    assert!(
        without.len() >= 3 && without.iter().all(Option::is_none),
        "{without:?}"
    );
}

#[test]
fn two_processes_never_send_the_same_id() {
    let front = Front::new(&[]);
    let ids = [(); 2].map(|()| {
        let backend = Backend::start(Script::new().headers(Headers::Control));
        let proxy = Proxy::start(front.config().site(&site(&backend, "none", "{version: 2}")));
        let _client = front.session(&proxy, "ftpb.test|alice");
        id(&proxy)
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_backend_that_is_out_is_dialled_with_a_header_that_names_nobody() {
    let front = Front::new(&[]);
    let local = v2_of(0x20, 0x00, b"");
    let expected = [(1, &b"PROXY UNKNOWN\r\n"[..]), (2, &local)];
    let script = Script::new().headers(Headers::Control);
    // Both at once: it takes a while until they are dialled again.
    let dialled = expected.map(|(version, header)| {
        // Gone, so that its address is known and nobody answers there.
        let gone = Backend::start(script.clone());
        let (address, sent) = (gone.address(), format!("{{version: {version}}}"));
        let proxy = Proxy::start(front.config().site(&site(&gone, "none", &sent)));
        drop(gone);
        for _ in 0..3 {
            let mut client = front.explicit(&proxy);
            client.command("USER ftpb.test|alice", 421);
        }
        proxy.wait_for_log(|line| line.message() == "backend ejected");
        (Backend::start_at(address, script.clone()), proxy, header)
    });
    for (back, proxy, header) in dialled {
        assert_eq!(back.wait_for_header(1), header);
        proxy.wait_for_log(|line| line.message() == "backend up");
    }
}

/// What the log says of a login that no backend was available for.
fn hint(proxy: &Proxy) -> Option<String> {
    let line = proxy.wait_for_log(|line| line.message() == "backend not available");
    line.field("hint")
}

#[test]
fn a_backend_that_takes_the_header_for_a_command_is_found_out() {
    let front = Front::new(&[]);
    // As Pure-FTPd does: the signature of version 2 has a QUIT in it.
    let refused = Step::Bytes(b"500 ?\r\n221 Goodbye.\r\n".to_vec());
    let steps = vec![refused, Step::End(End::Fin)];
    let backend = Backend::start(Script::new().greeting(steps));
    for version in [1, 2] {
        let sent = format!("{{version: {version}}}");
        let proxy = Proxy::start(front.config().site(&site(&backend, "none", &sent)));
        let mut client = front.explicit(&proxy);
        client.command("USER ftpb.test|alice", 421);
        let hint = hint(&proxy).expect("a hint");
        assert!(
            hint.starts_with("does this backend expect a PROXY header?"),
            "{hint}"
        );
    }
    // One that is busy is just that.
    let busy = Step::Bytes(b"421 Too many users.\r\n".to_vec());
    let backend = Backend::start(Script::new().greeting(vec![busy]));
    let proxy = Proxy::start(front.config().site(&site(&backend, "none", "{version: 1}")));
    front.explicit(&proxy).command("USER ftpb.test|alice", 421);
    assert_eq!(hint(&proxy), None);
}

#[test]
fn a_backend_that_answers_the_header_behind_its_greeting_is_found_out() {
    let front = Front::new(&[]);
    // As vsftpd does.
    let greeting = b"220 ready\r\n530 Please login with USER and PASS.\r\n".to_vec();
    for (tls, stage) in [("none", "login"), ("explicit", "auth")] {
        let script = Script::new().greeting(vec![Step::Bytes(greeting.clone())]);
        let backend = Backend::start(script);
        let proxy = Proxy::start(front.config().site(&site(&backend, tls, "{version: 1}")));
        let mut client = front.explicit(&proxy);
        client.send("USER ftpb.test|alice");
        let is_loss = |line: &LogLine| line.field("stage").as_deref() == Some(stage);
        let lost = proxy.wait_for_log(is_loss);
        assert!(lost.field("hint").is_some(), "{}", lost.text);
    }
}

#[test]
fn a_backend_that_waits_for_a_header_in_vain_is_found_out() {
    let front = Front::new(&[]);
    for (kind, tls) in every_kind() {
        let script = Script::new().headers(Headers::Control).tls(tls);
        // Sends nothing before it has a header, and what is none it closes.
        let backend = Backend::start(script);
        let config = front
            .config()
            .timeout("backend_reply", "200ms")
            .site(&Site::default("only", backend.address()).backend("tls", kind));
        let proxy = Proxy::start(config);
        let mut client = front.explicit(&proxy);
        client.command("USER alice", 421);
        let hint = hint(&proxy).expect("a hint");
        assert!(hint.ends_with("since it has no proxy_protocol"), "{hint}");
    }
}
