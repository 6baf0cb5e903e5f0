//! What a public port needs from the start: bounds on sessions and on time.

use std::net::SocketAddr;

use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::loopback::Loopback;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::Wire;

use crate::program::{Before, Start};

#[test]
fn sessions_beyond_the_limit_of_a_client_are_told_421_until_one_ends() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.limit("sessions_per_client", 2)
    });
    let mut first = Raw::connect(proxy.explicit());
    first.expect(220);
    let mut second = Raw::connect(proxy.explicit());
    second.expect(220);
    Raw::connect(proxy.explicit()).expect(421);
    let refused = "portcullis_sessions_refused_total{reason=\"per_client\"}";
    assert_eq!(proxy.metric(refused), 1.0);

    first.command("QUIT", 221);
    drop(first);
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 1.0);
    Raw::connect(proxy.explicit()).expect(220);
}

/// A client that connects from this address.
fn come(from: &Loopback, to: SocketAddr) -> Raw {
    Raw::over(Wire::connect_from(from.ip(), to))
}

fn refused_for_pace(proxy: &Proxy) -> f64 {
    proxy.metric("portcullis_sessions_refused_total{reason=\"pace\"}")
}

#[test]
fn who_comes_too_often_is_turned_away_before_a_handshake_and_others_are_not() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.limit("sessions_per_client_per_minute", 2)
    });
    let (often, other) = (Loopback::claim(), Loopback::claim());
    for _ in 0..2 {
        let mut client = come(&often, proxy.explicit());
        client.expect(220);
        client.command("QUIT", 221);
    }
    // None of them is there any more: it isn't their number.
    proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 0.0);
    come(&often, proxy.explicit()).expect(421);
    let (said, _) = come(&often, proxy.implicit()).end();
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(refused_for_pace(&proxy), 2.0);
    let handshakes = proxy.metrics().into_iter();
    let handshakes = handshakes.filter(|(name, _)| name.contains("_tls_handshakes_total"));
    assert_eq!(handshakes.map(|(_, count)| count).sum::<f64>(), 0.0);

    let mut client = come(&other, proxy.explicit());
    client.expect(220);
    client.auth_tls(&front.tls(NAME));
    client.login("alice", "secret");
}

#[test]
fn networks_that_are_allowed_come_as_often_and_stay_as_many_as_they_like() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let (office, other) = (Loopback::claim(), Loopback::claim());
    let allowed = format!("[{}]", office.ip());
    let proxy = front.before_with(backend.address(), |config| {
        config
            .limit("sessions_per_client", 1)
            .limit("sessions_per_client_per_minute", 1)
            .limit("allow", &allowed)
    });
    let _many = [(); 5].map(|()| {
        let mut client = come(&office, proxy.explicit());
        client.expect(220);
        client
    });
    let _one = come(&other, proxy.explicit()).expect(220);
    come(&other, proxy.explicit()).expect(421);
}

#[test]
fn a_reload_changes_how_often_a_client_may_come_and_ends_no_session() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.limit("sessions_per_client_per_minute", 2)
    });
    let mut live = front.session(&proxy, "alice");
    let yaml = proxy.config().to_yaml();
    proxy.reload(&yaml.replace("per_minute: 2", "per_minute: 1"));
    Raw::connect(proxy.explicit()).expect(421);
    assert_eq!(live.download("file"), b"content");
    proxy.reload(&yaml);
    Raw::connect(proxy.explicit()).expect(220);
    assert_eq!(refused_for_pace(&proxy), 1.0);
}

fn short_of_descriptors(line: &LogLine) -> bool {
    line.message().contains("file descriptors")
}

#[test]
fn file_descriptors_that_it_only_has_to_ask_for_are_asked_for() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let config = front.config().limit("sessions", 100);
    let config = config.site(&Site::default("ftpa", backend.address()));
    let proxy = Proxy::start_with_descriptors_at_first(config, 40);
    let _crowd: Vec<Raw> = (0..60)
        .map(|_| {
            let mut client = Raw::connect(proxy.explicit());
            client.expect(220);
            client
        })
        .collect();
    assert_eq!(front.session(&proxy, "alice").download("file"), b"content");
    assert_eq!(proxy.metric("portcullis_accept_errors_total"), 0.0);
    assert!(!proxy.log_lines().iter().any(short_of_descriptors));
}

