//! Clients as they are: what small devices, old programs and misled ones send, and what they are told.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::version::{TLS12, TLS13};
use testkit::content;
use testkit::front::Client;
use testkit::proxy::LogLine;
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Script, Step, reply};
use testkit::wire::{End, Wire};

use crate::stage::Stage;

/// Without TCP_NODELAY, as most programs that aren't made for speed.
fn with_nagle(data: &Wire) {
    let socket = data.socket();
    socket.set_nodelay(false).expect("the socket is open");
}

#[test]
fn small_uploads_of_clients_with_nagles_algorithm_wait_for_no_delayed_acknowledgement() {
    let stage = Stage::new(Script::new());
    for version in [&TLS12, &TLS13] {
        let tls = stage.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        let mut client = Client { control, tls };
        let mut took: Vec<Duration> = (0..15)
            .map(|_| {
                let mut data = open_data(client.control.epsv());
                with_nagle(&data);
                client.control.command("STOR new", 150);
                protect(&mut data, &client.tls).expect("a handshake");
                let began = Instant::now();
                data.write_all(&[b'x'; 1500]).expect("the proxy reads");
                client.finish_upload(data);
                began.elapsed()
            })
            .collect();
        took.sort();
        // Half of them may have had other reasons to wait; the kernel's delay is 40 ms at least.
        let median = took[took.len() / 2];
        assert!(median < Duration::from_millis(35), "{version:?}: {took:?}");
    }
}

#[test]
fn clear_text_on_a_data_connection_under_prot_p_is_told_at_once_and_in_words() {
    let stage = Stage::new(Script::new());
    let mut client = stage.session();
    for (number, passive) in [true, false].into_iter().enumerate() {
        let (mut data, listener) = if passive {
            (Some(open_data(client.control.epsv())), None)
        } else {
            (None, Some(client.control.eprt()))
        };
        client.control.command("STOR new", 150);
        if let Some(listener) = listener {
            data = Some(Wire::new(listener.accept().expect("the proxy connects").0));
        }
        let mut data = data.expect("one way or the other");
        data.write_all(b"hello\r\n").expect("the proxy reads");
        let text = client.control.expect(522);
        assert_eq!(
            text,
            "522 Clear text on the data connection, but PROT P is in force."
        );
        assert_eq!(data.read_to_end().1, End::Reset);
        assert_eq!(stage.backend.wait_for_upload(number + 1).end, End::Reset);
        client.control.command("PWD", 257);
    }
    let ended = |line: &LogLine| line.message() == "transfer not complete";
    for line in stage.proxy.wait_for_logs(2, ended) {
        let reason = line.field("reason").expect("there is one");
        assert!(reason.contains("clear text"), "{reason}");
    }
}

#[test]
fn a_client_that_knows_nothing_of_prot_is_not_waited_for_as_long_as_one_that_has_asked_for_it() {
    // A handshake may take longer than any test.
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.timeout("tls_handshake", "10m")
    });
    let mut client = stage.front.implicit(&stage.proxy);
    client.login("alice", "secret");
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    // It waits for its file in clear text.
    let text = client.expect(522);
    assert_eq!(
        text,
        "522 No TLS handshake on the data connection, but PROT P is in force."
    );
    assert_eq!(data.read_to_end().1, End::Reset);
    let ended = |line: &LogLine| line.message() == "transfer not complete";
    let reason = stage.proxy.wait_for_log(ended).field("reason").unwrap();
    assert!(reason.contains("clear text"), "{reason}");
}

#[test]
fn where_a_data_connection_from_elsewhere_came_the_log_says_from_where() {
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.timeout("data_connect", "1s")
    });
    let mut client = stage.session();
    let elsewhere = "127.9.8.7".parse().expect("it is one");
    // An upload's command goes no further without its connection.
    for (transfer, command) in ["RETR file", "STOR new"].into_iter().enumerate() {
        let fails = |client: &mut Client| {
            if command.starts_with("RETR") {
                client.control.command(command, 150);
                client.control.expect(425)
            } else {
                client.control.command(command, 425)
            }
        };
        let address = client.control.epsv();
        // The reset may be quicker than the end of connect(2).
        if let Ok(mut data) = Wire::try_connect_from(elsewhere, address) {
            assert_eq!(data.read_to_end().1, End::Reset);
        }
        assert_eq!(
            fails(&mut client),
            "425 Can't open data connection: none came from your address."
        );
        let ended = |line: &LogLine| line.message() == "transfer not complete";
        let lines = stage.proxy.wait_for_logs(transfer * 2 + 1, ended);
        let reason = lines[transfer * 2].field("reason").unwrap();
        assert!(reason.contains("127.9.8.7"), "{command}: {reason}");
        // The next transfer's line does not.
        client.control.epsv();
        fails(&mut client);
        let lines = stage.proxy.wait_for_logs(transfer * 2 + 2, ended);
        let reason = lines[transfer * 2 + 1].field("reason").unwrap();
        assert_eq!(reason, "client opened no data connection", "{command}");
    }
}

