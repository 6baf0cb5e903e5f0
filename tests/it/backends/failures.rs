//! What becomes of a login whose backend can't be reached, believed or protected: 421 for the client, which learns
//! nothing, and one log line and one count for the operator, who learns all; and never a password in clear text.

use std::fmt::Display;
use std::thread;

use rustls::version::{TLS12, TLS13};
use testkit::certs::{Authority, Pair, Validity};
use testkit::config::Site;
use testkit::content;
use testkit::front::Front;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::Raw;
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

/// All that a client is told of any failure.
const UNAVAILABLE: &str = "421 The site is not available at the moment, try again later.";

/// Where the way to a site's backend ends: the site's name, the stage, and what the log's reason has in it.
struct Fault {
    site: &'static str,
    stage: &'static str,
    reason: &'static str,
}

impl Fault {
    /// Logs in to the site, and looks at what client and operator learn.
    fn show(&self, front: &Front, proxy: &Proxy) {
        let Self {
            site,
            stage,
            reason,
        } = self;
        let mut client = front.explicit(proxy);
        let answer = client.command(&format!("USER {site}.test|alice"), 421);
        assert_eq!(answer, UNAVAILABLE, "{site}");
        assert_eq!(client.end(), (Vec::new(), End::CloseNotify), "{site}");

        let of_site = |line: &LogLine| line.field("site").as_deref() == Some(*site);
        let line = proxy.wait_for_log(|line| of_site(line) && line.field("stage").is_some());
        assert_eq!(
            line.field("stage").as_deref(),
            Some(*stage),
            "{}",
            line.text
        );
        assert_eq!(line.field("level").as_deref(), Some("WARN"));
        let error = line.field("error").expect("a reason");
        assert!(error.contains(reason), "{site}: {error}");
        let ended = proxy.wait_for_log(|line| of_site(line) && line.message() == "session ended");
        assert_eq!(ended.field("session"), line.field("session"));
        assert_eq!(
            ended.field("ending").as_deref(),
            Some("backend unavailable")
        );

        let count = |name: &str, label: &str, value: &str| {
            let mut labels = [format!("{label}=\"{value}\""), format!("site=\"{site}\"")];
            labels.sort();
            let sample = format!("portcullis_{name}{{{}}}", labels.join(","));
            proxy.metrics().get(&sample).copied()
        };
        let failures = count("backend_dial_failures_total", "stage", stage);
        assert_eq!(failures, Some(1.0), "{site}");
        let logins = count("logins_total", "result", "backend_unavailable");
        assert_eq!(logins, Some(1.0), "{site}");
    }
}

/// A site for `Fault`, with a plaintext backend.
fn site(name: &str, backend: impl Display) -> Site {
    Site::hosts(name, &[&format!("{name}.test")], backend)
}

/// A session on a site that works, to be asked now and then whether it still does.
fn good_session(front: &Front, proxy: &Proxy) -> Raw {
    let mut good = front.explicit(proxy);
    good.login("alice", "secret");
    good
}

#[test]
fn a_backend_that_cannot_be_reached_or_greets_badly_is_named_with_its_stage() {
    let front = Front::new(&[]);
    let good = Backend::start(Script::new());
    let greeting = |steps: Vec<Step>| Backend::start(Script::new().greeting(steps));
    let text = |text: &str| greeting(vec![reply(text)]);
    let backends = [
        ("refusal", "\"421 go away\"", text("421 go away")),
        ("banned", "\"530 banned\"", text("530 banned")),
        (
            "half",
            "closed",
            greeting(vec![reply("220-half"), Step::End(End::Fin)]),
        ),
        ("mute", "closed", greeting(vec![Step::End(End::Fin)])),
        ("http", "not an FTP reply", text("HTTP/1.1 400 Bad Request")),
        ("binary", "not an FTP reply", text("\u{16}\u{3}\u{1}\u{0}")),
        // Logged in already, says whoever answers: nobody has said who the user is.
        ("asking", "\"331 who", text("331 who are you")),
        ("escape", "\\x1b[2J", text("500 \u{1b}[2J forged")),
    ];
    let mut config = front
        .config()
        .site(&Site::default("good", good.address()))
        .site(&site("dns", "backend.invalid:21"))
        // Nothing listens on the discard port of a test machine.
        .site(&site("connect", "127.0.0.1:9"));
    for (name, _, backend) in &backends {
        config = config.site(&site(name, backend.address()));
    }
    let proxy = Proxy::start(config);
    let mut bystander = good_session(&front, &proxy);
    let of = |site, stage, reason| Fault {
        site,
        stage,
        reason,
    };
    of("dns", "dns", "can't be resolved").show(&front, &proxy);
    of("connect", "connect", "refused").show(&front, &proxy);
    for (name, reason, backend) in &backends {
        of(name, "greeting", reason).show(&front, &proxy);
        assert_eq!(backend.commands(), [""; 0], "{name}");
        bystander.command("PWD", 257);
    }
}

