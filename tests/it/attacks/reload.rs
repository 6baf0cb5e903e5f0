//! Operators and their tools at their worst: signals by the thousand, certificates and configurations that are never
//! whole, a proxy that is its own backend. Clients notice none of it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use testkit::certs::Validity;
use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::Raw;
use testkit::resources;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::{Before, Start};

fn proxy_with(front: &Front, backend: &Backend) -> Proxy {
    front.before_with(backend.address(), |config| {
        config.passive_ports("50000-50009")
    })
}

/// The series that counts the reloads of the configuration with this result.
fn reloads(result: &str) -> String {
    format!("portcullis_reloads_total{{result=\"{result}\",subject=\"configuration\"}}")
}

#[test]
fn a_storm_of_signals_breaks_no_session_and_leaves_nothing_behind() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = proxy_with(&front, &backend);
    proxy.reload(&proxy.config().to_yaml());
    let descriptors = resources::descriptors(&proxy);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let mut session = front.session(&proxy, "alice");
                    assert_eq!(session.download("file"), b"content");
                    session.control.command("QUIT", 221);
                }
            });
        }
        // By one shell: a thousand programs would be the machine's storm and not the proxy's.
        let storm = format!(
            "n=0; while [ $n -lt 1000 ]; do kill -HUP {}; n=$((n+1)); done",
            proxy.pid()
        );
        let sent = Command::new("sh").args(["-c", &storm]).status();
        over.store(true, Ordering::SeqCst);
        assert!(sent.expect("a shell").success());
    });
    // The storm is one reload at least, and this one comes behind it.
    proxy.wait_for_metric(&reloads("ok"), |reloads| reloads >= 2.0);
    proxy.reload(&proxy.config().to_yaml());
    proxy.wait_for_metric(&reloads("ok"), |reloads| reloads >= 3.0);
    assert_eq!(proxy.metric(&reloads("refused")), 0.0);
    proxy.wait_for_metric("portcullis_sessions", |open| open == 0.0);
    resources::wait_for_descriptors(&proxy, descriptors);
}

#[test]
fn broken_configurations_in_a_row_change_nothing_and_the_good_one_after_them_counts() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = proxy_with(&front, &backend);
    let good = proxy.config().to_yaml();
    let mut session = front.session(&proxy, "alice");
    let broken = [
        String::new(),
        "\0\0\0".to_owned(),
        "a: &a [*a, *a]\n".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("default: true", "default: maybe"),
        good.replace("ports: 50000-50009", "ports: 50009-50000"),
        good.replace("tls.key", "tls.crt"),
        "x".repeat(3_000_000),
    ];
    const ROUNDS: usize = 5;
    for round in 0..ROUNDS {
        for (number, content) in broken.iter().enumerate() {
            proxy.rewrite_config(content);
            proxy.signal(Signal::Reload);
            let seen = round * broken.len() + number + 1;
            proxy.wait_for_logs(seen, |line| line.message().starts_with("reload refused"));
        }
        assert_eq!(session.download("file"), b"content");
        assert_eq!(front.session(&proxy, "bob").download("file"), b"content");
    }
    proxy.reload(&good.replace("ports: 50000-50009", "ports: 50020"));
    let mut newer = front.session(&proxy, "carol");
    assert_eq!(newer.control.epsv().port(), 50_020);
}

#[test]
fn a_certificate_that_is_never_whole_for_long_is_never_shown_with_the_wrong_key() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = proxy_with(&front, &backend);
    let pairs = [
        front.issue(Validity::Now),
        front.issue(Validity::Now),
        front.issue(Validity::Expired),
    ];
    let shown: Vec<Vec<u8>> = pairs[..2].iter().map(|pair| pair.der().to_vec()).collect();
    let first = front.shown_by(&proxy);
    let over = AtomicBool::new(false);
    let handshakes = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    // A handshake proves that the key belongs to the certificate.
                    let leaf = front.shown_by(&proxy);
                    assert!(leaf == first || shown.contains(&leaf), "an expired one");
                    handshakes.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for number in 0..1_000 {
            let pair = &pairs[number % pairs.len()];
            // In place, not at once, and not in step: each file is half written for a moment, and then the other's partner.
            std::fs::write(&front.files.certificate, &pair.certificate).expect("it is writable");
            if number % 7 == 0 {
                std::fs::write(&front.files.private_key, "").expect("it is writable");
            }
            std::fs::write(&front.files.private_key, &pair.private_key).expect("it is writable");
        }
        let last = front.issue(Validity::Now);
        front.files.rewrite_in_place(&last);
        over.store(true, Ordering::SeqCst);
        // And what is whole at last is put in use.
        let wanted = last.der().to_vec();
        proxy.wait_for_metric("portcullis_sessions", |_| front.shown_by(&proxy) == wanted);
    });
    assert!(handshakes.load(Ordering::SeqCst) > 2);
}

#[test]
fn proxies_that_are_each_others_backend_run_into_a_limit_and_recover() {
    let front = Front::new(&[]);
    let (one, other) = (front.config(), front.config());
    let (to_one, to_other) = (one.explicit(), other.explicit());
    let limited = |config: testkit::config::Config, backend| {
        let config = config
            .tls("required", "false")
            .limit("sessions_per_client", 10)
            .timeout("login", "20s");
        Proxy::start(config.site(&Site::default("loop", backend)))
    };
    let one = limited(one, to_other);
    let other = limited(other, to_one);
    let mut client = Raw::connect(one.explicit());
    client.expect(220);
    client.send("USER alice");
    client.expect(421);
    for proxy in [&one, &other] {
        proxy.wait_for_metric("portcullis_sessions", |open| open == 0.0);
        let refused = "portcullis_sessions_refused_total{reason=\"per_client\"}";
        assert!(proxy.metric(refused) <= 1.0);
    }
}
