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

#[test]
fn the_command_line_announces_a_port_to_every_client_whatever_the_file_says_now_or_later() {
    let rules = "[{networks: [127.66.0.0/16], address: control}]";
    let nat = Nat::new(|config| config.announce("60001").passive("by_client", rules));
    let own = nat.proxy.explicit().ip();
    let announced = (SocketAddr::new(own, 60_001), 60_001);
    assert_eq!(nat.announced(INSIDE), announced);
    assert_eq!(nat.announced(OUTSIDE), announced);
    let lines = nat.proxy.log_lines();
    let ports = lines
        .iter()
        .find(|line| line.message() == "passive ports open");
    assert_eq!(
        ports
            .and_then(|line| line.field("announced_first"))
            .as_deref(),
        Some("60001")
    );

    let yaml = nat.proxy.config().to_yaml();
    let other = yaml.replace("passive:\n", "passive:\n  announced_ports: 61000\n");
    nat.proxy.reload(&other);
    assert_eq!(nat.announced(OUTSIDE), announced);

    // As many as there are ports, after a reload as well.
    nat.proxy.rewrite_config(
        &other
            .replace("ports: 50000\n", "ports: 50000-50001\n")
            .replace("announced_ports: 61000", "announced_ports: 61000-61001"),
    );
    nat.proxy.signal(Signal::Reload);
    let refused = nat
        .proxy
        .wait_for_log(|line| line.message().starts_with("reload refused"));
    let error = refused.field("error").unwrap_or_default();
    assert!(
        error.contains(
            "--announced-ports 60001: not as many ports as `passive.ports` has (50000-50001)"
        ),
        "{error}"
    );
    assert_eq!(nat.announced(OUTSIDE), announced);
}

#[test]
fn ports_on_the_command_line_that_can_not_be_announced_are_refused_by_every_command_that_takes_them()
 {
    let front = Front::new(&[]);
    let config = front.config().site(&Site::default("only", "127.0.0.1:21"));
    let file = front.directory().join("portcullis.yaml");
    std::fs::write(&file, config.to_yaml()).expect("it is writable");
    let run = |command: &[&str], ports: &str| {
        let mut run = program::command();
        run.args(command)
            .arg("--config")
            .arg(&file)
            .args(["--announced-ports", ports]);
        let output = run.output().expect("cargo built it");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    for command in [&["run"][..], &["check"], &["explain", "alice"]] {
        let (code, said) = run(command, "60001-60002");
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("portcullis.yaml: --announced-ports 60001-60002: not as many ports"),
            "{said}"
        );
        assert!(said.contains("= write 60001"), "{said}");
        let (code, said) = run(command, "6000a");
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains(
                "--announced-ports <RANGE>': `6000a` isn't a port; write one port such as 30000"
            ),
            "{said}"
        );
    }
    let (code, said) = run(&["check"], "60001");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("data port 50000, announced as 60001: "),
        "{said}"
    );
    let (code, said) = run(&["explain", "alice"], "60001");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(", ports 60001-60001"), "{said}");
}