#[test]
fn a_backend_that_will_not_protect_the_session_never_sees_user_or_password() {
    let front = Front::new(&[]);
    let good = Backend::start(Script::new());
    let tls = ScriptTls::explicit(&TLS12);
    let on = |verb: &str, steps: Vec<Step>| {
        Backend::start(Script::new().tls(tls.clone()).on(verb, steps))
    };
    let auth = |text: &str| on("AUTH", vec![reply(text)]);
    let raw = |bytes: &[u8]| on("AUTH", vec![Step::Bytes(bytes.to_vec())]);
    let refused = [
        ("auth200", "\"200 ", auth("200 fine")),
        ("auth230", "\"230 ", auth("230 logged in")),
        ("auth235", "\"235 ", auth("235 fine")),
        ("auth334", "\"334 ", auth("334 [ADAT please]")),
        ("auth421", "\"421 ", auth("421 later")),
        ("auth500", "\"500 ", auth("500 what?")),
        ("auth502", "\"502 ", auth("502 no")),
        ("auth504", "\"504 ", auth("504 no")),
        ("auth534", "\"534 ", auth("534 no")),
        ("auth120", "\"120 ", auth("120 soon\r\n234 now")),
        ("garbage", "not an FTP reply", auth("2whatever")),
        ("eof", "closed", on("AUTH", vec![Step::End(End::Fin)])),
        (
            "injected",
            "clear text after",
            raw(b"234 go\r\n230 logged in\r\n"),
        ),
        ("injectedhalf", "clear text after", raw(b"234 go\r\n2")),
    ];
    let unprotected = [
        (
            "pbsz",
            "PBSZ 0 was not",
            on("PBSZ", vec![reply("500 what?")]),
        ),
        (
            "prot534",
            "PROT P was not",
            on("PROT", vec![reply("534 no")]),
        ),
        (
            "prot504",
            "PROT P was not",
            on("PROT", vec![reply("504 no")]),
        ),
        (
            "protend",
            "PROT P was not",
            on("PROT", vec![Step::End(End::CloseNotify)]),
        ),
        (
            "protodd",
            "PROT P was not",
            on("PROT", vec![reply("2nonsense")]),
        ),
    ];
    let mut config = front.config().site(&Site::default("good", good.address()));
    for (name, _, backend) in refused.iter().chain(&unprotected) {
        config = config.site(&site(name, backend.address()).backend_tls("explicit", None));
    }
    let proxy = Proxy::start(config);
    let mut bystander = good_session(&front, &proxy);
    for (stage, faults) in [("auth", &refused[..]), ("protection", &unprotected)] {
        for (site, reason, backend) in faults {
            Fault {
                site,
                stage,
                reason,
            }
            .show(&front, &proxy);
            bystander.command("PWD", 257);
            let commands = backend.commands();
            assert_eq!(commands[0], "AUTH TLS", "{site}");
            let more: &[String] = &commands[1..];
            let of_tls = ["AUTH SSL", "PBSZ 0", "PROT P"];
            let only_tls = more.iter().all(|line| of_tls.contains(&line.as_str()));
            assert!(only_tls, "{site}: {commands:?}");
            let only_ssl = more.iter().all(|line| line == "AUTH SSL");
            assert!(stage == "protection" || only_ssl, "{commands:?}");
        }
    }
}

