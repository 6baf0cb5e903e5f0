//! ABOR in every phase of a transfer, QUIT in the middle of one, and control connections that end there.

use std::io::{Read, Write};
use std::net::Shutdown;

use rustls::version::TLS12;
use testkit::front::Client;
use testkit::raw::{open_data, protect};
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::wire::{End, Wire};

use crate::stage::Stage;

/// Says ABOR: the transfer's end and ABOR's own reply come, the data connection is reset, and the session goes on.
fn aborts(stage: &Stage, mut client: Client, data: Option<Wire>) {
    client.control.send("ABOR");
    client.control.expect(426);
    client.control.expect(226);
    if let Some(mut data) = data {
        assert_eq!(data.read_to_end().1, End::Reset);
    }
    stage.backend.wait_for_command("ABOR");
    client.control.command("PWD", 257);
}

/// What a server does that has begun a transfer: it notices the end of the data connection and then reads ABOR.
fn transfer(begin: &[Step]) -> Vec<Step> {
    [begin, &[Step::Receive, reply("426 cut")]].concat()
}

#[test]
fn abor_before_the_150() {
    let stage = Stage::new(Script::new().on("STOR", transfer(&[Step::OpenData])));
    let mut client = stage.session();
    let data = open_data(client.control.epsv());
    client.control.send("STOR file");
    stage.backend.wait_for_command("STOR");
    aborts(&stage, client, Some(data));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn abor_before_the_client_has_connected() {
    let steps = transfer(&[reply("150 where are you?"), Step::OpenData]);
    let stage = Stage::new(Script::new().on("RETR", steps));
    let mut client = stage.session();
    client.control.epsv();
    client.control.command("RETR file", 150);
    aborts(&stage, client, None);
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);

    // An upload's command waits for the connection, so there is nothing that the backend could abort.
    let stage = Stage::new(Script::new());
    let mut client = stage.session();
    client.control.epsv();
    client.control.send("STOR file");
    client.control.command("ABOR", 426);
    client.control.expect(226);
    client.control.command("PWD", 257);
    let commands = stage.backend.commands();
    let told = |verb: &str| commands.iter().any(|line| line.starts_with(verb));
    assert!(!told("STOR") && !told("ABOR"), "{commands:?}");
}

#[test]
fn abor_in_the_clients_handshake() {
    let steps = transfer(&[reply("150 go"), Step::OpenData]);
    let stage = Stage::new(Script::new().on("STOR", steps));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command("STOR file", 150);
    // The beginning of a record with a ClientHello.
    data.write_all(b"\x16\x03\x01\x02\x00\x01")
        .expect("the proxy reads");
    aborts(&stage, client, Some(data));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

/// A proxy before a backend under TLS.
fn before_tls(script: Script) -> Stage {
    Stage::before(
        script.tls(ScriptTls::explicit(&TLS12)),
        |site| site.backend_tls("explicit", None),
        |config| config,
    )
}

/// Aborts a transfer whose backend, which is under TLS, opens its data connection by these steps; returns what it has received
/// there, and how that ended.
fn aborted_in_the_backends_handshake(command: &str, open: &[Step]) -> (Vec<u8>, End) {
    let verb = command.split(' ').next().expect("a verb");
    let steps = transfer(&[&[reply("150 go")], open].concat());
    let stage = before_tls(Script::new().on(verb, steps));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.command(command, 150);
    protect(&mut data, &client.tls).expect("a handshake");
    aborts(&stage, client, Some(data));
    let received = stage.backend.wait_for_upload(1);
    (received.content, received.end)
}

#[test]
fn abor_in_the_backends_handshake() {
    // vsftpd and Pure-FTPd end the session if their handshake is broken off, and read no command until it is done.
    for command in ["RETR file", "STOR file"] {
        let late = [Step::AwaitCommand, Step::OpenData];
        let (received, end) = aborted_in_the_backends_handshake(command, &late);
        assert_eq!((received, end), (Vec::new(), End::Reset), "{command}");
    }
}

#[test]
fn abor_in_a_handshake_that_the_backend_never_answers() {
    let (received, end) = aborted_in_the_backends_handshake("RETR file", &[Step::OpenClearData]);
    // A ClientHello, and nothing else.
    assert_eq!((received.first(), end), (Some(&0x16), End::Reset));
}

#[test]
fn abor_answered_225_ends_a_transfer_whose_data_connection_the_backend_called_open() {
    for line in ["RETR file", "LIST"] {
        let steps = [Step::OpenData, reply("125 already open"), Step::Receive];
        let (verb, _) = line.split_once(' ').unwrap_or((line, ""));
        let script = Script::new()
            .on(verb, steps)
            .on("ABOR", [reply("225 closed")]);
        let stage = Stage::new(script);
        let mut client = stage.session();
        let data = open_data(client.control.epsv());
        client.control.command(line, 125);
        aborts(&stage, client, Some(data));
        assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset, "{line}");
    }
}

