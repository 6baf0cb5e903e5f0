//! How uploads begin and end: when the server hears of them, and what counts as their end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustls::ClientConnection;
use rustls::version::TLS13;
use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::loopback::Loopback;
use testkit::poll::poll;
use testkit::proxy::Proxy;
use testkit::proxy_header::v1;
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Gate, Script, ScriptTls, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::{End, Wire};

use crate::program::Start;
use crate::stage::Stage;

/// Whether the backend has heard a command that begins like this.
fn heard(backend: &Backend, start: &str) -> bool {
    let commands = backend.commands();
    commands.iter().any(|line| line.starts_with(start))
}

#[test]
fn a_port_that_nobody_else_wants_waits_for_its_client_until_the_transfer_command() {
    let stage = Stage::with(Script::new(), |config| config.timeout("data_connect", "1s"));
    let mut slow = stage.session();
    let port = slow.control.epsv();
    // Of another address, so that it wants no turn at the port. It is told when the other's time would be over, too.
    let from = Loopback::claim();
    let mut clock = Raw::over(Wire::connect_from(from.ip(), stage.proxy.explicit()));
    clock.expect(220);
    clock.login("bob", "secret");
    clock.epsv();
    clock.command("STOR clock", 425);

    let mut data = open_data(port);
    slow.control.command("STOR slow", 150);
    protect(&mut data, &slow.tls).expect("a handshake");
    data.write_all(b"content").expect("the proxy reads");
    slow.finish_upload(data);
    assert_eq!(stage.backend.file("slow").as_deref(), Some(&b"content"[..]));
    assert!(!heard(&stage.backend, "STOR clock"));
}

#[test]
fn a_port_that_others_of_the_address_want_is_given_up_in_time() {
    let stage = Stage::with(Script::new(), |config| {
        config
            .timeout("data_connect", "1s")
            .timeout("data_port", "30s")
    });
    let mut idle = stage.clear_session();
    idle.epsv();
    // It waits for the port, and then has it.
    let mut other = stage.clear_session();
    let mut data = open_data(other.epsv());
    other.command("STOR other", 150);
    data.write_all(b"content").expect("the proxy reads");
    data.fin().expect("the proxy is there");
    other.expect(226);
    idle.command("STOR idle", 425);
    assert!(!heard(&stage.backend, "STOR idle"));
}

#[test]
fn a_client_that_connects_when_its_command_is_on_its_way_already_is_waited_for() {
    let stage = Stage::new(Script::new());
    let mut client = stage.session();
    let port = client.control.epsv();
    client.control.send("STOR file");
    poll(|| {
        let (_, transfers) = stage.proxy.get("/api/v1/transfers");
        let has_begun = transfers.contains("\"total\":1,");
        has_begun.then_some(()).ok_or(transfers)
    });
    assert!(!heard(&stage.backend, "STOR"));
    let mut data = open_data(port);
    client.control.expect(150);
    protect(&mut data, &client.tls).expect("a handshake");
    client.finish_upload(data);
}

#[test]
fn where_a_session_has_to_be_named_a_client_may_still_wait_for_the_150_to_name_it() {
    let stage = Stage::with(Script::new(), |config| {
        config.tls("session_reuse", "require")
    });
    let mut client = stage.session();
    for name in ["first", "second"] {
        client.upload(name, b"content");
        assert!(stage.backend.file(name).is_some());
    }
}

#[test]
fn a_client_that_is_turned_away_for_want_of_resumption_costs_no_file() {
    let stage = Stage::with(Script::new().file("file", "precious"), |config| {
        config.tls("session_reuse", "require")
    });
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    let stranger = client.tls.without_resumption();
    data.write_all(&stranger.hello()).expect("the proxy reads");
    assert_eq!(data.read_to_end().1, End::Reset);
    client.control.command("STOR file", 522);
    assert!(!heard(&stage.backend, "STOR"));
    assert_eq!(client.download("file"), b"precious");
}

#[test]
fn tls_on_a_data_connection_in_clear_text_is_never_a_file() {
    let stage = Stage::new(Script::new());
    let hello = stage.front.tls_of(&TLS13).hello();
    // Whole, and in two pieces; the first bytes alone prove nothing.
    for (name, pieces) in [
        ("whole", vec![&hello[..]]),
        ("halves", vec![&hello[..3], &hello[3..]]),
    ] {
        let mut client = stage.clear_session();
        let mut data = open_data(client.epsv());
        client.command(&format!("STOR {name}"), 150);
        for piece in pieces {
            data.write_all(piece).expect("the proxy reads");
        }
        let reply = client.expect(426);
        assert!(reply.contains("PROT P"), "{reply}");
        assert_eq!(data.read_to_end().1, End::Reset);
        let upload = stage.backend.wait_for_upload_by(&format!("STOR {name}"));
        assert_eq!((upload.content, upload.end), (Vec::new(), End::Reset));
    }
    let mut client = stage.clear_session();
    let mut data = open_data(client.epsv());
    client.command("STOR beginning", 150);
    data.write_all(&hello[..9]).expect("the proxy reads");
    data.fin().expect("the proxy is there");
    client.expect(226);
    assert_eq!(
        stage.backend.file("beginning").as_deref(),
        Some(&hello[..9])
    );
}

