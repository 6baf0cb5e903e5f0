//! Backends that require a certificate of their clients, and so of Portcullis: shown on control and data connections alike,
//! renewed under live sessions, and named where it is refused.

use std::path::Path;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::certs::{Authority, Pair, PairFiles, Validity};
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::script::{Script, ScriptTls};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security, Server};
use testkit::{proftpd, pureftpd, vsftpd};
use time::Duration;

use crate::program::{Start, command};

const IN_USE: &str = "client certificate in use";
const REFUSED: &str = "new client certificate refused, keeping the current one";

/// Each version of TLS, and as the configuration calls it.
const VERSIONS: [(&SupportedProtocolVersion, &str); 2] = [(&TLS12, "1.2"), (&TLS13, "1.3")];

fn client_certificate(files: &PairFiles) -> String {
    format!(
        "{{certificate: {}, private_key: {}}}",
        files.certificate.display(),
        files.private_key.display()
    )
}

/// A site before this server, which is shown this.
fn site(
    address: std::net::SocketAddr,
    tls: &str,
    version: &str,
    shown: Option<&PairFiles>,
) -> Site {
    let site = Site::default("only", address)
        .backend_tls(tls, None)
        .backend("max_version", &format!("{version:?}"));
    match shown {
        Some(files) => site.backend("client_certificate", &client_certificate(files)),
        None => site,
    }
}

/// A scripted server that requires a certificate of this authority.
fn scripted(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    tls: &str,
) -> Backend {
    let own = Authority::new("authority of the server").issue(&["backend.test"]);
    let config = own.server_config_for_clients_of(authority, &[version]);
    let script = Script::new().file("old", content::bytes(1, 300_000));
    Backend::start(script.tls(match tls {
        "implicit" => ScriptTls::Implicit(config),
        _ => ScriptTls::Explicit(config),
    }))
}

#[test]
fn every_full_handshake_on_control_and_data_connections_shows_the_same_certificate() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let pair = authority.issue(&["portcullis.test"]);
    let files = pair.write_as(front.directory(), "be");
    for (version, name) in VERSIONS {
        for tls in ["explicit", "implicit"] {
            let backend = scripted(&authority, version, tls);
            let site = site(backend.address(), tls, name, Some(&files));
            let proxy = Proxy::start(front.config().site(&site));
            let mut client = front.session(&proxy, "alice");
            assert!(client.download("old") == content::bytes(1, 300_000));
            client.upload("new", &content::bytes(2, 300_000));
            assert!(backend.file("new") == Some(content::bytes(2, 300_000)));
            let shown = backend.client_certificates();
            assert_eq!(shown, vec![pair.der().to_vec(); 3], "{name} {tls}");
        }
    }
}

#[test]
fn real_servers_that_require_a_certificate_are_served() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let ca = authority.write(front.directory());
    let files = authority
        .issue(&["portcullis.test"])
        .write_as(front.directory(), "be");
    let own = Authority::new("authority of the server").issue(&["backend.test"]);
    for (_, version) in VERSIONS {
        for reuse in [Reuse::Required, Reuse::Optional] {
            let server = vsftpd_requiring(&ca, &own, reuse);
            transfer_both_ways(&front, &server, version, &files);
        }
        let server = proftpd_requiring(&ca, &own);
        transfer_both_ways(&front, &server, version, &files);
        let server = pureftpd::start_for_clients_of(&authority, &own);
        transfer_both_ways(&front, &server, version, &files);
    }
}

fn vsftpd_requiring(ca: &Path, own: &Pair, reuse: Reuse) -> Server {
    let lines = format!(
        "require_cert=YES\nvalidate_cert=YES\nca_certs_file={}\n",
        ca.display()
    );
    vsftpd::start_with(Security::Explicit(own, reuse), &lines)
}

fn proftpd_requiring(ca: &Path, own: &Pair) -> Server {
    let lines = format!(
        "TLSCACertificateFile {}\nTLSVerifyClient on\n",
        ca.display()
    );
    proftpd::start_with(Security::Explicit(own, Reuse::Optional), &lines)
}

