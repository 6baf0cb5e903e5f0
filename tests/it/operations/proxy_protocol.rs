//! Listeners behind a load balancer, which says by a PROXY protocol header who the client is. The tests are the
//! balancer.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};

use testkit::clients::{Client as RealClient, ClientTls, DataMode, Login};
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::haproxy::Balancer;
use testkit::loopback::Loopback;
use testkit::proxy::{LogLine, Proxy};
use testkit::proxy_header::{v1, v2, v2_of};
use testkit::raw::{Raw, RawTls, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;

/// Where balancers and clients are on this machine.
const BALANCERS: &str = "127.66.0.0/16";
const A_BALANCER: &str = "127.66.0.1";
const A_CLIENT: &str = "127.99.0.7";

/// Addresses for documentation (RFC 5737, RFC 3849): nobody on this machine has them.
const CLIENT: &str = "192.0.2.7:40000";
const CLIENT_V6: &str = "[2001:db8::7]:40000";
const BALANCER: &str = "198.51.100.1:21";
const BALANCER_V6: &str = "[2001:db8::1]:21";

const LOOPBACK: &str = "127.0.0.0/8";

struct Balanced {
    front: Front,
    _backend: Backend,
    proxy: Proxy,
}

impl Balanced {
    /// Trusts this network.
    fn trusting(network: &str) -> Self {
        Self::limited(network, "sessions", 100)
    }

    fn limited(network: &str, limit: &str, value: usize) -> Self {
        let backend = Backend::start(Script::new().file("file", "content"));
        let front = Front::new(&[]);
        let config = front
            .config()
            .proxy_protocol(network)
            .limit(limit, value)
            .tls("required", "false")
            .site(&Site::default("ftpa", backend.address()));
        Self {
            proxy: Proxy::start(config),
            _backend: backend,
            front,
        }
    }

    /// A connection that begins like this.
    fn connect(&self, first: &[u8]) -> Raw {
        let mut wire = Wire::connect(self.proxy.explicit());
        wire.write_all(first).expect("the proxy accepts");
        Raw::over(wire)
    }

    /// The client that the log says a session was for, once it is over.
    fn client_in_log(&self) -> SocketAddr {
        let ended = |line: &LogLine| line.message() == "session ended";
        let client = self.proxy.wait_for_log(ended).field("client");
        client
            .and_then(|client| client.parse().ok())
            .expect("an address")
    }

    fn faults(&self, reason: &str) -> f64 {
        let name = format!("portcullis_proxy_header_faults_total{{reason=\"{reason}\"}}");
        self.proxy.metric(&name)
    }

    fn sessions(&self) -> f64 {
        self.proxy
            .metric("portcullis_sessions_total{listener=\"explicit\"}")
    }
}

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn the_client_is_who_the_header_says_and_is_told_the_address_that_it_connected_to() {
    for header in [v1, v2] {
        let balanced = Balanced::trusting(LOOPBACK);
        let mut client = balanced.connect(&header(end(CLIENT), end(BALANCER)));
        client.expect(220);
        client.login("alice", "secret");
        assert_eq!(client.pasv().ip(), end(BALANCER).ip());
        client.command("PORT 192,0,2,7,200,0", 200);
        client.command("PORT 127,0,0,1,200,0", 504);
        client.command("QUIT", 221);
        assert_eq!(balanced.client_in_log(), end(CLIENT));
    }
}

#[test]
fn the_client_may_be_of_another_family_than_the_balancer() {
    for header in [v1, v2] {
        let balanced = Balanced::trusting(LOOPBACK);
        let mut client = balanced.connect(&header(end(CLIENT_V6), end(BALANCER_V6)));
        client.expect(220);
        client.login("alice", "secret");
        client.command("PASV", 425);
        client.command("EPRT |1|127.0.0.1|51200|", 504);
        client.command("EPRT |2|2001:db8::7|51200|", 200);
        client.command("QUIT", 221);
        assert_eq!(balanced.client_in_log(), end(CLIENT_V6));
    }
}

#[test]
fn an_ipv4_client_in_the_form_of_ipv6_is_an_ipv4_client() {
    let mapped = |end: &str| format!("[::ffff:{}", end.replace(':', "]:"));
    for header in [v1, v2] {
        let balanced = Balanced::trusting(LOOPBACK);
        let (client, balancer) = (mapped(CLIENT), mapped(BALANCER));
        let mut client = balanced.connect(&header(end(&client), end(&balancer)));
        client.expect(220);
        client.login("alice", "secret");
        assert_eq!(client.pasv().ip(), end(BALANCER).ip());
        client.command("QUIT", 221);
        assert_eq!(balanced.client_in_log(), end(CLIENT));
    }
}

#[test]
fn a_balancers_own_connection_is_its_own_clients() {
    for own in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 40000 21\r\n",
        &v2_of(0x20, 0x00, b""),
        &v2_of(
            0x20,
            0x11,
            b"\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\x40\x00\x15",
        ),
        &v2_of(0x21, 0x00, b""),
    ] {
        let balanced = Balanced::trusting(LOOPBACK);
        let mut client = balanced.connect(own);
        client.expect(220);
        let balancer = client.wire().socket().local_addr();
        client.command("QUIT", 221);
        assert_eq!(balanced.client_in_log(), balancer.expect("it is connected"));
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let balanced = Balanced::trusting(LOOPBACK);
    for header in [v1, v2] {
        let mut client = balanced.connect(b"");
        for byte in header(end(CLIENT), end(BALANCER)) {
            client.send_bytes(&[byte]);
        }
        client.expect(220);
        client.command("QUIT", 221);
    }
}

#[test]
fn nothing_behind_the_header_is_lost() {
    let balanced = Balanced::trusting(LOOPBACK);
    for header in [v1, v2] {
        let header = header(end(CLIENT), end(BALANCER));
        let mut client = balanced.connect(&[&header[..], b"NOOP\r\nQUIT\r\n"].concat());
        for code in [220, 200, 221] {
            client.expect(code);
        }

        let tls = balanced.front.tls(NAME);
        let mut client = Raw::connect(balanced.proxy.implicit());
        client
            .handshake_behind(&header, &tls)
            .expect("a handshake whose first bytes came with the header");
        client.expect(220);
        client.command("QUIT", 221);
    }
}

#[test]
fn a_second_header_is_a_command_like_any_other() {
    let balanced = Balanced::trusting(LOOPBACK);
    let other = v1(end("192.0.2.99:1"), end(BALANCER));
    let both = [v1(end(CLIENT), end(BALANCER)), other].concat();
    let mut client = balanced.connect(&both);
    client.expect(220);
    assert!(matches!(client.reply().code, 500 | 530));
    client.command("QUIT", 221);
    assert_eq!(balanced.client_in_log(), end(CLIENT));
}

#[test]
fn who_is_not_trusted_is_closed_whatever_it_sends() {
    let balanced = Balanced::limited("192.0.2.0/24", "sessions_per_client", 1);
    for first in [
        v1(end(CLIENT), end(BALANCER)),
        v2(end(CLIENT), end(BALANCER)),
        Vec::new(),
    ] {
        let (said, _) = balanced.connect(&first).end();
        assert_eq!(said.escape_ascii().to_string(), "");
    }
    assert_eq!(
        (balanced.faults("untrusted"), balanced.sessions()),
        (3.0, 0.0)
    );
    let closed = |line: &LogLine| line.field("reason").as_deref() == Some("untrusted");
    balanced.proxy.wait_for_logs(3, closed);
}

#[test]
fn what_is_no_header_is_closed_without_a_word() {
    let balanced = Balanced::trusting(LOOPBACK);
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let longest = v2_of(0x20, 0x00, &[0; u16::MAX as usize]);
    let faulty: [&[u8]; 9] = [
        b"USER alice\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        b"PROXY TCP4 0.0.0.0 198.51.100.1 40000 21\r\n",
        &endless,
        &longest[..16],
        &v2_of(0x21, 0x12, &[1; 12]),
        &v2_of(0x21, 0x11, &[1; 11]),
    ];
    for (count, bytes) in (1..).zip(faulty) {
        let (said, _) = balanced.connect(bytes).end();
        assert_eq!(
            said.escape_ascii().to_string(),
            "",
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(balanced.faults("malformed"), f64::from(count));
    }
    assert_eq!(balanced.sessions(), 0.0);
}

#[test]
fn a_header_that_does_not_come_whole_is_not_waited_for_long() {
    let balanced = Balanced::trusting(LOOPBACK);
    let header = v1(end(CLIENT), end(BALANCER));
    let silent = [balanced.connect(b""), balanced.connect(&header[..20])];
    for client in silent {
        let (said, _) = client.end();
        assert_eq!(said.escape_ascii().to_string(), "");
    }
    assert_eq!(balanced.faults("missing"), 2.0);
    drop(balanced.connect(&header[..20]));
    let ended = |line: &LogLine| {
        line.field("error")
            .is_some_and(|error| error.starts_with("the connection closed before"))
    };
    balanced.proxy.wait_for_log(ended);
    assert_eq!(balanced.sessions(), 0.0);
}

#[test]
fn health_checks_of_a_balancer_that_say_nothing_are_no_faults_and_no_warnings() {
    let balanced = Balanced::trusting(LOOPBACK);
    for _ in 0..10 {
        let mut check = Wire::connect(balanced.proxy.explicit());
        check.fin().expect("the proxy is there");
        assert!(check.read_to_end().0.is_empty());
        // HAProxy ends its checks like this.
        Wire::connect(balanced.proxy.explicit()).reset();
    }
    // Accepted behind them.
    let header = v1(end(CLIENT), end(BALANCER));
    drop(balanced.connect(&header[..20]));
    let ended = |line: &LogLine| {
        line.field("error")
            .is_some_and(|error| error.starts_with("the connection closed before"))
    };
    balanced.proxy.wait_for_log(ended);
    assert_eq!(balanced.faults("missing"), 1.0);
    let log = balanced.proxy.log_lines();
    let warnings = log
        .iter()
        .filter(|line| line.message().contains("PROXY header"));
    assert_eq!(warnings.count(), 1);
    assert_eq!(balanced.sessions(), 0.0);
}

#[test]
fn limits_count_the_clients_behind_the_balancer() {
    let balanced = Balanced::limited(LOOPBACK, "sessions_per_client", 1);
    let header = |client: &str| v1(end(client), end(BALANCER));
    let mut first = balanced.connect(&header("192.0.2.1:1000"));
    first.expect(220);
    balanced.connect(&header("192.0.2.1:1001")).expect(421);
    balanced.connect(&header("192.0.2.2:1000")).expect(220);
    let refused = "portcullis_sessions_refused_total{reason=\"per_client\"}";
    assert_eq!(balanced.proxy.metric(refused), 1.0);
}

#[test]
fn who_comes_too_often_is_told_from_others_behind_the_balancer() {
    let balanced = Balanced::limited(LOOPBACK, "sessions_per_client_per_minute", 1);
    let header = |client: &str| v1(end(client), end(BALANCER));
    balanced.connect(&header("192.0.2.1:1000")).expect(220);
    balanced.connect(&header("192.0.2.1:1001")).expect(421);
    balanced.connect(&header("192.0.2.2:1000")).expect(220);
    let refused = "portcullis_sessions_refused_total{reason=\"pace\"}";
    assert_eq!(balanced.proxy.metric(refused), 1.0);
}

#[test]
fn connections_without_a_header_yet_count_among_all_sessions() {
    let balanced = Balanced::limited(LOOPBACK, "sessions", 2);
    let header = v1(end(CLIENT), end(BALANCER));
    let mut waiting = balanced.connect(b"");
    // The second is a session by the time the third connects, and the first was accepted before it.
    let mut second = balanced.connect(&header);
    second.expect(220);
    balanced.connect(b"").expect(421);
    waiting.send_bytes(&header);
    waiting.expect(220);
}

/// A session behind a balancer, and its data connections.
struct Relayed<'a> {
    control: Raw,
    tls: RawTls,
    balanced: &'a Balanced,
    client: SocketAddr,
}

impl Balanced {
    /// A client that is logged in through a balancer.
    fn session(&self, client: &str) -> Relayed<'_> {
        let client = end(client);
        let mut wire = Wire::connect_from(ip(A_BALANCER), self.proxy.explicit());
        wire.write_all(&v2(client, balancer_of(client)))
            .expect("the proxy accepts");
        let mut control = Raw::over(wire);
        control.expect(220);
        let tls = self.front.tls(NAME);
        control.auth_tls(&tls);
        control.login("alice", "secret");
        control.protect_data();
        Relayed {
            control,
            tls,
            balanced: self,
            client,
        }
    }
}

