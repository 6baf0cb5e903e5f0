//! Several instances that share a directory.

use std::fs;

use testkit::config::{Config, Site};
use testkit::pebble::{HTTP_PORT, Manners};
use testkit::proxy::{Proxy, Signal};
use testkit::scripted_ca::{Manner, ScriptedCa};

use super::{IN_USE, NAME, ORDERED, Setting, says, section};
use crate::program::Start;

#[test]
fn of_three_instances_one_orders_and_all_of_them_serve() {
    let (setting, config) = Setting::new(Manners::default());
    let site = Site::default("only", "127.0.0.1:1");
    let acme = setting.section(NAME, &setting.http(), "");
    let proxies: Vec<Proxy> = [
        config,
        Config::without_certificate(),
        Config::without_certificate(),
    ]
    .into_iter()
    .map(|config| {
        // Whoever orders answers at the one address at which pebble looks.
        Proxy::start_unready(config.tls("acme", &acme).site(&site))
    })
    .collect();
    for proxy in &proxies {
        proxy.wait_for_log(says(IN_USE));
    }
    let fingerprints: Vec<_> = proxies
        .iter()
        .map(|proxy| proxy.wait_for_log(says(IN_USE)).field("fingerprint"))
        .collect();
    assert!(
        fingerprints.windows(2).all(|pair| pair[0] == pair[1]),
        "{fingerprints:?}"
    );
    let orders = proxies.iter().flat_map(Proxy::log_lines);
    assert_eq!(orders.filter(says(ORDERED)).count(), 1);
    let _ = HTTP_PORT;
}

#[test]
fn an_instance_that_is_killed_in_its_order_keeps_no_other_from_ordering() {
    let ca = ScriptedCa::start();
    ca.behave(Manner::Hangs);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = directory.path().join("acme");
    let site = Site::default("only", "127.0.0.1:1");
    let start = || {
        let config = Config::without_certificate();
        let challenge = format!("{{http: \"{}:5002\"}}", config.explicit().ip());
        let acme = section(&ca.directory_url(), ca.ca(), &state, NAME, &challenge, "");
        Proxy::start_unready(config.tls("acme", &acme).site(&site))
    };
    let mut first = start();
    let by = std::time::Instant::now() + testkit::DEADLINE;
    while ca.asked("/order").is_empty() {
        assert!(std::time::Instant::now() < by, "nothing is ordered");
        std::thread::yield_now();
    }
    let second = start();
    let activity = |proxy: &Proxy| proxy.get("/api/v1/config").1;
    // The order of the first one is under way, and has not failed.
    while !activity(&second).contains("\"activity\":\"ordering_elsewhere\"") {
        assert!(std::time::Instant::now() < by, "{}", activity(&second));
        std::thread::yield_now();
    }
    assert!(activity(&second).contains("\"failures\":0"));
    first.signal(Signal::Kill);
    assert_eq!(first.wait_exit(), None);
    ca.behave(Manner::Issues);
    // The killed order counts as a failed one. To have it counted no longer is what an operator can do.
    let schedule = state.join("schedule.json");
    let text = fs::read_to_string(&schedule).expect("it was written before the order");
    assert!(text.contains("\"failures\":1"), "{text}");
    fs::remove_file(&schedule).expect("it is there");
    let third = start();
    third.wait_for_log(says(IN_USE));
    second.wait_for_log(says(IN_USE));
    assert_eq!(ca.asked("/order").len() - ca.asked("/order/").len(), 2);
    assert!(!activity(&third).contains("ordering_elsewhere"));
}
