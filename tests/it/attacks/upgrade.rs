//! The moment when clear text becomes TLS, on both legs: nothing that was said before it counts after it, and nothing
//! that was to be protected ever goes out in clear text.

use std::io::{Read, Write};

use rustls::version::TLS12;
use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::proxy::Proxy;
use testkit::raw::{Raw, Reply, open_data, protect};
use testkit::script::{Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::{Before, Start};

struct Deployment {
    front: Front,
    backend: Backend,
    proxy: Proxy,
}

impl Deployment {
    /// With TLS for clients that want it; `required` says whether they must.
    fn new(required: &str) -> Self {
        Self::with(required, |config| config)
    }

    fn with(required: &str, more: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new().file("file", "content"));
        let proxy = front.before_with(backend.address(), |config| {
            more(config.tls("required", required))
        });
        Self {
            front,
            backend,
            proxy,
        }
    }

    fn clear(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client
    }
}

/// The reply that ends a transfer command, whether its 150 came or not.
fn final_reply(control: &mut Raw) -> Reply {
    let first = control.reply();
    if first.code == 150 {
        control.reply()
    } else {
        first
    }
}

#[test]
fn clear_text_that_arrives_after_the_234_is_no_command_but_a_failed_handshake() {
    let deployment = Deployment::new("false");
    for late in [
        &b"NOOP\r\n"[..],
        b"USER alice\r\nPASS secret\r\n",
        b"N",
        b"\r\n\r\n\r\n",
    ] {
        let mut client = deployment.clear();
        client.command("AUTH TLS", 234);
        client.send_bytes(late);
        if late.len() < 5 {
            // Too few bytes to be told from a record's head: what follows makes it one.
            client.send_bytes(b"OOP\r\n");
        }
        let (bytes, _) = client.end();
        // At most an alert, which is seven bytes, and no reply.
        assert!(bytes.len() <= 7, "{}", bytes.escape_ascii());
    }
    deployment.proxy.wait_for_logs(4, |line| {
        line.message() == "TLS handshake with the client failed"
    });
    assert_eq!(deployment.backend.connections(), 0);
}

#[test]
fn a_login_in_clear_text_is_forgotten_by_auth_and_its_backend_hung_up() {
    let deployment = Deployment::new("false");
    let tls = deployment.front.tls(NAME);
    let mut asked = deployment.clear();
    asked.command("USER alice", 331);
    asked.auth_tls(&tls);
    asked.command("PASS secret", 503);

    let mut inside = deployment.clear();
    inside.login("bob", "secret");
    let _port = inside.epsv();
    inside.command("REST 3", 350);
    inside.command("RNFR file", 502);
    inside.auth_tls(&tls);
    for line in ["PWD", "RETR file", "RNTO other", "EPSV"] {
        inside.command(line, 530);
    }
    // Logged in anew, the offset of before is not there any more.
    inside.login("bob", "secret");
    let mut data = open_data(inside.epsv());
    inside.command("RETR file", 150);
    let mut content = String::new();
    data.read_to_string(&mut content).expect("a whole file");
    assert_eq!(content, "content");
    inside.expect(226);

    assert_eq!(deployment.backend.connections(), 3);
    let passwords = deployment.backend.commands();
    let passwords = passwords.iter().filter(|line| line.starts_with("PASS"));
    assert_eq!(passwords.count(), 2, "neither is the one behind AUTH");
}

#[test]
fn who_has_been_logged_in_for_long_may_still_ask_for_tls_and_for_another_login() {
    let deployment = Deployment::with("false", |config| config.timeout("login", "3s"));
    let mut inside = deployment.clear();
    inside.login("alice", "secret");
    // Whoever came later has used up the time for the login.
    let mut late = deployment.clear();
    late.expect(421);
    inside.command("AUTH TLS", 234);
    // A client that is far away, and not there with its ClientHello before all this is done.
    deployment.clear().login("bob", "secret");
    let handshake = inside.handshake(&deployment.front.tls(NAME));
    handshake.expect("there is time for it");
    inside.login("alice", "secret");
    inside.command("PWD", 257);
}

#[test]
fn a_second_auth_starts_no_second_handshake_however_often_it_is_asked_for() {
    let deployment = Deployment::new("true");
    for mut client in [
        deployment.front.explicit(&deployment.proxy),
        deployment.front.implicit(&deployment.proxy),
    ] {
        client.send_bytes(&b"AUTH TLS\r\n".repeat(1_000));
        for _ in 0..1_000 {
            client.expect(503);
        }
        client.login("alice", "secret");
        client.command("AUTH TLS", 503);
        client.command("CCC", 534);
        client.command("PWD", 257);
    }
    let handshakes = "portcullis_tls_handshakes_total{result=\"ok\",version=\"1.3\"}";
    assert_eq!(deployment.proxy.metric(handshakes), 2.0);
}

