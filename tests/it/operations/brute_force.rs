//! Guessing passwords through the proxy: answered later and later, then refused, and nobody else pays for it.

use std::io::Write;
use std::net::SocketAddr;

use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::loopback::Loopback;
use testkit::proxy::{LogLine, Proxy};
use testkit::proxy_header::v1;
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::Wire;

use crate::program::Start;

const RIGHT: &str = "open sesame";

/// A site, the proxy before it, and the addresses that clients come from.
struct Scene {
    front: Front,
    backend: Backend,
    proxy: Proxy,
}

impl Scene {
    fn new(guard: &str) -> Self {
        Self::with(|config| config.set("guard", guard))
    }

    fn with(more: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let backend = Backend::start(Script::new().password(RIGHT));
        let config = more(front.config());
        let proxy = Proxy::start(
            config
                .site(&Site::default("ftpa", backend.address()))
                .site(&Site::hosts("ftpb", &["ftpb.test"], backend.address())),
        );
        Self {
            front,
            backend,
            proxy,
        }
    }

    /// A client under TLS that comes from this address.
    fn client(&self, from: &Loopback) -> Raw {
        self.greeted(Wire::connect_from(from.ip(), self.proxy.explicit()))
    }

    /// A client under TLS that a load balancer says comes from this address.
    fn balanced(&self, from: &str) -> Raw {
        let client = SocketAddr::new(from.parse().expect("an address"), 40000);
        let balancer = "[2001:db8::1]:21".parse().expect("an address");
        let mut wire = Wire::connect(self.proxy.explicit());
        wire.write_all(&v1(client, balancer))
            .expect("the proxy accepts");
        self.greeted(wire)
    }

    fn greeted(&self, wire: Wire) -> Raw {
        let mut client = Raw::over(wire);
        client.expect(220);
        client.auth_tls(&self.front.tls(NAME));
        client
    }

    /// See [`guess`].
    fn guess(&self, from: &Loopback, user: &str) -> Vec<u16> {
        guess(self.client(from), user)
    }

    fn count(&self, name: &str, site: &str, label: &str, value: &str) -> f64 {
        let mut labels = [format!("{label}=\"{value}\""), format!("site=\"{site}\"")];
        labels.sort();
        let series = format!("portcullis_{name}{{{}}}", labels.join(","));
        self.proxy.metric(&series)
    }
}

/// Guesses until the proxy ends the session; gives the codes of what followed each PASS.
fn guess(mut client: Raw, user: &str) -> Vec<u16> {
    let mut codes = Vec::new();
    for number in 0..LIMIT {
        client.command(&format!("USER {user}"), 331);
        client.send(&format!("PASS guess {number}"));
        codes.push(client.reply().code);
    }
    codes.push(client.reply().code);
    client.end();
    codes
}

/// So many failures block in most of these tests.
const LIMIT: usize = 5;
const QUICK: &str = "{failures: 5, window: 1h, delay: 1ms, max_delay: 1ms, block: 1h}";

#[test]
fn a_guesser_is_refused_without_a_backend_while_the_owner_logs_in_from_elsewhere() {
    let scene = Scene::new(QUICK);
    let (guesser, owner) = (Loopback::claim(), Loopback::claim());
    assert_eq!(
        scene.guess(&guesser, "alice"),
        [530, 530, 530, 530, 530, 421]
    );
    let connections = scene.backend.connections();
    for user in ["alice", "bob"] {
        let refusal = scene.client(&guesser).command(&format!("USER {user}"), 421);
        assert!(refusal.contains("failed logins"), "{refusal}");
    }
    assert_eq!(scene.backend.connections(), connections);
    scene.client(&owner).login("alice", RIGHT);

    let logins = |result| scene.count("logins_total", "ftpa", "result", result);
    assert_eq!(logins("rejected"), 5.0);
    assert_eq!(logins("blocked"), 2.0);
    assert_eq!(logins("accepted"), 1.0);
    let guard = |action| scene.count("guard_total", "ftpa", "action", action);
    assert_eq!(guard("delayed"), 2.0);
    assert_eq!(guard("blocked"), 1.0);
    let line = scene
        .proxy
        .wait_for_log(|line| line.message() == "client blocked after too many failed logins");
    assert_eq!(line.field("client"), Some(guesser.ip().to_string()));
    assert_eq!(line.field("site").as_deref(), Some("ftpa"));
}