#[test]
fn sessions_that_may_need_more_descriptors_than_there_are_are_told_of_at_start_and_reload() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let config = front.config().limit("sessions", 1_000);
    let config = config.site(&Site::default("ftpa", backend.address()));
    let proxy = Proxy::start_with_descriptors(config, 1_000);
    let warning = proxy.wait_for_log(short_of_descriptors);
    let number = |name| {
        let field = warning.field(name).expect("the field is there");
        field.parse::<usize>().expect("a number")
    };
    assert_eq!(warning.field("level").as_deref(), Some("WARN"));
    assert_eq!(number("allowed"), 1_000);
    assert!(number("needed") > 4_000);

    let yaml = proxy.config().to_yaml();
    let sessions = |count: usize| yaml.replace("sessions: 1000", &format!("sessions: {count}"));
    let warnings = || {
        let lines = proxy.log_lines();
        lines
            .iter()
            .filter(|line| short_of_descriptors(line))
            .count()
    };
    // What it said is enough: no line of this reload comes behind the next one's.
    proxy.reload(&sessions(number("enough_for")));
    let too_many = sessions(number("enough_for") + 1);
    let taken = format!("\"{}\"", backend.address());
    proxy.rewrite_config(&too_many.replace(&format!("\"{}\"", proxy.implicit()), &taken));
    proxy.signal(Signal::Reload);
    proxy.wait_for_log(|line| line.message().starts_with("reload refused"));
    assert_eq!(warnings(), 1, "a refused configuration opens nothing");
    proxy.reload(&too_many);
    // Logged behind the line that the reload has waited for.
    proxy.wait_for_logs(2, short_of_descriptors);
}

/// Two sites with one backend.
fn two_sites(front: &Front, backend: &Backend) -> Config {
    front
        .config()
        .site(&Site::default("ftpa", backend.address()))
        .site(&Site::hosts("ftpb", &["ftpb.test"], backend.address()))
}

fn refused_at_ftpa(proxy: &Proxy) -> f64 {
    proxy.metric("portcullis_logins_total{result=\"site_full\",site=\"ftpa\"}")
}

#[test]
fn a_site_that_is_full_dials_nobody_and_the_other_site_does_not_notice() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = Proxy::start(two_sites(&front, &backend).limit("sessions_per_site", 2));
    let mut logged_in = front.session(&proxy, "alice");
    // A place is taken with USER: who never logs in uses the backend up as well.
    let mut about_to = front.explicit(&proxy);
    about_to.command("USER bob", 331);
    let at_ftpa = "portcullis_site_sessions{site=\"ftpa\"}";
    assert_eq!(proxy.metric(at_ftpa), 2.0);

    let connections = backend.connections();
    let mut refused = front.explicit(&proxy);
    let text = refused.command("USER carol", 421);
    assert_eq!(
        text,
        "421 Too many connections to this site, try again later."
    );
    refused.end();
    assert_eq!(backend.connections(), connections);
    assert_eq!(refused_at_ftpa(&proxy), 1.0);
    let line = proxy.wait_for_log(|line| line.message().contains("limits.sessions_per_site"));
    assert_eq!(line.field("site").as_deref(), Some("ftpa"));

    let mut elsewhere = front.session(&proxy, "ftpb.test|carol");
    assert_eq!(elsewhere.download("file"), b"content");
    assert_eq!(logged_in.download("file"), b"content");

    logged_in.control.command("QUIT", 221);
    proxy.wait_for_metric(at_ftpa, |sessions| sessions == 1.0);
    front.session(&proxy, "carol");
}

#[test]
fn who_turns_to_another_site_or_is_let_in_by_none_leaves_its_place_to_others() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let proxy = Proxy::start(two_sites(&front, &backend).limit("sessions_per_site", 1));
    let mut undecided = front.explicit(&proxy);
    for elsewhere in [
        "USER ftpb.test|alice",
        "HOST ftpb.test",
        "USER unknown.test|alice",
    ] {
        undecided.command("USER alice", 331);
        undecided.send(elsewhere);
        undecided.reply();
        // The place is free once the connection to the backend is closed, which the reply doesn't wait for.
        proxy.wait_for_metric("portcullis_site_sessions{site=\"ftpa\"}", |sessions| {
            sessions == 0.0
        });
        front.session(&proxy, "bob").control.command("QUIT", 221);
        proxy.wait_for_metric("portcullis_sessions", |sessions| sessions == 1.0);
        undecided.command("HOST proxy.test", 220);
    }
    assert_eq!(refused_at_ftpa(&proxy), 0.0);
}

