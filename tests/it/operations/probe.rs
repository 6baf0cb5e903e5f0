//! `portcullis probe`: what it finds at good backends, and which stage, remedy and exit code it has for each fault.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::certs::{Authority, Validity};
use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::loopback::Loopback;
use testkit::script::{Gate, Headers, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security, Server};
use testkit::wire::End;
use testkit::{proftpd, pureftpd, vsftpd};

use crate::program;

/// What every output is searched for.
const PASSWORD: &str = "hunter2-of-the-probe";

/// A configuration file, and a password beside it.
struct Probed {
    front: Front,
    config: PathBuf,
    password_file: PathBuf,
}

/// What the program has written, and its exit code.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Probed {
    fn new(sites: &[Site]) -> Self {
        Self::of(Front::new(&[]), sites)
    }

    fn of(front: Front, sites: &[Site]) -> Self {
        let config = front.config().timeout("backend_attempt", "2s");
        let yaml = sites.iter().fold(config, Config::site).to_yaml();
        let config = front.directory().join("portcullis.yaml");
        std::fs::write(&config, yaml).expect("the test's directory is writable");
        let password_file = front.directory().join("probe.pw");
        let probed = Self {
            front,
            config,
            password_file,
        };
        probed.password(PASSWORD);
        probed
    }

    fn password(&self, password: &str) {
        std::fs::write(&self.password_file, format!("{password}\n")).expect("it is writable");
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let output = program::command()
            .arg("probe")
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .output()
            .expect("cargo built it");
        let said = Said {
            code: output.status.code().expect("it was not killed"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        };
        let both = said.stdout.clone() + &said.stderr;
        assert!(!both.contains(PASSWORD), "{both}");
        said
    }

    /// The same with a login and a listing.
    fn list(&self, user: &str, more: &[&str]) -> Said {
        let file = self.password_file.to_str().expect("UTF-8");
        let login = ["--user", user, "--password-file", file, "--list"];
        self.run(&[&login, more].concat())
    }
}

impl Said {
    /// The objects of `--format json`.
    fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        let read = |line| serde_json::from_str(line).expect("an object a line");
        let objects: Vec<Value> = lines.map(read).collect();
        assert!(objects.iter().all(|object| object["version"] == 1));
        objects
    }

    fn only(&self) -> Value {
        let [object] = &self.json()[..] else {
            panic!("{self:?}");
        };
        object.clone()
    }
}

fn stage<'a>(object: &'a Value, stage: &str) -> &'a Value {
    let stages = object["stages"].as_array().expect("stages");
    let found = stages.iter().find(|made| made["stage"] == stage);
    found.unwrap_or_else(|| panic!("no {stage} in {object}"))
}

fn outcomes(object: &Value) -> Vec<(&str, &str)> {
    let stages = object["stages"].as_array().expect("stages").iter();
    stages
        .map(|stage| {
            let word = |key: &str| stage[key].as_str().expect("a word");
            (word("stage"), word("outcome"))
        })
        .collect()
}

#[track_caller]
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert!(line == line.trim_end(), "{line:?}");
    }
}