#[test]
fn every_refusal_of_a_data_port_or_a_transfer_is_in_the_log_with_its_reason() {
    let script = Script::new()
        .on("EPSV", [reply("502 no")])
        .on("PASV", [reply("502 no")])
        .on("PORT", [reply("425 no port left")]);
    let stage = Stage::with(script, |config| config.set("active_mode", "false"));
    let mut client = stage.session().control;
    for (line, code) in [
        ("RETR file", 425),
        ("PORT 127,0,0,1,200,200", 502),
        ("EPRT |9|x|1|", 502),
        ("EPSV 2", 522),
        ("EPSV 9", 501),
    ] {
        let text = client.command(line, code);
        let (command, argument) = line.split_once(' ').unwrap();
        let line = stage.proxy.wait_for_log(|line| {
            line.message() == "command refused"
                && line.field("reply").as_deref() == Some(&text)
                && line.field("command").as_deref() == Some(command)
        });
        assert_eq!(line.field("argument").as_deref(), Some(argument));
    }
    client.command("EPSV", 425);
    let line = stage
        .proxy
        .wait_for_log(|line| line.message() == "backend opened no data port");
    assert_eq!(line.field("reply").as_deref(), Some("425 no port left"));
}

#[test]
fn the_other_spelling_of_pasv_gets_a_data_port() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.clear_session();
    let text = client.command("P@SW", 227);
    assert!(text.contains("127,"), "{text}");
    // No server has to know it.
    let commands = stage.backend.commands();
    assert!(!commands.contains(&"P@SW".to_owned()), "{commands:?}");
}

#[test]
fn a_handshake_may_come_before_the_transfer_command() {
    let file = content::bytes(2, 300_000);
    for (version, reuse) in [
        (&TLS12, "prefer"),
        (&TLS13, "prefer"),
        (&TLS13, "require"),
        (&TLS12, "off"),
    ] {
        let script = Script::new().file("file", file.clone());
        let stage = Stage::with(script, |config| config.tls("session_reuse", reuse));
        let tls = stage.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        let mut client = Client { control, tls };
        let early = |client: &mut Client| {
            let mut data = open_data(client.control.epsv());
            protect(&mut data, &client.tls).expect("a handshake before the command");
            assert_eq!(data.resumed(), reuse != "off");
            data
        };
        // rustls uses each ticket once, and had four of the control connection: downloads bring new ones.
        for _ in 0..6 {
            let data = early(&mut client);
            client.control.command("RETR file", 150);
            assert!(client.finish_download(data) == file, "{version:?} {reuse}");
        }

        let mut data = early(&mut client);
        client.control.command("STOR new", 150);
        data.write_all(&file).expect("the proxy reads");
        client.finish_upload(data);
        assert!(stage.backend.file("new").as_ref() == Some(&file));

        // What is cut off is no file, whenever its handshake was.
        let uploads = stage.backend.uploads();
        let mut data = early(&mut client);
        client.control.command("STOR cut", 150);
        data.write_all(&file).expect("the proxy reads");
        data.end(End::Fin).expect("the proxy is there");
        client.control.expect(426);
        assert_eq!(stage.backend.wait_for_upload(uploads + 1).end, End::Reset);

        // Who leaves again leaves nothing behind. Uploads bring no tickets, and one more would be one too many.
        if reuse != "require" {
            drop(early(&mut client));
        }
        client.upload("next", b"content");
        assert_eq!(client.download("file"), file);
    }
}

