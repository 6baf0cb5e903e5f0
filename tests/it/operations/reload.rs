//! SIGHUP: the whole configuration changes for new sessions and not at all for live ones, or it doesn't change.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::version::TLS13;
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::{self, Before, Start};

/// A backend whose one file says which it is.
fn backend(file: &str) -> Backend {
    Backend::start(Script::new().file("file", file))
}

fn reloads(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric(&format!(
        "portcullis_reloads_total{{result=\"{result}\",subject=\"configuration\"}}"
    ))
}

/// Nobody listens there; waits for what is closed when the last session that uses it ends.
fn wait_until_closed(proxy: &Proxy, address: SocketAddr) {
    // Each look at the metrics is a pause, and bounds the whole.
    proxy.wait_for_metric("portcullis_sessions", |_| {
        TcpStream::connect(address).is_err()
    });
}

#[test]
fn new_sessions_follow_the_new_sites_and_a_live_one_the_old() {
    let front = Front::new(&[]);
    let (before, after) = (backend("before"), backend("after"));
    let before_site = Site::hosts("moved", &["moved.test"], before.address());
    let gone = Site::hosts("gone", &["gone.test"], before.address());
    let proxy = Proxy::start(front.config().site(&before_site).site(&gone));
    let mut live = [
        front.session(&proxy, "moved.test|alice"),
        front.session(&proxy, "gone.test|alice"),
    ];

    let yaml = proxy.config().to_yaml();
    let (start, rest) = yaml.split_once("sites:\n").expect("sites");
    let (_, end) = rest.split_once("admin:\n").expect("a section behind them");
    let sites = format!(
        "sites:\n  - {{name: moved, hosts: [moved.test], backends: [{{address: \"{0}\"}}]}}\n  \
         - {{name: new, hosts: [new.test], backends: [{{address: \"{0}\"}}]}}\nadmin:\n",
        after.address()
    );
    proxy.reload(&format!("{start}{sites}{end}"));

    for host in ["moved.test", "new.test"] {
        let mut session = front.session(&proxy, &format!("{host}|bob"));
        assert_eq!(session.download("file"), b"after");
    }
    let mut refused = Raw::connect_auth_tls(proxy.explicit(), &front.tls_of(&TLS13));
    let text = refused.command("USER gone.test|bob", 530);
    assert!(text.contains("Valid hostname is expected"), "{text}");
    for session in &mut live {
        assert_eq!(session.download("file"), b"before");
        session.control.command("QUIT", 221);
    }
    let of_new =
        "portcullis_transfers_total{direction=\"download\",site=\"new\",verdict=\"complete\"}";
    assert_eq!(proxy.metric(of_new), 1.0);
    assert_eq!(reloads(&proxy, "ok"), 1.0);
}

#[test]
fn new_timeouts_and_limits_are_for_new_sessions() {
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let mut live = front.session(&proxy, "alice");
    let yaml = proxy.config().to_yaml();
    let fewer = yaml.replace("limits:\n", "limits:\n  sessions: 2\n");
    proxy.reload(&format!("{fewer}timeouts: {{idle: 200ms}}\n"));

    let mut new = front.session(&proxy, "bob");
    let text = Raw::connect(proxy.explicit()).expect(421);
    assert!(text.contains("Too many connections"), "{text}");
    let text = new.control.expect(421);
    assert!(text.contains("Idle"), "{text}");
    assert_eq!(live.download("file"), b"file");
    live.control.command("QUIT", 221);
}

#[test]
fn listeners_come_and_go_while_their_sessions_stay() {
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let (explicit, implicit) = (proxy.explicit(), proxy.implicit());
    let added = SocketAddr::new(explicit.ip(), 2122);
    let mut live = Raw::connect_tls(implicit, &front.tls_of(&TLS13));
    live.expect(220);
    live.login("alice", "secret");

    let both = proxy.config().to_yaml();
    let moved = both.replace(
        &format!("\"{implicit}\"\n    tls: implicit"),
        &format!("\"{added}\"\n    tls: explicit"),
    );
    // There and back again: what a former configuration has closed can be opened anew at once.
    for _ in 0..3 {
        proxy.reload(&moved);
        Raw::connect(added).expect(220);
        Raw::connect(explicit).expect(220);
        assert!(
            TcpStream::connect(implicit).is_err(),
            "it no longer listens"
        );
        proxy.reload(&both);
        Raw::connect_tls(implicit, &front.tls_of(&TLS13)).expect(220);
        assert!(TcpStream::connect(added).is_err(), "it no longer listens");
    }
    live.command("NOOP", 200);
    live.command("QUIT", 221);
}