#[test]
fn many_guessers_at_once_are_each_counted_alone_and_the_owner_logs_in_among_them() {
    let scene = Scene::new(QUICK);
    let owner = Loopback::claim();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let guesser = Loopback::claim();
                assert_eq!(scene.guess(&guesser, "alice").last(), Some(&421));
                scene.client(&guesser).command("USER alice", 421);
            });
        }
        for _ in 0..8 {
            scene.client(&owner).login("alice", RIGHT);
        }
    });
    assert_eq!(scene.count("guard_total", "ftpa", "action", "blocked"), 8.0);
}

#[test]
fn behind_a_load_balancer_its_clients_are_counted_and_an_ipv6_64_is_one_of_them() {
    let scene = Scene::with(|config| config.set("guard", QUICK).proxy_protocol("127.0.0.0/8"));
    let guesser = scene.balanced("2001:db8:0:1::7");
    assert_eq!(guess(guesser, "alice").last(), Some(&421));
    scene
        .balanced("2001:db8:0:1:ffff::8")
        .command("USER alice", 421);
    scene.balanced("2001:db8:0:2::7").login("alice", RIGHT);
}

#[test]
fn who_is_blocked_at_one_site_may_log_in_at_another() {
    let scene = Scene::new(QUICK);
    let client = Loopback::claim();
    scene.guess(&client, "alice");
    scene.client(&client).command("USER alice", 421);
    scene.client(&client).login("ftpb.test|alice", RIGHT);
}

#[test]
fn a_session_open_since_before_the_block_gets_no_guess_and_a_logged_in_one_stays() {
    let scene = Scene::new(QUICK);
    let from = Loopback::claim();
    let mut logged_in = scene.client(&from);
    logged_in.login("alice", RIGHT);
    let mut open = scene.client(&from);
    open.command("USER alice", 331);
    scene.guess(&from, "alice");
    let guesses = || {
        let commands = scene.backend.commands();
        commands
            .iter()
            .filter(|line| line.starts_with("PASS"))
            .count()
    };
    let before = guesses();
    open.command("PASS another", 421);
    assert_eq!(guesses(), before);
    logged_in.command("PWD", 257);
}

#[test]
fn a_reply_is_held_back_in_its_own_session_alone_and_not_for_a_client_that_hangs_up() {
    // Longer than any test waits for anything.
    let scene = Scene::with(|config| {
        config
            .timeout("login", "1h")
            .set("guard", "{delay: 30m, max_delay: 30m}")
    });
    let (guesser, owner) = (Loopback::claim(), Loopback::claim());
    let mut client = scene.client(&guesser);
    for number in 0..3 {
        client.command("USER alice", 331);
        client.command(&format!("PASS guess {number}"), 530);
    }
    client.command("USER alice", 331);
    client.send("PASS guess 3");
    let delayed = "portcullis_guard_total{action=\"delayed\",site=\"ftpa\"}";
    scene.proxy.wait_for_metric(delayed, |count| count == 1.0);
    scene.client(&owner).login("alice", RIGHT);
    scene.client(&guesser).login("alice", RIGHT);
    drop(client);
    scene
        .proxy
        .wait_for_metric("portcullis_sessions", |sessions| sessions == 0.0);
}

#[test]
fn a_reply_is_held_back_no_longer_than_the_login_may_take() {
    let scene = Scene::with(|config| {
        config
            .timeout("login", "3s")
            .set("guard", "{delay: 2900ms, max_delay: 2900ms}")
    });
    let mut client = scene.client(&Loopback::claim());
    client.command("USER alice", 331);
    // In one piece: what has arrived already doesn't stop the clock.
    let guesses: String = (0..9).map(|n| format!("PASS guess {n}\r\n")).collect();
    client.send_bytes(guesses.as_bytes());
    let mut refused = 0;
    let last = loop {
        let reply = client.reply();
        if reply.code != 530 {
            break reply;
        }
        refused += 1;
    };
    assert!(refused <= 5, "{refused}");
    assert_eq!(last.code, 421);
    assert!(last.text.contains("took too long"), "{}", last.text);
}

#[test]
fn hosts_that_no_site_has_are_counted_and_their_guesser_may_use_those_that_are() {
    let scene = Scene::new(QUICK);
    let from = Loopback::claim();
    let mut client = scene.client(&from);
    for number in 0..LIMIT {
        client.command(&format!("USER host{number}.test|alice"), 530);
    }
    client.expect(421);
    let mut client = scene.client(&from);
    client.command("USER another.test|alice", 530);
    client.expect(421);
    scene.client(&from).login("alice", RIGHT);
    assert_eq!(scene.backend.connections(), 1);
    assert_eq!(scene.count("guard_total", "none", "action", "blocked"), 1.0);
}

