//! The control connection is served whatever the data connections do, and a backend's refusal reaches the client though
//! no data connection ever came to be.

use std::io::Write;
use std::time::Duration;

use rustls::version::TLS12;
use testkit::front::Client;
use testkit::proxy::LogLine;
use testkit::raw::{open_data, protect};
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::wire::{End, Wire};

use crate::stage::Stage;

const REFUSALS: [&str; 4] = [
    "550 No such file",
    "450 Busy",
    "532 Need account for storing files",
    "552-Full\r\n552 of files",
];

/// How far a client's data connection has come when the backend refuses.
#[derive(Debug, Clone, Copy)]
enum Reached {
    Nothing,
    Connected,
    HalfAHello,
    Handshake,
}

fn reach(client: &mut Client, reached: Reached) -> Option<Wire> {
    let address = client.control.epsv();
    if let Reached::Nothing = reached {
        return None;
    }
    let mut data = open_data(address);
    if let Reached::HalfAHello = reached {
        data.write_all(b"\x16\x03\x01\x02\x00\x01")
            .expect("the proxy reads");
    }
    Some(data)
}

#[test]
fn a_refusal_reaches_the_client_however_far_its_data_connection_has_come() {
    for begun in [false, true] {
        let mut script = Script::new();
        let verbs = ["RETR", "STOR", "LIST", "APPE"];
        for (verb, refusal) in verbs.iter().zip(REFUSALS) {
            let mut steps = vec![reply(refusal)];
            if begun {
                steps.insert(0, reply("150 let me see"));
            }
            script = script.on(verb, steps);
        }
        let stage = Stage::new(script);
        let mut client = stage.session();
        for reached in [
            Reached::Nothing,
            Reached::Connected,
            Reached::HalfAHello,
            Reached::Handshake,
        ] {
            for (verb, refusal) in verbs.iter().zip(REFUSALS) {
                let is_upload = ["STOR", "APPE"].contains(verb);
                if is_upload && matches!(reached, Reached::Nothing) {
                    // Its command waits for the connection.
                    continue;
                }
                let data = reach(&mut client, reached);
                client.control.send(&format!("{verb} file"));
                let data = data.and_then(|mut data| match reached {
                    // The refusal's reset may be quicker.
                    Reached::Handshake => protect(&mut data, &client.tls).ok().map(|()| data),
                    _ => Some(data),
                });
                if begun {
                    client.control.expect(150);
                }
                assert_eq!(client.control.reply().text, refusal, "{reached:?}");
                if let Some(mut data) = data {
                    assert_eq!(data.read_to_end().1, End::Reset, "{verb} {reached:?}");
                }
                client.control.command("PWD", 257);
            }
        }
        // It was the backend's own decision, so nothing has to be aborted there.
        assert!(!stage.backend.commands().contains(&"ABOR".to_owned()));
    }
}

#[test]
fn a_refusal_reaches_the_client_though_the_backends_data_port_stays_silent() {
    let gate = Gate::new();
    let refusal = reply("451 Local error");
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .on("LIST", [Step::OpenClearData, refusal.clone()])
        .on(
            "RETR",
            [Step::OpenClearData, Step::Wait(gate.clone()), refusal],
        );
    let stage = Stage::before(
        script,
        |site| site.backend_tls("explicit", None),
        |config| config,
    );
    let mut client = stage.session();
    client.control.epsv();
    client.control.command("LIST", 451);
    let mut data = open_data(client.control.epsv());
    client.control.send("RETR file");
    protect(&mut data, &client.tls).expect("a handshake");
    gate.open();
    client.control.expect(451);
    assert_eq!(data.read_to_end().1, End::Reset);
    client.control.command("PWD", 257);
}

