//! Listeners behind a load balancer, which says by a PROXY protocol header who the client is. The tests are the
//! balancer.

use std::io::Write;
use std::net::SocketAddr;

use crate::support::config::Site;
use crate::support::front::{Front, NAME};
use crate::support::proxy::{LogLine, Proxy};
use crate::support::proxy_header::{v1, v2, v2_of};
use crate::support::raw::Raw;
use crate::support::script::Script;
use crate::support::scripted::Backend;
use crate::support::wire::Wire;

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
    // As probes do that only try whether a port is open.
    drop(balanced.connect(b""));
    let ended = |line: &LogLine| {
        line.field("error")
            .is_some_and(|error| error.starts_with("the connection ended before"))
    };
    balanced.proxy.wait_for_log(ended);
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