#[test]
fn tls_on_a_data_connection_in_clear_text_costs_no_file_where_it_comes_before_the_command() {
    let stage = Stage::new(Script::new().file("file", "precious"));
    let hello = stage.front.tls_of(&TLS13).hello();
    let mut client = stage.clear_session();
    let mut data = open_data(client.epsv());
    data.write_all(&hello).expect("the proxy reads");
    // The next word comes behind it.
    client.command("NOOP", 200);
    client.command("STOR file", 426);
    assert_eq!(data.read_to_end().1, End::Reset);
    assert!(!heard(&stage.backend, "STOR"));
    // The beginning of a file that is already there is no reason to wait, nor to lose it.
    let mut data = open_data(client.epsv());
    data.write_all(b"content").expect("the proxy reads");
    client.command("STOR file", 150);
    data.fin().expect("the proxy is there");
    client.expect(226);
    assert_eq!(stage.backend.file("file").as_deref(), Some(&b"content"[..]));
}

#[test]
fn prot_without_pbsz_protects_the_file() {
    let stage = Stage::new(Script::new());
    let tls = stage.front.tls(NAME);
    let mut client = stage.clear();
    client.auth_tls(&tls);
    client.login("alice", "secret");
    client.command("PROT P", 200);
    let mut data = open_data(client.epsv());
    client.command("STOR file", 150);
    protect(&mut data, &tls).expect("a handshake");
    data.write_all(b"content").expect("the proxy reads");
    data.end(End::CloseNotify).expect("the proxy is there");
    client.expect(226);
    assert_eq!(stage.backend.file("file").as_deref(), Some(&b"content"[..]));
}

/// What a client is told that ends an upload under TLS with FIN alone.
fn fin_alone(stage: &Stage) -> u16 {
    let mut client = stage.session();
    let mut data = client.begin("STOR file");
    data.write_all(b"content").expect("the proxy reads");
    data.fin().expect("the proxy is there");
    client.control.reply().code
}

#[test]
fn an_upload_may_end_without_close_notify_where_that_is_optional() {
    let of_all = Stage::with(Script::new(), |config| {
        config.tls("close_notify", "optional")
    });
    assert_eq!(fin_alone(&of_all), 226);
    assert_eq!(
        of_all.backend.file("file").as_deref(),
        Some(&b"content"[..])
    );
    let of_site = Stage::before(
        Script::new(),
        |site| site.set("close_notify", "optional"),
        |config| config,
    );
    assert_eq!(fin_alone(&of_site), 226);
    let of_others = Stage::before(
        Script::new(),
        |site| site.set("close_notify", "require"),
        |config| config.tls("close_notify", "optional"),
    );
    assert_eq!(fin_alone(&of_others), 426);

    // A killed client's kernel ends both connections so.
    let mut client = of_all.session();
    let mut data = client.begin("STOR killed");
    data.write_all(b"half").expect("the proxy reads");
    let ended = of_all.proxy.stopped(|| {
        data.fin()?;
        client.control.wire().socket().shutdown(Shutdown::Write)
    });
    ended.expect("the proxy is there");
    let upload = of_all.backend.wait_for_upload_by("STOR killed");
    assert_eq!(upload.end, End::Reset);
}

#[test]
fn a_client_may_close_all_at_once_behind_its_close_notify() {
    for control in [End::Fin, End::Reset] {
        let stage = Stage::new(Script::new());
        let mut client = stage.session();
        let mut data = client.begin("STOR file");
        data.write_all(&[b'x'; 200_000]).expect("the proxy reads");
        let ended = stage.proxy.stopped(|| data.finish());
        ended.expect("the proxy is there");
        client.control.close(control);
        let upload = stage.backend.wait_for_upload(1);
        assert_eq!((upload.content.len(), upload.end), (200_000, End::Fin));
        let line = stage
            .proxy
            .wait_for_log(|line| line.message() == "transfer complete");
        assert_eq!(line.field("path").as_deref(), Some("file"));
    }
}

#[test]
fn a_client_that_ends_its_side_behind_its_last_command_is_answered() {
    let gate = Gate::new();
    let slow = [Step::Wait(gate.clone()), reply("250 gone")];
    let stage = Stage::new(Script::new().on("DELE", slow));
    let mut client = stage.clear();
    client.send_bytes(b"USER alice\r\nPASS secret\r\nDELE a\r\nDELE b\r\n");
    client
        .wire()
        .socket()
        .shutdown(Shutdown::Write)
        .expect("the proxy is there");
    stage.backend.wait_for_command("DELE a");
    gate.open();
    let (said, end) = client.end();
    let said = String::from_utf8(said).expect("text");
    assert_eq!(said.matches("250 gone").count(), 2, "{said}");
    assert_eq!(end, End::Fin);
}

