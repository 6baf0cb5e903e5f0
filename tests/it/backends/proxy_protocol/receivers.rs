//! What reads PROXY headers in earnest: HAProxy, libunftp, and a second Portcullis.

use std::fs;
use std::net::SocketAddr;

use testkit::certs::Authority;
use testkit::config::Site;
use testkit::content;
use testkit::front::{Client, Front, NAME};
use testkit::haproxy::{Receiver, Upstream};
use testkit::libunftp::Libunftp;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security};
use testkit::vsftpd;
use testkit::wire::Wire;

use super::address;
use crate::program::Start;

/// Few, since HAProxy listens on each.
const DATA_PORTS: (u16, u16) = (10_000, 10_015);

#[test]
fn haproxy_takes_every_header_in_front_of_a_real_server() {
    let front = Front::new(&[]);
    let pair = Authority::new("authority of backends").issue(&["backend.test"]);
    let content = content::bytes(2, 300_000);
    for (kind, security) in [
        ("none", Security::Plain),
        ("explicit", Security::Explicit(&pair, Reuse::Required)),
        ("implicit", Security::Implicit(&pair, Reuse::Required)),
    ] {
        let server = vsftpd::start_with_ports(security, DATA_PORTS);
        let receiver = Receiver::start(Upstream::Server(server.address()), DATA_PORTS);
        for version in [1, 2] {
            let site = Site::default("only", receiver.address()).backend("tls", kind);
            let site = match kind {
                "none" => site,
                _ => site.backend("verify", "none"),
            };
            let sent = format!("{{version: {version}, data: true}}");
            let site = site.backend("proxy_protocol", &sent);
            let proxy = Proxy::start(front.config().site(&site));
            let mut client = front.session(&proxy, server.user());
            let name = format!("file{version}");
            client.upload(&name, &content);
            assert!(client.download(&name) == content, "{kind}, {version}");
        }
        // And nothing without one.
        let site = Site::default("only", receiver.address());
        let config = front.config().timeout("backend_reply", "200ms");
        let proxy = Proxy::start(config.site(&site));
        front.explicit(&proxy).command("USER anonymous", 421);
    }
}

#[test]
fn libunftp_finds_the_session_of_a_data_connection_by_its_header() {
    let front = Front::new(&[]);
    let pair = Authority::new("authority of backends").issue(&["backend.test"]);
    let content = content::bytes(3, 300_000);
    for kind in ["none", "explicit"] {
        // What a client connects to, which is the same port at each proxy of a test.
        let control = front.config().explicit().port();
        let server = Libunftp::start(&pair, control);
        let site = Site::default("only", server.address()).backend("tls", kind);
        let site = match kind {
            "none" => site,
            _ => site.backend("verify", "none"),
        };
        let site = site.backend("proxy_protocol", "{version: 1, data: true}");
        let proxy = Proxy::start(front.config().site(&site));
        let (user, _) = server.user();
        let mut client = front.session(&proxy, user);
        client.upload("file", &content);
        assert!(client.download("file") == content, "{kind}");
        assert!(fs::read(server.root().join("file")).expect("it is there") == content);
    }
}

/// A Portcullis behind another one, and a backend behind both.
struct Chain {
    front: Front,
    first: Proxy,
    second: Proxy,
    backend: Backend,
}

impl Chain {
    /// The second is reached in this way, and wants TLS sessions to be resumed if `session_reuse` says so.
    fn start(kind: &str, version: u8, session_reuse: &str) -> Self {
        let front = Front::new(&[]);
        let script = Script::new().file("1", "of one").file("2", "of two");
        let backend = Backend::start(script);
        let second = front
            .config()
            .proxy_protocol("127.0.0.1/32")
            .tls("required", if kind == "none" { "false" } else { "true" })
            .tls("session_reuse", session_reuse)
            .site(&Site::default("inner", backend.address()));
        let second = Proxy::start(second);
        let to = match kind {
            "implicit" => second.implicit(),
            _ => second.explicit(),
        };
        let site = Site::default("outer", to).backend("tls", kind);
        let ca = format!("{{ca: {}}}", front.ca().display());
        let site = match kind {
            "none" => site,
            _ => site.backend("verify", &ca).backend("server_name", NAME),
        };
        let sent = format!("{{version: {version}, data: true}}");
        let site = site.backend("proxy_protocol", &sent);
        // The second one has a single port for all.
        let first = front.config().passive_ports("50000-50003");
        Self {
            first: Proxy::start(first.site(&site)),
            second,
            backend,
            front,
        }
    }

