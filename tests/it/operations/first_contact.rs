//! What an operator meets on the first day: notes of `check` that `run` repeats, listeners side by side, ports that are taken.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Output;

use testkit::certs::{Authority, Pair, Validity};
use testkit::client_certs::Kind;
use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::process::Process;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, open_data, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::End;
use time::Duration;

use crate::program::{self, Before, Start};

fn portcullis(command: &str, yaml: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("portcullis.yaml");
    std::fs::write(&file, yaml).expect("it is writable");
    program::command()
        .args([command, "--config"])
        .arg(file)
        .output()
        .expect("cargo built it")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn run_warns_of_what_check_notes() {
    let authority = Authority::new("some authority");
    let alone = "contains only the leaf certificate, issued by CN=some authority: append the issuer's certificate unless clients have it as a root";
    let short_lived = |left| authority.issue_for(&["proxy.test"], Validity::For(left));
    let cases: [(Pair, &[&str]); 8] = [
        (authority.issue(&["proxy.test"]), &[alone]),
        (
            authority.issue_ed25519(&["proxy.test"]),
            &[
                "the certificate has an Ed25519 key: programs that use the TLS of Windows",
                alone,
            ],
        ),
        // Of six days, and of 30 hours.
        (short_lived(Duration::days(5)), &[alone]),
        (
            short_lived(Duration::hours(6)),
            &["tls.crt expires soon, on 20", alone],
        ),
        (
            Pair::self_signed(&["192.0.2.1", "::1"], Validity::Now),
            &[
                "the certificate is only for 192.0.2.1, ::1: clients that connect by a host name will reject it",
            ],
        ),
        (
            Pair::self_signed(&[], Validity::Now),
            &["the certificate has no DNS name: clients will reject it"],
        ),
        (
            authority.issue_client("alice", Kind::Good).pair,
            &[
                "the certificate is not for servers (no serverAuth among its purposes): clients that verify will reject it",
                alone,
            ],
        ),
        (
            Pair::self_signed(&["proxy.test", "dot.test.", "f*.test"], Validity::Now),
            &["the certificate has names that it is never shown for (dot.test., f*.test):"],
        ),
    ];
    for (pair, notes) in cases {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Config::new(&pair.write(directory.path()));
        let config = config
            .site(&Site::default("only", "127.0.0.1:990"))
            .site(&Site::hosts("other", &["other.test"], "127.0.0.2:21"));
        let output = portcullis("check", &config.to_yaml());
        let said = said(&output);
        assert!(output.status.success(), "{said}");
        let checked: Vec<(&str, &str)> = said
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(severity, _)| ["warning", "hint"].contains(severity))
            .collect();
        for note in notes {
            assert!(checked.iter().any(|line| line.1.contains(note)), "{said}");
        }
        for note in [
            "site only: backend 127.0.0.1:990 has the port of implicit TLS",
            "site other: the certificate does not cover other.test",
        ] {
            assert!(
                checked.iter().any(|line| line.1.starts_with(note)),
                "{said}"
            );
        }
        assert_eq!(checked.len(), notes.len() + 2, "{said}");

        let proxy = Proxy::start(config);
        for (severity, note) in checked {
            // A root may issue leaves itself, a host be named in USER alone, and clients be known.
            let may_be_meant_so = [alone, "does not cover", "has an Ed25519 key"]
                .iter()
                .any(|hint| note.contains(hint));
            let expected = if may_be_meant_so {
                ("hint", "INFO")
            } else {
                ("warning", "WARN")
            };
            let logged = proxy.wait_for_log(|line| line.message() == note);
            let level = logged.field("level").expect("every line has one");
            assert_eq!((severity, level.as_str()), expected, "{note}");
        }
    }
}

#[test]
fn a_certificate_with_its_intermediate_gets_no_note() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new("some authority");
    let mut pair = authority.issue(&["proxy.test"]);
    pair.certificate += authority.pem();
    let config = Config::new(&pair.write(directory.path()));
    let config = config.site(&Site::default("only", "127.0.0.1:21"));
    let output = portcullis("check", &config.to_yaml());
    for severity in ["warning: ", "hint: "] {
        assert!(!said(&output).contains(severity), "{}", said(&output));
    }
    assert!(
        said(&output).contains(": 2 listeners, 1 site\n"),
        "{}",
        said(&output)
    );
}