impl Relayed<'_> {
    /// A connection from this machine to a data port, with these first bytes.
    fn data(&mut self, from: &str, first: &[u8]) -> Wire {
        let port = self.control.epsv().port();
        self.data_at(port, from, first)
    }

    fn data_at(&self, port: u16, from: &str, first: &[u8]) -> Wire {
        let at = SocketAddr::new(self.balanced.proxy.explicit().ip(), port);
        let mut data = Wire::connect_from(ip(from), at);
        data.write_all(first).expect("the proxy accepts");
        data
    }

    /// A data connection that the balancer relays.
    fn relayed_data(&mut self) -> Wire {
        let client = SocketAddr::new(self.client.ip(), 40001);
        self.data(A_BALANCER, &v1(client, balancer_of(client)))
    }

    fn download_over(&mut self, mut data: Wire) {
        self.control.command("RETR file", 150);
        protect(&mut data, &self.tls).expect("a handshake");
        assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
        self.control.expect(226);
    }

    fn upload_over(&mut self, mut data: Wire) {
        self.control.command("STOR new", 150);
        protect(&mut data, &self.tls).expect("a handshake");
        data.write_all(b"content").expect("the proxy reads");
        data.end(End::CloseNotify).expect("the proxy is there");
        self.control.expect(226);
    }
}

