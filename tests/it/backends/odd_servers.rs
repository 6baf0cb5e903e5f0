//! Servers as they are: what old, small and odd ones do differently, and what clients put up with, works through
//! Portcullis as it does directly.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use portcullis::ftp::address;
use rustls::version::TLS12;
use testkit::certs::Authority;
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proftpd;
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, open_data};
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::server::{Reuse, Security};
use testkit::wire::{End, Wire};

use crate::program::Start;
use crate::stage::Stage;

/// A port where nobody listens, as `229`.
fn closed_port() -> Step {
    // Nothing listens on ports of this range, which is nobody's to give away.
    reply("229 here (|||1025|)")
}

/// The file comes whole over a data port that is asked for with this command.
fn downloads(client: &mut Raw, command: &str) {
    let mut data = open_data(match command {
        "PASV" => client.pasv(),
        _ => client.epsv(),
    });
    client.command("RETR file", 150);
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    drop(data);
    client.expect(226);
}

#[test]
fn a_backend_is_asked_as_the_client_asks_so_what_it_cannot_do_is_never_asked() {
    let script = Script::new()
        .file("file", "content")
        .on("EPSV", [Step::End(End::Fin)]);
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    downloads(&mut client, "PASV");
    client.command("PWD", 257);
}

#[test]
fn a_backend_that_hangs_up_at_epsv_costs_one_session_and_no_further_one() {
    let script = Script::new()
        .file("file", "content")
        .on("EPSV", [Step::End(End::Fin)]);
    let stage = Stage::new(script);
    let mut first = stage.clear_session();
    first.command("EPSV", 421);
    let mut second = stage.clear_session();
    downloads(&mut second, "EPSV");
    let learned = |line: &LogLine| line.field("avoided").is_some();
    let line = stage.proxy.wait_for_log(learned);
    assert_eq!(line.field("avoided").as_deref(), Some("EPSV"));
}

#[test]
fn a_data_port_that_is_not_reached_has_the_backend_asked_in_the_other_way_at_once_and_later_first()
{
    let script = Script::new()
        .file("file", "content")
        .on("EPSV", [closed_port()]);
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    downloads(&mut client, "EPSV");
    let asked = ["EPSV", "PASV", "RETR file"];
    assert_eq!(stage.backend.commands()[2..], asked);
    downloads(&mut client, "EPSV");
    assert_eq!(stage.backend.commands()[5..], ["PASV", "RETR file"]);
    let mut other = stage.clear_session();
    downloads(&mut other, "EPSV");
    assert_eq!(stage.backend.commands()[9..], ["PASV", "RETR file"]);
}

#[test]
fn a_data_port_at_another_address_is_not_followed_and_the_log_names_both() {
    let script = Script::new()
        .on("EPSV", [reply("500 what?")])
        .on("PASV", [reply("227 there (127,0,0,3,4,1)")])
        .on("PORT", [reply("500 no")]);
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    let _data = open_data(client.pasv());
    client.command("RETR file", 425);
    let line = stage
        .proxy
        .wait_for_log(|line| line.field("dialled").is_some());
    let dialled = SocketAddr::new(stage.backend.address().ip(), 1025);
    assert_eq!(line.field("dialled"), Some(dialled.to_string()));
    assert_eq!(line.field("announced").as_deref(), Some("127.0.0.3:1025"));
}

#[test]
fn a_backend_that_is_not_ready_for_tls_after_its_234_is_given_time_on_a_further_connection() {
    // It takes the first ClientHello for a command, which ends with the first LF in it.
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .once("AUTH", [reply("234 soon")])
        .on("\u{16}\u{3}\u{1}", [reply("500 invalid UTF-8 in command")]);
    let stage = Stage::before(
        script,
        |site| site.backend_tls("explicit", None),
        |config| config,
    );
    stage.session();
    let asked = |commands: &[String]| commands.iter().filter(|it| *it == "AUTH TLS").count();
    assert_eq!(asked(&stage.backend.commands()), 2);
    let learned = |line: &LogLine| line.message() == "backend needs a delay between AUTH and TLS";
    let line = stage.proxy.wait_for_log(learned);
    assert_eq!(line.field("milliseconds").as_deref(), Some("100"));
    stage.session();
    assert_eq!(asked(&stage.backend.commands()), 3);
}

