//! Active checks of backends: what they find, at each depth, and what that means for the logins.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::certs::{Authority, Validity};
use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::process::send_signal;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::Raw;
use testkit::script::{Gate, Headers, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security, Server};
use testkit::wire::End;
use testkit::{proftpd, vsftpd};

use crate::program::Start;

/// As often as may be.
const OFTEN: &str = "interval: 1s";

/// The password in [`Checked::password`]'s file.
const PASSWORD: &str = "hunter2-of-the-probe";

/// The site `only` in front of a proxy that lets clients log in without TLS.
struct Checked {
    front: Front,
    proxy: Option<Proxy>,
}

impl Checked {
    /// Without a proxy yet.
    fn new() -> Self {
        Self {
            front: Front::new(&[]),
            proxy: None,
        }
    }

    fn start(site: Site) -> Self {
        Self::new().with(&[site], |config| config)
    }

    fn with(mut self, sites: &[Site], more: impl FnOnce(Config) -> Config) -> Self {
        let config = more(self.front.config().tls("required", "false"));
        let config = sites.iter().fold(config, Config::site);
        self.proxy = Some(Proxy::start(config));
        self
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("it was started")
    }

    /// `health` at this level, with this account.
    fn probe(&self, level: &str, user: &str, password: &str) -> String {
        let file = self.front.directory().join("probe.pw");
        std::fs::write(&file, format!("{password}\n")).expect("the test's directory is writable");
        let login = format!("{{user: {user}, password_file: {}}}", file.display());
        format!("{{level: {level}, {OFTEN}, fall: 1, rise: 1, login: {login}}}")
    }

    fn login(&self) {
        let mut client = Raw::connect(self.proxy().explicit());
        client.expect(220);
        client.login("alice", "secret");
        client.command("QUIT", 221);
    }

    fn state_name(backend: impl std::fmt::Display, state: &str) -> String {
        format!("portcullis_backend_state{{backend=\"{backend}\",site=\"only\",state=\"{state}\"}}")
    }

    fn is(&self, backend: impl std::fmt::Display, state: &str) -> bool {
        self.proxy().metric(&Self::state_name(backend, state)) == 1.0
    }

    fn wait_until(&self, backend: impl std::fmt::Display, state: &str) {
        let name = Self::state_name(backend, state);
        self.proxy().wait_for_metric(&name, |value| value == 1.0);
    }

    /// Waits for so many checks that came so far, or all the way: `ok`.
    fn wait_for_checks(&self, backend: impl std::fmt::Display, stage: &str, count: u32) {
        let labels = format!("backend=\"{backend}\",site=\"only\",stage=\"{stage}\"");
        let name = format!("portcullis_backend_checks_total{{{labels}}}");
        self.proxy()
            .wait_for_metric(&name, |value| value >= f64::from(count));
    }

    fn wait_for(&self, message: &str) -> LogLine {
        self.proxy().wait_for_log(|line| line.message() == message)
    }

    fn count(&self, message: &str) -> usize {
        let lines = self.proxy().log_lines();
        lines
            .iter()
            .filter(|line| line.message() == message)
            .count()
    }

    /// When the backend's certificate expires, as the metric says; 0 if there is none.
    fn not_after(&self, backend: impl std::fmt::Display) -> f64 {
        let labels = format!("backend=\"{backend}\",site=\"only\"");
        let name = format!("portcullis_backend_certificate_not_after_seconds{{{labels}}}");
        self.proxy().metric(&name)
    }
}

/// A backend that greets so that nobody can log in, which is a fault of its own.
fn broken() -> Backend {
    Backend::start(Script::new().greeting(vec![reply("530 not now")]))
}

fn good() -> Backend {
    Backend::start(Script::new())
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is after 1970").as_secs_f64()
}

#[test]
fn a_server_that_hangs_goes_down_and_comes_back_without_any_login() {
    let server = vsftpd::start(Security::Plain);
    let health = format!("{{level: greeting, {OFTEN}, fall: 2, rise: 2}}");
    let site = Site::default("only", server.address()).set("health", &health);
    let checked = Checked::new().with(&[site], |config| config.timeout("backend_attempt", "500ms"));
    checked.wait_for_checks(server.address(), "ok", 1);
    let process = server.pid().to_string();
    send_signal("STOP", &process);
    let down = checked.wait_for("backend down");
    assert_eq!(down.field("stage").as_deref(), Some("greeting"));
    assert_eq!(down.field("failures").as_deref(), Some("2"));
    assert!(checked.is(server.address(), "down") && !checked.is(server.address(), "up"));
    // What a login would find is not for the orchestrator, which could only make it worse.
    assert_eq!(checked.proxy().get("/readyz").0, 200);

    send_signal("CONT", &process);
    checked.wait_for("backend up");
    checked.wait_until(server.address(), "up");
    let logins = checked.proxy().metrics();
    let mut logins = logins
        .iter()
        .filter(|(name, _)| name.starts_with("portcullis_logins_total"));
    assert!(logins.all(|(_, count)| *count == 0.0));
}