fn transfer_both_ways(front: &Front, server: &Server, version: &str, files: &PairFiles) {
    let site = site(server.address(), "explicit", version, Some(files));
    let proxy = Proxy::start(front.config().site(&site));
    let tls = front.tls(testkit::front::NAME);
    let mut control = testkit::raw::Raw::connect_auth_tls(proxy.explicit(), &tls);
    control.login(server.user(), server.password());
    control.protect_data();
    control.command("TYPE I", 200);
    let mut client = testkit::front::Client { control, tls };
    for number in 0..5 {
        let name = format!("file{number}");
        let content = content::bytes(number, 200_000);
        client.upload(&name, &content);
        let stored = std::fs::read(server.root().join(&name)).expect("it was stored");
        assert!(stored == content, "upload {number}");
        assert!(client.download(&name) == content, "download {number}");
    }
    client.control.command("QUIT", 221);
}

/// The line of a login whose backend could not be used.
fn unavailable(line: &LogLine) -> bool {
    line.message() == "backend not available"
}

#[test]
fn a_refused_certificate_is_named_with_its_stage_and_so_is_one_that_is_missing() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let stranger = Authority::new("authority of strangers").issue(&["portcullis.test"]);
    let wrong = stranger.write_as(front.directory(), "wrong");
    for (version, name) in VERSIONS {
        for tls in ["explicit", "implicit"] {
            let backend = scripted(&authority, version, tls);
            for (shown, error) in [
                (
                    Some(&wrong),
                    "the backend refused the client certificate that it was shown: the peer refused with alert unknown_ca",
                ),
                (
                    None,
                    "the backend requires a client certificate and was shown none: the peer refused with alert \
                     certificate_required",
                ),
            ] {
                let site = site(backend.address(), tls, name, shown);
                let proxy = Proxy::start(front.config().site(&site));
                let mut client = front.explicit(&proxy);
                client.command("USER alice", 421);
                let line = proxy.wait_for_log(unavailable);
                assert_eq!(
                    line.field("stage").as_deref(),
                    Some("handshake"),
                    "{name} {tls}"
                );
                assert_eq!(line.field("error").as_deref(), Some(error), "{name} {tls}");
            }
            assert_eq!(backend.users(), Vec::<String>::new());
        }
    }
}

#[test]
fn what_real_servers_refuse_is_named_too() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let ca = authority.write(front.directory());
    let stranger = Authority::new("authority of strangers").issue(&["portcullis.test"]);
    let wrong = stranger.write_as(front.directory(), "wrong");
    let own = Authority::new("authority of the server").issue(&["backend.test"]);
    let servers = [
        ("vsftpd", vsftpd_requiring(&ca, &own, Reuse::Optional)),
        ("ProFTPD", proftpd_requiring(&ca, &own)),
        (
            "Pure-FTPd",
            pureftpd::start_for_clients_of(&authority, &own),
        ),
    ];
    for (server_name, server) in &servers {
        for (_, version) in VERSIONS {
            for shown in [Some(&wrong), None] {
                let site = site(server.address(), "explicit", version, shown);
                let proxy = Proxy::start(front.config().site(&site));
                let mut client = front.explicit(&proxy);
                client.command(&format!("USER {}", server.user()), 421);
                let line = proxy.wait_for_log(unavailable);
                let text = ["stage", "error", "hint"].map(|it| line.field(it).unwrap_or_default());
                let what = format!("{server_name} {version} {}: {text:?}", shown.is_some());
                println!("{what}");
                assert_eq!(text[0], "handshake", "{what}");
                let expected = match (shown, version) {
                    (Some(_), _) => "refused the client certificate",
                    (None, "1.2") => "does this backend require a client certificate?",
                    (None, _) => "requires a client certificate and was shown none",
                };
                assert!(text[1..].iter().any(|it| it.contains(expected)), "{what}");
            }
        }
    }
}

