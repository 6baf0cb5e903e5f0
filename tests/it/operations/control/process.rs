//! What the commands show of a proxy that runs, and have it do.

use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::Instant;

use serde_yaml::Value;
use tempfile::TempDir;
use testkit::DEADLINE;
use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, open_data};
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use super::{run, stderr, stdout};
use crate::program::Start;
use crate::stage::Stage;

/// A proxy with an admin socket.
struct Operated {
    stage: Stage,
    socket: PathBuf,
    /// Where the socket is.
    _directory: TempDir,
}

impl Operated {
    fn new(script: Script) -> Self {
        Self::before(script, |site| site)
    }

    /// With more about the site.
    fn before(script: Script, site: impl FnOnce(Site) -> Site) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = directory.path().join("admin.sock");
        let path = socket.display().to_string();
        Self {
            stage: Stage::before(script, site, |config| config.endpoint("socket", &path)),
            socket,
            _directory: directory,
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(arguments, &self.socket)
    }

    /// What a command prints that succeeds.
    fn say(&self, arguments: &[&str]) -> String {
        stdout(&self.run(arguments))
    }

    /// The entries of a list.
    fn list(&self, command: &str) -> Vec<Value> {
        let lines = self.say(&[command, "--format", "json"]);
        // JSON is YAML, too.
        let entries = lines.lines().map(serde_yaml::from_str);
        entries.map(|entry| entry.expect("JSON")).collect()
    }

    /// Lists again and again until the list is as wanted.
    fn wait_for_list<T>(&self, command: &str, wanted: impl Fn(&[Value]) -> Option<T>) -> T {
        let by = Instant::now() + DEADLINE;
        loop {
            let list = self.list(command);
            if let Some(found) = wanted(&list) {
                return found;
            }
            assert!(Instant::now() < by, "{command}: {list:?}");
        }
    }

    /// A refusal, in the process' words.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        stderr(&output)
    }

    /// What a client is told that logs in now.
    fn told(&self) -> u16 {
        let mut client = self.stage.clear();
        client.send("USER alice");
        client.reply().code
    }
}

/// With a backend that has room for one session, a client that has it, and one that waits for it.
fn with_a_login_that_waits() -> (Operated, Raw, Raw) {
    let one_place = |site: Site| site.backend("max_sessions", "1").set("queue", "30s");
    let operated = Operated::before(Script::new(), one_place);
    let holds = operated.stage.clear_session();
    let mut waits = operated.stage.clear();
    waits.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    operated
        .stage
        .proxy
        .wait_for_metric(queue, |waiting| waiting == 1.0);
    (operated, holds, waits)
}

fn idle(list: &[Value]) -> Option<Value> {
    list.iter().find(|it| it["state"] == "idle").cloned()
}

#[test]
fn a_client_is_listed_with_its_login_and_ended_by_its_id_alone() {
    let operated = Operated::new(Script::new());
    let mut client = operated.stage.clear_session();
    let session = operated.wait_for_list("sessions", idle);
    assert_eq!(session["user"], "alice");
    assert_eq!(session["site"], "only");
    let backend = operated.stage.backend.address().to_string();
    assert_eq!(session["backend"], Value::from(backend.as_str()));
    let table = operated.say(&["sessions", "--user", "alice"]);
    let row = table.lines().nth(1).expect("a row");
    assert!(row.contains("only") && row.contains(&backend), "{table}");
    assert_eq!(
        operated.say(&["sessions", "--user", "bob"]),
        "no sessions\n"
    );

    let mut other = operated.stage.clear_session();
    let id = session["id"].as_u64().expect("a number").to_string();
    let said = operated.say(&["end", &id]);
    assert!(said.contains(&id), "{said}");
    client.expect(421);
    other.command("NOOP", 200);
    let refusal = operated.refused(&["end", "999999"]);
    assert!(refusal.contains("no session 999999"), "{refusal}");
}

#[test]
fn all_sessions_of_a_user_are_ended_and_no_others() {
    let operated = Operated::new(Script::new());
    let mut clients = [(); 2].map(|()| operated.stage.clear_session());
    let mut other = operated.stage.clear();
    other.login("bob", "secret");
    let said = operated.say(&["end", "--user", "alice", "--site", "only"]);
    assert!(said.starts_with("2 sessions"), "{said}");
    for client in &mut clients {
        client.expect(421);
    }
    other.command("NOOP", 200);
    operated.refused(&["end", "--user", "carol"]);
}