#[test]
fn a_backend_that_is_down_gets_no_login_while_another_one_is_up() {
    let (broken, good) = (broken(), good());
    let site = Site::default("only", broken.address())
        .also(good.address())
        .set("health", &format!("{{{OFTEN}, fall: 1}}"));
    let checked = Checked::start(site);
    checked.wait_until(broken.address(), "down");
    for _ in 0..5 {
        checked.login();
    }
    let failovers = "portcullis_backend_failovers_total{site=\"only\"}";
    assert_eq!(checked.proxy().metric(failovers), 0.0);
    let failures = "portcullis_backend_dial_failures_total{site=\"only\",stage=\"greeting\"}";
    assert_eq!(checked.proxy().metric(failures), 0.0);
}

#[test]
fn a_login_that_waits_for_a_full_backend_gets_another_one_that_its_checks_bring_up() {
    let greets = Gate::new();
    let greeting = [Step::Wait(greets.clone()), reply("220 ready")];
    let (full, comes_up) = (good(), Backend::start(Script::new().greeting(greeting)));
    let site = Site::default("only", full.address())
        .backend("max_sessions", "1")
        .also(comes_up.address())
        .set("queue", "30s")
        .set(
            "health",
            &format!("{{level: greeting, {OFTEN}, fall: 1, rise: 1}}"),
        );
    let checked = Checked::new().with(&[site], |config| config.timeout("backend_attempt", "500ms"));
    checked.wait_until(comes_up.address(), "down");
    let client = || {
        let mut client = Raw::connect(checked.proxy().explicit());
        client.expect(220);
        client
    };
    let mut holds = client();
    holds.login("alice", "secret");
    let mut waits = client();
    waits.send("USER bob");
    let queue = "portcullis_backend_queue{site=\"only\"}";
    checked
        .proxy()
        .wait_for_metric(queue, |waiting| waiting == 1.0);
    greets.open();
    waits.expect(331);
    client().command("USER carol", 331);
    holds.command("NOOP", 200);
}

#[test]
fn where_every_backend_is_down_logins_try_them_all_the_same() {
    let [one, other] = [broken(), broken()];
    let site = Site::default("only", one.address())
        .also(other.address())
        .set("health", &format!("{{{OFTEN}, fall: 1}}"));
    let checked = Checked::start(site);
    checked.wait_until(one.address(), "down");
    checked.wait_until(other.address(), "down");
    let line = checked
        .proxy()
        .wait_for_log(|line| line.message().starts_with("no backend is up"));
    assert_eq!(line.field("site").as_deref(), Some("only"));
    let mut client = Raw::connect(checked.proxy().explicit());
    client.expect(220);
    client.command("USER alice", 421);
    let failures = "portcullis_backend_dial_failures_total{site=\"only\",stage=\"greeting\"}";
    assert_eq!(checked.proxy().metric(failures), 2.0);
}

#[test]
fn no_backend_is_dialled_unasked() {
    let (asked, also_asked) = (good(), good());
    let (unasked, off) = (good(), good());
    let health = format!("{{{OFTEN}}}");
    let sites = [
        Site::default("only", asked.address())
            .also(also_asked.address())
            .set("health", &health),
        Site::hosts("unasked", &["unasked.test"], unasked.address()),
        Site::hosts("off", &["off.test"], off.address()).set("health", "{level: off}"),
    ];
    let checked = Checked::new().with(&sites, |config| config);
    checked.wait_for_checks(asked.address(), "ok", 3);
    checked.wait_for_checks(also_asked.address(), "ok", 3);
    assert_eq!((unasked.connections(), off.connections()), (0, 0));
}

