//! Sites with several backends: which one a login gets, and what a backend that fails, hangs or is full costs the others.

use std::time::{Duration, Instant};

use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Script, Step, reply};
use testkit::scripted::Backend;
use testkit::server::Security;
use testkit::vsftpd;
use testkit::wire::End;

use crate::program::Start;

/// The site `only` with these backends in front of a proxy that lets clients log in without TLS.
struct Pool {
    _front: Front,
    proxy: Proxy,
}

impl Pool {
    fn start(site: Site) -> Self {
        Self::with(site, |config| config)
    }

    fn with(site: Site, more: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let config = more(front.config().tls("required", "false")).site(&site);
        Self {
            proxy: Proxy::start(config),
            _front: front,
        }
    }

    fn client(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client
    }

    fn login(&self, user: &str) -> Raw {
        let mut client = self.client();
        client.login(user, "secret");
        client
    }

    fn state(&self, backend: impl std::fmt::Display, state: &str) -> f64 {
        let labels = format!("backend=\"{backend}\",site=\"only\",state=\"{state}\"");
        self.proxy
            .metric(&format!("portcullis_backend_state{{{labels}}}"))
    }

    fn failovers(&self) -> f64 {
        self.proxy
            .metric("portcullis_backend_failovers_total{site=\"only\"}")
    }
}

fn backends<const COUNT: usize>() -> [Backend; COUNT] {
    std::array::from_fn(|_| Backend::start(Script::new()))
}

fn connections(backends: &[Backend]) -> Vec<usize> {
    backends.iter().map(Backend::connections).collect()
}

#[test]
fn first_gives_every_login_to_the_first_backend() {
    let all = backends::<2>();
    let pool = Pool::start(Site::default("only", all[0].address()).also(all[1].address()));
    let _sessions = [pool.login("alice"), pool.login("bob")];
    assert_eq!(connections(&all), [2, 0]);
}

#[test]
fn round_robin_takes_one_after_the_other() {
    let all = backends::<3>();
    let site = Site::default("only", all[0].address())
        .also(all[1].address())
        .also(all[2].address())
        .set("balance", "round_robin");
    let pool = Pool::start(site);
    for count in 1..=2 {
        for backend in &all {
            pool.login("alice").command("QUIT", 221);
            assert_eq!(backend.connections(), count);
        }
    }
}

#[test]
fn least_sessions_goes_where_there_are_fewest() {
    let all = backends::<2>();
    let site = Site::default("only", all[0].address())
        .also(all[1].address())
        .set("balance", "least_sessions");
    let pool = Pool::start(site);
    let _held = [pool.login("a"), pool.login("b"), pool.login("c")];
    let (fewer, more) = match connections(&all)[..] {
        [1, 2] => (0, 1),
        [2, 1] => (1, 0),
        _ => panic!("{:?}", connections(&all)),
    };
    let _next = pool.login("d");
    assert_eq!(all[fewer].connections(), 2);
    assert_eq!(all[more].connections(), 2);
}

#[test]
fn a_users_sessions_meet_at_one_backend_whichever_process_they_come_to() {
    let all = backends::<3>();
    let site = || {
        Site::default("only", all[0].address())
            .also(all[1].address())
            .also(all[2].address())
            .set("balance", "by_user")
    };
    let users = ["alice", "bob", "carol", "dave", "erin"];
    let chosen = |pool: &Pool, user: &str| {
        let before = connections(&all);
        pool.login(user).command("QUIT", 221);
        let after = connections(&all);
        (0..3).find(|number| after[*number] > before[*number])
    };
    let (one, other) = (Pool::start(site()), Pool::start(site()));
    for user in users {
        let first = chosen(&one, user);
        assert_eq!(chosen(&one, &user.to_uppercase()), first, "{user}");
        assert_eq!(chosen(&other, user), first, "{user}");
    }
}