#[test]
fn how_many_transfers_of_one_address_the_data_ports_carry_is_told() {
    let front = Front::new(&[]);
    let site = Site::default("only", "127.0.0.1:21");
    for (ports, told) in [
        (
            "50000",
            "data port 50000: for one client address, 1 transfer at a time",
        ),
        (
            "50000-50007",
            "data ports 50000-50007: for one client address, 8 transfers at a time",
        ),
    ] {
        let config = front.config().passive_ports(ports).site(&site);
        let output = portcullis("check", &config.to_yaml());
        let said = said(&output);
        assert!(said.lines().any(|line| line.starts_with(told)), "{said}");
    }
}

#[test]
fn a_new_certificate_is_warned_of_when_it_comes() {
    let front = Front::new(&[]);
    let proxy = front.before(std::net::SocketAddr::from(([127, 0, 0, 1], 21)));
    let file = front.files.certificate.display().to_string();
    let soon = |line: &LogLine| {
        let message = line.message();
        message.contains(&file) && message.contains("expires soon")
    };
    assert!(!proxy.log_lines().iter().any(soon));
    let pair = front.issue(Validity::For(Duration::hours(3)));
    front.files.replace_by_rename(&pair);
    let warning = proxy.wait_for_log(soon);
    assert_eq!(warning.field("level").as_deref(), Some("WARN"));
}

/// A number that no port of 0.0.0.0 has at the moment.
fn free_port() -> u16 {
    let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
    free.local_addr().expect("it is bound").port()
}

#[test]
fn a_listener_on_all_addresses_and_one_on_one_of_them_serve_side_by_side() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    for wildcard_first in [true, false] {
        let (number, data) = (free_port(), free_port());
        let config = front.config().passive_ports(&data.to_string());
        let own = config.explicit();
        let yaml = config.site(&Site::default("only", backend.address()));
        let yaml = yaml.to_yaml();
        let wildcard = format!("  - address: 0.0.0.0:{number}\n    tls: explicit\n");
        let (before, after) = if wildcard_first {
            ("listeners:\n", format!("listeners:\n{wildcard}"))
        } else {
            ("\ntls:\n", format!("\n{wildcard}tls:\n"))
        };
        let file = front.directory().join("side-by-side.yaml");
        std::fs::write(&file, yaml.replace(before, &after)).expect("it is writable");
        let mut command = program::command();
        command.args(["run", "--config"]).arg(file);
        let mut proxy = Process::start(command, front.directory(), &[]);
        for address in [own, (Ipv4Addr::LOCALHOST, number).into()] {
            proxy.poll("a listener", || TcpStream::connect(address).ok());
            let tls = front.tls(NAME);
            let mut client = Raw::connect_auth_tls(address, &tls);
            client.login("alice", "secret");
            client.protect_data();
            let at = client.epsv();
            assert_eq!(at.port(), data);
            let mut connection = open_data(at);
            client.command("RETR file", 150);
            protect(&mut connection, &tls).expect("a handshake");
            let content = connection.read_to_end();
            assert_eq!(content, (b"content".to_vec(), End::CloseNotify));
            client.expect(226);
        }
    }
}

#[test]
fn a_port_that_is_taken_or_not_allowed_is_told_with_whose_remedy() {
    let front = Front::new(&[]);
    let config = front.config().site(&Site::default("only", "127.0.0.1:21"));
    let yaml = config.to_yaml();
    let explicit = config.explicit();
    let taken = TcpListener::bind(explicit).expect("the test's own");
    let output = portcullis("run", &yaml);
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    let last = text.lines().last().unwrap_or_default();
    let wanted =
        format!("portcullis: the listener {explicit} can't be opened: Address already in use");
    assert!(last.starts_with(&wanted), "{text}");
    assert!(
        last.contains(&format!("ss -tanp 'sport = :{}'", explicit.port())),
        "{text}"
    );
    drop(taken);

    let passive = std::net::SocketAddr::new(explicit.ip(), 50_000);
    let taken = TcpListener::bind(passive).expect("the test's own");
    let output = portcullis("run", &yaml);
    let text = said(&output);
    assert!(
        text.contains(&format!("the passive port {passive} can't be opened: ")),
        "{text}"
    );
    assert!(
        text.contains("net.ipv4.ip_local_reserved_ports=50000"),
        "{text}"
    );
    drop(taken);

    let elsewhere = yaml.replace(&explicit.to_string(), "192.0.2.1:2121");
    let text = said(&portcullis("run", &elsewhere));
    assert!(
        text.contains("no interface of this machine has the address 192.0.2.1"),
        "{text}"
    );
    assert!(text.contains("listeners"), "{text}");
}