/// A backend that has begun a transfer, answers STAT in the middle of it, and goes on when the gate opens.
fn attentive(go: &Gate) -> Script {
    let steps = [
        reply("150 take your time"),
        Step::AwaitCommand,
        reply("211-Half way\r\n211 there"),
        Step::Wait(go.clone()),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    // By the time that it reads the command, it has answered it.
    Script::new().on("RETR", steps).on("STAT", [])
}

#[test]
fn noop_and_stat_are_answered_while_a_handshake_is_pending() {
    let go = Gate::new();
    let stage = Stage::new(attentive(&go));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR file", 150);
    client.control.command("NOOP", 200);
    let status = client.control.command("STAT", 211);
    assert_eq!(status, "211-Half way\r\n211 there");
    client.control.command("NOOP", 200);
    // What can't be done in a transfer waits for its end, NOOPs behind it included.
    client.control.send_bytes(b"PWD\r\nNOOP\r\n");
    protect(&mut data, &client.tls).expect("a handshake");
    go.open();
    assert_eq!(client.finish_download(data), b"content");
    client.control.expect(257);
    client.control.expect(200);
}

#[test]
fn quit_while_a_handshake_is_pending_waits_for_the_transfer() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR file", 150);
    client.control.send("QUIT");
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(client.finish_download(data), b"content");
    client.control.expect(221);
}

#[test]
fn a_client_that_never_opens_its_data_connection_is_told_in_time_and_the_backend_too() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.timeout("data_connect", "1s")
    });
    let mut client = stage.session();
    not_in_time(&stage, &mut client, Reached::Nothing, 425);
}

#[test]
fn a_client_that_never_begins_or_ends_its_handshake_is_told_in_time_and_the_backend_too() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.timeout("tls_handshake", "2s")
    });
    let mut client = stage.session();
    not_in_time(&stage, &mut client, Reached::Connected, 522);
    not_in_time(&stage, &mut client, Reached::HalfAHello, 522);
}

/// A backend that says nothing for longer than any handshake may take, and then begins.
fn slow_to_begin() -> Script {
    let takes_long = Step::Silence(Duration::from_secs(2));
    let retr = [
        takes_long.clone(),
        reply("150 from tape"),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::CloseNotify),
        reply("226 done"),
    ];
    let stor = [
        takes_long,
        reply("150 to tape"),
        Step::OpenData,
        Step::Receive,
        reply("226 stored"),
    ];
    Script::new().on("RETR", retr).on("STOR", stor)
}

/// Whoever begins no handshake before the 150 loses nothing by it, on either leg.
#[test]
fn a_transfer_whose_150_takes_longer_than_a_handshake_may_is_like_any_other() {
    for reuse in ["prefer", "require"] {
        let stage = Stage::before(
            slow_to_begin().tls(ScriptTls::explicit(&TLS12)),
            |site| site.backend_tls("explicit", None),
            |config| {
                config
                    .tls("session_reuse", reuse)
                    .timeout("tls_handshake", "1s")
                    .timeout("data_connect", "1s")
            },
        );
        let mut client = stage.session();
        // Which waits for the 150 before its handshake.
        assert_eq!(client.download("file"), b"content", "{reuse}");
        client.upload("new", b"content");
        assert_eq!(aborts(&stage), 0, "{reuse}");
    }
}

#[test]
fn a_backend_that_never_begins_is_told_in_time_and_the_client_hears_whose_fault_it_was() {
    let steps = [Step::AwaitCommand, reply("426 cut")];
    let stage = Stage::with(Script::new().on("RETR", steps), |config| {
        config
            .timeout("tls_handshake", "1s")
            .timeout("backend_reply", "2s")
    });
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR file", 426);
    assert_eq!(data.read_to_end().1, End::Reset);
    assert_eq!(aborts(&stage), 1);
    let ended = stage
        .proxy
        .wait_for_log(|line| line.message() == "transfer not complete");
    let reason = ended.field("reason");
    assert_eq!(reason.as_deref(), Some("backend sent no final reply"));
    client.control.command("PWD", 257);
}

