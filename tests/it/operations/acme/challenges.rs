//! Orders from pebble, which looks whether a name is ours: by each way to show that, and up to clients that log in.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use testkit::clients::{Client, ClientTls, Login};
use testkit::config::Site;
use testkit::front::{self, Front};
use testkit::pebble::{EXTERNAL_ACCOUNT, HTTP_PORT, Manners, TLS_PORT};
use testkit::proxy::Proxy;
use testkit::raw::{Raw, RawTls};
use testkit::server::{Security, Server};
use testkit::vsftpd;
use testkit::wire::Wire;

use super::{FAILED, IN_USE, NAME, ORDERED, Setting, orders, says};
use crate::program::Start;

/// Real clients log in, and verify the chain up to the authority's root.
fn is_served(setting: &Setting, proxy: &Proxy, server: &Server) {
    let root = setting.pebble.root(setting.directory.path());
    for (tls, address) in [
        (ClientTls::Explicit, proxy.explicit()),
        (ClientTls::Implicit, proxy.implicit()),
    ] {
        for client in [Client::Curl, Client::Lftp] {
            let login = Login::new(address, server.user(), server.password())
                .tls(tls, &root)
                .name(NAME);
            login.upload(client, b"content", "file").expect_success();
            assert_eq!(
                login.download(client, "file").expect_success().content,
                b"content"
            );
        }
    }
}

