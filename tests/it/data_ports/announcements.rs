//! What clients are told of the passive ports where NAT stands between them and the proxy.

use std::net::{IpAddr, SocketAddr};

use testkit::config::{Config, Site};
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::{Raw, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::{self, Start};

/// Clients of two networks of one machine.
const INSIDE: &str = "127.66.0.7";
const OUTSIDE: &str = "127.99.0.7";

struct Nat {
    front: Front,
    proxy: Proxy,
    content: Vec<u8>,
    _backend: Backend,
}

impl Nat {
    fn new(configure: impl FnOnce(Config) -> Config) -> Self {
        let content = content::bytes(1, 100_000);
        let backend = Backend::start(Script::new().file("file", content.clone()));
        let front = Front::new(&[]);
        let config = front
            .config()
            .site(&Site::default("ftpa", backend.address()));
        Self {
            proxy: Proxy::start(configure(config)),
            front,
            content,
            _backend: backend,
        }
    }

    fn client(&self, from: &str) -> Raw {
        let from: IpAddr = from.parse().expect("an address");
        let mut client = Raw::over(Wire::connect_from(from, self.proxy.explicit()));
        client.expect(220);
        client.auth_tls(&self.front.tls(NAME));
        client.login("alice", "secret");
        client.protect_data();
        client
    }

    /// What PASV and EPSV tell a client from this address.
    fn announced(&self, from: &str) -> (SocketAddr, u16) {
        let mut client = self.client(from);
        (client.pasv(), client.epsv().port())
    }

    /// What is announced where nothing else is said.
    fn as_it_is(&self) -> (SocketAddr, u16) {
        (SocketAddr::new(self.proxy.explicit().ip(), 50_000), 50_000)
    }
}

#[test]
fn clients_are_told_the_address_that_they_connected_to_unless_it_is_configured() {
    for nat in [
        Nat::new(|config| config),
        Nat::new(|config| config.passive("address", "control")),
    ] {
        assert_eq!(nat.announced(OUTSIDE), nat.as_it_is());
    }
    let nat = Nat::new(|config| config.passive("address", "203.0.113.10"));
    let address = "203.0.113.10:50000".parse().expect("an address");
    assert_eq!(nat.announced(OUTSIDE), (address, 50_000));
}

#[test]
fn the_network_of_the_client_decides_what_it_is_told() {
    let rules = "[{networks: [10.0.0.0/8], address: 10.0.0.1}, {networks: [127.66.0.0/16], address: control}]";
    let nat = Nat::new(|config| {
        config
            .passive("address", "203.0.113.10")
            .passive("announced_ports", "60000")
            .passive("by_client", rules)
    });
    assert_eq!(nat.announced(INSIDE), nat.as_it_is());
    let address = "203.0.113.10:60000".parse().expect("an address");
    assert_eq!(nat.announced(OUTSIDE), (address, 60_000));
}

#[test]
fn each_port_is_announced_by_the_number_that_it_has_outside() {
    let nat = Nat::new(|config| {
        config
            .passive_ports("50000-50003")
            .passive("announced_ports", "60000-60003")
    });
    let mut client = nat.client(OUTSIDE);
    let tls = nat.front.tls(NAME);
    for number in 0..8 {
        let outside = if number % 2 == 0 {
            client.epsv()
        } else {
            client.pasv()
        };
        assert!((60_000..60_004).contains(&outside.port()), "{outside}");
        // What a NAT gateway does.
        let inside = SocketAddr::new(outside.ip(), outside.port() - 10_000);
        let from = OUTSIDE.parse().expect("an address");
        let mut data = Wire::connect_from(from, inside);
        client.command("RETR file", 150);
        protect(&mut data, &tls).expect("a handshake");
        let (content, end) = data.read_to_end();
        assert!(content == nat.content && end == End::CloseNotify);
        client.expect(226);
    }
}

#[test]
fn a_name_is_announced_by_its_address() {
    let nat = Nat::new(|config| config.passive("address", "localhost"));
    let address = "127.0.0.1:50000".parse().expect("an address");
    assert_eq!(nat.announced(OUTSIDE), (address, 50_000));

    let check = program::command()
        .args(["check", "--config"])
        .arg(nat.proxy.config_file())
        .output()
        .expect("cargo built it");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{said}");
    assert!(
        said.contains("passive address localhost: 127.0.0.1\n"),
        "{said}"
    );
}

#[test]
fn a_reload_to_a_name_that_has_no_address_is_refused_and_what_is_announced_stays() {
    let nat = Nat::new(|config| config.passive("address", "203.0.113.10"));
    let yaml = nat.proxy.config().to_yaml();
    nat.proxy
        .rewrite_config(&yaml.replace("address: 203.0.113.10", "address: nowhere.invalid"));
    nat.proxy.signal(Signal::Reload);
    let refused = |line: &LogLine| line.message().starts_with("reload refused");
    let line = nat.proxy.wait_for_log(refused);
    let error = line.field("error").expect("the field is there");
    assert!(error.starts_with("nowhere.invalid, the name of the passive address"));
    assert_eq!(nat.announced(OUTSIDE).0.ip().to_string(), "203.0.113.10");
}

#[test]
fn a_reload_changes_what_new_sessions_are_told() {
    let nat = Nat::new(|config| config.passive("address", "203.0.113.10"));
    let mut before = nat.client(OUTSIDE);
    let yaml = nat.proxy.config().to_yaml();
    nat.proxy
        .reload(&yaml.replace("address: 203.0.113.10", "address: 203.0.113.20"));
    let after = nat.announced(OUTSIDE).0;
    assert_eq!(after.ip().to_string(), "203.0.113.20");
    assert_eq!(before.pasv().ip().to_string(), "203.0.113.10");
}