#[test]
fn a_backend_that_is_full_is_passed_over_and_when_all_are_full_the_client_is_told() {
    let all = backends::<2>();
    let site = Site::default("only", all[0].address())
        .backend("max_sessions", "1")
        .also(all[1].address())
        .backend("max_sessions", "1");
    let pool = Pool::start(site);
    let first = pool.login("alice");
    assert_eq!(pool.state(all[0].address(), "full"), 1.0);
    let _second = pool.login("bob");
    assert_eq!(connections(&all), [1, 1]);
    pool.client().command("USER carol", 421);
    let line = pool
        .proxy
        .wait_for_log(|line| line.message().starts_with("login refused"));
    assert!(line.text.contains("max_sessions"), "{}", line.text);

    drop(first);
    let up = format!(
        "portcullis_backend_state{{backend=\"{}\",site=\"only\",state=\"up\"}}",
        all[0].address()
    );
    pool.proxy.wait_for_metric(&up, |value| value == 1.0);
    let _third = pool.login("carol");
    assert_eq!(connections(&all), [2, 1]);
}

#[test]
fn a_login_waits_in_the_queue_for_a_place_that_becomes_free() {
    let all = backends::<1>();
    let site = Site::default("only", all[0].address())
        .backend("max_sessions", "1")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let first = pool.login("alice");
    let mut second = pool.client();
    second.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    pool.proxy.wait_for_metric(queue, |waiting| waiting == 1.0);
    drop(first);
    second.expect(331);
    assert_eq!(pool.proxy.metric(queue), 0.0);
}

#[test]
fn a_login_tries_a_backend_that_fails_once_while_another_one_is_full() {
    let [full] = backends::<1>();
    let failing = Backend::start(Script::new().greeting(vec![reply("530 not now")]));
    let site = Site::default("only", full.address())
        .backend("max_sessions", "1")
        .also(failing.address())
        .set("queue", "500ms");
    let pool = Pool::start(site);
    let _held = pool.login("alice");
    pool.client().command("USER bob", 421);
    assert_eq!(failing.connections(), 1);
}

