//! Users with backends of their own: moved one by one, by a file, and refused where they are unknown.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::{Script, Step, reply};
use testkit::scripted::Backend;
use testkit::server::Security;
use testkit::{proftpd, vsftpd};

use crate::program::Start;

/// A site with the old server, and the group `moved` with the new one.
struct Migration {
    front: Front,
    proxy: Proxy,
    old: Backend,
    new: Backend,
}

fn group(users: &str, backend: &Backend) -> String {
    format!(
        "[{{name: moved, {users}, backends: [{{address: \"{}\"}}]}}]",
        backend.address()
    )
}

fn connect(proxy: &Proxy) -> Raw {
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client
}

/// Replaces a file as a whole.
fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, content).expect("the directory is writable");
    fs::rename(beside, path).expect("on the same file system");
}

impl Migration {
    fn new(users: &str, site: impl FnOnce(Site) -> Site) -> Self {
        Self::between(Script::new(), Front::new(&[]), users, site)
    }

    fn between(new: Script, front: Front, users: &str, site: impl FnOnce(Site) -> Site) -> Self {
        let (old, new) = (Backend::start(Script::new()), Backend::start(new));
        let with_group = Site::default("only", old.address()).set("groups", &group(users, &new));
        let config = front.config().tls("required", "false");
        Self {
            proxy: Proxy::start(config.site(&site(with_group))),
            front,
            old,
            new,
        }
    }

    fn login(&self, user: &str) {
        let mut client = connect(&self.proxy);
        client.login(user, "secret");
        client.command("QUIT", 221);
    }

    fn connections(&self) -> [usize; 2] {
        [self.old.connections(), self.new.connections()]
    }
}

#[test]
fn users_of_a_group_are_served_by_its_backends_and_all_others_by_the_sites() {
    let it = Migration::new("users: [Alice, \"acme-*\"]", |site| site);
    let group_of = |user: &str| {
        let is_its_login = |line: &LogLine| {
            line.message() == "logged in" && line.field("user").as_deref() == Some(user)
        };
        it.proxy.wait_for_log(is_its_login).field("group")
    };
    for (user, connections) in [
        ("alice", [0, 1]),
        ("ALICE", [0, 2]),
        ("acme-bob", [0, 3]),
        ("bob", [1, 3]),
        ("alices", [2, 3]),
    ] {
        it.login(user);
        assert_eq!(it.connections(), connections, "{user}");
        let group = (user != "bob" && user != "alices").then_some("moved");
        assert_eq!(group_of(user).as_deref(), group, "{user}");
    }
}

#[test]
fn another_user_on_the_same_connection_gets_its_own_backend_before_the_login_and_none_after_it() {
    let it = Migration::new("users: [alice]", |site| site);
    let mut client = connect(&it.proxy);
    client.command("USER bob", 331);
    client.command("USER alice", 331);
    client.command("PASS secret", 230);
    assert_eq!(it.new.wait_for_command("PASS"), "PASS secret");
    assert!(!it.old.commands().contains(&"PASS secret".to_owned()));
    client.command("USER bob", 503);
    client.command("PWD", 257);
}

#[test]
fn a_name_appended_to_the_file_moves_its_next_login() {
    let front = Front::new(&[]);
    let file: PathBuf = front.directory().join("moved.txt");
    fs::write(&file, "# moved\nalice\n").expect("the directory is writable");
    let users = format!("users_file: {}", file.display());
    let it = Migration::between(Script::new(), front, &users, |site| site);
    it.login("alice");
    it.login("two words");
    assert_eq!(it.connections(), [1, 1]);
    let mut live = connect(&it.proxy);
    live.login("two words", "secret");

    replace(&file, "# moved\nalice\nTwo Words\n");
    let line = it
        .proxy
        .wait_for_log(|line| line.message() == "users loaded");
    assert_eq!(line.field("count").as_deref(), Some("2"));
    it.login("two words");
    assert_eq!(it.connections(), [2, 2]);
    live.command("PWD", 257);
    let ok = "portcullis_reloads_total{result=\"ok\",subject=\"users\"}";
    assert_eq!(it.proxy.metric(ok), 1.0);

    // A file that is being written, and one that is gone.
    fs::write(&file, "ali").expect("the directory is writable");
    let line = it
        .proxy
        .wait_for_log(|line| line.message() == "new users refused, keeping the current ones");
    assert!(
        line.field("error")
            .expect("a reason")
            .contains("half written"),
        "{}",
        line.text
    );
    it.login("alice");
    assert_eq!(it.connections(), [2, 3]);
    drop(it.front);
}

