//! What systemd is told of the process: that it serves, reloads and ends, how many sessions there are, and that it is alive.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::programs::program;
use testkit::proxy::{Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;
use testkit::service_manager::ServiceManager;

use crate::program::{Start, command};

const READY: &str = "READY=1\nSTATUS=0 sessions, 0 transfers";

struct Service {
    manager: ServiceManager,
    _front: Front,
    _backend: Backend,
    proxy: Proxy,
}

impl Service {
    /// With this much time between signs of life, if any are wanted.
    fn start(watchdog: Option<&str>) -> Self {
        Self::start_with(watchdog, |config| config)
    }

    fn start_with(watchdog: Option<&str>, more: impl FnOnce(Config) -> Config) -> Self {
        let manager = ServiceManager::start();
        let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
        let mut command = command();
        command.env("NOTIFY_SOCKET", manager.address());
        if let Some(microseconds) = watchdog {
            command.env("WATCHDOG_USEC", microseconds);
        }
        let site = Site::default("site", backend.address());
        let config = front.config().tls("required", "false").site(&site);
        Self {
            proxy: Proxy::start_by(more(config), command),
            manager,
            _front: front,
            _backend: backend,
        }
    }

    fn client(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client.login("alice", "secret");
        client
    }

    fn lives(&mut self) -> usize {
        let told = self.manager.received();
        told.iter().filter(|it| *it == "WATCHDOG=1").count()
    }
}

#[test]
fn the_manager_is_told_when_clients_are_served_how_many_there_are_and_when_they_are_not() {
    let mut service = Service::start_with(None, |config| config.timeout("lame_duck", "1h"));
    let (first, _) = service.manager.wait(0, |it| it == READY);
    assert_eq!(first, 0, "nothing is told before");
    let client = service.client();
    let (at, _) = service
        .manager
        .wait(1, |it| it == "STATUS=1 session, 0 transfers");
    service.proxy.signal(Signal::Terminate);
    let stopping = "STOPPING=1\nSTATUS=stopping: 1 session, 0 transfers";
    let (at, _) = service.manager.wait(at, |it| it == stopping);
    // Again and again, as long as there is something to wait for.
    let more_time = |it: &str| it == "EXTEND_TIMEOUT_USEC=30000000";
    let (at, _) = service.manager.wait(at, more_time);
    let (at, _) = service.manager.wait(at + 1, more_time);
    drop(client);
    let ended = "STATUS=stopping: 0 sessions, 0 transfers";
    service.manager.wait(at, |it| it == ended);
    service.proxy.signal(Signal::Terminate);
    assert_eq!(service.proxy.wait_exit(), Some(0));
    let told = service.manager.received();
    assert!(
        !told.iter().any(|it| it.starts_with("WATCHDOG")),
        "{told:?}"
    );
}

#[test]
fn a_reload_is_told_with_its_time_and_so_is_its_end_also_where_it_is_refused() {
    let mut service = Service::start(None);
    let good = service.proxy.config().to_yaml();
    service.proxy.signal(Signal::Reload);
    let began = |it: &str| it.starts_with("RELOADING=1\nMONOTONIC_USEC=");
    let (at, begun) = service.manager.wait(1, began);
    let (_, time) = begun.rsplit_once('=').expect("a value");
    assert!(time.parse::<u64>().expect("a number") > 0);
    let (at, _) = service.manager.wait(at, |it| it == READY);

    service
        .proxy
        .rewrite_config(&format!("{good}password: hunter2\n"));
    service.proxy.signal(Signal::Reload);
    let (at, _) = service.manager.wait(at + 1, began);
    let (at, refused) = service.manager.wait(at, |it| it.starts_with("READY=1"));
    let wanted = format!("{READY}; reload refused, the former configuration is in force: ");
    assert!(refused.starts_with(&wanted), "{refused}");
    assert!(!refused.contains("hunter2"));

    // Mended, which shows before anybody reloads.
    service.proxy.rewrite_config(&good);
    let status = READY.trim_start_matches("READY=1\n");
    let (at, _) = service.manager.wait(at, |it| it == status);
    service.proxy.signal(Signal::Reload);
    let (at, _) = service.manager.wait(at, began);
    service.manager.wait(at, |it| it == READY);
}

#[test]
fn a_manager_that_can_not_be_told_is_no_reason_not_to_serve() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let site = Site::default("site", backend.address());
    let mut command = command();
    command
        .env("NOTIFY_SOCKET", "/nowhere/notify")
        .env("WATCHDOG_USEC", "4000");
    let config = front.config().tls("required", "false").site(&site);
    let mut proxy = Proxy::start_by(config, command);
    for _ in 0..3 {
        proxy.reload(&proxy.config().to_yaml());
    }
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.login("alice", "secret");
    proxy.signal(Signal::Terminate);
    client.expect(421);
    assert_eq!(proxy.wait_exit(), Some(0));
    let lines = proxy.log_lines().into_iter();
    let warnings = lines.filter(|line| line.message().contains("NOTIFY_SOCKET"));
    assert_eq!(warnings.count(), 1);
}

