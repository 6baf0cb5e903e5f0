//! Backends whose replies are none: malformed, huge, endless or cut off, in every phase of a session. The session ends
//! with 421 and the operator learns why; every other session goes on.

use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

const UNAVAILABLE: &str = "421 The site is not available at the moment, try again later.";
const LOST: &str = "421 The connection to the site was lost.";

/// The names of faults, what the log's reason has in it, and what the backend does.
fn faults() -> Vec<(&'static str, &'static str, Vec<Step>)> {
    let bytes = |bytes: &[u8]| vec![Step::Bytes(bytes.to_vec())];
    let huge = ["250-", &"a".repeat(200), "\r\n"].concat().repeat(6_000);
    let long_line = ["250 ", &"a".repeat(10_000), "\r\n"].concat();
    let hang_up = |text: &[u8], end| vec![Step::Bytes(text.to_vec()), Step::End(end)];
    vec![
        (
            "words",
            "reply code",
            bytes(&b"who are you?\r\n".repeat(33)),
        ),
        ("empty", "reply code", bytes(&b"\r\n".repeat(33))),
        ("small", "reply code", bytes(b"099 too small\r\n")),
        ("large", "reply code", bytes(b"600 too large\r\n")),
        ("short", "reply code", bytes(b"22 too short\r\n")),
        ("glued", "reply code", bytes(b"220ready\r\n")),
        ("nul", "reply code", bytes(b"\0\0\0\0\n")),
        (
            "tls",
            "reply code",
            bytes(b"\x15\x03\x01\x00\x02\x02\x28\n"),
        ),
        ("longline", "longer than 8192", bytes(long_line.as_bytes())),
        ("huge", "longer than 1048576", bytes(huge.as_bytes())),
        ("cut", "closed", hang_up(b"250 half a li", End::Fin)),
        ("cutlines", "closed", hang_up(b"250-first\r\n", End::Fin)),
        ("reset", "broke: ", vec![Step::End(End::Reset)]),
    ]
}

/// One proxy with a site for each of these backends, and a session that has nothing to do with them.
struct Deployment {
    front: Front,
    proxy: Proxy,
    bystander: Raw,
    _backends: Vec<Backend>,
}

impl Deployment {
    fn new(scripts: Vec<(&str, Script)>) -> Self {
        let front = Front::new(&[]);
        let good = Backend::start(Script::new());
        let mut config = front.config().site(&Site::default("good", good.address()));
        let mut backends = vec![good];
        for (name, script) in scripts {
            let backend = Backend::start(script);
            let host = format!("{name}.test");
            config = config.site(&Site::hosts(name, &[&host], backend.address()));
            backends.push(backend);
        }
        let proxy = Proxy::start(config);
        let mut bystander = front.explicit(&proxy);
        bystander.login("alice", "secret");
        Self {
            front,
            proxy,
            bystander,
            _backends: backends,
        }
    }

    /// The rest of a session is this one reply, the operator is told why, and the bystander is as well as before.
    fn ends(&mut self, site: &str, reason: &str, client: Raw, farewell: &str) {
        let (bytes, end) = client.end();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            format!("{farewell}\r\n"),
            "{site}"
        );
        assert_eq!(end, End::CloseNotify, "{site}");
        let of_site = |line: &LogLine| line.field("site").as_deref() == Some(site);
        let why = |line: &LogLine| line.field("error").or_else(|| line.field("reason"));
        let line = self
            .proxy
            .wait_for_log(|line| of_site(line) && why(line).is_some());
        let told = why(&line).expect("it was waited for");
        assert!(told.contains(reason), "{site}: {told}");
        self.bystander.command("PWD", 257);
    }
}

#[test]
fn what_is_no_greeting_makes_the_site_unavailable() {
    // A reset that comes as early as that may look like a connection that never was.
    let faults = || faults().into_iter().filter(|(name, _, _)| *name != "reset");
    let scripts = faults().map(|(name, _, steps)| (name, Script::new().greeting(steps)));
    let mut deployment = Deployment::new(scripts.collect());
    for (name, reason, _) in faults() {
        let mut client = deployment.front.explicit(&deployment.proxy);
        client.send(&format!("USER {name}.test|alice"));
        deployment.ends(name, reason, client, UNAVAILABLE);
    }
}