/// A server without passive mode, as devices are.
fn active_only() -> Script {
    Script::new()
        .file("file", "content")
        .on("EPSV", [reply("550 permission denied")])
        .on("PASV", [reply("550 permission denied")])
}

#[test]
fn a_backend_that_knows_active_mode_alone_serves_every_client() {
    let stage = Stage::new(active_only());
    let mut client = stage.clear_session();
    downloads(&mut client, "PASV");
    downloads(&mut client, "EPSV");
    let content = content::bytes(1, 300_000);
    let mut data = open_data(client.epsv());
    client.command("STOR new", 150);
    data.write_all(&content).expect("the proxy reads");
    data.end(End::Fin).expect("the proxy is there");
    client.expect(226);
    assert_eq!(stage.backend.file("new"), Some(content));
    let listener = client.eprt();
    client.command("RETR file", 150);
    let (socket, _) = listener.accept().expect("the proxy connects");
    let mut data = Wire::new(socket);
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    drop(data);
    client.expect(226);
    // Asked in vain once, and then no more.
    let commands = stage.backend.commands();
    let asked = |verb: &str| {
        commands
            .iter()
            .filter(|line| line.starts_with(verb))
            .count()
    };
    assert_eq!((asked("PASV"), asked("EPSV"), asked("PORT ")), (1, 1, 4));
}

#[test]
fn in_active_mode_the_backends_data_connection_is_under_tls_as_well() {
    let script = active_only().tls(ScriptTls::explicit(&TLS12));
    let stage = Stage::before(
        script,
        |site| {
            site.backend_tls("explicit", None)
                .set("passive_mode", "active")
        },
        |config| config,
    );
    let mut client = stage.session();
    assert_eq!(client.download("file"), b"content");
    client.upload("new", b"more");
    assert_eq!(stage.backend.wait_for_upload(1).end, End::CloseNotify);
    let commands = stage.backend.commands();
    assert!(!commands.iter().any(|line| line == "EPSV" || line == "PASV"));
}

#[test]
fn proftpd_without_passive_mode_serves_every_transfer_with_and_without_tls() {
    let pair = Authority::new("authority of the servers").issue(&["ftp.test"]);
    for security in [Security::Plain, Security::Explicit(&pair, Reuse::Required)] {
        let server = proftpd::start_with(security, "<Limit PASV EPSV>\nDenyAll\n</Limit>\n");
        let front = Front::new(&[]);
        let mut site = Site::default("only", server.address());
        if !matches!(security, Security::Plain) {
            site = site.backend_tls("explicit", None);
        }
        let proxy = Proxy::start(front.config().site(&site));
        let mut client = front.session(&proxy, server.user());
        client.control.command("TYPE I", 200);
        let content = content::bytes(1, 1_000_000);
        client.upload("file", &content);
        let stored = fs::read(server.root().join("file")).expect("it was stored");
        assert!(stored == content);
        assert!(client.download("file") == content);
        client.control.command("PWD", 257);
    }
}

#[test]
fn a_stranger_at_the_port_where_a_backend_is_awaited_is_reset_and_takes_nothing() {
    let (begun, go_on) = (Gate::new(), Gate::new());
    let steps = [
        reply("150 I am coming"),
        Step::Open(begun.clone()),
        Step::Wait(go_on.clone()),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    let stage = Stage::new(active_only().on("RETR", steps));
    let mut client = stage.clear_session();
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    assert!(begun.wait());
    let port = stage.backend.wait_for_command("PORT ");
    let port = address::parse_port(&port.as_bytes()[5..]).expect("an address");
    // From 127.0.0.1, which is not the backend's address.
    let end = match Wire::try_connect_from(Ipv4Addr::LOCALHOST.into(), port.into()) {
        Ok(mut stranger) => stranger.read_to_end(),
        // The reset may be there before connect(2) has looked.
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            (Vec::new(), End::Reset)
        }
    };
    assert_eq!(end, (Vec::new(), End::Reset));
    go_on.open();
    assert_eq!(data.read_to_end(), (b"content".to_vec(), End::Fin));
    drop(data);
    client.expect(226);
}