#[test]
fn a_backend_that_does_not_close_an_upload_is_believed_all_the_same() {
    let gate = Gate::new();
    let steps = [
        reply("150 go"),
        Step::OpenData,
        Step::Receive,
        reply("226 stored"),
        Step::Wait(gate.clone()),
    ];
    let stage = Stage::new(Script::new().on("STOR", steps));
    let mut client = stage.clear_session();
    let mut data = open_data(client.epsv());
    client.command("STOR file", 150);
    data.write_all(b"content").expect("the proxy reads");
    data.fin().expect("the proxy is there");
    client.expect(226);
    gate.open();
}

#[test]
fn under_tls_a_backends_reset_behind_the_end_proves_nothing() {
    let steps = [
        reply("150 go"),
        Step::OpenData,
        Step::Receive,
        Step::EndData(End::Reset),
        reply("226 stored"),
    ];
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS13))
        .on("STOR", steps);
    let stage = Stage::before(
        script,
        |site| {
            site.backend_tls("explicit", None)
                .backend("max_version", "\"1.3\"")
        },
        |config| config,
    );
    let mut client = stage.session();
    client.upload("file", b"content");
}

/// A data connection that a balancer at the other end of this makes for a client.
fn balanced(to: SocketAddr, client: SocketAddr) -> Wire {
    let mut wire = Wire::connect(to);
    wire.write_all(&v1(client, to)).expect("the proxy accepts");
    wire
}

#[test]
fn behind_a_balancer_an_upload_that_ends_after_a_standstill_is_not_complete() {
    let backend = Backend::start(Script::new());
    let front = Front::new(&[]);
    let config: Config = front.config().tls("required", "false");
    let site = Site::default("only", backend.address());
    let proxy = Proxy::start(config.proxy_protocol("127.0.0.0/8").site(&site));
    let address = "203.0.113.9:40000".parse().expect("an address");
    let mut client = Raw::over(balanced(proxy.explicit(), address));
    client.expect(220);
    client.login("alice", "secret");
    let long = Duration::from_millis(2_100);
    for (name, sent, standstill, code) in [
        ("prompt", &b"whole"[..], Duration::ZERO, 226),
        ("empty", b"", Duration::ZERO, 226),
        ("stalled", b"half", long, 426),
        ("begun", b"", long, 426),
    ] {
        let mut data = balanced(client.epsv(), address);
        client.command(&format!("STOR {name}"), 150);
        data.write_all(sent).expect("the proxy reads");
        thread::sleep(standstill);
        data.fin().expect("the proxy is there");
        client.expect(code);
    }
    for stalled in ["STOR stalled", "STOR begun"] {
        assert_eq!(backend.wait_for_upload_by(stalled).end, End::Reset);
    }
    let line = proxy.wait_for_log(|line| line.message() == "transfer not complete");
    let reason = line.field("reason").expect("a reason");
    assert!(reason.contains("load balancer"), "{reason}");
}

#[test]
fn what_arrived_in_time_counts_after_the_process_was_suspended() {
    let times = [("idle", "1s"), ("backend_reply", "1s"), ("data_idle", "1s")];
    let gate = Gate::new();
    let slow = [Step::Wait(gate.clone()), reply("200 done")];
    let stage = Stage::with(Script::new().on("SITE", slow), |config| {
        times
            .iter()
            .fold(config, |config, (key, time)| config.timeout(key, time))
    });
    let late = Duration::from_millis(1_500);

    let mut command = stage.clear_session();
    stage.proxy.stopped(|| {
        command.send("NOOP");
        thread::sleep(late);
    });
    command.expect(200);

    let mut answer = stage.clear_session();
    answer.send("SITE x");
    stage.backend.wait_for_command("SITE");
    stage.proxy.stopped(|| {
        gate.open();
        thread::sleep(late);
    });
    answer.expect(200);

    let mut upload = stage.clear_session();
    let mut data = open_data(upload.epsv());
    upload.command("STOR file", 150);
    data.write_all(b"x").expect("the proxy reads");
    let sent = stage.proxy.stopped(|| {
        let sent = data.write_all(b"y");
        thread::sleep(late);
        sent
    });
    sent.expect("the proxy is there");
    data.fin().expect("the proxy is there");
    upload.expect(226);
    assert_eq!(stage.backend.file("file").as_deref(), Some(&b"xy"[..]));
}