#[test]
fn a_new_certificate_is_shown_by_new_sessions_and_live_ones_keep_theirs() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let first = authority.issue(&["first.test"]);
    let files = first.write_as(front.directory(), "be");
    for (version, name) in VERSIONS {
        files.rewrite_in_place(&first);
        let backend = scripted(&authority, version, "explicit");
        let site = site(backend.address(), "explicit", name, Some(&files));
        let proxy = Proxy::start(front.config().site(&site));
        proxy.wait_for_logs(1, |line| line.message() == IN_USE);
        let mut live = front.session(&proxy, "alice");
        live.download("old");

        // Refused: another's key. The old one stays.
        let second = authority.issue_for(&["second.test"], Validity::For(Duration::days(50)));
        files.replace_by_rename(&first.with_key_of(&second));
        proxy.wait_for_log(|line| line.message() == REFUSED);
        let counted = |result: &str| {
            proxy.metric(&format!(
                "portcullis_reloads_total{{result=\"{result}\",subject=\"backend_certificate\"}}"
            ))
        };
        let refused = "portcullis_reload_refused{subject=\"backend_certificate\"}";
        assert_eq!((counted("refused"), proxy.metric(refused)), (1.0, 1.0));
        front.session(&proxy, "bob").download("old");

        files.replace_by_rename(&second);
        proxy.wait_for_logs(2, |line| line.message() == IN_USE);
        assert_eq!((counted("ok"), proxy.metric(refused)), (1.0, 0.0));
        live.download("old");
        front.session(&proxy, "carol").download("old");
        let [first, second] = [&first, &second].map(|pair| pair.der().to_vec());
        // Control and data of alice, then of bob; alice's data; carol's both.
        let expected = [&first, &first, &first, &first, &first, &second, &second];
        let shown = backend.client_certificates();
        assert_eq!(shown.iter().collect::<Vec<_>>(), expected, "{name}");

        let left = proxy.metric(&format!(
            "portcullis_backend_client_certificate_not_after_seconds{{backend=\"{}\",site=\"only\"}}",
            backend.address()
        ));
        let expected = time::OffsetDateTime::now_utc() + Duration::days(50);
        assert!((left - expected.unix_timestamp() as f64).abs() < 300.0);
    }
}

fn count(proxy: &Proxy, wanted: impl Fn(&LogLine) -> bool) -> usize {
    proxy.log_lines().iter().filter(|line| wanted(line)).count()
}

#[test]
fn transfers_go_on_through_a_swap() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let files = authority
        .issue(&["portcullis.test"])
        .write_as(front.directory(), "be");
    let backend = scripted(&authority, &TLS12, "explicit");
    let site = site(backend.address(), "explicit", "1.2", Some(&files));
    let proxy = Proxy::start(front.config().site(&site).passive_ports("50000-50007"));
    let swaps = 3;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (front, proxy) = (&front, &proxy);
                scope.spawn(move || {
                    let mut transfers = 0;
                    while count(proxy, |line| line.message() == IN_USE) <= swaps {
                        let mut client = front.session(proxy, &format!("user{number}"));
                        assert!(client.download("old") == content::bytes(1, 300_000));
                        client.upload(&format!("new{number}"), &content::bytes(3, 100_000));
                        transfers += 2;
                    }
                    transfers
                })
            })
            .collect();
        for number in 0..swaps {
            files.replace_by_rename(&authority.issue(&[&format!("swap{number}.test")]));
            proxy.wait_for_logs(number + 2, |line| line.message() == IN_USE);
        }
        for client in clients {
            assert!(client.join().expect("every transfer was good") > 0);
        }
    });
    assert_eq!(count(&proxy, unavailable), 0);
}

#[test]
fn a_reload_takes_a_certificate_up_and_a_missing_file_refuses_it() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let backend = scripted(&authority, &TLS12, "explicit");
    let proxy = Proxy::start(front.config().site(&site(
        backend.address(),
        "explicit",
        "1.2",
        None,
    )));
    front.explicit(&proxy).command("USER alice", 421);

    let pair = authority.issue(&["portcullis.test"]);
    let files = pair.write_as(front.directory(), "be");
    let without = proxy.config().to_yaml();
    let shown = format!(
        "verify: none\n        client_certificate: {}\n",
        client_certificate(&files)
    );
    let with = without.replacen("verify: none\n", &shown, 1);
    proxy.reload(&with);
    let metric = format!(
        "portcullis_backend_client_certificate_not_after_seconds{{backend=\"{}\",site=\"only\"}}",
        backend.address()
    );
    assert!(proxy.metrics().contains_key(&metric));
    front.session(&proxy, "alice").download("old");

    proxy.rewrite_config(&with.replacen("be.crt", "missing.crt", 1));
    proxy.signal(Signal::Reload);
    let line = proxy.wait_for_log(|line| line.message().starts_with("reload refused"));
    let error = line.field("error").expect("why");
    let expected = format!(
        "site only, backend {}: client_certificate: cannot read ",
        backend.address()
    );
    assert!(error.starts_with(&expected), "{error}");
    front.session(&proxy, "alice").download("old");

    proxy.reload(&without);
    assert!(!proxy.metrics().contains_key(&metric));
    front.explicit(&proxy).command("USER alice", 421);
}