    /// A client from this address that is logged in.
    fn client(&self, from: &str, user: &str) -> Client {
        let tls = self.front.tls(NAME);
        let from = from.parse().expect("an address");
        let wire = Wire::connect_from(from, self.first.explicit());
        let mut control = Raw::over(wire);
        control.expect(220);
        control.auth_tls(&tls);
        control.login(user, "secret");
        control.protect_data();
        Client { control, tls }
    }
}

#[test]
fn a_portcullis_behind_another_knows_the_client() {
    for kind in ["none", "explicit", "implicit"] {
        for version in [1, 2] {
            let chain = Chain::start(kind, version, "prefer");
            let mut client = chain.client("127.0.0.1", "alice");
            assert_eq!(client.download("1"), b"of one");
            client.upload("new", b"content");
            let received = chain.backend.file("new");
            assert_eq!(received.as_deref(), Some(&b"content"[..]));
            let address = address(&client.control).to_string();
            client.control.command("QUIT", 221);
            let ended = |line: &LogLine| line.message() == "session ended";
            let line = chain.second.wait_for_log(ended);
            assert_eq!(line.field("client"), Some(address), "{kind}, {version}");
        }
    }
}

/// Two downloads at once through one data port of the second Portcullis: the connections come in another order than the
/// ports were asked for.
fn download_crosswise(one: &mut Client, other: &mut Client) {
    let (to_one, to_other) = (one.control.epsv(), other.control.epsv());
    let (mut of_other, mut of_one) = (open_data_of(other, to_other), open_data_of(one, to_one));
    other.control.command("RETR 2", 150);
    one.control.command("RETR 1", 150);
    protect(&mut of_one, &one.tls).expect("a handshake");
    protect(&mut of_other, &other.tls).expect("a handshake");
    assert_eq!(one.finish_download(of_one), b"of one");
    assert_eq!(other.finish_download(of_other), b"of two");
}

/// A data connection from where the control connection comes from.
fn open_data_of(client: &Client, to: SocketAddr) -> Wire {
    Wire::connect_from(address(&client.control).ip(), to)
}

#[test]
fn clients_of_one_address_are_told_apart_behind_two_portcullises_by_their_tls_sessions() {
    for kind in ["explicit", "implicit"] {
        let chain = Chain::start(kind, 2, "require");
        let [mut one, mut other] = [(); 2].map(|()| chain.client("127.0.0.1", "alice"));
        // Only now it is known of both that they keep their TLS sessions apart.
        for client in [&mut one, &mut other] {
            assert_eq!(client.download("1"), b"of one");
        }
        for _ in 0..3 {
            download_crosswise(&mut one, &mut other);
            one.upload("of one", b"1");
            other.upload("of two", b"22");
        }
        assert_eq!(chain.backend.file("of one").as_deref(), Some(&b"1"[..]));
        assert_eq!(chain.backend.file("of two").as_deref(), Some(&b"22"[..]));
        let ambiguous = chain.second.metric("portcullis_passive_ambiguous_total");
        assert_eq!(ambiguous, 0.0);
    }
}

#[test]
fn clients_of_two_addresses_are_told_apart_behind_two_portcullises_by_their_headers() {
    let chain = Chain::start("none", 1, "prefer");
    let mut one = chain.client("127.98.0.1", "alice");
    let mut other = chain.client("127.98.0.2", "alice");
    for _ in 0..3 {
        download_crosswise(&mut one, &mut other);
    }
    let ambiguous = chain.second.metric("portcullis_passive_ambiguous_total");
    assert_eq!(ambiguous, 0.0);
}
