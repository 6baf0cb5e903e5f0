//! The central certificate: swapped while the proxy runs, however its files are replaced; and never swapped for one
//! that clients would refuse.

use std::fs;
use std::io::{Read, Write};

use rustls::version::{TLS12, TLS13};
use testkit::certs::{Authority, KubernetesSecret, Pair, PairFiles, Validity};
use testkit::config::{Config, Site};
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::{Raw, open_data, protect};
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};
use time::Duration;

use crate::program::{Before, Start};

const IN_USE: &str = "certificate in use";
const REFUSED: &str = "new certificate refused, keeping the current one";

fn reloads(proxy: &Proxy, subject: &str, result: &str) -> f64 {
    proxy.metric(&format!(
        "portcullis_reloads_total{{result=\"{result}\",subject=\"{subject}\"}}"
    ))
}

fn lines_that_say(proxy: &Proxy, message: &str) -> Vec<LogLine> {
    let mut lines = proxy.log_lines();
    lines.retain(|line| line.message() == message);
    lines
}

/// When a pair expires, by the metric.
fn not_after(proxy: &Proxy) -> f64 {
    proxy.metric("portcullis_certificate_not_after_seconds{name=\"default\"}")
}

/// The same as `openssl x509` would say it: rcgen takes whole seconds.
fn expires_in(days: i64) -> f64 {
    (time::OffsetDateTime::now_utc() + Duration::days(days)).unix_timestamp() as f64
}

/// A proxy, and how the files of its certificate are replaced.
type Way<'a> = (&'a Proxy, &'a mut dyn FnMut(&Pair));

#[test]
fn new_clients_get_the_new_certificate_however_its_files_are_replaced() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let mount = tempfile::tempdir().expect("a temporary directory");
    let first = front.issue(Validity::Now);
    let mut secret = KubernetesSecret::mount(mount.path(), &first);
    let site = Site::default("site", backend.address());
    let proxy_of_files = front.before(backend.address());
    let proxy_of_secret = Proxy::start(Config::new(&secret.files()).site(&site));

    let mut replace_secret = |pair: &Pair| secret.swap(pair);
    let mut rename = |pair: &Pair| front.files.replace_by_rename(pair);
    let mut rewrite = |pair: &Pair| front.files.rewrite_in_place(pair);
    let ways: [Way<'_>; 3] = [
        (&proxy_of_files, &mut rename),
        (&proxy_of_files, &mut rewrite),
        (&proxy_of_secret, &mut replace_secret),
    ];
    for (way, (proxy, replace)) in ways.into_iter().enumerate() {
        let days = 20 + 10 * way as i64;
        let next = front.issue(Validity::For(Duration::days(days)));
        let before = lines_that_say(proxy, IN_USE).len();
        replace(&next);
        let lines = proxy.wait_for_logs(before + 1, |line| line.message() == IN_USE);
        assert_eq!(front.shown_by(proxy), next.der().to_vec());
        let last = lines.last().expect("the line that was waited for");
        let fingerprint = format!("sha256:{}", content::sha256(&next.der()));
        assert_eq!(last.field("fingerprint").as_ref(), Some(&fingerprint));
        assert_eq!(lines_that_say(proxy, "passive ports open").len(), 1);
        let off = (not_after(proxy) - expires_in(days)).abs();
        assert!(off < 120.0, "not after is off by {off} s");
        let not_before =
            proxy.metric("portcullis_certificate_not_before_seconds{name=\"default\"}");
        assert!(
            not_before > 0.0 && not_before < expires_in(0),
            "{not_before}"
        );
        let metrics = proxy.metrics();
        let shown: Vec<&String> = metrics
            .keys()
            .filter(|name| name.starts_with("portcullis_certificate_info{"))
            .collect();
        assert!(
            matches!(shown[..], [one] if one.contains(&format!("fingerprint=\"{fingerprint}\""))),
            "{shown:?}"
        );
    }
    assert_eq!(reloads(&proxy_of_files, "certificate", "ok"), 2.0);
    assert_eq!(reloads(&proxy_of_secret, "certificate", "ok"), 1.0);
}

#[test]
fn sighup_takes_up_a_good_certificate_and_refuses_a_bad_one() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let next = front.issue(Validity::Now);
    front.files.replace_by_rename(&next);
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message() == "configuration reloaded");
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());

    front
        .files
        .replace_by_rename(&front.issue(Validity::Expired));
    proxy.signal(Signal::Reload);
    let line = proxy.wait_for_log(|line| line.message().starts_with("reload refused"));
    let error = line.field("error").expect("a reason");
    assert!(error.contains("tls.crt expired on "), "{error}");
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
    assert_eq!(reloads(&proxy, "configuration", "refused"), 1.0);
    // The ports are the same, so nothing is said of them.
    assert_eq!(lines_that_say(&proxy, IN_USE).len(), 2);
    assert_eq!(lines_that_say(&proxy, "passive ports open").len(), 1);
}