#[test]
fn an_expired_certificate_of_one_backend_stops_no_other_site() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let files = authority
        .issue_for(&["portcullis.test"], Validity::Expired)
        .write_as(front.directory(), "be");
    let backend = scripted(&authority, &TLS12, "explicit");
    let other = Backend::start(Script::new().file("old", "of the other"));
    let config = front
        .config()
        .site(&site(backend.address(), "explicit", "1.2", Some(&files)))
        .site(&Site::hosts("other", &["other.test"], other.address()));
    let proxy = Proxy::start(config);
    proxy.wait_for_log(|line| {
        line.message().contains("be.crt expired on ") && line.message().contains("renew it")
    });
    let mut client = front.session(&proxy, "other.test|alice");
    assert_eq!(client.download("old"), b"of the other");
    front.explicit(&proxy).command("USER alice", 421);
    let line = proxy.wait_for_log(unavailable);
    let error = line.field("error").expect("why");
    assert!(error.ends_with("alert certificate_expired"), "{error}");

    // The renewed one is taken up.
    let renewed = authority.issue(&["portcullis.test"]);
    files.replace_by_rename(&renewed);
    proxy.wait_for_logs(2, |line| line.message() == IN_USE);
    front.session(&proxy, "alice").download("old");
}

#[test]
fn one_that_has_expired_replaces_no_good_one_at_a_reload() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let good = authority.issue(&["portcullis.test"]);
    let files = good.write_as(front.directory(), "be");
    let backend = scripted(&authority, &TLS12, "explicit");
    let site = site(backend.address(), "explicit", "1.2", Some(&files));
    let proxy = Proxy::start(front.config().site(&site));
    let stands = || {
        let (_, attention) = proxy.get("/api/v1/attention");
        let refused = "portcullis_reload_refused{subject=\"backend_certificate\"}";
        let told = attention.contains("be.crt") && attention.contains("was refused");
        (told, proxy.metric(refused))
    };
    files.replace_by_rename(&authority.issue_for(&["portcullis.test"], Validity::Expired));
    proxy.wait_for_logs(1, |line| line.message() == REFUSED);
    assert_eq!(stands(), (true, 1.0));
    proxy.reload(&proxy.config().to_yaml());
    proxy.wait_for_logs(2, |line| line.message() == REFUSED);
    assert_eq!(stands(), (true, 1.0));
    front.session(&proxy, "alice").download("old");
    let in_use = count(&proxy, |line| line.message() == IN_USE);

    files.replace_by_rename(&good);
    proxy.wait_for_logs(in_use + 1, |line| line.message() == IN_USE);
    assert_eq!(stands(), (false, 0.0));
    front.session(&proxy, "alice").download("old");
}

#[test]
fn check_tells_of_the_certificate_and_of_what_servers_will_have_against_it() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let files = authority
        .issue_for(&["portcullis.test"], Validity::For(Duration::hours(6)))
        .write_as(front.directory(), "be");
    let address = "127.0.0.1:9".parse().expect("an address");
    let config = front
        .config()
        .site(&site(address, "explicit", "1.2", Some(&files)));
    let file = front.directory().join("portcullis.yaml");
    std::fs::write(&file, config.to_yaml()).expect("the test's directory is writable");
    let check = || {
        let output = command().args(["check", "--config"]).arg(&file).output();
        let output = output.expect("cargo built it");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        (output.status.code(), text)
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    let fact = "be.crt: CN=portcullis.test, 0 days left, the key matches\n";
    assert!(text.contains(fact), "{text}");
    assert!(text.contains("be.crt expires soon, on 20"), "{text}");

    let other = authority.issue(&["other.test"]);
    std::fs::write(&files.private_key, &other.private_key).expect("it is writable");
    let (code, text) = check();
    assert_eq!(code, Some(1), "{text}");
    let problem = "problem: site only, backend 127.0.0.1:9: client_certificate: private key ";
    assert!(text.contains(problem), "{text}");
}

#[test]
fn checks_of_a_backend_show_the_certificate_and_so_does_probe() {
    let front = Front::new(&[]);
    let authority = Authority::new("authority of clients");
    let files = authority
        .issue(&["portcullis.test"])
        .write_as(front.directory(), "be");
    for (version, name) in VERSIONS {
        let backend = scripted(&authority, version, "explicit");
        let site = site(backend.address(), "explicit", name, Some(&files))
            .set("health", "{level: tls, interval: 2s}");
        let proxy = Proxy::start(front.config().site(&site));
        let passed = format!(
            "portcullis_backend_checks_total{{backend=\"{}\",site=\"only\",stage=\"ok\"}}",
            backend.address()
        );
        proxy.wait_for_metric(&passed, |count| count >= 1.0);
        assert!(
            backend
                .client_certificates()
                .iter()
                .all(|shown| !shown.is_empty())
        );
    }
}