#[test]
fn user_in_clear_text_is_refused_before_a_password_is_asked_for_and_dials_nobody() {
    let deployment = Deployment::new("true");
    let mut client = deployment.clear();
    for line in ["USER alice", "user x|y", "USER anonymous"] {
        client.command(line, 534);
        client.command("PASS secret", 503);
    }
    client.command("QUIT", 221);
    assert_eq!(deployment.backend.connections(), 0);
}

#[test]
fn a_client_in_clear_text_on_a_private_data_connection_moves_no_byte() {
    let deployment = Deployment::new("true");
    for command in ["STOR new", "RETR file"] {
        let mut session = deployment.front.session(&deployment.proxy, "alice");
        let mut data = open_data(session.control.epsv());
        data.write_all(b"hello, this is no ClientHello\r\n")
            .expect("it is connected");
        // Then it has been read.
        let leases = "portcullis_passive_ports_in_use";
        deployment
            .proxy
            .wait_for_metric(leases, |leases| leases == 0.0);
        session.control.send(command);
        let answer = final_reply(&mut session.control);
        assert_eq!(answer.code, 522, "{}", answer.text);
        let said = data.read_to_end().0;
        assert!(!said.windows(7).any(|bytes| bytes == b"content"));
    }
    let commands = deployment.backend.commands();
    assert!(
        !commands.iter().any(|command| command.starts_with("STOR")),
        "the file of the same name would be truncated: {commands:?}"
    );
}

#[test]
fn a_backend_in_clear_text_on_a_protected_data_connection_moves_no_byte() {
    let front = Front::new(&[]);
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .on(
            "RETR",
            [
                reply("150 here it comes"),
                Step::OpenClearData,
                Step::Send(b"hello, this is no ServerHello\r\n".to_vec()),
                Step::EndData(End::Fin),
                reply("226 done"),
            ],
        )
        .on(
            "STOR",
            [
                reply("150 send it"),
                Step::OpenClearData,
                Step::Send(b"hello, this is no ServerHello\r\n".to_vec()),
                Step::Receive,
                reply("226 done"),
            ],
        );
    let backend = Backend::start(script);
    let site = Site::default("site", backend.address()).backend_tls("explicit", None);
    let proxy = Proxy::start(front.config().site(&site));

    for command in ["RETR file", "STOR file"] {
        let mut session = front.session(&proxy, "alice");
        let mut data = open_data(session.control.epsv());
        session.control.send(command);
        // Whether the client's own handshake comes to its end before the backend's has failed is open.
        if protect(&mut data, &session.tls).is_ok() {
            let _ = data.write_all(b"canary");
            assert_eq!(data.read_to_end(), (Vec::new(), End::Reset), "{command}");
        }
        // The backend's 226 for a file that it never got may be here before the failure is.
        let answer = final_reply(&mut session.control);
        assert!([425, 426].contains(&answer.code), "{}", answer.text);
    }
    let received = backend.wait_for_upload(1).content;
    let canary = received.windows(6).any(|bytes| bytes == b"canary");
    assert!(!canary, "{}", received.escape_ascii());
}

#[test]
fn nothing_but_auth_goes_to_a_protected_backend_before_the_handshake() {
    // A backend that is told to be protected, but is only looked at as far as the wire shows it.
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let front = Front::new(&[]);
    let address = trap.local_addr().expect("it is bound");
    let site = Site::default("site", address).backend_tls("explicit", None);
    let proxy = Proxy::start(front.config().site(&site));
    let mut client = front.explicit(&proxy);
    client.command("OPTS UTF8 ON", 202);
    client.command("CLNT canary", 202);
    client.send("USER alice");
    let mut backend = Wire::new(trap.accept().expect("the proxy connects").0);
    backend.write_all(b"220 ready\r\n").expect("it reads");
    let mut auth = [0; 10];
    backend.read_exact(&mut auth).expect("a command");
    assert_eq!(&auth, b"AUTH TLS\r\n");
    backend.write_all(b"234 go\r\n").expect("it reads");
    let mut hello = [0; 3];
    backend.read_exact(&mut hello).expect("a ClientHello");
    assert_eq!(hello[..2], [22, 3]);
    backend.reset();
    client.expect(421);
}