#[test]
fn everything_works_at_real_servers_and_data_connections_resume() {
    let authority = Authority::new("authority of backends");
    let pair = authority.issue(&["backend.test"]);
    let explicit = |reuse| Security::Explicit(&pair, reuse);
    let servers: [(&str, Server, Option<&str>); 6] = [
        ("vsftpd", vsftpd::start(Security::Plain), None),
        (
            "vsftpd-tls",
            vsftpd::start(explicit(Reuse::Required)),
            Some("explicit"),
        ),
        (
            "vsftpd-implicit",
            vsftpd::start(Security::Implicit(&pair, Reuse::Required)),
            Some("implicit"),
        ),
        (
            "proftpd-tls",
            proftpd::start(explicit(Reuse::Required)),
            Some("explicit"),
        ),
        ("pureftpd", pureftpd::start(Security::Plain), None),
        (
            "pureftpd-tls",
            pureftpd::start(explicit(Reuse::Optional)),
            Some("explicit"),
        ),
    ];
    let front = Front::new(&[]);
    let ca = authority.write(front.directory());
    let sites = servers.each_ref().map(|(name, server, tls)| {
        let host = format!("{name}.test");
        let site = Site::hosts(name, &[&host], server.address());
        match tls {
            None => site,
            Some(start) => site
                .backend_tls(start, Some(&ca))
                .backend("server_name", "backend.test"),
        }
    });
    let probed = Probed::of(front, &sites);
    for (name, server, tls) in &servers {
        std::fs::write(server.root().join("a.txt"), "some bytes").expect("it is the test's");
        probed.password(server.password());
        let said = probed.list(server.user(), &["--site", name, "--format", "json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let object = said.only();
        assert_eq!(object["outcome"], "ok");
        let outcomes = outcomes(&object);
        assert!(outcomes.iter().all(|(_, outcome)| *outcome == "ok"));
        let expected = match tls {
            None => 8,
            Some("implicit") => 12,
            Some(_) => 13,
        };
        assert_eq!(outcomes.len(), expected, "{outcomes:?}");
        assert!(stage(&object, "list")["bytes"].as_u64() > Some(10));
        let features = stage(&object, "features")["features"].to_string();
        assert!(features.contains("EPSV"), "{features}");
        if tls.is_some() {
            let handshake = stage(&object, "handshake");
            assert_eq!(handshake["tls_version"], "1.2");
            assert_eq!(stage(&object, "data_handshake")["resumed"], true);
            let certificate = stage(&object, "certificate");
            assert_eq!(certificate["subject"], "CN=backend.test");
            assert_eq!(certificate["issuer"], "CN=authority of backends");
            assert_eq!(certificate["trust"], "verified");
            assert!(matches!(object["days_left"].as_i64(), Some(88..=90)));
        }

        let said = probed.list(server.user(), &["--site", name]);
        assert_eq!(said.code, 0, "{said:?}");
        fits(&said.stdout);
        assert!(!said.stdout.contains("skipped"), "{}", said.stdout);
        let said = probed.list(server.user(), &["--site", name, "--format", "nagios"]);
        assert_eq!(said.code, 0, "{said:?}");
        let start = "PORTCULLIS OK - 1 backend works | '";
        assert!(said.stdout.starts_with(start), "{said:?}");
        assert_eq!(said.stdout.lines().count(), 1);
    }
}

/// A backend that is at fault.
struct Fault {
    stage: &'static str,
    error: &'static str,
    remedy: &'static str,
    site: Site,
    _backend: Option<Backend>,
}

fn fault(
    stage: &'static str,
    error: &'static str,
    remedy: &'static str,
    script: Script,
    more: impl FnOnce(Site) -> Site,
) -> Fault {
    let backend = Backend::start(script);
    Fault {
        stage,
        error,
        remedy,
        site: more(Site::default("only", backend.address())),
        _backend: Some(backend),
    }
}

fn without_backend(
    stage: &'static str,
    error: &'static str,
    remedy: &'static str,
    address: &str,
) -> Fault {
    Fault {
        stage,
        error,
        remedy,
        site: Site::default("only", address),
        _backend: None,
    }
}

fn explicit() -> Script {
    Script::new().tls(ScriptTls::explicit(&rustls::version::TLS12))
}

fn with_tls(site: Site) -> Site {
    site.backend_tls("explicit", None)
}

fn one(text: &str) -> Vec<Step> {
    vec![reply(text)]
}

/// Probes it in all three formats.
#[track_caller]
fn shows(fault: &Fault) {
    let Fault { stage: at, .. } = fault;
    let probed = Probed::new(std::slice::from_ref(&fault.site));
    let said = probed.list("probe", &["--format", "json"]);
    assert_eq!(said.code, 1, "{at}: {said:?}");
    let object = said.only();
    assert_eq!(object["outcome"], "failed");
    assert_eq!(object["failed_stage"], *at, "{object}");
    let failed = stage(&object, at);
    let text = |key: &str| failed[key].as_str().expect("a text").to_owned();
    assert!(text("detail").contains(fault.error), "{failed}");
    assert!(text("remedy").contains(fault.remedy), "{failed}");
    assert!(failed["milliseconds"].is_number(), "{failed}");
    let outcomes = outcomes(&object);
    let place = outcomes.iter().position(|(stage, _)| stage == at);
    let after = &outcomes[place.expect("it is there") + 1..];
    assert!(
        after.iter().all(|(_, outcome)| *outcome == "skipped"),
        "{outcomes:?}"
    );

    let said = probed.list("probe", &[]);
    assert_eq!(said.code, 1, "{at}: {said:?}");
    fits(&said.stdout);
    let name = at.replace('_', " ");
    let mut lines = said.stdout.lines();
    let line = lines.find(|line| line.starts_with(&format!("  {name} ")));
    assert!(
        line.is_some_and(|line| line.contains(" failed ")),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("remedy: "), "{}", said.stdout);

    let said = probed.list("probe", &["--format", "nagios"]);
    let (code, word) = match *at {
        "login" => (1, "WARNING"),
        _ => (2, "CRITICAL"),
    };
    assert_eq!(said.code, code, "{at}: {said:?}");
    let start = format!("PORTCULLIS {word} - 1 of 1 backends fail: only ");
    assert!(said.stdout.starts_with(&start), "{said:?}");
    assert!(said.stdout.contains(&format!("{at} failed: ")), "{said:?}");
}

#[test]
fn a_name_that_is_not_known_fails_at_dns() {
    let error = "can't be resolved";
    shows(&without_backend(
        "dns",
        error,
        "name servers",
        "backend.invalid:21",
    ));
}

#[test]
fn a_port_where_nothing_listens_fails_at_connect() {
    let nobody = Loopback::claim();
    let address = nobody.at(2121).to_string();
    shows(&without_backend(
        "connect",
        "refused",
        "is the server running",
        &address,
    ));
}

#[test]
fn greetings_that_are_none_fail_at_greeting() {
    let silent = Script::new().greeting(vec![Step::Wait(Gate::new())]);
    let no_reply = "no reply after";
    shows(&fault(
        "greeting",
        no_reply,
        "PROXY header",
        silent,
        |site| site,
    ));
    let busy = Script::new().greeting(one("421 too many connections"));
    shows(&fault(
        "greeting",
        "421 too many",
        "raise its limits",
        busy,
        |site| site,
    ));
    let refused = Script::new().greeting(one("530 not you"));
    shows(&fault(
        "greeting",
        "530 not you",
        "allow its address",
        refused,
        |site| site,
    ));
    let other = Script::new().greeting(one("SSH-2.0-OpenSSH_9.2"));
    shows(&fault(
        "greeting",
        "not an FTP reply",
        "no FTP server",
        other,
        |site| site,
    ));
}

#[test]
fn a_server_without_tls_fails_at_auth_and_at_the_handshake() {
    let remedy = "tls: none";
    shows(&fault("auth", "502", remedy, Script::new(), with_tls));
    let implicit = |site: Site| site.backend_tls("implicit", None);
    let remedy = "write `tls: explicit`";
    shows(&fault(
        "handshake",
        "did not speak TLS",
        remedy,
        Script::new(),
        implicit,
    ));
}

#[test]
fn certificates_that_are_refused_fail_at_certificate() {
    let authority = Authority::new("authority of backends");
    let front = Front::new(&[]);
    let ca = authority.write(front.directory());
    let of = |names: &[&str], validity| {
        let pair = authority.issue_for(names, validity);
        let config = pair.server_config(&[&rustls::version::TLS12]);
        Script::new().tls(ScriptTls::Explicit(config))
    };
    let verified = |site: Site| {
        site.backend_tls("explicit", Some(&ca))
            .backend("server_name", "backend.test")
    };
    let expired = of(&["backend.test"], Validity::Expired);
    let remedy = "renew the certificate";
    shows(&fault(
        "certificate",
        "expired on",
        remedy,
        expired,
        verified,
    ));
    let other = of(&["other.test"], Validity::Now);
    let remedy = "server_name: other.test";
    shows(&fault(
        "certificate",
        "not for backend.test",
        remedy,
        other,
        verified,
    ));
    let pair = Authority::new("another authority").issue(&["backend.test"]);
    let config = pair.server_config(&[&rustls::version::TLS12]);
    let by_others = Script::new().tls(ScriptTls::Explicit(config));
    let remedy = "verify: {ca: FILE}";
    shows(&fault(
        "certificate",
        "is not trusted",
        remedy,
        by_others,
        verified,
    ));
}

#[test]
fn a_server_that_protects_no_data_fails_at_protection() {
    let script = explicit().on("PROT", one("536 not here"));
    shows(&fault(
        "protection",
        "536",
        "allow PBSZ and PROT P",
        script,
        with_tls,
    ));
}

#[test]
fn protection_that_waits_for_a_login_is_asked_for_again_behind_it() {
    let probe = |script: Script| {
        let backend = Backend::start(script);
        let site = with_tls(Site::default("only", backend.address()));
        Probed::new(&[site]).list("probe", &["--format", "json"])
    };
    let log_in_first = || one("530 log in first");
    let said = probe(explicit().at_first("PROT", 1, log_in_first()));
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(stage(&said.only(), "protection")["after_login"], true);

    let said = probe(explicit().on("PROT", log_in_first()));
    assert_eq!(said.code, 1, "{said:?}");
    let object = said.only();
    assert_eq!(object["failed_stage"], "protection");
    assert_eq!(stage(&object, "login")["outcome"], "ok");
    assert_eq!(stage(&object, "passive")["outcome"], "skipped");
}

#[test]
fn a_wrong_password_fails_at_login() {
    let script = Script::new().password("another one");
    shows(&fault("login", "530", "password file", script, |site| site));
}

#[test]
fn a_server_without_passive_mode_fails_at_passive_and_works_by_port() {
    let refuse = |script: Script| script.on("EPSV", one("502 no")).on("PASV", one("502 no"));
    let script = refuse(Script::new());
    shows(&fault(
        "passive",
        "502",
        "passive_mode: active",
        script,
        |site| site,
    ));

    let backend = Backend::start(refuse(Script::new().file("a.txt", "a")));
    let site = Site::default("only", backend.address()).set("passive_mode", "active");
    let said = Probed::new(&[site]).list("probe", &["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        stage(&said.only(), "passive")["methods"][0]["method"],
        "PORT"
    );
}

#[test]
fn one_way_of_two_is_enough_and_what_is_wrong_with_the_other_is_told() {
    let script = Script::new()
        .on("EPSV", one("502 what?"))
        .file("a.txt", "a");
    let backend = Backend::start(script);
    let site = Site::default("only", backend.address());
    let said = Probed::new(&[site]).list("probe", &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains("EPSV refused, PASV: port "),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("note: EPSV: 502 what?"),
        "{}",
        said.stdout
    );
}

#[test]
fn data_ports_that_cannot_be_reached_fail_at_data() {
    let script = Script::new()
        .on("EPSV", one("229 Entering (|||61998|)"))
        .on("PASV", one("502 no"));
    let remedy = "passive ports";
    shows(&fault(
        "data",
        "no data connection",
        remedy,
        script,
        |site| site,
    ));
}

#[test]
fn data_without_tls_fail_at_their_handshake() {
    let list = vec![
        reply("150 here it comes"),
        Step::OpenClearData,
        Step::Send(b"no TLS here\r\n".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    let script = explicit().on("LIST", list);
    shows(&fault("data_handshake", "TLS", "log", script, with_tls));
}

#[test]
fn a_listing_that_is_refused_fails_at_list() {
    let script = Script::new().on("LIST", one("550 no"));
    shows(&fault(
        "list",
        "550",
        "may this account list",
        script,
        |site| site,
    ));
    let script = explicit().on("LIST", one("522 session reuse required"));
    shows(&fault(
        "list",
        "522",
        "resume the TLS session",
        script,
        with_tls,
    ));
}

#[test]
fn backends_that_expect_proxy_headers_get_them() {
    let backend = Backend::start(Script::new().headers(Headers::All));
    let expects = "{version: 1, data: true}";
    let site = Site::default("only", backend.address()).backend("proxy_protocol", expects);
    let said = Probed::new(&[site]).list("probe", &["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(stage(&said.only(), "connect")["proxy_header"], 1);
    assert_eq!(backend.wait_for_header(1), b"PROXY UNKNOWN\r\n");
}

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
fn a_certificate_that_expires_soon_is_a_note_and_a_warning() {
    let authority = Authority::new("authority of backends");
    let validity = Validity::For(time::Duration::days(5));
    let pair = authority.issue_for(&["backend.test"], validity);
    let config = pair.server_config(&[&rustls::version::TLS13]);
    let backend = Backend::start(Script::new().tls(ScriptTls::Explicit(config)));
    let site = with_tls(Site::default("only", backend.address()));
    let probed = Probed::new(&[site.backend("max_version", "\"1.3\"")]);
    let said = probed.run(&[]);
    assert_eq!(said.code, 0, "{said:?}");
    fits(&said.stdout);
    assert!(said.stdout.contains("expires soon"), "{}", said.stdout);
    assert!(said.stdout.contains("TLS 1.3 "), "{}", said.stdout);
    assert!(said.stdout.contains("not verified"), "{}", said.stdout);
    let said = probed.run(&["--format", "nagios"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.starts_with("PORTCULLIS WARNING - "), "{said:?}");
    assert!(
        said.stdout.contains("certificate days'=4;14:;0:"),
        "{said:?}"
    );
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
    let nobody = Loopback::claim();
    let mut sites: Vec<Site> = (0..)
        .zip(&backends)
        .map(|(number, backend)| {
            let host = format!("s{number}.test");
            Site::hosts(&format!("s{number}"), &[&host], backend.address())
        })
        .collect();
    sites.push(Site::hosts("last", &["last.test"], nobody.at(2121)));
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
        nobody.at(2121)
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
    let cases: [(&[&str], &str); 8] = [
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
    assert!(!Path::new(&probed.config).exists());
    assert_eq!(probed.run(&[]).code, 2);
}
