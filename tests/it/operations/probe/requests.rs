//! What is asked for: which backends, how far, and what can't be had.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use testkit::closed_port::ClosedPort;
use testkit::config::Site;
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;

use super::{Probed, outcomes, stage};
use crate::program;

#[test]
fn without_credentials_everything_before_the_login_is_probed() {
    let backend = Backend::start(Script::new());
    let probed = Probed::new(&[Site::default("only", backend.address())]);
    let said = probed.run(&["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let object = said.only();
    let skipped = outcomes(&object)
        .into_iter()
        .filter(|(_, outcome)| *outcome == "skipped")
        .map(|(stage, _)| stage);
    let skipped: Vec<&str> = skipped.collect();
    assert_eq!(skipped, ["login", "passive", "data", "list"]);
    backend.wait_for_commands("QUIT", 1);
    assert_eq!(backend.commands(), ["FEAT", "QUIT"]);
    assert_eq!(probed.run(&["--format", "nagios"]).code, 0);
}

#[test]
fn a_directory_that_is_named_is_listed() {
    let backend = Backend::start(Script::new().on("LIST /in", [reply("550 no such directory")]));
    let probed = Probed::new(&[Site::default("only", backend.address())]);
    let said = probed.list("probe", &["--path", "/in", "--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.only()["failed_stage"], "list");
    let said = probed.list("probe", &["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_password_that_a_backend_refuses_is_not_sent_to_the_others_of_the_site() {
    let slow = vec![Step::Silence(Duration::from_millis(300)), Step::Default];
    let script = || {
        Script::new()
            .password("another one")
            .on("PASS", slow.clone())
    };
    let backends = [(); 3].map(|()| Backend::start(script()));
    let [one, two, three] = &backends;
    let site = Site::default("only", one.address())
        .also(two.address())
        .also(three.address());
    let probed = Probed::new(&[site]);
    let said = probed.list("probe", &["--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let sent = |backend: &Backend| {
        let commands = backend.commands();
        commands
            .iter()
            .filter(|line| line.starts_with("PASS"))
            .count()
    };
    assert_eq!(backends.iter().map(sent).sum::<usize>(), 1);
    let objects = said.json();
    let failed = objects
        .iter()
        .filter(|object| object["failed_stage"] == "login");
    assert_eq!(failed.count(), 1);
    let skipped = objects.iter().filter(|object| {
        let login = stage(object, "login");
        login["outcome"] == "skipped" && login["detail"].to_string().contains("has refused")
    });
    assert_eq!(skipped.count(), 2);
    let said = probed.list("probe", &["--format", "nagios"]);
    assert_eq!(said.code, 1, "{said:?}");
}

#[test]
fn backends_are_reported_in_the_order_of_the_file_and_counted() {
    let backends = [(); 20].map(|()| Backend::start(Script::new()));
    let nobody = ClosedPort::refusing();
    let mut sites: Vec<Site> = (0..)
        .zip(&backends)
        .map(|(number, backend)| {
            let host = format!("s{number}.test");
            Site::hosts(&format!("s{number}"), &[&host], backend.address())
        })
        .collect();
    sites.push(Site::hosts("last", &["last.test"], nobody.address()));
    let probed = Probed::new(&sites);
    let said = probed.run(&["--format", "json"]);
    let names: Vec<String> = said
        .json()
        .iter()
        .map(|line| line["site"].to_string())
        .collect();
    let expected = (0..20).map(|number| format!("\"s{number}\""));
    let expected: Vec<String> = expected.chain(["\"last\"".to_owned()]).collect();
    assert_eq!(names, expected);
    let said = probed.run(&[]);
    assert_eq!(said.code, 1);
    let end = format!(
        "21 backends: 20 work, 1 fails\n  site last, backend {}: connect\n",
        nobody.address()
    );
    assert!(said.stdout.ends_with(&end), "{}", said.stdout);

    let one = backends[7].address();
    let of_one = probed.run(&["--format", "json", "--backend", &one.to_string()]);
    assert_eq!(of_one.only()["site"], "s7");
    let by_host = probed.run(&["--format", "json", "--backend", &one.ip().to_string()]);
    assert_eq!(by_host.only()["site"], "s7");
}

#[test]
fn what_cannot_be_probed_is_said_and_is_two_or_for_nagios_three() {
    let backend = Backend::start(Script::new());
    let address = backend.address().to_string();
    let probed = Probed::new(&[
        Site::default("ftpa", &address),
        Site::hosts("ftpb", &["ftpb.test"], &address),
    ]);
    let password_file = probed.password_file.to_str().expect("UTF-8");
    let missing = probed.front.directory().join("missing.pw");
    let missing = missing.to_str().expect("UTF-8");
    let there_are = format!("no backend is called `10.0.0.1`; there are: {address}");
    let cases: [(&[&str], &str); 9] = [
        (
            &["--site", "ftpx"],
            "no site is called `ftpx`; did you mean `ftpa`? There are: ftpa, ftpb",
        ),
        (&["--backend", "10.0.0.1"], &there_are),
        (&["--user", "probe"], "--user needs --password-file"),
        (
            &["--password-file", password_file],
            "--password-file needs --user",
        ),
        (&["--list"], "--list needs a login"),
        (&["--path", "/in"], "--path needs --list"),
        (
            &["--user", "probe", "--password-file", missing],
            "missing.pw: the password can't be read",
        ),
        (
            &["--user", "probe", "--password-file", "/dev/zero"],
            "isn't in a regular file",
        ),
        (
            &["--user", "pro\nbe", "--password-file", password_file],
            "can't be sent as USER",
        ),
    ];
    for (arguments, message) in cases {
        let said = probed.run(arguments);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(
            said.stdout.is_empty() && said.stderr.contains(message),
            "{said:?}"
        );
        let said = probed.run(&[arguments, &["--format", "nagios"]].concat());
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stdout.starts_with("PORTCULLIS UNKNOWN - "), "{said:?}");
        assert!(said.stdout.contains(message), "{said:?}");
    }
    assert_eq!(backend.connections(), 0);

    std::fs::write(&probed.config, "listeners: [").expect("it is writable");
    assert_eq!(probed.run(&[]).code, 2);
    assert_eq!(probed.run(&["--format", "nagios"]).code, 3);
    std::fs::remove_file(&probed.config).expect("it was just written");
    assert_eq!(probed.run(&[]).code, 2);
}

#[test]
fn a_backend_is_called_by_its_name_too() {
    let backends = [(); 2].map(|()| Backend::start(Script::new()));
    let [one, other] = backends.each_ref().map(Backend::address);
    let sites = [
        Site::default("ftpa", one).backend("name", "oldiis"),
        Site::hosts("ftpb", &["ftpb.test"], other),
    ];
    let probed = Probed::new(&sites);
    let said = probed.run(&["--backend", "oldiis"]);
    let start = format!("site ftpa, backend {one} (oldiis), without TLS\n");
    assert!(said.stdout.starts_with(&start), "{said:?}");
    let said = probed.run(&["--backend", "oldisi"]);
    let message = format!("did you mean `oldiis`? There are: oldiis, {one}, {other}");
    assert!(said.stderr.contains(&message), "{said:?}");
}

#[test]
fn an_interrupt_ends_it_at_once() {
    let (arrived, never) = (Gate::new(), Gate::new());
    let silence = vec![Step::Open(arrived.clone()), Step::Wait(never)];
    let backend = Backend::start(Script::new().greeting(silence));
    let site = Site::default("only", backend.address());
    let probed = Probed::with(Front::new(&[]), &[site], |config| config);
    // A shell has its background jobs ignore the signal, and these tests may be one.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program::PORTCULLIS);
    command.args(probed.command(&[]).get_args());
    let mut running = command.spawn().expect("coreutils have it");
    assert!(arrived.wait());
    send_signal("INT", &running.id().to_string());
    let status = running.wait().expect("it is ours");
    assert_eq!(status.signal(), Some(2), "{status}");
}
