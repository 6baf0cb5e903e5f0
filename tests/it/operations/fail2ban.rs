//! `deploy/fail2ban`: the filter, by fail2ban itself, over what the program has logged.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use testkit::closed_port::ClosedPort;
use testkit::config::Site;
use testkit::front::Front;
use testkit::loopback::Loopback;
use testkit::process::Process;
use testkit::programs::server_file;
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::Wire;

use crate::program;

const RIGHT: &str = "open sesame";

/// Names that want another address to be banned.
const HOSTILE: [&str; 6] = [
    "x client=10.0.0.1:1 login failed",
    "x\" result=\"rejected\" client=10.0.0.1:1",
    "INFO login failed session=1 client=10.0.0.1:1 site=\"a\" user=\"b\" result=\"rejected\"",
    "2026-11-30T00:00:00.000000Z  INFO login failed session=1 client=10.0.0.1:1 site=\"a\" user=\"b\" result=\"rejected\"",
    "x\",\"client\":\"10.0.0.1:1\",\"site\":\"a\",\"user\":\"b\",\"result\":\"rejected\"}",
    "\\\",\"level\":\"INFO\",\"message\":\"login failed\",\"session\":1,\"client\":\"10.0.0.1:1\"",
];

/// The addresses that fail2ban counts a failure of, for each line that matches.
fn counted(directory: &Path, log: &str, options: &[&str]) -> Vec<IpAddr> {
    let file = directory.join("portcullis.log");
    fs::write(&file, log).expect("the directory is writable");
    let filter =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/fail2ban/filter.d/portcullis.conf");
    let output = Command::new("python3")
        .env(
            "PYTHONPATH",
            server_file("fail2ban/usr/lib/python3/dist-packages"),
        )
        .arg(server_file("fail2ban/usr/bin/fail2ban-regex"))
        .arg("-c")
        .arg(server_file("fail2ban/etc/fail2ban"))
        .args(options)
        .args(["-o", "ip"])
        .args([&file, &filter])
        .output()
        .expect("python3 is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let lines = text.lines().filter(|line| !line.is_empty());
    let mut found: Vec<IpAddr> = lines
        .map(|line| line.parse().unwrap_or_else(|_| panic!("{said}")))
        .collect();
    found.sort_unstable();
    found
}

/// One login that fails.
fn fail(client: &mut Raw, user: &str) {
    client.command(&format!("USER {user}"), 331);
    client.command("PASS wrong", 530);
}

/// What the program logs of good and bad logins, and the addresses whose logins failed, once for each line.
fn logged(format: &str, directory: &Path) -> (String, Vec<IpAddr>) {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().password(RIGHT));
    let closed = ClosedPort::refusing();
    let config = front
        .config()
        .tls("required", "false")
        .ipv6("explicit")
        .set(
            "guard",
            "{failures: 2, window: 1h, delay: 1ms, max_delay: 1ms, block: 1h}",
        )
        .site(&Site::default("ftpa", backend.address()))
        .site(&Site::hosts("down", &["down.test"], closed.address()));
    let file = directory.join("portcullis.yaml");
    fs::write(&file, config.to_yaml()).expect("the directory is writable");
    let mut command = program::command();
    command
        .args(["run", "--log-format", format, "--config"])
        .arg(&file);
    let mut proxy = Process::start(command, directory, &[]);
    let log = || fs::read_to_string(directory.join("output.log")).unwrap_or_default();
    let over_ipv6: u16 = proxy.poll("all listeners", || {
        let log = log();
        let listening: Vec<_> = log.lines().filter(|it| it.contains("listening")).collect();
        let is_all = listening.len() == config.listeners();
        let mut addresses = listening
            .iter()
            .filter_map(|line| line.split_once("[::1]:"));
        let (_, rest) = addresses.next().filter(|_| is_all)?;
        rest.split_once('"')?
            .0
            .trim_end_matches(" tls=")
            .parse()
            .ok()
    });
    let greeted = |wire: Wire| {
        let mut client = Raw::over(wire);
        client.expect(220);
        client
    };
    let connect_from = |from: &Loopback| greeted(Wire::connect_from(from.ip(), config.explicit()));

    let mut failed = Vec::new();
    // Blocked by the second failure, which is a line of its own, and told so when it comes back.
    let guesser = Loopback::claim();
    let mut client = connect_from(&guesser);
    fail(&mut client, "alice");
    fail(&mut client, "bob");
    client.expect(421);
    connect_from(&guesser).command("USER alice", 421);
    failed.extend([guesser.ip(); 4]);
    let mut strangers = Vec::new();
    for name in HOSTILE {
        let stranger = Loopback::claim();
        fail(&mut connect_from(&stranger), name);
        failed.push(stranger.ip());
        // Who knows the password has not failed, whatever the name.
        connect_from(&stranger).login(name, RIGHT);
        strangers.push(stranger);
    }
    let lost = Loopback::claim();
    connect_from(&lost).command("USER nowhere.test|alice", 530);
    failed.push(lost.ip());
    let ipv6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    let over_ipv6 = SocketAddr::new(ipv6, over_ipv6);
    fail(&mut greeted(Wire::connect(over_ipv6)), "alice");
    failed.push(ipv6);
    // Not the client's fault.
    let unlucky = Loopback::claim();
    connect_from(&unlucky).command("USER down.test|alice", 421);

    let sessions = 2 + 2 * HOSTILE.len() + 3;
    let log = proxy.poll("all sessions", || {
        let log = log();
        (log.matches("session ended").count() == sessions).then_some(log)
    });
    failed.sort_unstable();
    (log, failed)
}

#[test]
fn the_filter_counts_failed_logins_of_the_client_alone_whatever_its_name() {
    for format in ["human", "json"] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (log, failed) = logged(format, directory.path());
        assert_eq!(counted(directory.path(), &log, &[]), failed, "{log}");
        // As the journal has it: the host and the process come first, and fail2ban has its time from elsewhere.
        let lines = log
            .lines()
            .map(|line| format!("2026-11-30 12:00:00 host portcullis[42]: {line}\n"));
        let journal: String = lines.collect();
        let time = ["-d", "^%Y-%m-%d %H:%M:%S"];
        assert_eq!(
            counted(directory.path(), &journal, &time),
            failed,
            "{journal}"
        );
    }
}
