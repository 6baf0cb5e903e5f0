//! Servers at which everything works, or nearly.

use testkit::certs::{Authority, Validity};
use testkit::config::Site;
use testkit::front::Front;
use testkit::script::{Headers, Script, ScriptTls};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security, Server};
use testkit::{proftpd, pureftpd, vsftpd};

use super::{Probed, explicit, fits, one, outcomes, stage, with_tls};

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
    let probed = Probed::with(front, &sites, |config| config);
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
fn a_certificate_that_expires_soon_is_a_note_and_a_warning() {
    let authority = Authority::new("authority of backends");
    let validity = Validity::For(time::Duration::hours(6));
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
        said.stdout.contains("certificate days'=0;1:;0:"),
        "{said:?}"
    );
}