#[test]
fn a_transfer_is_listed_while_it_runs_and_cut_with_its_session() {
    let go_on = Gate::new();
    let stuck = [
        reply("150 here it comes (1000 bytes)"),
        Step::OpenData,
        Step::Send(vec![b'x'; 250]),
        Step::Wait(go_on),
    ];
    let operated = Operated::new(Script::new().on("RETR", stuck));
    assert_eq!(operated.say(&["transfers"]), "no transfers\n");
    let mut client = operated.stage.clear_session();
    let mut download = open_data(client.epsv());
    client.command("RETR some/file", 150);
    let moved = |list: &[Value]| list.iter().find(|it| it["bytes"] == 250).cloned();
    let transfer = operated.wait_for_list("transfers", moved);
    assert_eq!(transfer["path"], "some/file");
    assert_eq!(transfer["size"], 1000);
    let table = operated.say(&["transfers"]);
    let row = table.lines().nth(1).expect("a row");
    assert!(row.contains("RETR  some/file  250 B   25%"), "{table}");

    let id = transfer["session"].as_u64().expect("a number").to_string();
    operated.say(&["end", &id]);
    assert_eq!(download.read_to_end().1, End::Reset);
    client.expect(421);
}

#[test]
fn a_backend_takes_no_logins_from_drain_to_ready_and_keeps_its_sessions() {
    let operated = Operated::new(Script::new());
    let backend = operated.stage.backend.address().to_string();
    let mut live = operated.stage.clear_session();
    let said = operated.say(&["drain", "only", &backend]);
    assert!(
        said.contains("the site's 1 session there goes on"),
        "{said}"
    );
    let entry = operated.list("backends").remove(0);
    assert_eq!(entry["state"], "drain");
    assert_eq!(entry["drained_by"], "operator");
    let table = operated.say(&["backends", "--site", "only"]);
    assert!(
        table.contains("drain") && table.contains("by operator"),
        "{table}"
    );
    assert_eq!(operated.told(), 421);
    live.command("NOOP", 200);

    operated.say(&["ready", "only", &backend]);
    assert_eq!(operated.list("backends")[0]["state"], "up");
    assert_eq!(operated.told(), 331);
    let refusal = operated.refused(&["drain", "only", "nowhere"]);
    assert!(refusal.contains("nowhere"), "{refusal}");
}

#[test]
fn a_site_is_taken_out_of_service_and_the_status_says_so_first() {
    let operated = Operated::new(Script::new());
    let well = operated.say(&["status"]);
    assert!(
        well.starts_with("portcullis ") && well.contains(", ready, "),
        "{well}"
    );
    assert!(!well.contains("Site only"), "{well}");
    operated.say(&["maintenance", "only", "on"]);
    assert_eq!(operated.told(), 421);
    let status = operated.say(&["status"]);
    let attention = status.split("\n\n").nth(1).expect("a paragraph");
    assert!(attention.starts_with("needs attention:\n"), "{status}");
    assert!(
        attention.contains("\n  note: Site only is out of service for maintenance\n"),
        "{status}"
    );
    operated.say(&["maintenance", "only", "off"]);
    assert_eq!(operated.told(), 331);
    operated.refused(&["maintenance", "other", "on"]);
}

#[test]
fn a_reload_says_what_is_wrong_with_the_configuration_or_that_it_is_in_force() {
    let operated = Operated::new(Script::new());
    let proxy = &operated.stage.proxy;
    let good = proxy.config().to_yaml();
    proxy.rewrite_config(&good.replace("sites:", "stes:"));
    let refusal = operated.refused(&["reload"]);
    assert!(refusal.contains("unknown key `stes`"), "{refusal}");
    assert!(refusal.contains("portcullis.yaml:"), "{refusal}");
    let status = operated.say(&["status"]);
    assert!(
        status.contains("The new configuration file was refused "),
        "{status}"
    );

    proxy.rewrite_config(&good);
    operated.say(&["reload"]);
    let status = operated.say(&["status"]);
    assert!(status.contains("configuration, in force "), "{status}");
    assert!(
        !status.contains("The new configuration file was refused "),
        "{status}"
    );
}

