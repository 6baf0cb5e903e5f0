//! A fault at each stage: the stage, the remedy and the exit code that it has in each format.

use testkit::certs::{Authority, Validity};
use testkit::closed_port::ClosedPort;
use testkit::config::Site;
use testkit::front::Front;
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use super::{PASSWORD, Probed, explicit, fits, one, outcomes, stage, with_tls};

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
    let nobody = ClosedPort::refusing();
    let address = nobody.address().to_string();
    shows(&without_backend(
        "connect",
        "refused",
        "is the server running",
        &address,
    ));
}

#[test]
fn a_host_that_does_not_answer_fails_at_connect_when_its_time_is_over() {
    let silent = ClosedPort::silent();
    let address = silent.address().to_string();
    let remedy = "firewalls between";
    shows(&without_backend("connect", "timed out", remedy, &address));
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
fn a_wrong_password_fails_at_login() {
    let script = Script::new().password("another one");
    shows(&fault("login", "530", "password file", script, |site| site));
    // Every output is searched for the password.
    let repeating = format!("530 {PASSWORD} is wrong");
    let script = Script::new().on("PASS", one(&repeating));
    let said = "530 *** is wrong";
    shows(&fault("login", said, "password file", script, |site| site));
}

#[test]
fn a_server_that_wants_tls_or_no_header_fails_at_login_with_its_words_and_that_remedy() {
    let words = "530 Non-anonymous sessions must use encryption.";
    let script = Script::new().on("USER", one(words));
    shows(&fault("login", words, "tls: explicit", script, |site| site));
    let words = "421-Sorry, cleartext sessions are not accepted.\r\n421 Bye";
    let script = Script::new().on("USER", one(words));
    let said = "421-Sorry, cleartext";
    shows(&fault("login", said, "tls: explicit", script, |site| site));
    let script = Script::new().on("PROXY", one("500 Unknown command."));
    let header = |site: Site| site.backend("proxy_protocol", "{version: 1}");
    let said = "500 Unknown command.";
    shows(&fault("login", said, "PROXY header", script, header));
}

#[test]
fn a_server_without_passive_mode_works_by_port_and_fails_at_passive_if_that_is_refused_too() {
    let refuse = |script: Script| script.on("EPSV", one("502 no")).on("PASV", one("502 no"));
    let script = refuse(Script::new()).on("PORT", one("502 no"));
    shows(&fault(
        "passive",
        "502",
        "passive_mode: active",
        script,
        |site| site,
    ));

    let backend = Backend::start(refuse(Script::new().file("a.txt", "a")));
    let site = Site::default("only", backend.address());
    let by_port_alone = site.clone().set("passive_mode", "active");
    for (site, asked) in [(site, 3), (by_port_alone, 1)] {
        let said = Probed::new(&[site]).list("probe", &["--format", "json"]);
        assert_eq!(said.code, 0, "{said:?}");
        let object = said.only();
        let methods = stage(&object, "passive")["methods"].as_array();
        let methods = methods.expect("a list");
        assert_eq!(methods.len(), asked);
        assert_eq!(methods[asked - 1]["method"], "PORT");
    }
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