#[test]
fn a_refused_file_needs_attention_until_it_is_mended_or_not_wanted_any_more() {
    const REFUSED: &str = "portcullis_reload_refused{subject=\"users\"}";
    let front = Front::new(&[]);
    let [one, other] = ["one.txt", "other.txt"].map(|name| {
        let file = front.directory().join(name);
        fs::write(&file, "alice\n").expect("the directory is writable");
        file
    });
    let backend = Backend::start(Script::new());
    let address = backend.address();
    let groups = |files: &[&PathBuf]| {
        let groups = files.iter().map(|file| {
            let name = file.file_stem().expect("a name").display();
            let file = file.display();
            format!("{{name: {name}, users_file: {file}, backends: [{{address: \"{address}\"}}]}}")
        });
        format!("[{}]", groups.collect::<Vec<_>>().join(", "))
    };
    let (both, without_one) = (groups(&[&one, &other]), groups(&[&other]));
    let site = Site::default("only", address).set("groups", &both);
    let proxy = Proxy::start(front.config().site(&site));
    // What stands refused, as it is told and as it is counted.
    let told = |stands: bool| {
        let (_, attention) = proxy.get("/api/v1/attention");
        let is_told = attention.contains("users file `") && attention.contains("one.txt");
        assert_eq!(is_told, stands, "{attention}");
        assert_eq!(proxy.metric(REFUSED), f64::from(u8::from(stands)));
    };
    let yaml = proxy.config().to_yaml();
    let without = yaml.replace(&both, &without_one);
    assert_ne!(without, yaml);
    let is_refused = |line: &LogLine| line.message().starts_with("new users refused");
    fs::write(&one, "half").expect("the directory is writable");
    proxy.wait_for_logs(1, is_refused);
    told(true);
    replace(&other, "alice\nbob\n");
    proxy.wait_for_log(|line| line.message() == "users loaded");
    told(true);
    // Loaded by a reload of all of it, before the file is looked at again.
    replace(&one, "alice\n");
    proxy.reload(&yaml);
    told(false);
    fs::write(&one, "half").expect("the directory is writable");
    proxy.wait_for_logs(2, is_refused);
    told(true);
    proxy.reload(&without);
    told(false);
}

#[test]
fn a_hundred_thousand_names_are_looked_up_and_replaced_under_logins() {
    let front = Front::new(&[]);
    let file: PathBuf = front.directory().join("moved.txt");
    let names = |from: usize| -> String {
        (from..from + 100_000)
            .map(|it| format!("user{it}\n"))
            .collect()
    };
    fs::write(&file, names(0)).expect("the directory is writable");
    let users = format!("users_file: {}", file.display());
    let it = Migration::between(Script::new(), front, &users, |site| site);
    it.login("user99999");
    it.login("user100000");
    assert_eq!(it.connections(), [1, 1]);
    replace(&file, &names(1));
    let began = Instant::now();
    while it
        .proxy
        .metric("portcullis_reloads_total{result=\"ok\",subject=\"users\"}")
        < 1.0
    {
        assert!(began.elapsed() < Duration::from_secs(30), "not loaded");
        // In both lists.
        let before = it.new.connections();
        it.login("user500");
        assert_eq!(it.new.connections(), before + 1);
    }
    let [old, new] = it.connections();
    it.login("user100000");
    it.login("user0");
    assert_eq!(it.connections(), [old + 1, new + 1]);
}