#[test]
fn a_certificate_is_ordered_over_http_and_served_to_real_clients() {
    let server = vsftpd::start(Security::Plain);
    let (setting, config) = Setting::new(Manners::default());
    let contact = ", contact: [\"mailto:ops@albigi.test\"]";
    let acme = setting.section(NAME, &setting.http(), contact);
    let site = Site::default("only", server.address());
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let ordered = proxy.wait_for_log(says(ORDERED));
    assert_eq!(ordered.field("names").as_deref(), Some(NAME));
    let in_use = proxy.wait_for_log(says(IN_USE));
    assert_eq!(in_use.field("names").as_deref(), Some(NAME));
    assert_eq!(proxy.get("/readyz").0, 200);
    is_served(&setting, &proxy, &server);

    // Nothing listens where nothing is ordered.
    assert!(TcpStream::connect((setting.ip, HTTP_PORT)).is_err());
    assert_eq!(orders(&proxy, "issued", "download"), 1.0);
    let mode = |file: &str| {
        let metadata = fs::metadata(setting.state().join(file)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(""), 0o700);
    for file in [
        "account.json",
        "default.crt",
        "default.key",
        "schedule.json",
        "lock",
    ] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
    // The next one is ordered when two thirds of this one's life are over.
    let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    let days = (proxy.metric("portcullis_acme_next_attempt_seconds") - now) / 86_400.0;
    assert!((59.0..64.0).contains(&days), "{days}");
}

#[test]
fn until_there_is_a_certificate_no_client_is_served_and_each_is_told_so() {
    let (mut setting, config) = Setting::new(Manners::default());
    let acme = setting.section(NAME, &setting.http(), "");
    setting.pebble.stop();
    let site = Site::default("only", "127.0.0.1:1");
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let failed = proxy.wait_for_log(says(FAILED));
    assert_eq!(failed.field("stage").as_deref(), Some("account"));
    assert_eq!(failed.field("attempt").as_deref(), Some("1"));
    assert_eq!(failed.field("expires_in"), None);
    assert_eq!(
        proxy.get("/readyz"),
        (503, "no certificate yet\n".to_owned())
    );
    assert_eq!(proxy.get("/healthz").0, 200);

    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    let refused = client.command("AUTH TLS", 534);
    let expected = "534 Local policy on server does not allow TLS secure connections.";
    assert_eq!(refused, expected);
    // The session goes on, and in clear text nobody logs in.
    client.command("USER alice", 534);
    let mut client = Raw::connect(proxy.implicit());
    let (said, _) = client.read_to_end();
    assert_eq!(said, b"");
}

/// Another one by chance would be some customer's.
#[test]
fn until_the_ordered_certificate_is_there_no_other_is_shown_in_its_place() {
    let (mut setting, config) = Setting::new(Manners::default());
    let acme = setting.section(NAME, &setting.http(), "");
    setting.pebble.stop();
    let other = Front::new(&[]);
    let more = format!(
        "[{{certificate: {}, private_key: {}}}]",
        other.files.certificate.display(),
        other.files.private_key.display()
    );
    let site = Site::default("only", "127.0.0.1:1");
    let config = config.tls("acme", &acme).tls("more", &more).site(&site);
    let proxy = Proxy::start_unready(config);
    proxy.wait_for_log(says(FAILED));
    assert_eq!(
        proxy.get("/readyz"),
        (503, "no certificate yet\n".to_owned())
    );
    let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    proxy.wait_for_metric("portcullis_acme_next_attempt_seconds", |at| at > now);
    let (_, attention) = proxy.get("/api/v1/attention");
    for part in [
        "The central certificate is not there yet",
        "The next order begins",
        "\"reason\":\"connection to ",
    ] {
        assert!(attention.contains(part), "{part}: {attention}");
    }
    let handshake = |tls: &RawTls| Wire::connect(proxy.implicit()).handshake(tls.connection());
    assert!(handshake(&other.tls(front::NAME)).is_ok());
    for name in [Some(NAME), None] {
        let tls = RawTls::careless(name, &[&rustls::version::TLS13]);
        assert!(handshake(&tls).is_err(), "{name:?}");
    }
}

#[test]
fn a_certificate_is_ordered_over_tls() {
    let server = vsftpd::start(Security::Plain);
    let (setting, config) = Setting::new(Manners::default());
    let challenge = format!("{{tls_alpn: \"{}:{TLS_PORT}\"}}", setting.ip);
    let names = format!("{NAME}, ftpb.albigi.test");
    let acme = setting.section(&names, &challenge, "");
    let site = Site::default("only", server.address());
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let ordered = proxy.wait_for_log(says(ORDERED));
    let issued = ordered.field("names").expect("names");
    let mut issued: Vec<&str> = issued.split(' ').collect();
    issued.sort_unstable();
    assert_eq!(issued, [NAME, "ftpb.albigi.test"]);
    proxy.wait_for_log(says(IN_USE));
    is_served(&setting, &proxy, &server);
}

/// A program that tells pebble's name server of a record, and keeps what it was asked.
fn hook(setting: &Setting) -> PathBuf {
    let file = setting.directory.path().join("hook");
    let names = setting.pebble.names();
    let script = format!(
        "#!/bin/sh\nset -e\ncd {:?}\necho \"$PORTCULLIS_ACTION $PORTCULLIS_NAME\" >>asked\n\
         echo \"about $PORTCULLIS_NAME\" >&2\n\
         case $PORTCULLIS_ACTION in present) action=set-txt ;; remove) action=clear-txt ;; esac\n\
         curl --silent --show-error --fail --max-time 20 http://{names}/$action \\\n\
         --data \"{{\\\"host\\\": \\\"$PORTCULLIS_NAME.\\\", \\\"value\\\": \\\"$PORTCULLIS_VALUE\\\"}}\"\n",
        setting.directory.path(),
    );
    fs::write(&file, script).expect("the test's directory is writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).expect("it is ours");
    file
}

#[test]
fn what_is_left_of_a_former_challenge_by_dns_is_told_and_fails_no_order_by_another() {
    for (left, told) in [
        (
            "[{\"name\": \"_acme-challenge.a.test\", \"value\": \"v\"}]",
            "a TXT record of an earlier order may be left",
        ),
        (
            "nonsense",
            "corrupt list of the TXT records that earlier orders have left renamed",
        ),
    ] {
        let (setting, config) = Setting::new(Manners::default());
        fs::create_dir(setting.state()).expect("the test's directory is writable");
        fs::write(setting.state().join("records.json"), left).expect("it is writable");
        let acme = setting.section(NAME, &setting.http(), "");
        let site = Site::default("only", "127.0.0.1:1");
        let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
        proxy.wait_for_log(|line| line.message().starts_with(told));
        proxy.wait_for_log(says(ORDERED));
    }
}

#[test]
fn a_certificate_for_a_wildcard_is_ordered_by_a_program_for_the_dns() {
    let server = vsftpd::start(Security::Plain);
    let (setting, config) = Setting::new(Manners::default());
    let challenge = format!("{{dns: {:?}}}", hook(&setting));
    let acme = setting.section("\"*.albigi.test\", branch.test", &challenge, "");
    let site = Site::default("only", server.address());
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    proxy.wait_for_log(says(ORDERED));
    proxy.wait_for_log(says(IN_USE));
    is_served(&setting, &proxy, &server);
    let asked = fs::read_to_string(setting.directory.path().join("asked")).expect("it was run");
    let mut asked: Vec<&str> = asked.lines().collect();
    // First both are there, and in the end both are removed; in which order, the authority says.
    let (present, removed) = asked.split_at_mut(2);
    present.sort_unstable();
    removed.sort_unstable();
    assert_eq!(
        asked,
        [
            "present _acme-challenge.albigi.test",
            "present _acme-challenge.branch.test",
            "remove _acme-challenge.albigi.test",
            "remove _acme-challenge.branch.test",
        ]
    );
    let said = proxy.wait_for_log(|line| {
        line.field("stderr").as_deref() == Some("about _acme-challenge.branch.test")
    });
    assert_eq!(said.field("action").as_deref(), Some("present"));
}

#[test]
fn an_account_is_made_by_the_key_that_the_authority_gave() {
    let manners = Manners {
        wants_external_account: true,
        ..Manners::default()
    };
    let (setting, config) = Setting::new(manners);
    let (id, key) = EXTERNAL_ACCOUNT;
    let file = setting.directory.path().join("hmac");
    fs::write(&file, "AAAA\n").expect("the test's directory is writable");
    let external = format!(", external_account: {{key_id: {id}, hmac_file: {file:?}}}");
    let acme = setting.section(NAME, &setting.http(), &external);
    let site = Site::default("only", "127.0.0.1:1");
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let failed = proxy.wait_for_log(says(FAILED));
    assert_eq!(failed.field("stage").as_deref(), Some("account"));

    // A reload reads the key anew, and begins a new order at once.
    fs::write(&file, format!("{key}\n")).expect("the test's directory is writable");
    proxy.reload(&proxy.config().to_yaml());
    proxy.wait_for_log(says(ORDERED));
    assert!(!proxy.log_lines().iter().any(|line| line.text.contains(key)));
}

#[test]
fn an_authority_that_refuses_half_of_all_nonces_is_asked_until_it_takes_them() {
    let manners = Manners {
        refused_nonces: 50,
        ..Manners::default()
    };
    let (setting, config) = Setting::new(manners);
    let acme = setting.section("a.test, b.test, c.test", &setting.http(), "");
    let site = Site::default("only", "127.0.0.1:1");
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let ordered = proxy.wait_for_log(|line| [ORDERED, FAILED].contains(&line.message().as_str()));
    assert_eq!(ordered.message(), ORDERED);
    assert!(setting.pebble.log().contains("badNonce") || setting.pebble.log().contains("nonce"));
}

#[test]
fn a_name_that_leads_elsewhere_is_not_proven_and_the_log_says_which() {
    let (setting, config) = Setting::new(Manners::default());
    // Pebble looks at another port.
    let challenge = format!("{{http: \"{}:5999\"}}", setting.ip);
    let acme = setting.section(NAME, &challenge, "");
    let site = Site::default("only", "127.0.0.1:1");
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let failed = proxy.wait_for_log(says(FAILED));
    assert_eq!(failed.field("stage").as_deref(), Some("challenge"));
    let error = failed.field("error").expect("a reason");
    assert!(error.starts_with(&format!("{NAME}: ")), "{error}");
    assert!(error.contains("connection"), "{error}");
    assert_eq!(orders(&proxy, "failed", "challenge"), 1.0);
    assert!(TcpStream::connect((setting.ip, 5_999)).is_err());
}