#[test]
fn a_check_goes_as_deep_as_it_should_and_no_deeper() {
    for (level, wanted) in [
        ("connect", &[][..]),
        ("greeting", &["QUIT"]),
        ("tls", &["AUTH TLS", "PBSZ 0", "PROT P", "QUIT"]),
    ] {
        let tls = ScriptTls::explicit(&rustls::version::TLS12);
        let backend = Backend::start(Script::new().tls(tls));
        let site = Site::default("only", backend.address())
            .backend_tls("explicit", None)
            .set("health", &format!("{{level: {level}, {OFTEN}}}"));
        let checked = Checked::start(site);
        checked.wait_for_checks(backend.address(), "ok", 2);
        match wanted {
            [] => assert_eq!(backend.commands(), wanted),
            _ => {
                backend.wait_for_commands("QUIT", 1);
                assert_eq!(backend.commands()[..wanted.len()], *wanted, "{level}");
            }
        }
    }
}

#[test]
fn without_a_level_the_handshake_is_checked_where_there_is_one() {
    let authority = Authority::new("authority of backends");
    let tls = |validity| {
        let pair = authority.issue_for(&["backend.test"], validity);
        let config = pair.server_config(&[&rustls::version::TLS12]);
        Backend::start(Script::new().tls(ScriptTls::Implicit(config)))
    };
    let (expired, clear) = (tls(Validity::Expired), good());
    let checked = Checked::new();
    let ca = authority.write(checked.front.directory());
    let site = Site::default("only", expired.address())
        .backend_tls("implicit", Some(&ca))
        .backend("server_name", "backend.test")
        .also(clear.address())
        .set("health", &format!("{{{OFTEN}, fall: 1}}"));
    let checked = checked.with(&[site], |config| config);
    let down = checked.wait_for("backend down");
    assert_eq!(down.field("stage").as_deref(), Some("certificate"));
    let backend = expired.address().to_string();
    assert_eq!(down.field("backend"), Some(backend));
    checked.wait_for_checks(clear.address(), "ok", 1);
    assert!(checked.is(clear.address(), "up"));
    let expires = checked.not_after(expired.address());
    assert!(expires > 0.0 && expires < now(), "{expires}");
}

#[test]
fn the_end_of_a_backends_certificate_is_known_from_checks_and_from_logins() {
    let authority = Authority::new("authority of backends");
    for health in ["{level: off}", "{interval: 1s}"] {
        let pair = authority.issue_for(&["backend.test"], Validity::Now);
        let config = pair.server_config(&[&rustls::version::TLS12]);
        let backend = Backend::start(Script::new().tls(ScriptTls::Explicit(config)));
        let site = Site::default("only", backend.address())
            .backend_tls("explicit", None)
            .set("health", health);
        let checked = Checked::start(site);
        if health.contains("off") {
            assert_eq!(
                checked.not_after(backend.address()),
                0.0,
                "nobody has seen it"
            );
            checked.login();
        } else {
            checked.wait_for_checks(backend.address(), "ok", 1);
        }
        let days = (checked.not_after(backend.address()) - now()) / 86_400.0;
        assert!((80.0..91.0).contains(&days), "{days}");
    }
}

#[test]
fn a_login_is_checked_at_real_servers() {
    let authority = Authority::new("authority of backends");
    let pair = authority.issue(&["backend.test"]);
    let servers: [(Server, Option<&str>); 3] = [
        (vsftpd::start(Security::Plain), None),
        (
            proftpd::start(Security::Explicit(&pair, Reuse::Required)),
            Some("explicit"),
        ),
        (
            vsftpd::start(Security::Implicit(&pair, Reuse::Required)),
            Some("implicit"),
        ),
    ];
    for (server, tls) in &servers {
        for level in ["login", "list"] {
            let checked = Checked::new();
            let health = checked.probe(level, server.user(), server.password());
            let site = Site::default("only", server.address());
            let site = match tls {
                None => site,
                Some(start) => site.backend_tls(start, None),
            };
            let checked = checked.with(&[site.set("health", &health)], |config| config);
            checked.wait_for_checks(server.address(), "ok", 2);
            assert_eq!(checked.count("backend down"), 0, "{level} {tls:?}");
            assert_eq!(checked.count("check failed"), 0);
        }
    }
}