#[test]
fn a_configuration_with_a_broken_file_of_users_is_refused() {
    let front = Front::new(&[]);
    let file: PathBuf = front.directory().join("moved.txt");
    fs::write(&file, "alice\n").expect("the directory is writable");
    let users = format!("users_file: {}", file.display());
    let it = Migration::between(Script::new(), front, &users, |site| site);
    fs::write(&file, "alice\nacme-*\n").expect("the directory is writable");
    let checked = crate::program::command()
        .args(["check", "--config"])
        .arg(it.proxy.config_file())
        .output()
        .expect("cargo built it");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("moved.txt: line 2 has a `*`"), "{said}");
    it.proxy.rewrite_config(&it.proxy.config().to_yaml());
    it.proxy.signal(Signal::Reload);
    let line = it
        .proxy
        .wait_for_log(|line| line.message() == "reload refused, keeping the current configuration");
    assert!(
        line.field("error").expect("a reason").contains("line 2"),
        "{}",
        line.text
    );
    it.login("alice");
    assert_eq!(it.connections(), [0, 1]);
}

#[test]
fn an_unknown_user_fails_as_one_with_a_wrong_password_and_the_password_reaches_nobody() {
    let slow = [
        Step::Silence(Duration::from_millis(300)),
        reply("530 Login incorrect, sorry."),
    ];
    let new = Script::new()
        .on("PASS", slow)
        .on("PASS secret", [reply("230 In")]);
    let refusing = |site: Site| site.set("unknown_users", "refuse");
    let it = Migration::between(new, Front::new(&[]), "users: [alice]", refusing);
    it.login("alice");
    let fail = |user: &str, password: &str| {
        let mut client = connect(&it.proxy);
        let asked = client.command(&format!("USER {user}"), 331);
        let began = Instant::now();
        let refused = client.command(&format!("PASS {password}"), 530);
        (
            asked,
            refused,
            began.elapsed() >= Duration::from_millis(300),
        )
    };
    assert_eq!(fail("bob", "secret"), fail("alice", "wrong"));
    assert_eq!(it.old.connections(), 0);
    let commands = it.new.commands();
    let passwords: Vec<_> = commands
        .iter()
        .filter(|line| line.starts_with("PASS "))
        .collect();
    assert_eq!(passwords.len(), 3);
    assert_eq!(
        passwords
            .iter()
            .filter(|line| **line == "PASS secret")
            .count(),
        1,
        "{passwords:?}"
    );
    let not_allowed = "portcullis_logins_total{result=\"not_allowed\",site=\"only\"}";
    assert_eq!(it.proxy.metric(not_allowed), 1.0);
    // Servers refuse lines that are too long with other words.
    let long = "x".repeat(300);
    fail("bob", &long);
    let sent = it.new.commands().into_iter().last().expect("a password");
    assert!(
        sent.len() == "PASS ".len() + 300 && !sent.contains("xx"),
        "{sent}"
    );
}

#[test]
fn an_unknown_user_is_refused_even_where_the_backend_takes_any_password() {
    let refusing = |site: Site| site.set("unknown_users", "refuse");
    let it = Migration::new("users: [alice]", refusing);
    let mut client = connect(&it.proxy);
    client.command("USER bob", 331);
    client.command("PASS secret", 530);
    client.command("PWD", 530);
    assert!(!it.new.commands().contains(&"PASS secret".to_owned()));
    client.login("alice", "secret");
}

#[test]
fn users_move_between_real_servers() {
    let front = Front::new(&[]);
    let (old, new) = (
        vsftpd::start(Security::Plain),
        proftpd::start(Security::Plain),
    );
    let groups = format!(
        "[{{name: moved, users: [{}], backends: [{{address: \"{}\"}}]}}]",
        new.user(),
        new.address()
    );
    let site = Site::default("only", old.address()).set("groups", &groups);
    let proxy = Proxy::start(front.config().tls("required", "false").site(&site));
    let mut client = connect(&proxy);
    client.command(&format!("USER {}", new.user()), 331);
    client.command(&format!("PASS {}", new.password()), 230);
    let mut other = connect(&proxy);
    other.command(&format!("USER {}", old.user()), 331);
    other.command(&format!("PASS {}", old.password()), 230);
    for server in [&old, &new] {
        let is_its_login = |line: &LogLine| {
            line.message() == "logged in" && line.field("user").as_deref() == Some(server.user())
        };
        let backend = proxy.wait_for_log(is_its_login).field("backend");
        assert_eq!(backend, Some(server.address().to_string()));
    }
}