#[test]
fn a_manager_that_does_not_look_holds_nobody_up() {
    // Ten messages or so fit into the socket.
    let mut service = Service::start(Some("40000"));
    for _ in 0..20 {
        service.proxy.reload(&service.proxy.config().to_yaml());
    }
    service.client().command("QUIT", 221);
    // It looks again: the order is what it was, and signs of life go on.
    let (first, _) = service.manager.wait(0, |it| it == READY);
    assert_eq!(first, 0);
    let before = service.manager.received().len();
    service.manager.wait(before + 100, |it| it == "WATCHDOG=1");
}

/// `strace` on the program, until this is dropped.
struct Tracing {
    strace: Child,
    /// It says there which threads it has found: with nobody at the other end, it would end.
    _said: BufReader<ChildStderr>,
}

impl Tracing {
    /// Has the next call of this kind take so long. Returns when that is in force.
    fn delay_one(proxy: &Proxy, call: &str, time: &str) -> Self {
        let mut strace = Command::new(program("strace"))
            .args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:delay_exit={time}:when=1")])
            .args(["-p", &proxy.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is there");
        let mut said = BufReader::new(strace.stderr.take().expect("it is piped"));
        let attached = format!("{} attached", proxy.pid());
        let seen = said.by_ref().lines().map_while(Result::ok);
        let is_attached = { seen }.any(|line| line.contains(&attached));
        let tracing = Self {
            strace,
            _said: said,
        };
        assert!(is_attached, "strace can't attach to the program");
        tracing
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        send_signal("TERM", &self.strace.id().to_string());
        let _ = self.strace.wait();
    }
}

#[test]
fn a_listener_that_hangs_ends_the_signs_of_life_until_it_accepts_again() {
    // Ten a second.
    let mut service = Service::start(Some("400000"));
    service.manager.wait(0, |it| it == "WATCHDOG=1");
    let tracing = Tracing::delay_one(&service.proxy, "accept4", "3s");
    let (lives, since) = (service.lives(), Instant::now());
    Raw::connect(service.proxy.explicit()).expect(220);
    assert!(since.elapsed() >= Duration::from_secs(2));
    // Those on both sides of that, and not thirty.
    let more = service.lives() - lives;
    assert!(more <= 5, "{more}");
    let from = service.manager.received().len();
    service.manager.wait(from, |it| it == "WATCHDOG=1");
    drop(tracing);
}

#[test]
fn signs_of_life_are_for_the_process_that_is_meant() {
    let manager = &mut ServiceManager::start();
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let mut command = command();
    command
        .env("NOTIFY_SOCKET", manager.address())
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1");
    let site = Site::default("site", backend.address());
    let mut proxy = Proxy::start_by(front.config().site(&site), command);
    proxy.reload(&proxy.config().to_yaml());
    let stopping = |it: &str| it.starts_with("STOPPING=1");
    proxy.signal(Signal::Terminate);
    manager.wait(0, stopping);
    assert_eq!(proxy.wait_exit(), Some(0));
    let told = manager.received();
    assert!(!told.iter().any(|it| it == "WATCHDOG=1"), "{told:?}");
}

#[test]
fn without_a_manager_nothing_is_told_and_nobody_waits_for_signs_of_life() {
    let (front, backend) = (Front::new(&[]), Backend::start(Script::new()));
    let site = Site::default("site", backend.address());
    let proxy = Proxy::start(front.config().log("debug").site(&site));
    let lines = proxy.log_lines().into_iter();
    let about = lines.filter(|line| line.text.contains("service manager"));
    assert_eq!(about.count(), 0);
}