#[test]
fn a_reload_changes_how_many_sessions_a_site_may_have_and_ends_none() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = Proxy::start(two_sites(&front, &backend).limit("sessions_per_site", 2));
    let mut live = [
        front.session(&proxy, "alice"),
        front.session(&proxy, "alice"),
    ];
    let yaml = proxy.config().to_yaml();
    let limited = |limit: usize| {
        yaml.replace(
            "sessions_per_site: 2",
            &format!("sessions_per_site: {limit}"),
        )
    };
    proxy.reload(&limited(1));
    front.explicit(&proxy).command("USER bob", 421);
    for session in &mut live {
        assert_eq!(session.download("file"), b"content");
    }
    proxy.reload(&limited(3));
    front.session(&proxy, "bob");
    assert_eq!(refused_at_ftpa(&proxy), 1.0);
}

#[test]
fn who_does_not_log_in_or_is_idle_is_told_421_in_time() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| config.timeout("idle", "300ms"));
    let mut idle = front.session(&proxy, "alice");
    assert!(idle.control.expect(421).contains("Idle"));
    let proxy = front.before_with(backend.address(), |config| config.timeout("login", "2s"));
    let mut slow = Raw::connect(proxy.explicit());
    slow.expect(220);
    slow.send_bytes(b"NO");
    assert!(slow.expect(421).contains("Login took too long"));
}

#[test]
fn a_client_that_opens_no_data_connection_is_told_425_and_goes_on() {
    let backend = Backend::start(Script::new().file("file", "content"));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config.timeout("data_connect", "300ms")
    });
    let mut session = front.session(&proxy, "alice");
    session.control.epsv();
    session.control.send("RETR file");
    // The backend may have begun by then, and says so.
    let reply = session.control.reply();
    let last = if reply.code == 150 {
        session.control.reply()
    } else {
        reply
    };
    assert_eq!(last.code, 425, "{}", last.text);
    session.control.command("NOOP", 200);
    assert_eq!(session.download("file"), b"content");
}

#[test]
fn a_session_dials_no_oftener_than_its_client_may_begin_sessions() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let config = front
        .config()
        .tls("required", "false")
        .limit("sessions_per_client_per_minute", 3)
        .timeout("login", "2s");
    let site = Site::hosts("only", &["a.test"], backend.address());
    let proxy = Proxy::start(config.site(&site));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    // The session itself was the first of three.
    for _ in 0..3 {
        client.command("HOST a.test", 220);
        client.command("USER alice", 331);
    }
    client.command("HOST a.test", 220);
    // It waits for its turn, which comes after twenty seconds.
    client.command("USER alice", 421);
    proxy.wait_for_log(|line| line.message().starts_with("login delayed"));
    assert_eq!(backend.connections(), 3);
}

#[test]
fn a_session_has_one_connection_to_a_backend_that_closes_late() {
    let gate = Gate::new();
    let front = Front::new(&[]);
    // It never reads the end of its first connection.
    let backend =
        Backend::start(Script::new().on("USER", [Step::Wait(gate.clone()), reply("331 x")]));
    let config = front
        .config()
        .tls("required", "false")
        .limit("sessions_per_site", 1);
    let site = Site::hosts("only", &["a.test"], backend.address());
    let proxy = Proxy::start(config.site(&site));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    gate.open();
    client.command("HOST a.test", 220);
    client.command("USER alice", 331);
    client.command("HOST a.test", 220);
    // Its own place, which is free when that connection is closed.
    client.command("USER alice", 331);
    let other = Raw::connect(proxy.explicit());
    let mut other = other;
    other.expect(220);
    other.command("HOST a.test", 220);
    other.command("USER bob", 421);
}

#[test]
fn the_place_of_a_session_is_free_when_its_client_hears_the_goodbye() {
    let gate = Gate::new();
    let late = [reply("221 bye"), Step::Wait(gate.clone())];
    let backend = Backend::start(Script::new().on("QUIT", late));
    let front = Front::new(&[]);
    let proxy = front.before_with(backend.address(), |config| {
        config
            .tls("required", "false")
            .limit("sessions_per_client", 1)
    });
    for _ in 0..10 {
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client.login("alice", "secret");
        client.command("QUIT", 221);
    }
    gate.open();
}