#[test]
fn passive_ports_change_under_a_running_transfer_and_back_again() {
    let front = Front::new(&[]);
    let gate = Gate::new();
    let slow = [
        reply("150 here it comes"),
        Step::OpenData,
        Step::Send(b"first half, ".to_vec()),
        Step::Wait(gate.clone()),
        Step::Send(b"second half".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    let backend = Backend::start(Script::new().file("list", "").on("RETR", slow));
    let proxy = front.before(backend.address());
    let yaml = proxy.config().to_yaml();
    let elsewhere = yaml.replace("ports: 50000", "ports: 50001-50002");
    let mut live = front.session(&proxy, "alice");
    let running = live.begin("RETR file");

    proxy.reload(&elsewhere);
    proxy.wait_for_logs(2, |line| line.message() == "passive ports open");
    let mut new = front.session(&proxy, "bob");
    assert!([50_001, 50_002].contains(&new.control.epsv().port()));
    gate.open();
    assert_eq!(live.finish_download(running), b"first half, second half");
    assert_eq!(live.control.epsv().port(), 50_000);

    // The live session still has the old port open, and now both may use it.
    proxy.reload(&yaml);
    let mut newer = front.session(&proxy, "carol");
    new.control.command("QUIT", 221);
    live.control.command("QUIT", 221);
    assert_eq!(live.control.end().1, End::CloseNotify);
    assert_eq!(newer.download("file"), b"first half, second half");
    drop(new);
    wait_until_closed(&proxy, SocketAddr::new(proxy.explicit().ip(), 50_001));
}

#[test]
fn when_the_configuration_in_use_was_loaded_is_told_from_the_start() {
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs_f64();
    let loaded = proxy.metric("portcullis_config_last_reload_success_timestamp_seconds");
    assert!((now - 60.0..=now).contains(&loaded), "{loaded}, now {now}");
}

#[test]
fn a_broken_file_changes_nothing_and_the_log_says_where_it_is_broken() {
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let yaml = proxy.config().to_yaml();
    let path = proxy.config_file();
    let file = path.display();
    let broken = [
        (
            yaml.replace("  private_key:", "  privat_key:"),
            format!("{file}:8:3: unknown key `privat_key`"),
        ),
        (
            yaml.replace("tls: implicit", "tls: sometimes"),
            format!("{file}:5:10: "),
        ),
        (
            yaml.replace("tls.crt", "other.crt"),
            "other.crt: No such file or directory".to_owned(),
        ),
        (String::new(), format!("{file}: ")),
    ];
    for (index, (broken, says)) in broken.iter().enumerate() {
        proxy.rewrite_config(broken);
        proxy.signal(Signal::Reload);
        let refused = "reload refused, keeping the current configuration";
        let lines = proxy.wait_for_logs(index + 1, |line| line.message() == refused);
        let line = lines.last();
        let error = line.and_then(|line| line.field("error")).expect("a reason");
        assert!(error.contains(says), "{says}: {error}");
        assert_eq!(reloads(&proxy, "refused"), (index + 1) as f64);
        let mut session = front.session(&proxy, "alice");
        assert_eq!(session.download("file"), b"file");
    }
    assert_eq!(reloads(&proxy, "ok"), 0.0);
    proxy.reload(&yaml);
    assert_eq!(reloads(&proxy, "ok"), 1.0);
    assert_eq!(proxy.get("/readyz").0, 200);
}

#[test]
fn a_reload_that_cannot_open_an_address_keeps_everything_open() {
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let yaml = proxy.config().to_yaml();
    let taken = format!("\"{}\"", backend.address());
    let implicit = format!("\"{}\"", proxy.implicit());
    proxy.rewrite_config(
        &yaml
            .replace(&implicit, &taken)
            .replace("ports: 50000", "ports: 50001"),
    );
    proxy.signal(Signal::Reload);
    let line = proxy.wait_for_log(|line| line.message().starts_with("reload refused"));
    let error = line.field("error").expect("a reason");
    assert!(error.contains(&backend.address().to_string()), "{error}");
    Raw::connect_tls(proxy.implicit(), &front.tls_of(&TLS13)).expect(220);
    assert_eq!(front.session(&proxy, "alice").download("file"), b"file");
}

#[test]
fn a_hundred_reloads_in_a_row_break_no_transfer() {
    let front = Front::new(&[]);
    let content = content::bytes(1, 400_000);
    let backend = Backend::start(Script::new().file("file", content.clone()));
    let proxy = front.before_with(backend.address(), |config| {
        config.passive_ports("50000-50009")
    });
    let yaml = proxy.config().to_yaml();
    let at = |ports| yaml.replace("ports: 50000-50009", &format!("ports: {ports}"));
    let (shifted, last) = (at("50005-50014"), at("50020-50029"));
    let over = AtomicBool::new(false);
    let transfers: usize = thread::scope(|scope| {
        let sessions: Vec<_> = (0..4)
            .map(|number| {
                let (front, proxy, content, over) = (&front, &proxy, &content, &over);
                scope.spawn(move || {
                    let mut transfers = 0;
                    while !over.load(Ordering::SeqCst) {
                        let mut session = front.session(proxy, "alice");
                        for _ in 0..3 {
                            assert_eq!(
                                content::sha256(&session.download("file")),
                                content::sha256(content)
                            );
                            session.upload(&format!("stored{number}"), content);
                            transfers += 2;
                        }
                        session.control.command("QUIT", 221);
                    }
                    transfers
                })
            })
            .collect();
        for number in 0..100 {
            proxy.rewrite_config(if number % 2 == 0 { &shifted } else { &yaml });
            proxy.signal(Signal::Reload);
        }
        // Several of these may be one reload, and the last one comes behind them.
        proxy.rewrite_config(&last);
        proxy.signal(Signal::Reload);
        proxy.wait_for_log(|line| {
            let first = line.field("first").unwrap_or_default();
            line.message() == "passive ports open" && first.ends_with(":50020")
        });
        over.store(true, Ordering::SeqCst);
        sessions
            .into_iter()
            .map(|session| session.join().expect("no transfer fails"))
            .sum()
    });
    for number in 0..4 {
        assert_eq!(
            backend.file(&format!("stored{number}")),
            Some(content.clone())
        );
    }
    assert_eq!(reloads(&proxy, "refused"), 0.0);
    assert!(reloads(&proxy, "ok") >= 1.0);
    let metrics = proxy.metrics();
    let complete: f64 = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("portcullis_transfers_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(complete, transfers as f64);
    let mut session = front.session(&proxy, "bob");
    let port = session.control.epsv().port();
    assert!((50_020..=50_029).contains(&port), "{port}");
}

#[test]
fn an_upload_that_runs_across_a_reload_is_stored_whole() {
    let front = Front::new(&[]);
    let content = content::bytes(2, 500_000);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let mut session = front.session(&proxy, "alice");
    let mut data = session.begin("STOR stored");
    let (first, second) = content.split_at(content.len() / 2);
    data.write_all(first).expect("the proxy reads");
    proxy.reload(&proxy.config().to_yaml());
    data.write_all(second).expect("the proxy reads");
    session.finish_upload(data);
    assert_eq!(backend.file("stored"), Some(content));
}

#[test]
fn a_process_that_is_to_end_waits_for_no_name_server_of_a_reload() {
    let front = Front::new(&[]);
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let asked = silent.local_addr().expect("it is bound");
    let site = Site::default("only", "127.0.0.1:21");
    let mut proxy = Proxy::start(front.config().site(&site));
    let one = "- address: \"127.0.0.1:21\"\n";
    let several = "- {address: names.test, expand: true}\n";
    let yaml = proxy.config().to_yaml().replace(one, several);
    proxy.rewrite_config(&format!("{yaml}dns: {{servers: [\"{asked}\"]}}\n"));
    proxy.signal(Signal::Reload);
    silent.recv_from(&mut [0; 512]).expect("a query");
    proxy.signal(Signal::Terminate);
    assert_eq!(proxy.wait_exit(), Some(0));
    let lines = proxy.log_lines();
    let says = |text: &str| lines.iter().any(|line| line.message() == text);
    assert!(says("stopped") && !says("configuration reloaded"));
}

#[test]
fn a_reload_that_is_asked_for_in_another_one_reads_what_has_been_written_by_then() {
    let front = Front::new(&[]);
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let asked = silent.local_addr().expect("it is bound");
    let socket = front.directory().join("admin.sock");
    let site = Site::default("only", "127.0.0.1:21");
    let config = front.config().site(&site);
    let proxy = Proxy::start(config.endpoint("socket", &socket.display().to_string()));
    let yaml = proxy.config().to_yaml();
    let one = "- address: \"127.0.0.1:21\"\n";
    let several = "- {address: names.test, expand: true}\n";
    let slow = yaml.replace(one, several);
    proxy.rewrite_config(&format!("{slow}dns: {{servers: [\"{asked}\"]}}\n"));
    let mut operator = program::command()
        .args(["reload", "--socket"])
        .arg(&socket)
        .spawn()
        .expect("cargo built it");
    silent.recv_from(&mut [0; 512]).expect("a query");
    // While the name server is waited for.
    proxy.rewrite_config(&format!("{yaml}greeting: the newest\n"));
    proxy.signal(Signal::Reload);
    let reloaded = |line: &LogLine| line.message() == "configuration reloaded";
    proxy.wait_for_logs(2, reloaded);
    assert!(operator.wait().expect("it ends").success());
    let mut client = Raw::connect(proxy.explicit());
    assert!(client.expect(220).contains("the newest"));
}

#[test]
fn a_configuration_shows_as_refused_for_as_long_as_it_lies_there() {
    const REFUSED: &str = "portcullis_reload_refused{subject=\"configuration\"}";
    let front = Front::new(&[]);
    let backend = backend("file");
    let proxy = front.before(backend.address());
    let good = proxy.config().to_yaml();
    let broken = good.replace("limits:\n", "limits:\n  sessions: many\n");
    proxy.rewrite_config(&broken);
    proxy.signal(Signal::Reload);
    proxy.wait_for_metric(REFUSED, |refused| refused == 1.0);
    // The file in force is put back, which nothing has to be reloaded for.
    proxy.rewrite_config(&good);
    proxy.wait_for_metric(REFUSED, |refused| refused == 0.0);
    proxy.rewrite_config(&broken);
    proxy.wait_for_metric(REFUSED, |refused| refused == 1.0);
    proxy.reload(&good);
    assert_eq!(proxy.metric(REFUSED), 0.0);
    assert_eq!(reloads(&proxy, "refused"), 1.0);
    assert_eq!(reloads(&proxy, "ok"), 1.0);
}