#[test]
fn a_transfer_in_clear_text_may_stand_still_before_its_150_as_long_as_a_reply_may_take() {
    let retr = [
        Step::Silence(Duration::from_secs(2)),
        reply("150 from tape"),
        Step::OpenData,
        Step::Send(b"content".to_vec()),
        Step::EndData(End::Fin),
        reply("226 done"),
    ];
    let stage = Stage::with(Script::new().on("RETR", retr), |config| {
        config
            .timeout("data_idle", "1s")
            .timeout("backend_reply", "20s")
    });
    let mut client = stage.clear_session();
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    let mut content = String::new();
    data.read_to_string(&mut content).expect("a whole file");
    assert_eq!(content, "content");
    client.expect(226);
}

/// The handshake of a data connection, after its ClientHello and all else that came of that.
fn rest_of_handshake(socket: &mut TcpStream, connection: &mut ClientConnection) -> io::Result<()> {
    while connection.is_handshaking() {
        connection.complete_io(socket)?;
    }
    Ok(())
}

/// A file, and its end.
fn rest_of_upload(socket: &mut TcpStream, connection: &mut ClientConnection) -> io::Result<()> {
    connection.writer().write_all(b"content")?;
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(socket)?;
    }
    socket.shutdown(Shutdown::Write)
}

#[test]
fn a_client_in_its_handshake_when_its_transfer_is_refused_can_finish_it_and_read_the_reply() {
    let script = Script::new()
        .on("STOR", [reply("553 Not that name")])
        .on("RETR", [reply("550 No such file")]);
    let stage = Stage::with(script, |config| config);
    let mut client = stage.session();
    for (command, code) in [("STOR x", 553), ("RETR x", 550)] {
        let mut socket = TcpStream::connect(client.control.epsv()).expect("a data port");
        let mut connection = client.tls.connection();
        connection.write_tls(&mut socket).expect("a ClientHello");
        // The answer is on its way, or with the client, and not read.
        client.control.command(command, code);
        rest_of_handshake(&mut socket, &mut connection).expect("no reset");
        // A download is reset then: its client may read the file before the reply, and is not to wait for the end.
        if code == 553 {
            rest_of_upload(&mut socket, &mut connection).expect("no reset");
        }
    }
    // The port is free for the next.
    let mut data = open_data(client.control.epsv());
    client.control.command("NLST", 150);
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(data.read_to_end().1, End::CloseNotify);
    client.control.expect(226);
}

#[test]
fn a_client_that_fails_in_its_handshake_when_its_transfer_is_refused_gets_the_reply() {
    for command in ["STOR x", "RETR x"] {
        let (refused, sent) = (Gate::new(), Gate::new());
        let steps = [
            Step::Wait(refused.clone()),
            reply("550 No"),
            Step::Open(sent.clone()),
        ];
        let verb = command.split(' ').next().expect("a verb");
        let stage = Stage::with(Script::new().on(verb, steps), |config| config);
        let mut client = stage.session();
        let mut socket = TcpStream::connect(client.control.epsv()).expect("a data port");
        let mut connection = client.tls.connection();
        connection.write_tls(&mut socket).expect("a ClientHello");
        client.control.send(command);
        // So that the handshake has begun, which the answer to the ClientHello shows.
        connection.read_tls(&mut socket).expect("a ServerHello");
        stage.backend.wait_for_command(command);
        stage.proxy.stopped(|| {
            drop(socket);
            refused.open();
            assert!(sent.wait());
        });
        client.control.expect(550);
        client.control.command("NOOP", 200);
    }
}

#[test]
fn a_client_whose_connection_comes_behind_the_refusal_of_its_transfer_is_not_reset() {
    let script = Script::new().on("RETR", [reply("550 No such file")]);
    let stage = Stage::with(script, |config| config);
    let mut client = stage.session();
    let port = client.control.epsv();
    client.control.command("RETR x", 550);
    // As one that the proxy had not accepted yet.
    let mut data = open_data(port);
    protect(&mut data, &client.tls).expect("a handshake");
    drop(data);
    // The port is free for the next.
    let mut data = open_data(client.control.epsv());
    client.control.command("NLST", 150);
    protect(&mut data, &client.tls).expect("a handshake");
    assert_eq!(data.read_to_end().1, End::CloseNotify);
    client.control.expect(226);
}

#[test]
fn a_client_that_goes_on_with_a_refused_upload_is_stopped() {
    let script = Script::new().on("STOR", [reply("553 Not that name")]);
    let stage = Stage::with(script, |config| config);
    let mut control = stage.clear_session();
    let mut data = open_data(control.epsv());
    control.command("STOR x", 553);
    let piece = vec![0; 64 * 1024];
    // Far more than what the proxy and the kernels on both sides take.
    let sent = (0..4096).take_while(|_| data.write_all(&piece).is_ok());
    assert!(sent.count() < 4096, "256 MiB were taken");
}
