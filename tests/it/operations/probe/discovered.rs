//! Backends that name servers tell of.

use testkit::config::Site;
use testkit::dnsmasq::{NameServer, Record};
use testkit::front::Front;
use testkit::loopback::Loopback;
use testkit::script::Script;
use testkit::scripted::Backend;

use super::{Probed, stage};

const PORT: u16 = 2100;

fn probed(names: &NameServer, sites: &[Site]) -> Probed {
    let servers = format!("{{servers: [{:?}]}}", names.address().to_string());
    Probed::with(Front::new(&[]), sites, |config| config.set("dns", &servers))
}

#[test]
fn every_server_that_name_servers_tell_of_is_probed() {
    let servers = [(); 2].map(|()| {
        let loopback = Loopback::claim();
        let backend = Backend::start_at(loopback.at(PORT), Script::new());
        (loopback, backend)
    });
    let records = servers.each_ref();
    let records = records.map(|(loopback, _)| Record::Address("pool.test", loopback.ip()));
    let names = NameServer::start(&records);
    let site = Site::default("only", "pool.test:2100").backend("expand", "true");
    let probed = probed(&names, &[site]);
    let said = probed.list("probe", &["--format", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let mut found: Vec<String> = said
        .json()
        .iter()
        .map(|it| it["backend"].to_string())
        .collect();
    let expected = servers.each_ref();
    let mut expected = expected.map(|(_, backend)| format!("\"{}\"", backend.address()));
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(said.json().iter().all(|it| it["entry"] == "pool.test:2100"));

    let one = servers[0].1.address().to_string();
    let said = probed.run(&["--backend", &one]);
    let start = format!("site only, backend {one} (pool.test:2100), without TLS\n");
    assert!(said.stdout.starts_with(&start), "{}", said.stdout);
    let said = probed.run(&["--backend", "pool.test", "--format", "json"]);
    assert_eq!(said.json().len(), 2);
}

#[test]
fn a_name_that_stands_for_no_server_fails_at_dns() {
    let names = NameServer::start(&[]);
    let good = Backend::start(Script::new());
    let pool = Site::default("only", "pool.test:2100").backend("expand", "true");
    let site = Site::hosts("other", &["other.test"], good.address());
    let probed = probed(&names, &[pool.also(good.address()), site]);
    let said = probed.run(&["--format", "json"]);
    assert_eq!(said.code, 1, "{said:?}");
    let objects = said.json();
    let failed: Vec<_> = objects
        .iter()
        .map(|it| it["failed_stage"].as_str())
        .collect();
    assert_eq!(failed, [None, Some("dns"), None]);
    let dns = stage(&objects[1], "dns");
    assert!(
        dns["detail"].to_string().contains("no server found"),
        "{dns}"
    );
    assert!(dns["remedy"].to_string().contains("dig NAME"), "{dns}");
    assert_eq!(stage(&objects[1], "connect")["outcome"], "skipped");
    // Nothing is looked up for sites that are not asked for.
    assert_eq!(probed.run(&["--site", "other"]).code, 0);
}