/// What a client connects to.
fn balancer_of(client: SocketAddr) -> SocketAddr {
    end(if client.is_ipv4() {
        BALANCER
    } else {
        BALANCER_V6
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn data_connections_come_through_the_balancer_too_each_to_the_session_of_its_client() {
    let balanced = Balanced::trusting(BALANCERS);
    let mut one = balanced.session(CLIENT);
    let mut other = balanced.session("192.0.2.8:40000");
    let mut ipv6 = balanced.session(CLIENT_V6);
    for _ in 0..3 {
        let data = [&mut other, &mut one, &mut ipv6].map(Relayed::relayed_data);
        let [of_other, of_one, of_ipv6] = data;
        one.download_over(of_one);
        ipv6.upload_over(of_ipv6);
        other.download_over(of_other);
    }
    assert_eq!(balanced.faults("malformed"), 0.0);
}

#[test]
fn a_data_connection_from_a_balancer_without_a_header_is_reset_and_the_port_waits_on() {
    let balanced = Balanced::trusting(BALANCERS);
    let mut session = balanced.session(CLIENT);
    let port = session.control.epsv().port();
    // A ClientHello's beginning.
    for first in [
        &b"\x16\x03\x01\x02\x00\x01"[..],
        b"PROXY TCP4 192.0.2.7\r\n",
    ] {
        let (_, how) = session.data_at(port, A_BALANCER, first).read_to_end();
        assert_eq!(how, End::Reset);
    }
    assert_eq!(balanced.faults("malformed"), 2.0);
    let header = v1(SocketAddr::new(session.client.ip(), 40001), end(BALANCER));
    let data = session.data_at(port, A_BALANCER, &header);
    session.download_over(data);
}

#[test]
fn a_data_connection_of_another_client_is_a_strangers_whoever_relays_it() {
    let balanced = Balanced::trusting(BALANCERS);
    let mut session = balanced.session(CLIENT);
    let stranger = v1(end("192.0.2.99:40001"), end(BALANCER));
    let (_, how) = session.data(A_BALANCER, &stranger).read_to_end();
    assert_eq!(how, End::Reset);
    assert_eq!(
        balanced.proxy.metric("portcullis_passive_strangers_total"),
        1.0
    );
}

#[test]
fn where_the_balancer_has_the_control_connections_alone_clients_come_to_data_ports_themselves() {
    let balanced = Balanced::trusting(BALANCERS);
    let mut session = balanced.session(&format!("{A_CLIENT}:40000"));
    let data = session.data(A_CLIENT, b"");
    session.download_over(data);
    // And can't say that they are somebody else.
    let mut other = balanced.session(CLIENT);
    let header = v1(SocketAddr::new(other.client.ip(), 40001), end(BALANCER));
    let port = other.control.epsv().port();
    let at = SocketAddr::new(balanced.proxy.explicit().ip(), port);
    match Wire::try_connect_from(ip(A_CLIENT), at) {
        Ok(mut data) => {
            // It may be reset already.
            let _ = data.write_all(&header);
            assert_eq!(data.read_to_end().1, End::Reset);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn active_mode_goes_to_the_client_past_the_balancer_be_it_of_another_family() {
    let balanced = Balanced::trusting(BALANCERS);
    for client in [A_CLIENT, "::1"] {
        let listener = TcpListener::bind((ip(client), 0)).expect("an address of this machine");
        let at = listener.local_addr().expect("it is bound");
        let mut session = balanced.session(&SocketAddr::new(at.ip(), 40000).to_string());
        let family = if at.is_ipv4() { 1 } else { 2 };
        let eprt = format!("EPRT |{family}|{client}|{}|", at.port());
        session.control.command(&eprt, 200);
        session.control.command("RETR file", 150);
        let (data, _) = listener.accept().expect("the proxy connects");
        let mut data = Wire::new(data);
        protect(&mut data, &session.tls).expect("a handshake");
        assert_eq!(data.read_to_end(), (b"content".to_vec(), End::CloseNotify));
        session.control.expect(226);
    }
}

#[test]
fn a_reload_puts_listener_and_data_ports_behind_a_balancer_and_takes_them_out_again() {
    let balanced = Balanced::trusting(BALANCERS);
    let behind = balanced.proxy.config().to_yaml();
    let header = format!("    proxy_protocol: {{trusted: [{BALANCERS:?}]}}\n");
    let without = behind.replace(&header, "");
    assert_ne!(without, behind);
    for _ in 0..2 {
        balanced.proxy.reload(&without);
        let mut direct = balanced.front.session(&balanced.proxy, "alice");
        assert_eq!(direct.download("file"), b"content");
        balanced.proxy.reload(&behind);
        let mut session = balanced.session(CLIENT);
        let data = session.relayed_data();
        session.download_over(data);
    }
}

#[test]
fn a_reload_that_adds_a_balancer_or_removes_it_leaves_live_sessions_their_data_connections() {
    let balanced = Balanced::trusting(BALANCERS);
    let behind = balanced.proxy.config().to_yaml();
    let header = format!("    proxy_protocol: {{trusted: [{BALANCERS:?}]}}\n");
    let without = behind.replace(&header, "");
    let mut relayed = balanced.session(CLIENT);
    balanced.proxy.reload(&without);
    let mut direct = balanced.front.session(&balanced.proxy, "alice");
    for config in [&without, &behind, &without] {
        balanced.proxy.reload(config);
        let data = relayed.relayed_data();
        relayed.download_over(data);
        assert_eq!(direct.download("file"), b"content");
    }
}

#[test]
fn real_clients_transfer_through_a_real_balancer() {
    for (send, data) in [
        ("send-proxy", DataMode::Pasv),
        ("send-proxy-v2", DataMode::Epsv),
    ] {
        let loopback = Loopback::claim();
        let balanced = Balanced::trusting(&format!("{}/32", loopback.ip()));
        let explicit = balanced.proxy.explicit();
        let ports = [explicit.port(), 50_000];
        let balancer = Balancer::start(loopback, send, explicit.ip(), &ports);
        let (at, ca) = (balancer.at(explicit.port()), balanced.front.ca());
        for (seed, client) in (1..).zip(RealClient::ALL) {
            let login = Login::new(at, "alice", "secret")
                .tls(ClientTls::Explicit, &ca)
                .name(NAME)
                .data(data);
            let content = content::bytes(seed, 300_000);
            let name = format!("{client:?}");
            login.upload(client, &content, &name).expect_success();
            let back = login.download(client, &name).expect_success();
            assert!(back.content == content, "{send} {client:?} {data:?}");
        }
        let ended = |line: &LogLine| line.message() == "session ended";
        let line = balanced.proxy.wait_for_log(ended);
        let client = line.field("client").unwrap_or_default();
        assert!(client.starts_with("127.0.0.1:"), "{client}");
        assert_eq!(
            balanced.faults("malformed") + balanced.faults("missing"),
            0.0
        );
    }
}