/// A download and an upload that come no further than this.
fn not_in_time(stage: &Stage, client: &mut Client, reached: Reached, code: u16) {
    for (line, uploads) in [("RETR file", 0), ("STOR new", 1)] {
        let before = (aborts(stage), stage.backend.uploads());
        let data = reach(client, reached);
        if uploads > 0 && matches!(reached, Reached::Nothing) {
            // An upload that never was must not empty the file.
            // Before the 1yz an answer to NOOP would be taken for that to the upload.
            client.control.command(line, code);
            client.control.command("NOOP", 200);
            client.control.command("PWD", 257);
            assert!(!stage.backend.commands().contains(&line.to_owned()));
            continue;
        }
        client.control.command(line, 150);
        client.control.command("NOOP", 200);
        client.control.expect(code);
        assert_eq!(aborts(stage), before.0 + 1, "{line}");
        if let Some(mut data) = data {
            assert_eq!(data.read_to_end().1, End::Reset, "{line} {reached:?}");
        }
        if uploads > 0 {
            // An upload that never was must not become an empty file.
            let upload = stage.backend.wait_for_upload(before.1 + uploads);
            assert_eq!(upload.end, End::Reset);
        }
        client.control.command("PWD", 257);
    }
    assert_eq!(client.download("file"), b"content");
}

fn aborts(stage: &Stage) -> usize {
    let commands = stage.backend.commands();
    commands.iter().filter(|line| *line == "ABOR").count()
}

#[test]
fn a_client_that_is_not_there_in_active_mode_is_425() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    // Bound and gone again: nobody listens there.
    drop(client.control.eprt());
    client.control.command("STOR new", 425);
    let line = stage
        .proxy
        .wait_for_log(|line| line.message() == "client's data port not reached");
    let error = line.field("error").unwrap();
    assert!(error.contains("refused"), "{error}");
    let commands = stage.backend.commands();
    assert!(!commands.contains(&"STOR new".to_owned()), "{commands:?}");
    client.upload("new", b"content");
}

#[test]
fn while_a_backend_takes_its_time_commands_wait_and_are_answered_in_order() {
    let gate = Gate::new();
    let stage = Stage::new(Script::new().on("PWD", [Step::Wait(gate.clone()), Step::Default]));
    let mut client = stage.session().control;
    client.send_bytes(b"PWD\r\nNOOP\r\nSTAT\r\nABOR\r\nQUIT\r\n");
    stage.backend.wait_for_command("PWD");
    gate.open();
    for code in [257, 200, 211, 226, 221] {
        client.expect(code);
    }
}

#[test]
fn a_client_that_goes_while_its_backend_takes_its_time_is_let_go_at_once() {
    for verb in ["USER", "PASS", "PWD", "EPSV", "FEAT", "RETR"] {
        let gate = Gate::new();
        let steps = [Step::Wait(gate.clone()), Step::Default];
        let stage = Stage::new(Script::new().on(verb, steps));
        let mut client = stage.clear();
        for line in ["USER alice", "PASS secret", "PWD", "EPSV", "RETR file"] {
            client.send(line);
            if line.starts_with(verb) {
                break;
            }
            client.reply();
        }
        if verb == "FEAT" {
            client.send(verb);
        }
        stage.backend.wait_for_command(verb);
        client.close(End::Reset);
        let ended = |line: &LogLine| line.message() == "session ended";
        let line = stage.proxy.wait_for_log(ended);
        assert_eq!(
            line.field("ending").as_deref(),
            Some("client gone"),
            "{verb}"
        );
        gate.open();
    }
}

#[test]
fn a_421_reaches_the_client_while_its_data_connection_is_pending() {
    let stage = Stage::new(Script::new().on("RETR", [reply("150 x"), reply("421 Going down")]));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("RETR file", 150);
    assert_eq!(client.control.expect(421), "421 Going down");
    assert_eq!(data.read_to_end().1, End::Reset);
    assert!(client.control.end().0.is_empty());
}

#[test]
fn a_client_that_does_not_read_its_replies_holds_up_nobody_else_and_loses_none() {
    let line = format!(" {}\r\n", "x".repeat(500));
    let answer = ["200-\r\n", &line.repeat(1800), "200 end"].concat();
    let script = Script::new()
        .file("file", "content")
        .on("SITE", [reply(&answer)]);
    let stage = Stage::new(script);
    let mut deaf = stage.session();
    for _ in 0..20 {
        deaf.control.send("SITE x");
    }
    let mut bystander = stage.session();
    assert_eq!(bystander.download("file"), b"content");
    for _ in 0..20 {
        assert_eq!(deaf.control.expect(200).len(), answer.len());
    }
    assert_eq!(deaf.download("file"), b"content");
}
