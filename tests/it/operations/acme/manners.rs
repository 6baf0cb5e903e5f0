//! An authority that suggests, refuses, hangs, floods, or issues what nobody has ordered.

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use testkit::certs::{Authority, Pair, Validity};
use testkit::config::{Config, Site};
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::scripted_ca::{Manner, ScriptedCa};

use super::{FAILED, IN_USE, NAME, ORDERED, orders, says, section};
use crate::program::Start;

/// A proxy that orders from the authority, with more keys in its section.
fn start(ca: &ScriptedCa, more: &str) -> Proxy {
    let config = Config::without_certificate();
    Proxy::start_unready(configured(ca, config, more))
}

fn configured(ca: &ScriptedCa, config: Config, more: &str) -> Arc<Config> {
    let challenge = format!("{{http: \"{}:5002\"}}", config.explicit().ip());
    let state = ca.scratch().join("acme");
    let acme = section(&ca.directory_url(), ca.ca(), &state, NAME, &challenge, more);
    let site = Site::default("only", "127.0.0.1:1");
    Arc::new(config.tls("acme", &acme).site(&site))
}

/// How an order fails.
fn failure(proxy: &Proxy) -> (String, String) {
    let failed =
        proxy.wait_for_log(|line: &LogLine| [FAILED, ORDERED].contains(&line.message().as_str()));
    assert_eq!(failed.message(), FAILED);
    let stage = failed.field("stage").expect("a stage");
    (stage, failed.field("error").expect("a reason"))
}

#[test]
fn what_nobody_has_ordered_is_not_put_in_the_place_of_what_is_there() {
    for (manner, why) in [
        (Manner::IssuesForAnotherKey, "does not belong to"),
        (
            Manner::IssuesForAnotherName,
            "is for other names: other.test",
        ),
    ] {
        let ca = ScriptedCa::start();
        ca.behave(manner);
        let state = ca.scratch().join("acme");
        fs::create_dir(&state).expect("the test's directory is writable");
        // What is there is for fewer names than are wanted.
        let former = Authority::new("former").issue(&["former.test"]);
        fs::write(state.join("default.crt"), &former.certificate).expect("written");
        fs::write(state.join("default.key"), &former.private_key).expect("written");
        let proxy = start(&ca, "");
        let (stage, error) = failure(&proxy);
        assert_eq!(stage, "download");
        assert!(error.contains(why), "{error}");
        assert_eq!(orders(&proxy, "failed", "download"), 1.0);
        let kept = fs::read_to_string(state.join("default.crt")).expect("it is there");
        assert_eq!(kept, former.certificate);
        // It is served, too: better than nothing.
        assert_eq!(proxy.get("/readyz").0, 200);
    }
}

#[test]
fn an_authority_that_fails_is_said_to_and_asked_again_later() {
    for (manner, stage, why) in [
        (Manner::IsBroken, "account", "502 Bad Gateway"),
        (Manner::Floods, "order", "length limit exceeded"),
        (
            Manner::RefusesFor(7_200),
            "order",
            "too many certificates already issued (rateLimited)",
        ),
        (
            Manner::RefusesLooksFor(7_200),
            "challenge",
            "too many requests (rateLimited)",
        ),
        (
            Manner::NamesNoNonce,
            "account",
            "/dir is \"\", which isn't an https URL",
        ),
    ] {
        let ca = ScriptedCa::start();
        ca.behave(manner.clone());
        let proxy = start(&ca, "");
        let (at, error) = failure(&proxy);
        assert_eq!(at, stage, "{error}");
        assert!(error.contains(why), "{error}");
        let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
        let next = proxy.wait_for_metric("portcullis_acme_next_attempt_seconds", |at| at > now);
        let expected = match manner {
            Manner::RefusesFor(seconds) | Manner::RefusesLooksFor(seconds) => seconds as f64,
            _ => 60.0,
        };
        assert!((next - now - expected).abs() < 30.0, "{}", next - now);
    }
}

#[test]
fn a_reload_begins_an_order_that_waits_after_a_failure() {
    let ca = ScriptedCa::start();
    ca.behave(Manner::IsBroken);
    let proxy = start(&ca, "");
    assert_eq!(failure(&proxy).0, "account");
    ca.behave(Manner::Issues);
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(says(ORDERED));
    assert_eq!(orders(&proxy, "failed", "account"), 1.0);
}

#[test]
fn an_authority_that_is_not_trusted_is_said_to_be_with_the_key_that_would_trust_it() {
    let ca = ScriptedCa::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let other = Authority::new("another authority").write(directory.path());
    let config = Config::without_certificate();
    let challenge = format!("{{http: \"{}:5002\"}}", config.explicit().ip());
    let state = ca.scratch().join("acme");
    let acme = section(&ca.directory_url(), &other, &state, NAME, &challenge, "");
    let site = Site::default("only", "127.0.0.1:1");
    let proxy = Proxy::start_unready(config.tls("acme", &acme).site(&site));
    let (stage, error) = failure(&proxy);
    assert_eq!(stage, "account");
    assert!(
        error.contains("scripted authority, which is not trusted; trusted are the authorities in the file of `tls.acme.ca`"),
        "{error}"
    );
}

