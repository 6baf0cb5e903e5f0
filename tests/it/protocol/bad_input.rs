//! Clients that send what is no FTP: a precise answer or an end, never their own words back, and nothing of it reaches
//! a backend or another session.

use testkit::front::{Front, NAME};
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Before;

const NOT_A_COMMAND: &str = "500 Command not understood.";
const BAD_CHARACTER: &str = "501 Control characters are not allowed in a command.";
const TOO_LONG: &str = "500 Line too long.";
const BEHIND_AUTH: &str = "421 Commands must not follow AUTH before the TLS handshake.";

/// A proxy with one site, and a session that has nothing to do with what others send.
struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
    bystander: Raw,
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new());
        let proxy = front.before(backend.address());
        let mut bystander = front.explicit(&proxy);
        bystander.login("bystander", "secret");
        Self {
            front,
            backend,
            proxy,
            bystander,
        }
    }

    /// A client of the explicit port before AUTH.
    fn clear(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client
    }

    fn bystander_is_well(&mut self) {
        self.bystander.command("PWD", 257);
    }
}

/// What is no command, and its answer.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let long = |length: usize| [&b"CWD "[..], &vec![b'a'; length]].concat();
    let mut lines: Vec<(Vec<u8>, &str)> = vec![
        (long(2 * 1024), TOO_LONG),
        (long(1_000_000), TOO_LONG),
        (vec![b'A'; 100_000], TOO_LONG),
    ];
    for line in [
        &b" NOOP"[..],
        b"N@OP",
        b"NOOP\tx",
        b"NOOP\x1b[31m",
        b"123",
        b"\x80\x81\x82",
        b"AVERBTHATISTOOLONG",
        b"Host: canary.test",
        b"<script>alert(1)</script>",
        b"\xff",
    ] {
        lines.push((line.to_vec(), NOT_A_COMMAND));
    }
    for line in [
        &b"NOOP\0"[..],
        b"\0",
        b"CWD a\rDELE b",
        b"CWD a\0b",
        b"PASS a\rb",
        b"\rNOOP",
    ] {
        lines.push(([line, b"\r"].concat(), BAD_CHARACTER));
    }
    lines
}

#[test]
fn a_line_that_is_no_command_gets_one_precise_answer_in_every_phase() {
    let mut deployment = Deployment::new();
    for (line, answer) in malformed() {
        let mut logged_in = deployment.front.explicit(&deployment.proxy);
        logged_in.login("alice", "secret");
        let mut asked = deployment.front.implicit(&deployment.proxy);
        asked.command("USER alice", 331);
        let seen = deployment.backend.commands();
        for client in [&mut deployment.clear(), &mut asked, &mut logged_in] {
            client.send_bytes(&[&line, &b"\nNOOP\r\n"[..]].concat());
            let shown = line[..line.len().min(40)].escape_ascii().to_string();
            assert_eq!(client.reply().text, answer, "{shown}");
            // In step: the next answer is that of NOOP.
            assert_eq!(client.reply().code, 200, "{shown}");
        }
        let reached: Vec<_> = deployment.backend.commands().split_off(seen.len());
        assert_eq!(
            reached,
            ["NOOP"],
            "only a client that is logged in has it answered there"
        );
        deployment.bystander_is_well();
    }
}

#[test]
fn empty_lines_and_bare_line_feeds_are_harmless() {
    let deployment = Deployment::new();
    let mut client = deployment.clear();
    client.send_bytes(b"\r\n\n\r\n\xff\xf4\r\nNOOP\nNOOP\r\n");
    client.expect(200);
    client.expect(200);
    client.command("QUIT", 221);
    assert!(client.end().0.is_empty());
}

#[test]
fn an_argument_that_is_none_is_named_in_the_answer_by_its_kind() {
    let deployment = Deployment::new();
    let mut clear = deployment.clear();
    for (line, code) in [
        ("AUTH", 501),
        ("AUTH KERBEROS_V4", 504),
        ("PBSZ 0", 503),
        ("PROT P", 503),
        ("USER", 501),
        ("USER alice", 534),
        ("PASS secret", 503),
        ("ACCT books", 503),
        ("ADAT xyz", 502),
        ("OPTS", 501),
        ("OPTS EVERYTHING ON", 501),
        ("RETR file", 530),
        ("PASV", 530),
        ("WHATEVER", 530),
    ] {
        clear.command(line, code);
    }
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.login("alice", "secret");
    let seen = deployment.backend.commands().len();
    for (line, code) in [
        ("AUTH TLS", 503),
        ("PBSZ", 501),
        ("PBSZ -1", 501),
        ("PBSZ 4294967296", 501),
        ("PBSZ 0", 200),
        ("PROT", 504),
        ("PROT X", 504),
        ("PROT S", 536),
        ("CCC", 534),
        ("MIC x", 502),
        ("MODE B", 504),
        ("PORT 1,2,3", 501),
        ("PORT 127,0,0,1,300,1", 501),
        ("PORT 10,0,0,1,200,1", 504),
        ("PORT 127,0,0,1,0,21", 504),
        ("EPRT", 501),
        ("EPRT |9|127.0.0.1|50000|", 522),
        ("EPRT |1|127.0.0.1|70000|", 501),
        ("EPSV 2", 522),
        ("EPSV x", 501),
        ("CPSV", 502),
        ("RETR file", 425),
    ] {
        client.command(line, code);
    }
    assert_eq!(deployment.backend.commands().len(), seen);
}

