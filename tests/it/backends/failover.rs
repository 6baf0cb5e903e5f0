//! A backend that fails between its greeting and its reply to USER: the site's next one takes over, and the client
//! notices nothing but the time. After that reply none does.

use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

/// A site with a backend of this script and a good one after it.
struct Pair {
    first: Backend,
    second: Backend,
    _front: Front,
    proxy: Proxy,
}

impl Pair {
    fn new(first: Script) -> Self {
        Self::with(first, |config| config)
    }

    fn with(first: Script, more: impl FnOnce(Config) -> Config) -> Self {
        let (first, second) = (Backend::start(first), Backend::start(Script::new()));
        let site = Site::default("only", first.address()).also(second.address());
        let front = Front::new(&[]);
        let config = more(front.config().tls("required", "false")).site(&site);
        Self {
            proxy: Proxy::start(config),
            first,
            second,
            _front: front,
        }
    }

    fn client(&self) -> Raw {
        let mut client = Raw::connect(self.proxy.explicit());
        client.expect(220);
        client
    }

    fn failovers(&self) -> f64 {
        self.proxy
            .metric("portcullis_backend_failovers_total{site=\"only\"}")
    }

    /// How many attempts at the first backend ended at its reply to USER.
    fn unanswered(&self) -> f64 {
        self.proxy
            .metric("portcullis_backend_dial_failures_total{site=\"only\",stage=\"user\"}")
    }

    fn is_out(&self) -> bool {
        let labels = format!(
            "backend=\"{}\",site=\"only\",state=\"ejected\"",
            self.first.address()
        );
        let state = format!("portcullis_backend_state{{{labels}}}");
        self.proxy.metric(&state) == 1.0
    }
}

fn at_user(steps: Vec<Step>) -> Script {
    Script::new().on("USER", steps)
}

#[test]
fn a_421_to_user_is_the_next_ones_turn_and_is_not_held_against_a_busy_backend() {
    let pair = Pair::new(at_user(vec![
        reply("421 too many users"),
        Step::End(End::Fin),
    ]));
    for _ in 0..4 {
        pair.client().login("alice", "secret");
    }
    assert_eq!(pair.second.connections(), 4);
    assert_eq!(pair.failovers(), 4.0);
    assert!(!pair.is_out());
    let line = pair
        .proxy
        .wait_for_log(|line| line.message() == "backend not available");
    assert_eq!(line.field("stage").as_deref(), Some("user"));
    assert!(line.text.contains("too many users"), "{}", line.text);
}

#[test]
fn a_backend_that_breaks_off_at_user_is_replaced_and_after_three_times_out() {
    let pair = Pair::new(at_user(vec![Step::End(End::Reset)]));
    for _ in 0..3 {
        pair.client().login("alice", "secret");
    }
    assert!(pair.is_out());
    assert_eq!(pair.unanswered(), 3.0);
    assert_eq!(pair.failovers(), 3.0);
    pair.client().login("alice", "secret");
    assert_eq!(pair.first.connections(), 3);
    assert_eq!(pair.second.connections(), 4);
}

#[test]
fn a_backend_that_does_not_answer_user_has_no_longer_than_an_attempt() {
    let over = Gate::new();
    let pair = Pair::with(at_user(vec![Step::Wait(over.clone())]), |config| {
        config.timeout("backend_attempt", "500ms")
    });
    pair.client().login("alice", "secret");
    over.open();
    assert_eq!(pair.unanswered(), 1.0);
    assert_eq!(pair.second.connections(), 1);
}

#[test]
fn what_a_client_has_set_before_user_reaches_the_backend_that_takes_over() {
    let pair = Pair::new(Script::new().on("OPTS", vec![Step::End(End::Fin)]));
    let mut client = pair.client();
    client.command("OPTS UTF8 ON", 202);
    client.login("alice", "secret");
    let commands = pair.second.commands();
    let heard = |line: &str| commands.iter().any(|command| command == line);
    assert!(heard("OPTS UTF8 ON") && heard("USER alice"), "{commands:?}");
}

#[test]
fn a_refused_user_is_the_clients_answer_and_no_other_backend_hears_of_it() {
    let pair = Pair::new(at_user(vec![reply("530 no such user")]));
    pair.client().command("USER alice", 530);
    assert_eq!(pair.second.connections(), 0);
    assert_eq!(pair.failovers(), 0.0);
}

#[test]
fn after_the_reply_to_user_no_other_backend_takes_over() {
    let pair = Pair::new(Script::new().on("PASS", vec![Step::End(End::Reset)]));
    let mut client = pair.client();
    client.command("USER alice", 331);
    client.command("PASS secret", 421);
    assert_eq!(pair.second.connections(), 0);
    assert!(pair.second.commands().is_empty());
}

#[test]
fn the_last_backends_421_is_passed_on() {
    let busy = || at_user(vec![reply("421 too many users"), Step::End(End::Fin)]);
    let (first, second) = (Backend::start(busy()), Backend::start(busy()));
    let site = Site::default("only", first.address()).also(second.address());
    let front = Front::new(&[]);
    let proxy = Proxy::start(front.config().tls("required", "false").site(&site));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    let reply = client.command("USER alice", 421);
    assert!(reply.ends_with("too many users"), "{reply}");
    assert_eq!([first.connections(), second.connections()], [1, 1]);
}

#[test]
fn an_only_backend_that_never_answers_user_is_named_and_goes_out() {
    let over = Gate::new();
    let silent = Backend::start(at_user(vec![Step::Wait(over.clone())]));
    let front = Front::new(&[]);
    let config = front
        .config()
        .tls("required", "false")
        .timeout("login", "2500ms");
    let proxy = Proxy::start(config.site(&Site::default("only", silent.address())));
    for _ in 0..3 {
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client.command("USER alice", 421);
    }
    over.open();
    let line = proxy.wait_for_log(|line| line.message() == "backend not available");
    assert_eq!(line.field("stage").as_deref(), Some("user"));
    proxy.wait_for_log(|line| line.message() == "backend ejected");
}

#[test]
fn a_client_that_says_user_at_the_last_moment_is_held_against_no_backend() {
    let over = Gate::new();
    let silent = Backend::start(Script::new().greeting(vec![Step::Wait(over.clone())]));
    let front = Front::new(&[]);
    // Less than any backend would have to have.
    let config = front
        .config()
        .tls("required", "false")
        .timeout("login", "900ms");
    let proxy = Proxy::start(config.site(&Site::default("only", silent.address())));
    for _ in 0..4 {
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client.command("USER alice", 421);
    }
    over.open();
    let labels = format!(
        "backend=\"{}\",site=\"only\",state=\"up\"",
        silent.address()
    );
    let state = format!("portcullis_backend_state{{{labels}}}");
    assert_eq!(proxy.metric(&state), 1.0);
}