/// Leads a session up to `verb` and sends that.
fn session_ends_at(verb: &str) {
    let scripts = faults()
        .into_iter()
        .map(|(name, _, steps)| (name, Script::new().on(verb, steps)));
    let mut deployment = Deployment::new(scripts.collect());
    for (name, reason, _) in faults() {
        let mut client = deployment.front.explicit(&deployment.proxy);
        let user = format!("{name}.test|alice");
        match verb {
            "USER" => client.send(&format!("USER {user}")),
            "PASS" => {
                client.command(&format!("USER {user}"), 331);
                client.send("PASS secret");
            }
            "RETR" => {
                client.login(&user, "secret");
                client.epsv();
                client.send("RETR file");
            }
            other => {
                client.login(&user, "secret");
                client.send(other);
            }
        }
        deployment.ends(name, reason, client, LOST);
    }
}

#[test]
fn what_is_no_reply_to_user_ends_the_session() {
    session_ends_at("USER");
}

#[test]
fn what_is_no_reply_to_pass_ends_the_session() {
    session_ends_at("PASS");
}

#[test]
fn what_is_no_reply_to_a_command_ends_the_session() {
    session_ends_at("PWD");
}

#[test]
fn what_is_no_reply_to_feat_ends_the_session() {
    session_ends_at("FEAT");
}

#[test]
fn what_is_no_reply_to_epsv_ends_the_session() {
    session_ends_at("EPSV");
}

#[test]
fn what_is_no_reply_to_a_transfer_ends_the_session() {
    session_ends_at("RETR");
}

#[test]
fn a_reply_that_nobody_asked_for_ends_the_session_before_it_answers_something_else() {
    let script = Script::new().on("PWD", [Step::Default, reply("250 and another one")]);
    let mut deployment = Deployment::new(vec![("chatty", script)]);
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.login("chatty.test|alice", "secret");
    client.command("PWD", 257);
    assert_eq!(client.expect(421), LOST);
    assert!(client.end().0.is_empty());
    deployment.bystander.command("PWD", 257);
}

#[test]
fn a_data_port_that_is_none_costs_only_the_transfer() {
    for odd in [
        "229 entering passive mode",
        "229 mode (|||0|)",
        "229 mode (|||70000|)",
        "229 mode (|1|10.0.0.1|x|)",
        "227 mode (1,2,3)",
        "227 mode (127,0,0,1,300,1)",
        "200 fine",
    ] {
        let script = Script::new()
            .on("EPSV", [reply(odd)])
            .on("PASV", [reply(odd)])
            .on("PORT", [reply("502 no")]);
        let mut deployment = Deployment::new(vec![("odd", script)]);
        let mut client = deployment.front.explicit(&deployment.proxy);
        client.login("odd.test|alice", "secret");
        client.command("PASV", 425);
        client.command("RETR file", 425);
        client.command("PWD", 257);
        deployment.bystander.command("PWD", 257);
    }
}

#[test]
fn what_never_becomes_a_reply_ends_the_session_in_time() {
    let front = Front::new(&[]);
    let gate = Gate::new();
    let endless = |bytes: Vec<u8>| [Step::Bytes(bytes), Step::Wait(gate.clone())];
    let line = || endless(vec![b'2'; 1_000_000]);
    let lines = || endless(b"250-on and on\r\n".repeat(100));
    let preliminary = || endless(b"150 soon\r\n".repeat(100_000));
    let backends = [
        ("greeting", Script::new().greeting(line()), UNAVAILABLE),
        (
            "greetings",
            Script::new().greeting(endless(b"120 soon\r\n".repeat(1000))),
            UNAVAILABLE,
        ),
        ("user", Script::new().on("USER", line()), LOST),
        ("pass", Script::new().on("PASS", preliminary()), LOST),
        ("command", Script::new().on("PWD", line()), LOST),
        ("lines", Script::new().on("PWD", lines()), LOST),
    ]
    .map(|(name, script, farewell)| (name, Backend::start(script), farewell));
    let mut config = front
        .config()
        .timeout("backend_reply", "1s")
        .timeout("login", "3s");
    for (name, backend, _) in &backends {
        config = config.site(&Site::hosts(
            name,
            &[&format!("{name}.test")],
            backend.address(),
        ));
    }
    let proxy = Proxy::start(config);
    std::thread::scope(|scope| {
        for (name, _, farewell) in &backends {
            let mut client = front.explicit(&proxy);
            scope.spawn(move || {
                client.send(&format!("USER {name}.test|alice"));
                if !farewell.starts_with(UNAVAILABLE) && *name != "user" {
                    client.expect(331);
                    client.send("PASS secret");
                }
                if *farewell == LOST && !matches!(*name, "user" | "pass") {
                    client.expect(230);
                    client.send("PWD");
                }
                assert_eq!(client.expect(421), *farewell, "{name}");
                assert!(client.end().0.is_empty());
            });
        }
    });
    gate.open();
}