#[test]
fn logins_leave_the_queue_in_the_order_in_which_they_came() {
    let [backend] = backends::<1>();
    let site = Site::default("only", backend.address())
        .backend("max_sessions", "1")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let mut holds = pool.login("alice");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    let mut waiting = Vec::new();
    for number in 1..=5 {
        let mut client = pool.client();
        client.send(&format!("USER user{number}"));
        let all_wait = |value| value == f64::from(number);
        pool.proxy.wait_for_metric(queue, all_wait);
        waiting.push(client);
    }
    for mut next in waiting {
        holds.command("QUIT", 221);
        next.expect(331);
        holds = next;
    }
    let users: Vec<String> = backend.commands();
    let users = users.iter().filter(|line| line.starts_with("USER user"));
    let expected: Vec<String> = (1..=5).map(|number| format!("USER user{number}")).collect();
    assert_eq!(users.cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn a_reload_that_allows_more_sessions_lets_those_in_that_wait() {
    let [backend] = backends::<1>();
    let site = Site::default("only", backend.address())
        .backend("max_sessions", "1")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let _held = pool.login("alice");
    let mut waits = pool.client();
    waits.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    pool.proxy.wait_for_metric(queue, |value| value == 1.0);
    let yaml = pool.proxy.config().to_yaml();
    pool.proxy
        .reload(&yaml.replace("max_sessions: 1", "max_sessions: 2"));
    waits.expect(331);
}

#[test]
fn a_login_that_waits_by_an_earlier_configuration_holds_up_nobody_who_has_another_backend() {
    let [full, added] = backends::<2>();
    let site = Site::default("only", full.address())
        .backend("max_sessions", "1")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let mut holds = pool.login("alice");
    let mut waits = pool.client();
    waits.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    pool.proxy.wait_for_metric(queue, |value| value == 1.0);
    let yaml = pool.proxy.config().to_yaml();
    let also = format!("      - address: \"{}\"\n    queue:", added.address());
    pool.proxy.reload(&yaml.replace("    queue:", &also));
    let _new = pool.login("carol");
    assert_eq!(added.connections(), 1);
    holds.command("QUIT", 221);
    waits.expect(331);
    assert_eq!(connections(&[full, added]), [2, 1]);
}

#[test]
fn logins_that_wait_by_different_configurations_are_let_in_in_the_order_in_which_they_came() {
    let [backend] = backends::<1>();
    let site = Site::default("only", backend.address())
        .backend("max_sessions", "1")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let queue = "portcullis_backend_queue{site=\"only\"}";
    let mut holds = pool.login("alice");
    // Of the first configuration, and comes last.
    let mut last = pool.client();
    let mut waiting = Vec::new();
    for (number, user) in (1..).zip(["bob", "carol"]) {
        let mut client = pool.client();
        client.send(&format!("USER {user}"));
        let all_wait = |value| value == f64::from(number);
        pool.proxy.wait_for_metric(queue, all_wait);
        waiting.push(client);
        pool.proxy.reload(&pool.proxy.config().to_yaml());
    }
    last.send("USER dave");
    pool.proxy.wait_for_metric(queue, |value| value == 3.0);
    waiting.push(last);
    for mut next in waiting {
        holds.command("QUIT", 221);
        next.expect(331);
        holds = next;
    }
    assert_eq!(backend.users(), ["alice", "bob", "carol", "dave"]);
}

#[test]
fn nobody_new_comes_to_a_drained_backend_and_its_sessions_stay() {
    let all = backends::<2>();
    let site = Site::default("only", all[0].address())
        .backend("drain", "false")
        .also(all[1].address());
    let pool = Pool::start(site);
    let mut stays = pool.login("alice");
    let yaml = pool.proxy.config().to_yaml();
    pool.proxy
        .reload(&yaml.replace("drain: false", "drain: true"));
    let _new = pool.login("bob");
    assert_eq!(connections(&all), [1, 1]);
    stays.command("NOOP", 200);
    assert_eq!(pool.state(all[0].address(), "drain"), 1.0);
}

#[test]
fn a_backup_serves_only_where_no_other_can() {
    let [backup] = backends::<1>();
    let main = Backend::start(Script::new());
    let site = |main: &str| {
        Site::default("only", backup.address())
            .backend("backup", "true")
            .also(main)
    };
    let pool = Pool::start(site(&main.address().to_string()));
    pool.login("alice").command("QUIT", 221);
    assert_eq!(backup.connections(), 0);

    // Nothing listens on the discard port of a test machine.
    let pool = Pool::start(site("127.0.0.1:9"));
    pool.login("alice").command("QUIT", 221);
    assert_eq!(backup.connections(), 1);
    assert_eq!(pool.failovers(), 1.0);
}

#[test]
fn a_backend_that_greets_with_421_is_busy_and_the_next_one_serves() {
    let busy = Backend::start(Script::new().greeting(vec![reply("421 too many users")]));
    let [good] = backends::<1>();
    let pool = Pool::start(Site::default("only", busy.address()).also(good.address()));
    for _ in 0..5 {
        pool.login("alice").command("QUIT", 221);
    }
    assert_eq!(busy.connections(), 5, "nothing is held against it");
    assert_eq!(pool.state(busy.address(), "up"), 1.0);
    assert_eq!(pool.failovers(), 5.0);
}

#[test]
fn a_hanging_server_costs_three_logins_some_patience_and_no_further_one() {
    let hanging = vsftpd::start(Security::Plain);
    let [good] = backends::<1>();
    let site = Site::default("only", hanging.address()).also(good.address());
    let attempt = Duration::from_secs(1);
    let pool = Pool::with(site, |config| config.timeout("backend_attempt", "1s"));
    let process = hanging.pid().to_string();
    send_signal("STOP", &process);
    for number in 1..=3 {
        let began = Instant::now();
        pool.login("alice").command("QUIT", 221);
        assert!(began.elapsed() >= attempt, "it was tried, time {number}");
    }
    let out = pool
        .proxy
        .wait_for_log(|line| line.message() == "backend ejected");
    assert_eq!(out.field("stage").as_deref(), Some("greeting"));
    assert_eq!(pool.state(hanging.address(), "ejected"), 1.0);
    let failovers = pool.failovers();
    pool.login("alice").command("QUIT", 221);
    assert_eq!(pool.failovers(), failovers, "it was not tried again");

    // Its way back is no client's login.
    send_signal("CONT", &process);
    pool.proxy
        .wait_for_log(|line| line.message() == "backend up");
    assert_eq!(pool.state(hanging.address(), "up"), 1.0);
}

#[test]
fn where_every_backend_is_out_logins_try_them_all_the_same() {
    let bad = Backend::start(Script::new().greeting(vec![reply("530 not now")]));
    let pool = Pool::start(Site::default("only", bad.address()));
    for _ in 0..4 {
        pool.client().command("USER alice", 421);
    }
    assert_eq!(bad.connections(), 4, "out after three, and tried once more");
    pool.proxy
        .wait_for_log(|line| line.message().starts_with("no backend is up"));
}

#[test]
fn logins_that_come_at_once_are_not_in_each_others_way() {
    let [backend] = backends::<1>();
    let pool = Pool::start(Site::default("only", backend.address()));
    std::thread::scope(|scope| {
        for number in 0..16 {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..20 {
                    let user = format!("user{number}");
                    pool.login(&user).command("QUIT", 221);
                }
            });
        }
    });
}