#[test]
fn a_wrong_password_of_the_probe_is_sent_once_and_the_checks_go_on_without_it() {
    // As servers are wont to, so that the other check would come to its own PASS meanwhile.
    let slow = vec![Step::Silence(Duration::from_millis(1_200)), Step::Default];
    let script = || {
        let script = Script::new().password("another one");
        script.at_first("PASS", 2, slow.clone())
    };
    let (backend, other) = (Backend::start(script()), Backend::start(script()));
    let checked = Checked::new();
    let health = checked.probe("login", "probe", PASSWORD);
    let site = Site::default("only", backend.address())
        .also(other.address())
        .set("health", &health);
    let checked = checked.with(&[site], |config| config.log("trace"));
    let warning = checked
        .proxy()
        .wait_for_log(|line| line.message().starts_with("the probe's login was refused"));
    assert_eq!(warning.field("user").as_deref(), Some("probe"));
    assert!(warning.message().contains("10 minutes"), "{}", warning.text);
    for address in [backend.address(), other.address()] {
        checked.wait_for_checks(address, "ok", 3);
        assert!(checked.is(address, "up"));
    }
    let passwords = |backend: &Backend| {
        let commands = backend.commands();
        commands
            .iter()
            .filter(|line| line.starts_with("PASS"))
            .count()
    };
    // They may share an account.
    assert_eq!(passwords(&backend) + passwords(&other), 1);
    checked.proxy().reload(&checked.proxy().config().to_yaml());
    checked.wait_for_checks(backend.address(), "ok", 6);
    assert_eq!(
        passwords(&backend) + passwords(&other),
        1,
        "a reload is no new password"
    );
    let lines = checked.proxy().log_lines();
    assert!(lines.iter().all(|line| !line.text.contains(PASSWORD)));
    let warnings = lines
        .iter()
        .filter(|line| line.message() == warning.message());
    assert_eq!(warnings.count(), 1);

    checked.probe("login", "probe", "another one");
    checked.proxy().reload(&checked.proxy().config().to_yaml());
    backend.wait_for_command("PASS another one");
}

#[test]
fn a_listing_finds_data_ports_that_lead_nowhere() {
    // Nothing listens there, at the address of the backend.
    let dead = Script::new()
        .on("EPSV", vec![reply("229 here (|||9999|)")])
        .on("PASV", vec![reply("227 here (127,0,0,1,39,15)")]);
    let backend = Backend::start(dead.file("name", "content"));
    let checked = Checked::new();
    let health = checked.probe("list", "probe", PASSWORD);
    let site = Site::default("only", backend.address()).set("health", &health);
    let checked = checked.with(&[site], |config| config);
    let down = checked.wait_for("backend down");
    assert_eq!(down.field("stage").as_deref(), Some("data"));
    let commands = backend.commands();
    assert_eq!(
        commands[..4],
        ["USER probe", &format!("PASS {PASSWORD}"), "EPSV", "PASV"]
    );
}

#[test]
fn a_listing_is_over_with_its_data_and_a_good_reply() {
    let tls = || ScriptTls::explicit(&rustls::version::TLS12);
    let list = |steps: Vec<Step>| Script::new().tls(tls()).on("LIST", steps);
    let begun = || vec![reply("150 here it comes"), Step::OpenData];
    let more = |steps: Vec<Step>| [begun(), steps].concat();
    let (ends, breaks) = (Step::EndData(End::CloseNotify), Step::EndData(End::Reset));
    for (kind, script, passes) in [
        ("whole", Script::new().tls(tls()), true),
        ("refused", list(vec![reply("550 no such directory")]), false),
        ("broken", list(more(vec![breaks, reply("226 done")])), false),
        (
            "bad end",
            list(more(vec![ends.clone(), reply("451 disk")])),
            false,
        ),
        (
            "endless replies",
            list(
                [
                    begun(),
                    vec![ends.clone()],
                    vec![reply("150 still"); 20],
                    vec![reply("226 done")],
                ]
                .concat(),
            ),
            false,
        ),
        // It is neither read nor waited for without end.
        (
            "endless",
            list(more(vec![Step::Pour(vec![b'x'; 1000])])),
            true,
        ),
        (
            "no close_notify",
            list(more(vec![Step::EndData(End::Fin), reply("226 done")])),
            true,
        ),
    ] {
        let backend = Backend::start(script.file("name", "content"));
        let checked = Checked::new();
        let health = checked.probe("list", "probe", PASSWORD);
        let site = Site::default("only", backend.address())
            .backend_tls("explicit", None)
            .set("health", &health);
        let checked = checked.with(&[site], |config| config.log("debug"));
        checked.wait_for_checks(backend.address(), if passes { "ok" } else { "list" }, 1);
        assert_eq!(checked.is(backend.address(), "up"), passes, "{kind}");
        backend.wait_for_command("LIST /");
    }
}