#[test]
fn one_robot_with_an_old_password_does_not_shut_its_office_out() {
    let scene = Scene::new(QUICK);
    let office = Loopback::claim();
    for _ in 0..4 * LIMIT {
        let mut robot = scene.client(&office);
        robot.command("USER robot", 331);
        robot.command("PASS of last year", 530);
    }
    scene.client(&office).login("alice", RIGHT);
}

#[test]
fn networks_that_are_allowed_may_guess_on() {
    let scene = Scene::new("{failures: 1, allow: [127.0.0.0/8]}");
    let mut client = scene.client(&Loopback::claim());
    for number in 0..10 {
        client.command("USER alice", 331);
        client.command(&format!("PASS guess {number}"), 530);
    }
    client.login("alice", RIGHT);
}

#[test]
fn a_reload_forgets_nobody_and_its_new_rules_hold() {
    let scene = Scene::new(QUICK);
    let from = Loopback::claim();
    scene.guess(&from, "alice");
    let yaml = scene.proxy.config().to_yaml();
    scene.proxy.reload(&yaml);
    scene.client(&from).command("USER alice", 421);
    scene
        .proxy
        .reload(&yaml.replace("guard: {", "guard: {allow: [127.0.0.0/8], "));
    scene.client(&from).login("alice", RIGHT);
}

#[test]
fn passwords_sent_ahead_behind_a_transfer_are_as_many_guesses() {
    let gate = Gate::new();
    let slow = [Step::Wait(gate.clone()), reply("550 nothing here")];
    let front = Front::new(&[]);
    let script = Script::new().password(RIGHT).on("RETR", slow);
    let backend = Backend::start(script);
    let proxy = Proxy::start(
        front
            .config()
            .set("guard", QUICK)
            .site(&Site::default("ftpa", backend.address())),
    );
    let mut client = front.explicit(&proxy);
    client.login("alice", RIGHT);
    client.epsv();
    let mut ahead = String::from("RETR file\r\n");
    for guess in ["one", "two"] {
        ahead += &format!("USER bob\r\nPASS {guess}\r\nUSER carol\r\nPASS {guess}\r\n");
    }
    // The same at the end of each batch hides nothing.
    ahead += "USER dave\r\nPASS same\r\nUSER dave\r\nPASS same\r\n";
    client.send_bytes(ahead.as_bytes());
    gate.open();
    client.expect(550);
    for _ in 0..LIMIT {
        client.expect(331);
        client.expect(530);
    }
    client.expect(421);
    let failed = |line: &LogLine| line.message() == "login failed";
    let lines = proxy.wait_for_logs(LIMIT, failed);
    let users: Vec<_> = lines.iter().filter_map(|line| line.field("user")).collect();
    assert_eq!(users, ["bob", "carol", "bob", "carol", "dave"]);
}

#[test]
fn guesses_of_many_sessions_at_once_are_no_more_than_those_of_one() {
    let gate = Gate::new();
    let judged = [Step::Wait(gate.clone()), reply("530 no")];
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().on("PASS", judged));
    let proxy = Proxy::start(
        front
            .config()
            .set("guard", QUICK)
            .site(&Site::default("ftpa", backend.address())),
    );
    let mut clients: Vec<Raw> = (0..3 * LIMIT)
        .map(|_| {
            let mut client = front.explicit(&proxy);
            client.command("USER alice", 331);
            client
        })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&format!("PASS guess {number}"));
    }
    backend.wait_for_commands("PASS", LIMIT);
    gate.open();
    let codes: Vec<u16> = clients
        .iter_mut()
        .map(|client| client.reply().code)
        .collect();
    let failed = codes.iter().filter(|code| **code == 530).count();
    assert_eq!(failed, LIMIT, "{codes:?}");
    assert!(
        codes.iter().all(|code| [530, 421].contains(code)),
        "{codes:?}"
    );
    backend.wait_for_commands("PASS", LIMIT);
    let passwords = backend.commands();
    let passwords = passwords.iter().filter(|line| line.starts_with("PASS"));
    assert_eq!(passwords.count(), LIMIT);
}

#[test]
fn hosts_are_tried_no_faster_by_host_than_by_user() {
    let scene = Scene::new(QUICK);
    let from = Loopback::claim();
    let mut client = scene.client(&from);
    for number in 0..LIMIT - 1 {
        client.command(&format!("HOST host{number}.test"), 504);
    }
    client.command("USER elsewhere.test|alice", 530);
    client.expect(421);
    assert_eq!(scene.backend.connections(), 0);
}