#[test]
fn twenty_lines_that_are_no_commands_are_enough() {
    let mut deployment = Deployment::new();
    let mut client = deployment.clear();
    for _ in 0..19 {
        client.command("123", 500);
    }
    client.send("123");
    let expected =
        format!("{NOT_A_COMMAND}\r\n421 Too many errors, closing control connection.\r\n");
    let (bytes, end) = client.end();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
    assert_eq!(end, End::Fin);
    deployment.bystander_is_well();
}

#[test]
fn http_is_closed_without_a_word() {
    let mut deployment = Deployment::new();
    for request in [
        "GET /canary HTTP/1.1\r\nHost: canary.test\r\n\r\n",
        "POST /canary HTTP/1.0\r\nContent-Length: 20\r\n\r\nUSER alice\r\nPASS x\r\n",
        "OPTIONS * HTTP/1.1\r\n\r\n",
    ] {
        for mut client in [
            deployment.clear(),
            deployment.front.implicit(&deployment.proxy),
        ] {
            client.send_bytes(request.as_bytes());
            assert_eq!(client.end().0, b"", "{request}");
        }
        deployment.bystander_is_well();
    }
    let abuse = |line: &LogLine| {
        line.message() == "session ended" && line.field("ending").as_deref() == Some("abuse")
    };
    deployment.proxy.wait_for_logs(6, abuse);
    assert_eq!(deployment.backend.connections(), 1);
}

#[test]
fn a_client_hello_on_the_explicit_port_ends_the_session_and_names_the_mistake() {
    let mut deployment = Deployment::new();
    let mut client = Raw::connect(deployment.proxy.explicit());
    let refused = client.handshake(&deployment.front.tls(NAME));
    refused.expect_err("the greeting is no ServerHello");
    let line = deployment
        .proxy
        .wait_for_log(|line| line.message().contains("TLS without AUTH"));
    assert!(line.message().contains("implicit"), "{}", line.text);
    let ended = deployment.proxy.wait_for_log(|ended| {
        ended.message() == "session ended" && ended.field("session") == line.field("session")
    });
    assert_eq!(ended.field("client_tls").as_deref(), Some("none"));
    deployment.bystander_is_well();
}

#[test]
fn plain_text_on_the_implicit_port_gets_no_reply_and_names_the_mistake() {
    let mut deployment = Deployment::new();
    for text in [
        "USER canary\r\n",
        "GET /canary HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n\r\n",
    ] {
        let mut client = Raw::connect(deployment.proxy.implicit());
        client.send_bytes(text.as_bytes());
        let (bytes, _) = client.end();
        // At most an alert of TLS, which is seven bytes.
        assert!(bytes.len() <= 7, "{}", bytes.escape_ascii());
        deployment.bystander_is_well();
    }
    deployment.proxy.wait_for_logs(3, |line| {
        line.message() == "TLS handshake with the client failed"
            && line
                .field("error")
                .is_some_and(|error| error.contains("did not speak TLS"))
    });
    let failed = "portcullis_tls_handshakes_total{result=\"failed\",version=\"none\"}";
    assert_eq!(deployment.proxy.metrics().get(failed), Some(&3.0));
}

#[test]
fn bytes_behind_auth_are_never_taken_for_protected_commands() {
    let mut deployment = Deployment::new();
    for (sent, before) in [
        ("AUTH TLS\r\nUSER canary\r\n", ""),
        ("AUTH TLS\r\nU", ""),
        ("AUTH TLS\r\n\r\n", ""),
        ("AUTH TLS\r\n\0", ""),
        ("NOOP\r\nauth ssl\r\nPASS canary\r\nQUIT\r\n", "200 OK.\r\n"),
    ] {
        let mut client = deployment.clear();
        client.send_bytes(sent.as_bytes());
        let (bytes, end) = client.end();
        let expected = format!("{before}{BEHIND_AUTH}\r\n");
        assert_eq!(String::from_utf8_lossy(&bytes), expected, "{sent:?}");
        assert_eq!(end, End::Fin);
        deployment.bystander_is_well();
    }
    deployment
        .proxy
        .wait_for_logs(5, |line| line.message().contains("clear text behind AUTH"));
    assert_eq!(
        deployment.backend.commands()[..2],
        ["USER bystander", "PASS secret"]
    );
    assert_eq!(deployment.backend.connections(), 1);
}