#[test]
fn a_backend_that_only_connects_itself_is_checked_so() {
    let backend = Backend::start(
        Script::new()
            .on("EPSV", vec![reply("502 no")])
            .on("PASV", vec![reply("502 no")]),
    );
    let checked = Checked::new();
    let health = checked.probe("list", "probe", PASSWORD);
    let site = Site::default("only", backend.address())
        .set("passive_mode", "active")
        .set("health", &health);
    let checked = checked.with(&[site], |config| config);
    checked.wait_for_checks(backend.address(), "ok", 1);
    backend.wait_for_command("PORT ");
}

#[test]
fn a_check_over_ipv6_asks_as_sessions_do_where_epsv_is_refused() {
    let script = Script::new()
        .on("EPSV", vec![reply("500 what?")])
        .on("PASV", vec![reply("501 not over IPv6")]);
    let local = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let backend = Backend::start_at(local, script);
    let checked = Checked::new();
    let health = checked.probe("list", "probe", PASSWORD);
    let site = Site::default("only", backend.address()).set("health", &health);
    let checked = checked.with(&[site], |config| config);
    checked.wait_for_checks(backend.address(), "ok", 2);
    let commands = backend.commands();
    assert!(commands.iter().any(|line| line.starts_with("EPRT |2|::1|")));
    assert!(!commands.iter().any(|line| line == "PASV"), "{commands:?}");
    assert_eq!(checked.count("backend down"), 0);
}

#[test]
fn a_backend_that_is_busy_is_not_down() {
    let busy = Backend::start(Script::new().greeting(vec![reply("421 too many users")]));
    let site =
        Site::default("only", busy.address()).set("health", &format!("{{{OFTEN}, fall: 1}}"));
    let checked = Checked::start(site);
    checked.wait_for_checks(busy.address(), "greeting", 3);
    assert!(checked.is(busy.address(), "up"));
    assert_eq!(checked.count("backend down"), 0);
}

#[test]
fn a_reload_keeps_what_is_known_of_backends_that_stay() {
    let (broken, good) = (broken(), good());
    let health = format!("{{{OFTEN}, fall: 2}}");
    let site = Site::default("only", broken.address())
        .also(good.address())
        .set("health", &health);
    let checked = Checked::start(site);
    checked.wait_until(broken.address(), "down");
    let yaml = checked.proxy().config().to_yaml();
    for changed in [
        format!(
            "{yaml}greeting: hello
"
        ),
        yaml.replace("fall: 2", "fall: 50"),
        // With another check, too, it is down until that passes.
        yaml.replace(OFTEN, "interval: 30s, level: connect, rise: 2"),
    ] {
        checked.proxy().reload(&changed);
        assert!(checked.is(broken.address(), "down"), "{changed}");
        assert_eq!(checked.count("backend down"), 1);
    }
    // A TCP connection is to be had, and the next check comes soon.
    checked.wait_for("backend up");
    checked.proxy().reload(&yaml);
    checked.wait_until(broken.address(), "down");
    // What is not checked any more is not down.
    checked
        .proxy()
        .reload(&yaml.replace(&health, "{level: off}"));
    assert!(checked.is(broken.address(), "up"));
    let name = "portcullis_backend_checks_total";
    let metrics = checked.proxy().metrics();
    assert!(!metrics.keys().any(|series| series.starts_with(name)));
}

#[test]
fn checks_that_saw_the_fault_bring_a_backend_back_before_its_outage_is_over() {
    let hanging = vsftpd::start(Security::Plain);
    let good = good();
    // Never down by them: what takes it out are the logins.
    let health = format!("{{level: greeting, {OFTEN}, fall: 100, rise: 1}}");
    let site = Site::default("only", hanging.address())
        .also(good.address())
        .set("health", &health);
    let checked = Checked::new().with(&[site], |config| config.timeout("backend_attempt", "300ms"));
    let process = hanging.pid().to_string();
    send_signal("STOP", &process);
    checked.wait_for_checks(hanging.address(), "greeting", 1);
    for _ in 0..3 {
        checked.login();
    }
    checked.wait_for("backend ejected");
    let began = Instant::now();
    send_signal("CONT", &process);
    checked.wait_for("backend up");
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "the outage is one of 10 s"
    );
    assert!(checked.is(hanging.address(), "up"));
}