#[test]
fn a_renegotiation_that_proftpd_asks_for_is_named_in_the_log_with_its_remedies() {
    let pair = Authority::new("authority of the servers").issue(&["ftp.test"]);
    let security = Security::Explicit(&pair, Reuse::Optional);
    let often = "TLSRenegotiate ctrl 14400 data 64 timeout 30 required off\n";
    let server = proftpd::start_with(security, often);
    fs::write(server.root().join("file"), content::bytes(1, 10_000_000)).expect("it is writable");
    let front = Front::new(&[]);
    let site = Site::default("only", server.address()).backend_tls("explicit", None);
    let proxy = Proxy::start(front.config().site(&site));
    let mut client = front.session(&proxy, server.user());
    client.control.command("TYPE I", 200);
    let mut data = client.begin("RETR file");
    // Not the whole file, so not as if it were.
    assert_eq!(data.read_to_end().1, End::Reset);
    let failed = client.control.reply();
    assert!((400..600).contains(&failed.code), "{}", failed.text);
    let named = |line: &LogLine| {
        let error = line.field("error");
        error.is_some_and(|error| error.contains("`TLSRenegotiate none`"))
    };
    let line = proxy.wait_for_log(named);
    assert_eq!(line.field("level").as_deref(), Some("WARN"));
}

#[test]
fn a_backend_that_never_connects_in_active_mode_is_425_and_the_session_goes_on() {
    let steps = [reply("150 I try"), reply("425 can't")];
    let script = active_only().on("RETR", steps);
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    let _data = open_data(client.epsv());
    client.command("RETR file", 150);
    client.expect(425);
    client.command("PWD", 257);
}

#[test]
fn a_backend_that_says_150_and_never_connects_in_active_mode_is_named_in_the_log_with_the_cause() {
    let steps = [reply("150 I try"), Step::Wait(Gate::new())];
    let stage = Stage::with(active_only().on("RETR", steps), |config| {
        config.timeout("data_connect", "1s")
    });
    let mut client = stage.clear_session();
    let _data = open_data(client.epsv());
    client.command("RETR file", 150);
    let named = |text: &'static str| move |line: &LogLine| line.message() == text;
    let line = stage
        .proxy
        .wait_for_log(named("no data connection came to where PORT said"));
    assert_eq!(line.field("error").as_deref(), Some("timed out"));
}

#[test]
fn a_site_can_be_told_in_which_way_its_backends_are_asked() {
    let script = Script::new().file("file", "content");
    let stage = Stage::before(
        script,
        |site| site.set("passive_mode", "pasv"),
        |config| config,
    );
    let mut client = stage.clear_session();
    downloads(&mut client, "EPSV");
    assert_eq!(stage.backend.commands()[2..], ["PASV", "RETR file"]);
}

#[test]
fn verbs_with_digits_are_the_backends() {
    let mut script = Script::new();
    for verb in ["XMD5", "XSHA256", "MD5"] {
        script = script.on(verb, [reply("250 d41d8cd9")]);
    }
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    // More often than lines that are no commands may come.
    for _ in 0..10 {
        for verb in ["XMD5", "XSHA256", "MD5"] {
            client.command(&format!("{verb} file"), 250);
        }
    }
}

#[test]
fn empty_lines_and_words_between_replies_are_passed_over_in_every_phase() {
    let bytes = |text: &str| Step::Bytes(text.as_bytes().to_vec());
    let script = Script::new()
        .greeting([bytes("\r\nWelcome, everybody\r\n220 ready\n\r\n")])
        .file("file", "content")
        .on("USER", [bytes("331 who?\n\r\n")])
        .on("PASS", [bytes("230 in\r\n\r\n\r\n")])
        .on("DELE", [bytes("550 no such file\n\r\n")])
        .on(
            "RETR",
            [
                bytes("150 now\r\n\r\n"),
                Step::OpenData,
                Step::Send(b"content".to_vec()),
                Step::EndData(End::Fin),
                bytes("\r\n226 done\r\n"),
            ],
        );
    let stage = Stage::new(script);
    let mut client = stage.clear_session();
    client.command("DELE gone", 550);
    downloads(&mut client, "PASV");
    client.command("PWD", 257);
}