#[test]
fn abor_answered_225_ends_a_transfer_once_the_backend_has_done_its_handshake_behind_the_150() {
    let (announced, received) = (Gate::new(), Gate::new());
    let steps = [
        reply("150 go"),
        Step::Wait(announced.clone()),
        Step::OpenData,
        Step::ReceiveSome(4),
        Step::Open(received.clone()),
        Step::Receive,
    ];
    let script = Script::new().on("STOR", steps);
    let stage = before_tls(script.on("ABOR", [reply("225 closed")]));
    let mut client = stage.session();
    let mut data = client.begin("STOR file");
    announced.open();
    data.write_all(b"half").expect("the proxy reads");
    assert!(received.wait(), "the backend gets the bytes");
    aborts(&stage, client, Some(data));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn abor_answered_225_ends_the_session_where_the_backend_may_have_lost_its_data_connection_before_the_150()
 {
    let (secured, received) = (Gate::new(), Gate::new());
    let steps = [
        Step::OpenData,
        Step::Wait(secured.clone()),
        reply("150 as soon as you are there"),
        Step::ReceiveSome(4),
        Step::Open(received.clone()),
        Step::Receive,
    ];
    let script = Script::new().on("STOR", steps);
    let stage = before_tls(script.on("ABOR", [reply("225 nothing to abort")]));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    client.control.send("STOR file");
    // The proxy is done with the handshake, too.
    let handshakes = "portcullis_data_tls_handshakes_total{kind=\"resumed\",leg=\"backend\"}";
    stage.proxy.wait_for_metric(handshakes, |done| done == 1.0);
    secured.open();
    client.control.expect(150);
    protect(&mut data, &client.tls).expect("a handshake");
    data.write_all(b"half").expect("the proxy reads");
    assert!(received.wait(), "the backend gets the bytes");
    client.control.command("ABOR", 421);
}

#[test]
fn abor_answered_225_ends_the_session_where_the_backend_may_have_put_the_file_off() {
    // It may accept its data connection only for the next transfer, and would send this file over it.
    let steps = [reply("150 as soon as you are there"), Step::AwaitCommand];
    let script = Script::new()
        .on("RETR", steps)
        .on("ABOR", [reply("225 nothing to abort")]);
    let stage = Stage::new(script);
    let mut client = stage.session();
    let _data = client.begin("RETR file");
    client.control.command("ABOR", 421);
    assert_eq!(client.control.end(), (Vec::new(), End::CloseNotify));
}

#[test]
fn abor_in_the_middle_of_a_download() {
    let begin = [
        reply("150 half of it"),
        Step::OpenData,
        Step::Send(b"half".to_vec()),
    ];
    let stage = Stage::new(Script::new().on("RETR", transfer(&begin)));
    let mut client = stage.session();
    let mut data = client.begin("RETR file");
    data.read_exact(&mut [0; 4]).expect("the half comes");
    aborts(&stage, client, Some(data));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn abor_in_the_middle_of_an_upload() {
    let stage = Stage::new(Script::new());
    let mut client = stage.session();
    let mut data = client.begin("STOR file");
    data.write_all(&[b'x'; 100_000]).expect("the proxy reads");
    aborts(&stage, client, Some(data));
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn abor_after_the_last_byte_and_before_the_226() {
    let gate = Gate::new();
    let steps = [
        reply("150 all of it"),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::Fin),
        Step::Wait(gate.clone()),
        reply("226 done"),
    ];
    let stage = Stage::new(Script::new().on("RETR", steps));
    let mut client = stage.session();
    let mut data = client.begin("RETR file");
    let mut content = [0; 7];
    data.read_exact(&mut content).expect("the content comes");
    client.control.send("ABOR");
    // Who aborts must not be left with what looks like a whole file.
    assert_eq!(data.read_to_end(), (Vec::new(), End::Reset));
    gate.open();
    client.control.expect(426);
    client.control.expect(226);
    client.control.command("PWD", 257);
}

#[test]
fn quit_lets_the_transfer_finish_and_comes_last() {
    let gate = Gate::new();
    let steps = [
        reply("150 in two halves"),
        Step::OpenData,
        Step::Send(b"half".to_vec()),
        Step::Wait(gate.clone()),
        Step::Send(b"half".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    let stage = Stage::new(Script::new().on("RETR", steps));
    let mut client = stage.session();
    let mut data = client.begin("RETR file");
    data.read_exact(&mut [0; 4]).expect("the half comes");
    client.control.send("QUIT");
    gate.open();
    assert_eq!(client.finish_download(data), b"half");
    client.control.expect(221);
    assert_eq!(client.control.end(), (Vec::new(), End::CloseNotify));
    stage.backend.wait_for_command("QUIT");
}

#[test]
fn a_lost_control_connection_resets_both_data_connections() {
    let stage = Stage::new(Script::new());
    for (count, end) in [End::CloseNotify, End::Fin, End::Reset]
        .into_iter()
        .enumerate()
    {
        let mut client = stage.session();
        let mut data = client.begin("STOR file");
        data.write_all(&[b'x'; 100_000]).expect("the proxy reads");
        client.control.close(end);
        assert_eq!(data.read_to_end().1, End::Reset, "{end:?}");
        let upload = stage.backend.wait_for_upload(count + 1);
        assert_eq!(upload.end, End::Reset, "{end:?}");
        stage.backend.wait_for_end(count + 1);
    }
}

/// What a killed client's kernel does to its connections, in this order.
#[derive(Debug, Clone, Copy)]
enum Killed {
    ControlFirst,
    DataFirst,
}

#[test]
fn a_client_killed_in_a_plain_upload_leaves_no_whole_file_whatever_it_has_sent_behind_it() {
    let commands = "CWD somewhere\r\n".repeat(40);
    let stage = Stage::new(Script::new());
    let mut uploads = 0;
    for behind in ["", "QUIT\r\n", &commands, "QUIT\r\nPWD\r\n"] {
        for killed in [Killed::ControlFirst, Killed::DataFirst] {
            let mut control = stage.clear_session();
            let mut data = open_data(control.epsv());
            control.send_bytes(format!("STOR file\r\n{behind}").as_bytes());
            control.expect(150);
            data.write_all(b"half").expect("the proxy reads");
            let end_control = || control.wire().socket().shutdown(Shutdown::Write);
            let ended = stage.proxy.stopped(|| match killed {
                Killed::ControlFirst => end_control().and_then(|()| data.fin()),
                Killed::DataFirst => data.fin().and_then(|()| end_control()),
            });
            ended.expect("the proxy is there");
            uploads += 1;
            let upload = stage.backend.wait_for_upload(uploads);
            assert_eq!(upload.end, End::Reset, "{behind:?} {killed:?}");
            stage.backend.wait_for_end(uploads);
        }
    }
}

#[test]
fn a_plain_upload_with_quit_behind_it_is_whole_where_the_client_waits_for_its_replies() {
    let stage = Stage::new(Script::new());
    let mut control = stage.clear_session();
    let mut data = open_data(control.epsv());
    control.send_bytes(b"STOR file\r\nQUIT\r\n");
    control.expect(150);
    data.write_all(b"whole").expect("the proxy reads");
    data.end(End::Fin).expect("the proxy is there");
    control.expect(226);
    control.expect(221);
    let upload = stage.backend.wait_for_upload(1);
    assert_eq!((&upload.content[..], upload.end), (&b"whole"[..], End::Fin));
}

#[test]
fn abor_behind_many_commands_aborts_an_upload_that_looks_whole() {
    let stage = Stage::new(Script::new());
    let mut control = stage.clear_session();
    let mut data = open_data(control.epsv());
    control.command("STOR file", 150);
    control.send_bytes(b"CWD somewhere\r\n".repeat(20).as_slice());
    data.write_all(b"half").expect("the proxy reads");
    stage.proxy.stopped(|| {
        control.send("ABOR");
        data.fin().expect("the proxy is there");
    });
    control.expect(426);
    control.expect(226);
    for _ in 0..20 {
        control.expect(250);
    }
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
}

#[test]
fn abor_counts_before_the_close_notify_that_comes_with_it() {
    let stage = Stage::new(Script::new());
    let mut client = stage.session();
    let mut data = client.begin("STOR file");
    let before = b"CWD somewhere\r\n".repeat(20);
    client.control.send_bytes(&before);
    data.write_all(b"half").expect("the proxy reads");
    stage.proxy.stopped(|| {
        client.control.send("ABOR");
        data.finish().expect("the proxy is there");
    });
    client.control.expect(426);
    client.control.expect(226);
    for _ in 0..20 {
        client.control.expect(250);
    }
    assert_eq!(stage.backend.wait_for_upload(1).end, End::Reset);
    client.control.command("PWD", 257);
}

#[test]
fn a_backend_lost_in_a_transfer_resets_the_clients_data_connection() {
    for end in [End::Fin, End::Reset] {
        let gate = Gate::new();
        let steps = [
            reply("150 half of it"),
            Step::OpenData,
            Step::Send(b"half".to_vec()),
            Step::Wait(gate.clone()),
            Step::End(end),
        ];
        let stage = Stage::new(Script::new().on("RETR", steps));
        let mut client = stage.session();
        let mut data = client.begin("RETR file");
        data.read_exact(&mut [0; 4]).expect("the half comes");
        gate.open();
        assert_eq!(data.read_to_end(), (Vec::new(), End::Reset), "{end:?}");
        client.control.expect(421);
        assert_eq!(client.control.end(), (Vec::new(), End::CloseNotify));
    }
}