#[test]
fn checks_that_passed_all_the_while_do_not_bring_a_backend_back() {
    // Logins fail at AUTH, which these checks don't see.
    let backend = Backend::start(Script::new().tls(ScriptTls::None));
    let good = good();
    let site = Site::default("only", backend.address())
        .backend_tls("explicit", None)
        .also(good.address())
        .set("health", &format!("{{level: greeting, {OFTEN}, rise: 1}}"));
    let checked = Checked::start(site);
    for _ in 0..3 {
        checked.login();
    }
    checked.wait_until(backend.address(), "ejected");
    let labels = format!(
        "backend=\"{}\",site=\"only\",stage=\"ok\"",
        backend.address()
    );
    let name = format!("portcullis_backend_checks_total{{{labels}}}");
    let checks = checked.proxy().metric(&name);
    checked
        .proxy()
        .wait_for_metric(&name, |value| value >= checks + 3.0);
    assert!(checked.is(backend.address(), "ejected"));
}

#[test]
fn what_one_sites_checks_find_is_not_held_against_the_backend_at_another_site() {
    let tls = ScriptTls::explicit(&rustls::version::TLS12);
    let backend = Backend::start(Script::new().tls(tls));
    let checked = Checked::new();
    let stranger = Authority::new("authority of others").write(checked.front.directory());
    let health = format!("{{{OFTEN}, fall: 1}}");
    let sites = [
        Site::hosts("strict", &["strict.test"], backend.address())
            .backend_tls("explicit", Some(&stranger))
            .backend("server_name", "backend.test")
            .set("health", &health),
        Site::default("only", backend.address())
            .backend_tls("explicit", None)
            .set("health", &health),
    ];
    let checked = checked.with(&sites, |config| config);
    let down = checked.wait_for("backend down");
    assert_eq!(down.field("site").as_deref(), Some("strict"));
    checked.wait_for_checks(backend.address(), "ok", 2);
    assert!(checked.is(backend.address(), "up"));
    checked.login();
}

#[test]
fn a_site_that_trusts_the_wrong_authority_does_not_take_its_backend_out_at_another_site() {
    let tls = ScriptTls::explicit(&rustls::version::TLS12);
    let backend = Backend::start(Script::new().tls(tls));
    let checked = Checked::new();
    let stranger = Authority::new("authority of others").write(checked.front.directory());
    let sites = [
        Site::hosts("strict", &["strict.test"], backend.address())
            .backend_tls("explicit", Some(&stranger))
            .backend("server_name", "backend.test"),
        Site::default("only", backend.address()).backend_tls("explicit", None),
    ];
    let checked = checked.with(&sites, |config| config);
    for _ in 0..3 {
        let mut client = Raw::connect(checked.proxy().explicit());
        client.expect(220);
        client.command("USER strict.test|alice", 421);
    }
    let out = checked.wait_for("backend ejected");
    assert_eq!(out.field("site").as_deref(), Some("strict"));
    assert_eq!(out.field("stage").as_deref(), Some("certificate"));
    assert!(checked.is(backend.address(), "up"));
    checked.login();
    assert_eq!(checked.count("backend up"), 0);
}

#[test]
fn checks_of_a_backend_that_expects_headers_name_no_client() {
    let backend = Backend::start(Script::new().headers(Headers::All).file("name", "content"));
    let checked = Checked::new();
    let health = checked.probe("list", "probe", PASSWORD);
    let site = Site::default("only", backend.address())
        .backend("proxy_protocol", "{version: 1, data: true}")
        .set("health", &health);
    let checked = checked.with(&[site], |config| config);
    checked.wait_for_checks(backend.address(), "ok", 1);
    let nobody = b"PROXY UNKNOWN\r\n";
    assert_eq!(backend.wait_for_header(1), nobody);
    let of_data = backend.data_headers();
    assert!(!of_data.is_empty() && of_data.iter().all(|(_, header)| header == nobody));
}

#[test]
fn a_reply_that_repeats_the_probes_password_and_has_no_end_is_not_in_the_log() {
    let unfinished = reply(&format!("530-{PASSWORD}"));
    let backend = Backend::start(Script::new().on("PASS", [unfinished]));
    let checked = Checked::new();
    let health = checked.probe("login", "probe", PASSWORD);
    let site = Site::default("only", backend.address()).set("health", &health);
    let checked = checked.with(&[site], |config| {
        config.log("trace").timeout("backend_attempt", "1s")
    });
    let line = checked
        .proxy()
        .wait_for_log(|line| line.message() == "backend down");
    assert!(line.text.contains("no reply to PASS"), "{}", line.text);
    let lines = checked.proxy().log_lines();
    assert!(lines.iter().all(|line| !line.text.contains(PASSWORD)));
}