#[test]
fn greetings_of_any_2yz_are_good() {
    for greeting in ["200 ready", "214-Hello\r\n214 ready", "299 x"] {
        let stage = Stage::new(Script::new().greeting([reply(greeting)]));
        stage.clear_session().command("PWD", 257);
    }
}

#[test]
fn pbsz_and_prot_that_want_a_login_first_are_said_again_behind_it() {
    for early in ["530 log in first", "503 log in first"] {
        let script = Script::new()
            .tls(ScriptTls::explicit(&TLS12))
            .file("file", "content")
            .once("PBSZ", [reply(early)]);
        let stage = Stage::before(
            script,
            |site| site.backend_tls("explicit", None),
            |config| config,
        );
        let mut client = stage.session();
        assert_eq!(client.download("file"), b"content");
        let commands = stage.backend.commands();
        let login = [
            "AUTH TLS",
            "PBSZ 0",
            "USER alice",
            "PASS secret",
            "PBSZ 0",
            "PROT P",
        ];
        assert_eq!(commands[..6], login, "{early}");
    }
}

#[test]
fn a_backend_that_refuses_prot_behind_the_login_as_well_lets_nobody_in() {
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .on("PROT", [reply("530 no")]);
    let stage = Stage::before(
        script,
        |site| site.backend_tls("explicit", None),
        |config| config,
    );
    let tls = stage.front.tls(NAME);
    let mut client = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
    client.command("USER alice", 331);
    client.command("PASS secret", 421);
    let told = |line: &LogLine| {
        let reason = line.field("reason");
        reason.is_some_and(|reason| reason.contains("PBSZ 0 and PROT P"))
    };
    stage.proxy.wait_for_log(told);
}

#[test]
fn a_backend_that_knows_auth_ssl_alone_is_asked_for_that() {
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .file("file", "content")
        .on("AUTH TLS", [reply("504 unknown")]);
    let stage = Stage::before(
        script,
        |site| site.backend_tls("explicit", None),
        |config| config,
    );
    let mut client = stage.session();
    assert_eq!(client.download("file"), b"content");
    let commands = stage.backend.commands();
    assert_eq!(commands[..4], ["AUTH TLS", "AUTH SSL", "PBSZ 0", "PROT P"]);
}

#[test]
fn a_reply_to_a_transfer_that_comes_twice_is_no_answer_to_the_next_command() {
    let steps = [
        reply("150 now"),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done\r\n226 done"),
    ];
    let stage = Stage::new(Script::new().on("RETR", steps));
    let mut client = stage.clear_session();
    for _ in 0..5 {
        downloads(&mut client, "PASV");
        client.command("PWD", 257);
    }
}

#[test]
fn a_reply_that_ends_with_another_code_is_whole_once_the_backend_is_silent() {
    let script = Script::new().on("PASS", [reply("230-welcome\r\n230-more\r\n200 done")]);
    let stage = Stage::new(script);
    let mut client = stage.clear();
    client.command("USER alice", 331);
    // In the form of RFC 959, for clients that take no other.
    let text = client.command("PASS secret", 200);
    assert_eq!(text, "200-welcome\r\n200-more\r\n200 done");
    client.command("PWD", 257);
}

#[test]
fn before_login_nothing_is_on_offer_that_the_backend_may_not_have() {
    let stage = Stage::new(Script::new());
    let mut client = stage.clear();
    let offered = client.command("FEAT", 211);
    let offered: Vec<&str> = offered.lines().map(str::trim).collect();
    let ours = ["AUTH TLS", "PBSZ", "PROT", "EPSV", "EPRT", "HOST"];
    assert_eq!(offered[1..offered.len() - 1], ours);
}

#[test]
fn a_site_that_is_full_blocks_nobody_though_it_says_530() {
    let full = "530 Sorry, the maximum number of clients (5) from your host are already connected.";
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().at_first("PASS", 5, [reply(full)]));
    let config = front
        .config()
        .set("guard", "{failures: 3, delay: 1ms, max_delay: 2ms}");
    let proxy = Proxy::start(config.site(&Site::default("only", backend.address())));
    for number in 0..5 {
        let mut client = front.explicit(&proxy);
        client.command(&format!("USER user{number}"), 331);
        client.command(&format!("PASS right{number}"), 530);
    }
    front.explicit(&proxy).login("user1", "right1");
}

