//! Backends that name servers tell of: every address of a name, and the servers of SRV records.

use std::net::IpAddr;

use testkit::config::{Config, Site};
use testkit::dnsmasq::{NameServer, Record};
use testkit::front::Front;
use testkit::loopback::Loopback;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// A proxy that asks a name server for the backends of its only site.
struct Discovering {
    names: NameServer,
    proxy: Proxy,
    _front: Front,
}

impl Discovering {
    fn start(names: NameServer, site: Site) -> Self {
        Self::with(names, site, |config| config)
    }

    fn with(names: NameServer, site: Site, more: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let config = front
            .config()
            .tls("required", "false")
            .set(
                "dns",
                &format!("{{servers: [{:?}]}}", names.address().to_string()),
            )
            .site(&site);
        Self {
            proxy: Proxy::start(more(config)),
            _front: front,
            names,
        }
    }

    fn login(&self, user: &str) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client.login(user, "secret");
        client
    }

    fn state(&self, backend: &str, state: &str) -> String {
        format!("portcullis_backend_state{{backend=\"{backend}\",site=\"only\",state=\"{state}\"}}")
    }
}

/// Backends on addresses of their own, which share a port.
fn on_one_port<const COUNT: usize>() -> [(Loopback, Backend); COUNT] {
    const PORT: u16 = 2100;
    std::array::from_fn(|_| {
        let loopback = Loopback::claim();
        let backend = Backend::start_at(loopback.at(PORT), Script::new());
        (loopback, backend)
    })
}

fn address_records<'a>(name: &'a str, all: &[(Loopback, Backend)]) -> Vec<Record<'a>> {
    let record = |(loopback, _): &(Loopback, Backend)| Record::Address(name, loopback.ip());
    all.iter().map(record).collect()
}

fn ip(backend: &Backend) -> IpAddr {
    backend.address().ip()
}

const EXPANDED: &str = "pool.test:2100";
const SERVICE: &str = "_ftp._tcp.dr.test";

fn expanded() -> Site {
    Site::default("only", EXPANDED).backend("expand", "true")
}

#[test]
fn every_address_of_a_name_is_a_backend_of_its_own() {
    let all = on_one_port::<3>();
    let names = NameServer::start(&address_records("pool.test", &all));
    let deployment = Discovering::start(names, expanded().set("balance", "round_robin"));
    for count in 1..=2 {
        for _ in &all {
            deployment.login("alice").command("QUIT", 221);
        }
        for (_, backend) in &all {
            assert_eq!(backend.connections(), count);
        }
    }
    // Its servers are no series of their own.
    assert_eq!(
        deployment.proxy.metric(&deployment.state(EXPANDED, "up")),
        1.0
    );
}

#[test]
fn an_address_that_vanishes_keeps_its_sessions_and_gets_no_new_ones() {
    let all = on_one_port::<2>();
    let names = NameServer::start(&address_records("pool.test", &all[..1]));
    let mut deployment = Discovering::start(names, expanded());
    let mut stays = deployment.login("alice");
    deployment
        .names
        .change(&address_records("pool.test", &all[1..]));
    deployment.proxy.wait_for_log(|line| {
        line.message() == "backend not listed any more; its sessions stay"
            && line.text.contains(&ip(&all[0].1).to_string())
    });
    deployment.login("bob").command("QUIT", 221);
    assert_eq!([all[0].1.connections(), all[1].1.connections()], [1, 1]);
    stays.command("NOOP", 200);
}

#[test]
fn the_last_answer_stays_while_the_name_server_fails_and_after_a_reload() {
    let all = on_one_port::<1>();
    let names = NameServer::start(&address_records("pool.test", &all));
    let mut deployment = Discovering::start(names, expanded());
    deployment.names.stop();
    deployment
        .proxy
        .wait_for_log(|line| line.message().starts_with("DNS lookup failed"));
    deployment.login("alice").command("QUIT", 221);
    deployment
        .proxy
        .reload(&deployment.proxy.config().to_yaml());
    deployment.login("bob").command("QUIT", 221);
}

#[test]
fn the_last_answer_stays_where_the_name_server_knows_no_record_any_more() {
    let all = on_one_port::<1>();
    let names = NameServer::start(&address_records("pool.test", &all));
    let mut deployment = Discovering::start(names, expanded());
    deployment.names.change(&[]);
    let line = deployment
        .proxy
        .wait_for_log(|line| line.message().starts_with("DNS lookup failed"));
    assert!(line.text.contains("no address records"), "{}", line.text);
    deployment.login("alice").command("QUIT", 221);
    deployment.names.change(&address_records("pool.test", &all));
    deployment
        .proxy
        .wait_for_log(|line| line.message() == "name servers answer again");
}

#[test]
fn a_process_starts_without_its_name_server_and_serves_when_it_answers() {
    let all = on_one_port::<1>();
    let mut names = NameServer::start(&[]);
    names.stop();
    let mut deployment = Discovering::start(names, expanded());
    assert_eq!(
        deployment.proxy.metric(&deployment.state(EXPANDED, "down")),
        1.0
    );
    deployment
        .proxy
        .wait_for_log(|line| line.message() == "no server found");
    let mut client = Raw::connect(deployment.proxy.explicit());
    client.expect(220);
    client.command("USER alice", 421);
    deployment.names.change(&address_records("pool.test", &all));
    deployment
        .proxy
        .wait_for_metric(&deployment.state(EXPANDED, "up"), |up| up == 1.0);
    deployment.login("alice").command("QUIT", 221);
}

#[test]
fn a_reload_that_is_refused_says_nothing_of_the_names_that_it_has_looked_up() {
    let all = on_one_port::<1>();
    let names = NameServer::start(&address_records("pool.test", &all));
    let deployment = Discovering::start(names, expanded());
    let proxy = &deployment.proxy;
    let yaml = proxy.config().to_yaml();
    let moved = yaml.replace("pool.test", "unknown.test");
    let taken = format!("\"{}\"", all[0].1.address());
    let refused = moved.replace(&format!("\"{}\"", proxy.implicit()), &taken);
    proxy.rewrite_config(&refused);
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message().starts_with("reload refused"));
    let is_said = |line: &LogLine| line.message() == "no server found";
    assert!(!proxy.log_lines().iter().any(is_said));
    proxy.reload(&moved);
    proxy.wait_for_log(is_said);
}

#[test]
fn servers_of_a_lower_priority_serve_where_those_of_a_higher_one_cannot() {
    let [main, backup] = [(); 2].map(|()| Backend::start(Script::new()));
    let of = |name, backend: &Backend, priority| {
        let port = backend.address().port();
        [
            Record::Service(SERVICE, name, port, priority, 10),
            Record::Address(name, ip(backend)),
        ]
    };
    let records = [of("spare.test", &backup, 20), of("main.test", &main, 10)];
    let names = NameServer::start(&records.concat());
    let site = Site::service("only", SERVICE);
    let deployment = Discovering::start(names, site.set("balance", "by_user"));
    for user in ["alice", "bob", "carol"] {
        deployment.login(user).command("QUIT", 221);
    }
    assert_eq!([main.connections(), backup.connections()], [3, 0]);
    drop(main);
    deployment.login("alice").command("QUIT", 221);
    assert_eq!(backup.connections(), 1);
}