#[test]
fn nothing_is_issued_that_could_not_be_written_down() {
    let ca = ScriptedCa::start();
    let state = ca.scratch().join("acme");
    // As a full disk is, also for root: what is tried to be written can't be.
    fs::create_dir_all(state.join("room")).expect("the test's directory is writable");
    let proxy = start(&ca, "");
    let (stage, error) = failure(&proxy);
    assert_eq!(stage, "finalize");
    assert!(error.contains("acme/room"), "{error}");
    assert_eq!(ca.asked("/finalize"), []);
    assert_eq!(orders(&proxy, "failed", "finalize"), 1.0);
}

#[test]
fn an_authority_that_hangs_is_given_up_and_the_process_ends_all_the_same() {
    let ca = ScriptedCa::start();
    ca.behave(Manner::Hangs);
    let mut proxy = start(&ca, "");
    let by = std::time::Instant::now() + testkit::DEADLINE;
    while ca.asked("/order").is_empty() {
        assert!(std::time::Instant::now() < by, "nothing is ordered");
        std::thread::yield_now();
    }
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    let state = fs::read_to_string(ca.scratch().join("acme/schedule.json")).expect("it is there");
    assert!(
        state.contains("\"failures\":0"),
        "an order that was broken off counts as none: {state}"
    );
}

#[test]
fn the_authoritys_window_is_asked_for_and_a_renewal_says_what_it_replaces() {
    let ca = ScriptedCa::start();
    ca.suggest(Some((30 * 86_400, 31 * 86_400)));
    let config = configured(&ca, Config::without_certificate(), "");
    let proxy = Proxy::start_unready(Arc::clone(&config));
    proxy.wait_for_log(says(ORDERED));
    proxy.wait_for_log(says("the authority suggests when to renew the certificate"));
    let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    let days = |at: f64| (at - now) / 86_400.0;
    proxy.wait_for_metric("portcullis_acme_next_attempt_seconds", |at| {
        (29.9..31.1).contains(&days(at))
    });
    drop(proxy);

    // It has to revoke the certificate, days later. It is asked again when it said; here that is now.
    ca.suggest(Some((-7_200, -3_600)));
    let schedule = ca.scratch().join("acme/schedule.json");
    let text = fs::read_to_string(&schedule).expect("it is there");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    for (part, moment) in [("suggestion", "ask_at"), ("attempts", "obtained")] {
        assert!(record[part][moment].is_u64(), "{part}.{moment}: {text}");
        record[part][moment] = 0.into();
    }
    fs::write(&schedule, record.to_string()).expect("written");
    let proxy = Proxy::start(config);
    proxy.wait_for_log(says(ORDERED));
    let orders = ca.asked("/order");
    let replacing = orders
        .iter()
        .filter(|asked| asked.payload.contains("\"replaces\""));
    assert_eq!(replacing.count(), 1);
    let id = ca.asked("/ari/")[0].path.clone();
    let id = id.strip_prefix("/ari/").expect("it has one");
    assert!(
        orders.iter().any(|asked| asked.payload.contains(id)),
        "{orders:?}"
    );
}

#[test]
fn a_profile_is_asked_for_if_the_authority_has_it() {
    let ca = ScriptedCa::start();
    ca.offer(&["classic", "tlsserver"]);
    let proxy = start(&ca, ", profile: tlsserver");
    proxy.wait_for_log(says(ORDERED));
    let orders = ca.asked("/order");
    assert!(
        orders[0].payload.contains("\"profile\":\"tlsserver\""),
        "{orders:?}"
    );

    let ca = ScriptedCa::start();
    ca.offer(&["classic"]);
    let proxy = start(&ca, ", profile: tlsserver");
    let (stage, error) = failure(&proxy);
    assert_eq!(stage, "order");
    assert_eq!(error, "the authority has no profile tlsserver, but classic");
    assert_eq!(ca.asked("/order"), []);
}

#[test]
fn the_ordered_certificate_is_one_more_beside_the_one_that_is_configured() {
    let ca = ScriptedCa::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let own = Pair::self_signed(&["own.test"], Validity::Now).write(directory.path());
    let proxy = Proxy::start(configured(&ca, Config::new(&own), ""));
    proxy.wait_for_log(says(ORDERED));
    proxy.wait_for_log(|line| {
        line.message() == IN_USE && line.field("names").as_deref() == Some(NAME)
    });
}