#[test]
fn a_backend_that_never_ends_its_reply_is_named_with_what_it_has_said() {
    let silence = |text: &str| [Step::Bytes(text.as_bytes().to_vec()), Step::AwaitCommand];
    let front = Front::new(&[]);
    let half = Backend::start(Script::new().on("PWD", silence("257-half\r\n of it\r\n")));
    let words = Backend::start(Script::new().greeting(silence("Hello, who are you?\r\n")));
    let config = front.config().timeout("backend_reply", "500ms");
    let proxy = Proxy::start(
        config
            .site(&Site::default("half", half.address()))
            .site(&Site::hosts("words", &["words.test"], words.address())),
    );
    let mut client = front.explicit(&proxy);
    client.login("alice", "secret");
    client.command("PWD", 421);
    front.explicit(&proxy).command("USER words.test|alice", 421);
    for (field, said) in [
        ("reason", "an unfinished one: \"257-half\""),
        ("error", "a line without a code: \"Hello, who are you?\""),
    ] {
        let told = |line: &LogLine| line.field(field).is_some_and(|text| text.contains(said));
        proxy.wait_for_log(told);
    }
}

/// vsftpd's idle timeout begins with its 226, and a server that shuts down hangs up as soon as the file is out of its hands.
#[test]
fn a_backend_that_ends_the_session_behind_its_226_costs_no_file() {
    let content = content::bytes(9, 3_000_000);
    let ends: [(&str, &[u16]); 2] = [("226 done\r\n421 Timeout.", &[421]), ("226 done", &[421])];
    for (words, last) in ends {
        let script = Script::new()
            .on(
                "RETR",
                [
                    reply("150 here"),
                    Step::OpenData,
                    reply(words),
                    Step::HangUp(End::Fin),
                    Step::Send(content.clone()),
                    Step::EndData(End::Fin),
                    Step::End(End::Fin),
                ],
            )
            .on(
                "STOR",
                [
                    reply("150 go"),
                    Step::OpenData,
                    Step::Receive,
                    reply(words),
                    Step::HangUp(End::Fin),
                    Step::EndData(End::Fin),
                    Step::End(End::Fin),
                ],
            );
        let stage = Stage::new(script);
        let mut down = stage.session();
        assert!(down.download("file") == content, "{words}");
        let mut up = stage.session();
        up.upload("file", &content);
        for mut session in [down, up] {
            for code in last {
                session.control.expect(*code);
            }
            assert_eq!(session.control.reply_or_end(), None);
        }
    }
}

/// ProFTPD ends the data connection together with its 550, in the middle of our handshake.
#[test]
fn a_backend_that_ends_its_data_connection_before_its_refusal_has_refused() {
    let refusing = |step: Step| {
        vec![
            Step::OpenClearData,
            step,
            // The reply is on its way when the connection has ended.
            Step::Silence(Duration::from_millis(200)),
            reply("550 file: No such file"),
        ]
    };
    for (tls, end) in [(true, End::Fin), (true, End::Reset), (false, End::Reset)] {
        let script = Script::new()
            .tls(ScriptTls::explicit(&TLS12))
            .on("RETR", refusing(Step::EndData(end)))
            .on("LIST", refusing(Step::EndData(end)))
            .on("STOR", refusing(Step::EndData(end)));
        let stage = Stage::before(
            script,
            |site| match tls {
                true => site.backend_tls("explicit", None),
                false => site,
            },
            |config| config,
        );
        let mut client = stage.session();
        for command in ["RETR file", "LIST missing", "STOR file"] {
            let _data = open_data(client.control.epsv());
            client.control.command(command, 550);
        }
        let over = |line: &LogLine| line.field("verdict").is_some();
        for line in stage.proxy.wait_for_logs(3, over) {
            let verdict = line.field("verdict").expect("it is there");
            assert_eq!(verdict, "refused", "tls {tls}, {end:?}: {line:?}");
        }
        let messages = stage.proxy.log_lines();
        let handshakes = messages
            .iter()
            .filter(|it| it.message().contains("handshake"));
        assert_eq!(handshakes.count(), 0, "tls {tls}, {end:?}");
    }
}