/// A candidate that must not be shown to anybody.
struct Candidate {
    certificate: String,
    private_key: String,
    /// What the log has to say of it.
    says: &'static str,
}

fn bad_candidates(front: &Front) -> Vec<Candidate> {
    let good = front.issue(Validity::Now);
    let other = front.issue(Validity::Now);
    let expired = front.issue(Validity::Expired);
    let early = front.issue(Validity::NotYet);
    let truncated = &good.certificate[..good.certificate.len() / 2];
    let reversed = format!("{}{}", front.authority.pem(), good.certificate);
    let foreign = format!("{}{}", good.certificate, Authority::new("Other CA").pem());
    [
        (
            &*other.certificate,
            &*good.private_key,
            "tls.key does not belong to the certificate in ",
        ),
        (
            &expired.certificate,
            &expired.private_key,
            "(1 day ago): renew it",
        ),
        (
            &early.certificate,
            &early.private_key,
            "is not valid before ",
        ),
        (
            truncated,
            &good.private_key,
            "tls.crt ends in the middle of CERTIFICATE: half written?",
        ),
        ("", &good.private_key, "tls.crt is empty"),
        (&good.certificate, "", "tls.key is empty"),
        (
            &reversed,
            &good.private_key,
            "the private key belongs to certificate 2, which has to come first",
        ),
        (
            &foreign,
            &good.private_key,
            "certificate 2 (CN=Other CA) did not issue",
        ),
        (
            &good.private_key,
            &good.certificate,
            "are the two files swapped?",
        ),
        (
            "no PEM at all\n",
            &good.private_key,
            "tls.crt holds no certificate",
        ),
    ]
    .map(|(certificate, private_key, says)| Candidate {
        certificate: certificate.to_owned(),
        private_key: private_key.to_owned(),
        says,
    })
    .into()
}

#[test]
fn a_bad_candidate_is_refused_with_one_line_that_says_why_and_the_good_one_stays() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let good = front.shown_by(&proxy);
    let expires = not_after(&proxy);

    let candidates = bad_candidates(&front);
    for (index, candidate) in candidates.iter().enumerate() {
        front.files.rewrite_in_place(&Pair {
            certificate: candidate.certificate.clone(),
            private_key: candidate.private_key.clone(),
        });
        let lines = proxy.wait_for_logs(index + 1, |line| line.message() == REFUSED);
        let line = lines.last();
        let error = line.and_then(|line| line.field("error")).expect("a reason");
        assert!(
            error.contains(candidate.says),
            "{}: {error}",
            candidate.says
        );
        assert_eq!(front.shown_by(&proxy), good, "{}", candidate.says);
        assert_eq!(
            reloads(&proxy, "certificate", "refused"),
            (index + 1) as f64,
            "{}",
            candidate.says
        );
    }
    assert_eq!(not_after(&proxy), expires);

    let next = front.issue(Validity::Now);
    front.files.rewrite_in_place(&next);
    proxy.wait_for_logs(2, |line| line.message() == IN_USE);
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
    let lines = proxy.log_lines();
    let errors = lines
        .iter()
        .filter(|line| line.field("level").as_deref() == Some("ERROR"));
    assert_eq!(errors.count(), candidates.len());
}

#[test]
fn a_missing_file_is_refused_and_its_return_goes_unnoticed_by_clients() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let good = front.shown_by(&proxy);
    let PairFiles { private_key, .. } = &front.files;
    let aside = private_key.with_extension("aside");
    fs::rename(private_key, &aside).expect("the key is there");
    let line = proxy.wait_for_log(|line| line.message() == REFUSED);
    let error = line.field("error").expect("a reason");
    assert!(
        error.contains("cannot read ") && error.contains("tls.key"),
        "{error}"
    );
    assert_eq!(front.shown_by(&proxy), good);
    fs::rename(&aside, private_key).expect("the key is there");
    proxy.wait_for_logs(2, |line| line.message() == IN_USE);
    assert_eq!(front.shown_by(&proxy), good);
}