#[test]
fn where_close_notify_is_optional_an_upload_cut_within_a_record_is_none_however_early_its_handshake()
 {
    let stage = Stage::with(Script::new(), |config| {
        config.tls("close_notify", "optional")
    });
    for version in [&TLS12, &TLS13] {
        let tls = stage.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        for (is_early, cut, code) in [
            (true, 0, 226),
            (true, 1, 426),
            (true, 5_000, 426),
            (false, 0, 226),
            (false, 1, 426),
        ] {
            let mut socket = TcpStream::connect(control.epsv()).expect("a data port");
            let mut connection = tls.connection();
            if is_early {
                handshake(&mut socket, &mut connection);
                control.command("STOR new", 150);
            } else {
                control.command("STOR new", 150);
                handshake(&mut socket, &mut connection);
            }
            let mut records = Vec::new();
            connection
                .writer()
                .write_all(&[7; 30_000])
                .expect("it has room");
            while connection.wants_write() {
                connection.write_tls(&mut records).expect("memory");
            }
            let sent = &records[..records.len() - cut];
            socket.write_all(sent).expect("the proxy reads");
            socket.shutdown(Shutdown::Write).expect("it is open");
            let reply = control.reply();
            assert_eq!(reply.code, code, "{version:?} {is_early} {cut}: {reply:?}");
        }
    }
}

fn handshake(socket: &mut TcpStream, connection: &mut ClientConnection) {
    while connection.is_handshaking() {
        connection.complete_io(socket).expect("a handshake");
    }
}

/// Until the only data connection has been read, and assigned to its lease.
fn wait_until_it_is_read(stage: &Stage) {
    let leases = "portcullis_passive_ports_in_use";
    stage.proxy.wait_for_metric(leases, |leases| leases == 0.0);
}

#[test]
fn a_hello_that_has_come_is_answered_before_the_command_of_an_upload_goes_out() {
    // basic-ftp on Node.js ends an empty file without close_notify if its 150 comes in the middle of its handshake.
    for version in [&TLS12, &TLS13] {
        let stage = Stage::new(Script::new());
        let tls = stage.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        let data = open_data(control.epsv());
        let mut hello = Vec::new();
        let mut connection = tls.connection();
        connection.write_tls(&mut hello).expect("a Vec takes it");
        let mut socket = data.socket();
        socket.write_all(&hello).expect("it is connected");
        wait_until_it_is_read(&stage);
        control.send("STOR new");
        stage.backend.wait_for_command("STOR new");
        socket.set_nonblocking(true).expect("it is open");
        let answered = socket.peek(&mut [0]).expect("the answer is there");
        assert_eq!(answered, 1, "{version:?}");
    }
}

#[test]
fn a_connection_that_is_reset_before_the_command_costs_no_file_where_proof_is_demanded() {
    for version in [&TLS12, &TLS13] {
        let stage = Stage::with(Script::new(), |config| {
            config.tls("session_reuse", "require")
        });
        let tls = stage.front.tls_of(version);
        let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
        control.login("alice", "secret");
        control.protect_data();
        let mut data = open_data(control.epsv());
        let mut hello = Vec::new();
        let mut connection = tls.connection();
        connection.write_tls(&mut hello).expect("a Vec takes it");
        data.send_below_tls(&hello).expect("it is connected");
        wait_until_it_is_read(&stage);
        data.reset();
        control.send("STOR precious");
        control.expect(522);
        let commands = stage.backend.commands();
        assert!(
            !commands.contains(&"STOR precious".to_owned()),
            "{commands:?}"
        );
    }
}

#[test]
fn a_stray_connection_before_the_command_costs_no_file() {
    let stage = Stage::new(Script::new());
    let tls = stage.front.tls_of(&TLS13).without_resumption();
    let mut control = Raw::connect_auth_tls(stage.proxy.explicit(), &tls);
    control.login("alice", "secret");
    control.protect_data();
    let port = control.epsv();
    let mut data = open_data(port);
    protect(&mut data, &tls).expect("a handshake before the command");
    // It may be reset before it knows that it is connected.
    let client = IpAddr::from(Ipv4Addr::LOCALHOST);
    if let Ok(mut stray) = Wire::try_connect_from(client, port) {
        let (_, end) = stray.read_to_end();
        assert_eq!(end, End::Reset, "nothing tells it from the client's");
    }
    control.send("STOR precious");
    control.expect(426);
    let commands = stage.backend.commands();
    assert!(
        !commands.contains(&"STOR precious".to_owned()),
        "{commands:?}"
    );
}