#[test]
fn failed_logins_are_listed_and_forgotten() {
    let operated = Operated::new(Script::new().password("right"));
    assert_eq!(operated.say(&["guard"]), "no failed logins\n");
    let mut client = operated.stage.clear();
    client.command("USER alice", 331);
    client.command("PASS wrong", 530);
    let listed = operated.wait_for_list("guard", |list| list.first().cloned());
    assert_eq!(listed["failures"], 1);
    let address = listed["client"].as_str().expect("an address");
    assert!(operated.say(&["guard"]).contains(address));
    operated.say(&["guard", "forget", address]);
    assert_eq!(operated.say(&["guard"]), "no failed logins\n");
    operated.refused(&["guard", "forget", address]);
}

#[test]
fn a_user_with_control_characters_can_not_act_on_the_terminal() {
    let operated = Operated::new(Script::new());
    let mut client: Raw = operated.stage.clear();
    client.send_bytes(b"USER al\x1b[2Jice\xc2\x9b\xe2\x80\xae\r\n");
    client.expect(331);
    let shown = |list: &[Value]| list.iter().find(|it| it["user"] != Value::Null).cloned();
    operated.wait_for_list("sessions", shown);
    for arguments in [&["sessions"][..], &["sessions", "--format", "json"]] {
        let said = operated.say(arguments);
        assert!(said.contains("ice"), "{said}");
        let plain = said
            .chars()
            .all(|it| it == '\n' || !it.is_control() && it != '\u{202e}');
        assert!(plain, "{said:?}");
    }
    client.send_bytes(b"QUIT\r\n");
}

#[test]
fn what_is_logged_is_changed_while_the_process_runs() {
    let operated = Operated::new(Script::new());
    let refusal = operated.refused(&["log", "level", "warning"]);
    assert!(refusal.contains("warning"), "{refusal}");
    operated.say(&["log", "level", "warn"]);
    operated.say(&["log", "level", "info"]);
    operated.say(&["log", "dialogue", "127.0.0.0/8"]);
    let mut client = operated.stage.clear_session();
    client.command("NOOP", 200);
    let shown = |line: &LogLine| line.text.contains("NOOP");
    operated.stage.proxy.wait_for_log(shown);
    operated.say(&["log", "dialogue", "off"]);
}

#[test]
fn a_login_that_waits_for_a_place_is_refused_when_its_site_is_taken_out_of_service() {
    let (operated, mut holds, mut waits) = with_a_login_that_waits();
    operated.say(&["maintenance", "only", "on"]);
    waits.expect(421);
    let is_refusal = |line: &LogLine| line.field("ending").as_deref() == Some("maintenance");
    operated.stage.proxy.wait_for_log(is_refusal);
    holds.command("NOOP", 200);
    assert_eq!(operated.stage.backend.connections(), 1);
}

#[test]
fn a_login_that_waits_for_a_place_is_refused_when_the_only_backend_is_drained() {
    let (operated, mut holds, mut waits) = with_a_login_that_waits();
    let backend = operated.stage.backend.address().to_string();
    operated.say(&["drain", "only", &backend]);
    waits.expect(421);
    holds.command("NOOP", 200);
    assert_eq!(operated.stage.backend.connections(), 1);
}

#[test]
fn a_login_that_waits_for_one_backend_does_not_go_to_another_that_is_drained_meanwhile() {
    let busy = Gate::new();
    let (first, second) = (
        Backend::start(
            Script::new().greeting(vec![Step::Wait(busy.clone()), reply("421 too many users")]),
        ),
        Backend::start(Script::new()),
    );
    let front = Front::new(&[]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("admin.sock");
    let config = front
        .config()
        .tls("required", "false")
        .endpoint("socket", &socket.display().to_string());
    let site = Site::default("only", first.address()).also(second.address());
    let proxy = Proxy::start(config.site(&site));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.send("USER alice");
    // It waits for the greeting.
    while first.connections() == 0 {
        thread::yield_now();
    }
    let drained = run(&["drain", "only", &second.address().to_string()], &socket);
    stdout(&drained);
    busy.open();
    client.expect(421);
    assert_eq!(second.connections(), 0);
}