#[test]
fn a_live_session_keeps_its_certificate_on_its_data_connections() {
    let front = Front::new(&[]);
    let content = content::bytes(1, 50_000);
    let backend = Backend::start(Script::new().file("file", content.clone()));
    let proxy = front.before(backend.address());
    let old = front.shown_by(&proxy);
    let mut sessions: Vec<_> = [&TLS12, &TLS13]
        .into_iter()
        .map(|version| {
            let tls = front.tls_of(version);
            let mut control = Raw::connect_auth_tls(proxy.explicit(), &tls);
            control.login("alice", "secret");
            control.protect_data();
            (control, tls)
        })
        .collect();

    let next = front.issue(Validity::Now);
    front.files.replace_by_rename(&next);
    proxy.wait_for_logs(2, |line| line.message() == IN_USE);
    for (control, tls) in &mut sessions {
        // In this order: a client that has resumed is relied upon to do so again.
        for (tls, resumed) in [(tls.without_resumption(), false), (tls.clone(), true)] {
            let mut data = open_data(control.epsv());
            control.command("RETR file", 150);
            protect(&mut data, &tls).expect("a handshake");
            assert_eq!(data.resumed(), resumed);
            assert_eq!(data.peer_certificate(), Some(old.clone()));
            let (received, end) = data.read_to_end();
            assert_eq!(end, End::CloseNotify);
            assert_eq!(content::sha256(&received), content::sha256(&content));
            control.expect(226);
        }
    }
    assert_eq!(front.shown_by(&proxy), next.der().to_vec());
}

#[test]
fn a_browser_is_refused_by_alpn_and_ftp_clients_are_not() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    for version in [&TLS12, &TLS13] {
        let tls = front.tls_of(version);
        let mut browser = Raw::connect(proxy.implicit());
        let refused = browser.handshake(&tls.alpn(&["http/1.1"]));
        let error = refused.expect_err("no FTP client speaks HTTP").to_string();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
        for welcome in [tls.clone(), tls.alpn(&["ftp"])] {
            let mut client = Raw::connect_tls(proxy.implicit(), &welcome);
            client.expect(220);
        }
    }
    proxy.wait_for_logs(2, |line| {
        line.message() == "TLS handshake with the client failed"
            && line
                .field("error")
                .is_some_and(|error| error.contains("ALPN"))
    });
    let failed = "portcullis_tls_handshakes_total{result=\"failed\",version=\"none\"}";
    assert_eq!(proxy.metric(failed), 2.0);
}

#[test]
fn tls_1_1_is_refused_and_so_is_1_2_where_1_3_is_the_minimum() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let site = Site::default("site", backend.address());
    let strict = Proxy::start(front.config().tls("min_version", "\"1.3\"").site(&site));
    let refused = Raw::connect(strict.implicit()).handshake(&front.tls_of(&TLS12));
    let error = refused.expect_err("1.2 is too old").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    Raw::connect_tls(strict.implicit(), &front.tls_of(&TLS13)).expect(220);

    let usual = front.before(backend.address());
    let mut client = Wire::connect(usual.implicit());
    client.write_all(&client_hello_tls_1_1()).expect("it reads");
    let mut alert = [0; 7];
    client.read_exact(&mut alert).expect("an alert");
    // A fatal (2) alert (record type 21) of two bytes: handshake_failure (40), which is what rustls says to clients of
    // TLS 1.1 before it comes to their version.
    assert_eq!((alert[0], &alert[3..]), (21, &[0, 2, 2, 40][..]));
    for proxy in [&strict, &usual] {
        let failed = |line: &LogLine| line.message() == "TLS handshake with the client failed";
        let error = proxy.wait_for_log(failed).field("error");
        assert_eq!(error.as_deref(), Some("no TLS version in common"));
    }
    Raw::connect_tls(usual.implicit(), &front.tls_of(&TLS12)).expect(220);
}

/// What a client that knows nothing newer than TLS 1.1 begins with (RFC 4346 section 7.4.1.2), server name included.
fn client_hello_tls_1_1() -> Vec<u8> {
    let name = NAME.as_bytes();
    let length = |extra: usize| ((name.len() + extra) as u16).to_be_bytes();
    let server_name = [&[0, 0][..], &length(5), &length(3), &[0], &length(0), name].concat();
    let body = [
        &[3, 2][..],
        &[7; 32],
        &[0],
        // TLS_RSA_WITH_AES_128_CBC_SHA and TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA.
        &[0, 4, 0, 0x2f, 0xc0, 0x13],
        &[1, 0],
        &(server_name.len() as u16).to_be_bytes(),
        &server_name,
    ]
    .concat();
    let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    [
        &[22, 3, 1][..],
        &(message.len() as u16).to_be_bytes(),
        &message,
    ]
    .concat()
}
