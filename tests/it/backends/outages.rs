//! Real servers that die, hang, fill up or let their certificate expire while another one of their site works: what it costs
//! the logins, and what it must not.

use std::time::{Duration, Instant};

use testkit::certs::{Authority, Validity};
use testkit::closed_port::ClosedPort;
use testkit::config::Site;
use testkit::front::{Client, Front};
use testkit::process::send_signal;
use testkit::proxy::Proxy;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security, Server};
use testkit::{content, proftpd, vsftpd};

use crate::program::Start;

const ATTEMPT: &str = "1s";

/// Longer than an attempt and a login take even on a busy machine, and shorter than what a login may take in all.
const PATIENCE: Duration = Duration::from_secs(15);

/// The site `only` in front of these backends.
struct Outage {
    front: Front,
    proxy: Proxy,
}

impl Outage {
    fn new(site: Site) -> Self {
        let front = Front::new(&[]);
        let config = front.config().timeout("backend_attempt", ATTEMPT);
        Self {
            proxy: Proxy::start(config.site(&site)),
            front,
        }
    }

    /// Logs in, and says how long that took.
    fn use_it(&self, server: &Server) -> Duration {
        let began = Instant::now();
        let mut client = self.front.explicit(&self.proxy);
        client.login(server.user(), server.password());
        let took = began.elapsed();
        client.command("QUIT", 221);
        took
    }

    fn metric(&self, name: &str, labels: &str) -> f64 {
        let name = format!("portcullis_backend_{name}{{{labels}}}");
        self.proxy.metric(&name)
    }

    fn failovers(&self) -> f64 {
        self.metric("failovers_total", "site=\"only\"")
    }

    fn is(&self, backend: impl std::fmt::Display, state: &str) -> bool {
        let labels = format!("backend=\"{backend}\",site=\"only\",state=\"{state}\"");
        self.metric("state", &labels) == 1.0
    }

    /// The first backend fails three logins, which the next one serves, and no further one.
    fn costs_three_attempts(&self, first: impl std::fmt::Display, serves: &Server) {
        for number in 1..=3 {
            let took = self.use_it(serves);
            assert!(took < PATIENCE, "login {number} took {took:?}");
            assert_eq!(self.failovers(), f64::from(number));
        }
        assert!(self.is(&first, "ejected"), "{first}");
        self.use_it(serves);
        assert_eq!(self.failovers(), 3.0, "it was not tried again");
    }
}

#[test]
fn a_stopped_server_costs_three_logins_an_attempt_each() {
    let (stopped, works) = (
        vsftpd::start(Security::Plain),
        vsftpd::start(Security::Plain),
    );
    let outage = Outage::new(Site::default("only", stopped.address()).also(works.address()));
    send_signal("STOP", &stopped.pid().to_string());
    outage.costs_three_attempts(stopped.address(), &works);
}

#[test]
fn a_killed_server_is_left_for_the_next_and_that_one_for_the_one_after_it() {
    let (first, second) = (
        vsftpd::start(Security::Plain),
        vsftpd::start(Security::Plain),
    );
    let third = proftpd::start(Security::Plain);
    let site = Site::default("only", first.address())
        .also(second.address())
        .also(third.address());
    let outage = Outage::new(site);
    let (address, next) = (first.address(), second.address());
    drop(first);
    outage.costs_three_attempts(address, &second);
    drop(second);
    for _ in 0..3 {
        outage.use_it(&third);
    }
    assert!(outage.is(address, "ejected") && outage.is(next, "ejected"));
    let failovers = outage.failovers();
    outage.use_it(&third);
    assert_eq!(outage.failovers(), failovers);
}

#[test]
fn a_full_accept_queue_and_a_firewall_that_drops_cost_three_logins_an_attempt_each() {
    let (silent, works) = (ClosedPort::silent(), proftpd::start(Security::Plain));
    let outage = Outage::new(Site::default("only", silent.address()).also(works.address()));
    outage.costs_three_attempts(silent.address(), &works);
}

#[test]
fn a_server_that_accepts_and_says_nothing_costs_three_logins_an_attempt_each() {
    let over = Gate::new();
    let silent = Backend::start(Script::new().greeting(vec![Step::Wait(over.clone())]));
    let works = vsftpd::start(Security::Plain);
    let outage = Outage::new(Site::default("only", silent.address()).also(works.address()));
    outage.costs_three_attempts(silent.address(), &works);
    over.open();
}

#[test]
fn an_expired_certificate_takes_a_server_out() {
    let authority = Authority::new("authority of backends");
    let pair = authority.issue_for(&["backend.test"], Validity::Expired);
    let expired = proftpd::start(Security::Explicit(&pair, Reuse::Optional));
    let works = vsftpd::start(Security::Plain);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca = authority.write(directory.path());
    let site = Site::default("only", expired.address())
        .backend_tls("explicit", Some(&ca))
        .backend("server_name", "backend.test")
        .also(works.address());
    let outage = Outage::new(site);
    outage.costs_three_attempts(expired.address(), &works);
}

#[test]
fn a_full_server_is_passed_over_and_stays_in() {
    let full = Backend::start(Script::new().greeting(vec![reply("421 too many connections")]));
    let works = vsftpd::start(Security::Plain);
    let outage = Outage::new(Site::default("only", full.address()).also(works.address()));
    for _ in 0..4 {
        outage.use_it(&works);
    }
    assert_eq!(outage.failovers(), 4.0);
    assert!(outage.is(full.address(), "up"));
}

#[test]
fn a_server_is_drained_without_a_failed_transfer() {
    let (drained, other) = (
        vsftpd::start(Security::Plain),
        vsftpd::start(Security::Plain),
    );
    let file = content::bytes(7, 4 << 20);
    std::fs::write(drained.root().join("big"), &file).expect("the server's directory is writable");
    let site = Site::default("only", drained.address())
        .backend("drain", "false")
        .also(other.address());
    let outage = Outage::new(site);
    let mut control = outage.front.explicit(&outage.proxy);
    control.login(drained.user(), drained.password());
    control.protect_data();
    let tls = outage.front.tls("proxy.test");
    let mut session = Client { control, tls };
    let running = session.begin("RETR big");
    let yaml = outage.proxy.config().to_yaml();
    outage
        .proxy
        .reload(&yaml.replace("drain: false", "drain: true"));
    outage.use_it(&other);
    assert_eq!(session.finish_download(running), file);
    let sessions = format!("backend=\"{}\",site=\"only\"", drained.address());
    assert_eq!(outage.metric("sessions", &sessions), 1.0);
    drop(session);
    let gauge = format!("portcullis_backend_sessions{{{sessions}}}");
    outage.proxy.wait_for_metric(&gauge, |count| count == 0.0);
    assert!(outage.is(drained.address(), "drain"));
}
