//! Renewals, and what a reload does to orders.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use testkit::clients::{Client, ClientTls, Login};
use testkit::config::Site;
use testkit::pebble::Manners;
use testkit::proxy::{Proxy, Signal};
use testkit::server::Security;
use testkit::vsftpd;

use super::{IN_USE, NAME, ORDERED, Setting, says};
use crate::program::Start;

#[test]
fn a_certificate_is_renewed_under_clients_that_log_in_and_none_of_them_fails() {
    let server = vsftpd::start(Security::Plain);
    let manners = Manners {
        // Renewed at half of it: the rest has to do for an order on a busy machine.
        validity: 36,
        ..Manners::default()
    };
    let (setting, config) = Setting::new(manners);
    let acme = setting.section(NAME, &setting.http(), "");
    let site = Site::default("only", server.address());
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    proxy.wait_for_log(says(IN_USE));
    let root = setting.pebble.root(setting.directory.path());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let logins = scope.spawn(|| {
            let login = Login::new(proxy.explicit(), server.user(), server.password())
                .tls(ClientTls::Explicit, &root)
                .name(NAME);
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                login.list(Client::Curl, "").expect_success();
                count += 1;
            }
            count
        });
        // Once by the first order, once by each renewal.
        proxy.wait_for_logs(2, says(IN_USE));
        let lines = proxy.wait_for_logs(3, says(IN_USE));
        done.store(true, Ordering::Relaxed);
        assert!(logins.join().expect("no login fails") > 1);
        let fingerprints: std::collections::BTreeSet<_> =
            lines.iter().map(|line| line.field("fingerprint")).collect();
        assert_eq!(fingerprints.len(), 3);
    });
}

#[test]
fn a_new_process_takes_up_what_the_one_before_has_ordered() {
    let (setting, config) = Setting::new(Manners::default());
    let acme = setting.section(NAME, &setting.http(), "");
    let config = std::sync::Arc::new(
        config
            .tls("acme", &acme)
            .site(&Site::default("only", "127.0.0.1:1")),
    );
    let mut proxy = Proxy::start_unready(std::sync::Arc::clone(&config));
    proxy.wait_for_log(says(IN_USE));
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    // From the first moment on.
    let proxy = Proxy::start(config);
    proxy.wait_for_log(says(IN_USE));
    let next = proxy.wait_for_metric("portcullis_acme_next_attempt_seconds", |at| at > 0.0);
    assert!(next > time::OffsetDateTime::now_utc().unix_timestamp() as f64);
    assert!(
        !proxy
            .log_lines()
            .iter()
            .any(|line| line.message() == ORDERED)
    );
}

#[test]
fn an_authority_that_was_set_up_anew_gets_a_new_account() {
    let (mut setting, config) = Setting::new(Manners::default());
    let acme = setting.section(NAME, &setting.http(), "");
    let proxy = Proxy::start_unready(
        config
            .tls("acme", &acme)
            .site(&Site::default("only", "127.0.0.1:1")),
    );
    proxy.wait_for_log(says(ORDERED));
    setting.pebble.restart();
    // Another name is another certificate, which is ordered at once.
    let more = setting.section(&format!("{NAME}, more.albigi.test"), &setting.http(), "");
    proxy.reload(&proxy.config().to_yaml().replace(&acme, &more));
    let ordered = proxy.wait_for_logs(2, says(ORDERED));
    let names = ordered[1].field("names").expect("names");
    assert!(names.contains("more.albigi.test"), "{names}");
}

/// A program for the DNS challenge that does this in the directory.
fn hook(directory: &Path, script: &str) -> PathBuf {
    let hook = directory.join("hook");
    let script = format!("#!/bin/sh\ncd {directory:?}\n{script}\n");
    fs::write(&hook, script).expect("the test's directory is writable");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&hook, mode).expect("it is ours");
    hook
}

#[test]
fn a_reload_that_says_nothing_new_leaves_an_order_alone_and_one_that_does_ends_it() {
    let (setting, config) = Setting::new(Manners::default());
    let directory = setting.directory.path();
    // Says when it has begun, and hangs until it is told to go on.
    let hook = hook(
        directory,
        "echo $PORTCULLIS_ACTION >>asked\n[ $PORTCULLIS_ACTION = remove ] || { mkfifo gate; read _ <gate; }",
    );
    let acme = setting.section(NAME, &format!("{{dns: {hook:?}}}"), "");
    let proxy = Proxy::start_unready(
        config
            .tls("acme", &acme)
            .site(&Site::default("only", "127.0.0.1:1")),
    );
    let gate = directory.join("gate");
    let by = std::time::Instant::now() + testkit::DEADLINE;
    while !gate.exists() {
        assert!(std::time::Instant::now() < by, "the program is not run");
        thread::yield_now();
    }
    let yaml = proxy.config().to_yaml();
    proxy.reload(&yaml);
    let status = proxy.get("/api/v1/config").1;
    assert!(status.contains("\"activity\":\"ordering\""), "{status}");

    // Without the section the order ends, what it has shown is removed, and nothing is ordered any more.
    let files =
        testkit::certs::Pair::self_signed(&[NAME], testkit::certs::Validity::Now).write(directory);
    let with_files = yaml.replace(
        &format!("  acme: {acme}\n"),
        &format!(
            "  certificate: {:?}\n  private_key: {:?}\n",
            files.certificate, files.private_key
        ),
    );
    proxy.reload(&with_files);
    let asked = || fs::read_to_string(directory.join("asked")).unwrap_or_default();
    while asked() != "present\nremove\n" {
        assert!(
            std::time::Instant::now() < by,
            "the program was asked: {}",
            asked()
        );
        thread::yield_now();
    }
    assert_eq!(
        proxy.metrics().get("portcullis_acme_next_attempt_seconds"),
        None
    );
    assert!(proxy.get("/api/v1/config").1.contains("\"acme\":null"));
}

#[test]
fn a_record_that_a_killed_process_has_left_is_removed_by_the_next_one() {
    let (setting, config) = Setting::new(Manners::default());
    let directory = setting.directory.path();
    // The first one hangs, with its record made.
    let hook = hook(
        directory,
        "echo $PORTCULLIS_ACTION $PORTCULLIS_VALUE >>asked\n[ -e gate ] || { mkfifo gate; read _ <gate; }",
    );
    let acme = setting.section(NAME, &format!("{{dns: {hook:?}}}"), "");
    let config = config
        .tls("acme", &acme)
        .site(&Site::default("only", "127.0.0.1:1"));
    let asked = || fs::read_to_string(directory.join("asked")).unwrap_or_default();
    let by = std::time::Instant::now() + testkit::DEADLINE;
    let wait_until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            assert!(
                std::time::Instant::now() < by,
                "the program was asked: {}",
                asked()
            );
            thread::yield_now();
        }
    };
    let config = std::sync::Arc::new(config);
    let mut proxy = Proxy::start_unready(std::sync::Arc::clone(&config));
    wait_until(&|| directory.join("gate").exists());
    let value = asked().trim_end().replace("present ", "");
    proxy.signal(Signal::Kill);
    assert_eq!(proxy.wait_exit(), None);
    drop(proxy);
    // So that it orders at once.
    fs::remove_file(setting.state().join("schedule.json")).expect("an order has begun");
    let _proxy = Proxy::start_unready(config);
    wait_until(&|| asked().contains(&format!("\nremove {value}\npresent ")));
}