#[test]
fn a_certificate_or_handshake_that_is_no_good_is_named_with_its_reason() {
    let front = Front::new(&[]);
    let good = Backend::start(Script::new());
    let authority = Authority::new("authority of backends");
    let ca = authority.write(front.directory());
    let name = &["backend.test"];
    let tls = |pair: &Pair| ScriptTls::Explicit(pair.server_config(&[&TLS12]));
    let right = authority.issue(name);
    let certificates = [
        (
            "expired",
            "expired on",
            authority.issue_for(name, Validity::Expired),
        ),
        (
            "early",
            "not valid before",
            authority.issue_for(name, Validity::NotYet),
        ),
        (
            "misnamed",
            "but for other.test",
            authority.issue(&["other.test"]),
        ),
        (
            "unknown",
            "not trusted",
            Authority::new("somebody").issue(name),
        ),
        (
            "selfmade",
            "self-signed",
            Pair::self_signed(name, Validity::Now),
        ),
    ]
    .map(|(site, reason, pair)| (site, reason, Backend::start(Script::new().tls(tls(&pair)))));
    let new_only = ScriptTls::Explicit(right.server_config(&[&TLS13]));
    let after_234 = |steps: &[Step]| {
        let steps = [&[Step::Bytes(b"234 go\r\n".to_vec())], steps].concat();
        Backend::start(Script::new().on("AUTH", steps))
    };
    let handshakes = [
        (
            "version",
            "no TLS version in common",
            Backend::start(Script::new().tls(new_only)),
        ),
        (
            "closing",
            "closed the connection",
            after_234(&[Step::End(End::Fin)]),
        ),
        // In clear text, as an answer to the ClientHello: its first line ends with the first LF in it.
        (
            "plain",
            "did not speak TLS",
            Backend::start(
                Script::new()
                    .on("AUTH", [reply("234 go")])
                    .on("\u{16}\u{3}\u{1}", [reply("500 what?")]),
            ),
        ),
    ];
    let mut config = front.config().site(&Site::default("good", good.address()));
    for (name, _, backend) in certificates.iter().chain(&handshakes) {
        let site = site(name, backend.address()).backend_tls("explicit", Some(&ca));
        config = config.site(&site.backend("server_name", "backend.test"));
    }
    let pinned = Backend::start(Script::new().tls(tls(&right)));
    let other = content::sha256(&authority.issue(name).der());
    let pin = format!("{{fingerprint: \"sha256:{other}\"}}");
    config = config.site(
        &site("pinned", pinned.address())
            .backend("tls", "explicit")
            .backend("verify", &pin),
    );
    let proxy = Proxy::start(config);
    let mut bystander = good_session(&front, &proxy);
    for (stage, faults) in [
        ("certificate", &certificates[..]),
        ("handshake", &handshakes),
    ] {
        for (site, reason, backend) in faults {
            Fault {
                site,
                stage,
                reason,
            }
            .show(&front, &proxy);
            bystander.command("PWD", 257);
            let commands = backend.commands();
            assert!(
                !commands.iter().any(|line| line.contains("USER")),
                "{commands:?}"
            );
        }
    }
    // The reason holds what is to be written into the configuration if the backend is the right one.
    let fingerprint: &'static str = content::sha256(&right.der()).leak();
    Fault {
        site: "pinned",
        stage: "certificate",
        reason: fingerprint,
    }
    .show(&front, &proxy);
}

#[test]
fn a_backend_that_falls_silent_on_the_way_is_named_with_the_stage_where_it_did() {
    let front = Front::new(&[]);
    let tls = ScriptTls::explicit(&TLS12);
    let gate = Gate::new();
    let silent = |verb: &str| {
        let script = Script::new().tls(tls.clone());
        let wait = [Step::Wait(gate.clone())];
        Backend::start(match verb {
            "" => script.greeting(wait),
            verb => script.on(verb, wait),
        })
    };
    let handshake = [reply("234 go"), Step::Wait(gate.clone())];
    let backends = [
        ("greeting", "no reply after 2s", silent("")),
        ("auth", "no reply after 2s", silent("AUTH")),
        (
            "handshake",
            "timed out after 2s",
            Backend::start(Script::new().on("AUTH", handshake)),
        ),
        ("protection", "no reply after 2s", silent("PROT")),
    ];
    let mut config = front
        .config()
        .timeout("backend_reply", "2s")
        .timeout("tls_handshake", "2s");
    for (name, _, backend) in &backends {
        config = config.site(&site(name, backend.address()).backend_tls("explicit", None));
    }
    let proxy = Proxy::start(config);
    thread::scope(|scope| {
        for (name, reason, _) in &backends {
            let fault = Fault {
                site: name,
                stage: name,
                reason,
            };
            let (front, proxy) = (&front, &proxy);
            scope.spawn(move || fault.show(front, proxy));
        }
    });
    gate.open();
}

#[test]
fn a_silent_backend_is_blamed_also_when_the_time_for_the_login_is_over_first() {
    let front = Front::new(&[]);
    let gate = Gate::new();
    let backend = Backend::start(Script::new().greeting([Step::Wait(gate.clone())]));
    let config = front.config().timeout("login", "2s");
    let proxy = Proxy::start(config.site(&site("silent", backend.address())));
    Fault {
        site: "silent",
        stage: "greeting",
        reason: "no reply after",
    }
    .show(&front, &proxy);
    gate.open();
}