#[test]
fn a_handshake_before_the_command_that_proves_nothing_is_told_where_proof_is_demanded() {
    let script = Script::new().file("file", "content");
    let stage = Stage::with(script, |config| config.tls("session_reuse", "require"));
    let mut client = stage.session();
    let stranger = client.tls.without_resumption();
    let mut data = open_data(client.control.epsv());
    // Reset at the door, before or in its handshake.
    let _ = protect(&mut data, &stranger);
    client.control.command("RETR file", 150);
    let text = client.control.expect(522);
    assert!(text.contains("has to resume"), "{text}");
    assert_eq!(client.download("file"), b"content");
}

#[test]
fn a_handshake_before_an_upload_in_clear_text_costs_no_file() {
    let stage = Stage::new(Script::new().file("file", "precious"));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    protect(&mut data, &client.tls).expect("a handshake before the command");
    client.control.command("PROT C", 200);
    client.control.command("STOR file", 426);
    assert_eq!(data.read_to_end().1, End::Reset);
    let commands = stage.backend.commands();
    assert!(!commands.contains(&"STOR file".to_owned()), "{commands:?}");
}

#[test]
fn a_handshake_before_a_download_in_clear_text_is_told_so_and_counts_as_none() {
    let aborted = [
        reply("150 here it comes"),
        Step::AwaitCommand,
        reply("426 aborted"),
    ];
    let stage = Stage::new(Script::new().on("RETR", aborted));
    let mut client = stage.session();
    let mut data = open_data(client.control.epsv());
    protect(&mut data, &client.tls).expect("a handshake before the command");
    client.control.command("PROT C", 200);
    client.control.send("RETR file");
    let mut told = client.control.reply();
    // The failure may be there before the backend's 150.
    if told.code == 150 {
        told = client.control.reply();
    }
    assert_eq!(told.code, 426, "{}", told.text);
    let ended = |line: &LogLine| line.message() == "transfer not complete";
    let reason = stage.proxy.wait_for_log(ended).field("reason");
    let expected = "client began tls on a data connection in clear text";
    assert_eq!(reason.as_deref(), Some(expected));
    for kind in ["full", "resumed", "failed"] {
        let counted =
            format!("portcullis_data_tls_handshakes_total{{kind=\"{kind}\",leg=\"client\"}}");
        assert_eq!(stage.proxy.metric(&counted), 0.0, "{kind}");
    }
}

/// What a client sends to abort, in the order in which it does.
#[derive(Debug, Clone, Copy)]
enum Sent {
    InLine(&'static [u8]),
    Urgent(&'static [u8]),
}

#[test]
fn interrupt_and_synch_in_any_order_are_one_abor() {
    use Sent::{InLine, Urgent};
    for sent in [
        // BSD's ftp and Perl's Net::FTP.
        &[
            InLine(b"\xff\xf4"),
            Urgent(b"\xff\xf4\xff"),
            InLine(b"\xf2ABOR\r\n"),
        ][..],
        // The Synch first.
        &[
            InLine(b"\xff"),
            Urgent(b"\xf2"),
            InLine(b"\xff\xf4ABOR\r\n"),
        ],
        // All of it urgent.
        &[Urgent(b"\xff\xf4\xff\xf2ABOR\r\n")],
        // No Telnet at all, but a data mark whose IAC was lost on the way.
        &[InLine(b"\xf2ABOR\r\n")],
        // The interrupt in a line of its own.
        &[InLine(b"\xff\xf4\xff\xf2\r\nABOR\r\n")],
        &[InLine(b"ABOR\r\r\n")],
    ] {
        let steps = [
            reply("150 half of it"),
            Step::OpenData,
            Step::Send(b"half".to_vec()),
            Step::Receive,
            reply("426 cut"),
        ];
        let stage = Stage::new(Script::new().on("RETR", steps));
        let mut client = stage.clear_session();
        let mut data = open_data(client.epsv());
        client.command("RETR file", 150);
        data.read_exact(&mut [0; 4]).expect("the half comes");
        for part in sent {
            match part {
                InLine(bytes) => client.send_bytes(bytes),
                Urgent(bytes) => client.send_urgent(bytes),
            }
        }
        client.expect(426);
        client.expect(226);
        assert_eq!(data.read_to_end(), (Vec::new(), End::Reset), "{sent:?}");
        client.command("PWD", 257);
    }
}