#[test]
fn a_backend_is_called_by_its_name_in_metrics_and_by_both_in_the_log() {
    let bad = Backend::start(Script::new().greeting(vec![reply("530 not now")]));
    let pool = Pool::start(Site::default("only", bad.address()).backend("name", "old-iis"));
    assert_eq!(pool.state("old-iis", "up"), 1.0);
    for _ in 0..3 {
        pool.client().command("USER alice", 421);
    }
    assert_eq!(pool.state("old-iis", "ejected"), 1.0);
    let out = pool
        .proxy
        .wait_for_log(|line| line.message() == "backend ejected");
    let both = format!("{} (old-iis)", bad.address());
    assert_eq!(out.field("backend"), Some(both));
}

#[test]
fn a_login_that_waits_for_a_full_backend_is_not_in_the_way_of_those_that_another_one_would_serve() {
    let [full] = backends::<1>();
    // Fails the first two logins that come to it, and serves all others.
    let busy = vec![reply("421 not now"), Step::End(End::Fin)];
    let recovers = Backend::start(Script::new().at_first("USER", 2, busy));
    let site = Site::default("only", recovers.address())
        .also(full.address())
        .backend("max_sessions", "1")
        .set("balance", "first")
        .set("queue", "30s");
    let pool = Pool::start(site);
    let mut holds = pool.client();
    holds.send("USER bob");
    holds.expect(331);
    assert_eq!(full.connections(), 1, "the only place is taken");
    let mut waits = pool.client();
    waits.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    pool.proxy.wait_for_metric(queue, |waiting| waiting == 1.0);
    pool.login("alice").command("QUIT", 221);
    holds.command("QUIT", 221);
    waits.expect(331);
}

#[test]
fn lines_of_a_session_have_the_name_of_its_backend_beside_the_address() {
    let [named, other] = backends::<2>();
    let front = Front::new(&["named.test"]);
    let config = front
        .config()
        .tls("required", "false")
        .site(&Site::hosts("named", &["named.test"], named.address()).backend("name", "old-iis"))
        .site(&Site::default("other", other.address()));
    let proxy = Proxy::start(config);
    for (user, site, address, name) in [
        (
            "named.test|alice",
            "named",
            named.address(),
            Some("old-iis"),
        ),
        ("alice", "other", other.address(), None),
    ] {
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client.login(user, "secret");
        client.command("QUIT", 221);
        for message in ["logged in", "session ended"] {
            let line = proxy.wait_for_log(|line| {
                line.message() == message && line.field("site").as_deref() == Some(site)
            });
            let address = address.to_string();
            assert_eq!(line.field("backend"), Some(address), "{message}");
            assert_eq!(line.field("backend_name").as_deref(), name, "{message}");
        }
    }
}
