//! ClientHellos as clients send them: with server names that are none, and with a limit to how long records may be. OpenSSL's
//! command line sends both.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use testkit::content;
use testkit::front::Front;
use testkit::programs::program;
use testkit::script::Script;

use crate::stage::Stage;

/// OpenSSL's command line as a client: gives what it received, and its messages and records.
fn s_client(front: &Front, to: SocketAddr, options: &[&str], input: &[u8]) -> (Vec<u8>, String) {
    let messages = front.directory().join("messages");
    let mut client = Command::new(program("openssl"))
        .args(["s_client", "-connect", &to.to_string(), "-CAfile"])
        .arg(front.ca())
        .args([
            "-verify_return_error",
            "-quiet",
            "-tlsextdebug",
            "-msg",
            "-msgfile",
        ])
        .arg(&messages)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut stdin = client.stdin.take().expect("it is piped");
    stdin.write_all(input).expect("openssl reads");
    drop(stdin);
    let output = client.wait_with_output().expect("openssl ends");
    (output.stdout, read_text(&messages))
}

fn read_text(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

/// The lengths of the records that came, as `-msg` shows their headers.
fn lengths_of_records(messages: &str) -> Vec<usize> {
    let mut lines = messages.lines();
    let mut lengths = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("<<<") && line.contains("RecordHeader") {
            let header = lines.next().unwrap_or_default();
            let bytes: Vec<usize> = header
                .split_whitespace()
                .filter_map(|byte| usize::from_str_radix(byte, 16).ok())
                .collect();
            let [_, _, _, high, low] = bytes[..] else {
                panic!("no header: {header:?}")
            };
            lengths.push(high * 256 + low);
        }
    }
    lengths
}

#[test]
fn a_server_name_that_is_none_is_ignored() {
    let front = Front::new(&[]);
    let stage = Stage::new(Script::new());
    for version in ["-tls1_2", "-tls1_3"] {
        for name in [
            "ftp.example.com:990",
            "[::1]",
            "a name",
            "-",
            "ftps://ftp.example.com/",
            "m\u{fc}nchen.example",
            "127.0.0.1",
            "under_score.example.com.",
        ] {
            let options = [version, "-servername", name];
            let (said, _) = s_client(&stage.front, stage.proxy.implicit(), &options, b"QUIT\r\n");
            let said = String::from_utf8_lossy(&said);
            assert!(said.starts_with("220 "), "{version} {name}: {said}");
            assert!(said.contains("\n221 "), "{version} {name}: {said}");
        }
    }
    drop(front);
}

#[test]
fn a_client_that_has_room_for_short_records_gets_no_others() {
    let file = content::bytes(1, 100_000);
    let stage = Stage::new(Script::new().file("file", file.clone()));
    // What encryption adds to a record.
    const ADDED: usize = 64;
    for (version, option, longest) in [
        ("-tls1_2", "512", 512),
        ("-tls1_2", "4096", 4096),
        ("-tls1_3", "512", 512),
    ] {
        let options = [version, "-maxfraglen", option];
        let quit = b"QUIT\r\n";
        let (said, messages) = s_client(&stage.front, stage.proxy.implicit(), &options, quit);
        assert!(
            String::from_utf8_lossy(&said).contains("\n221 "),
            "{options:?}"
        );
        let lengths = lengths_of_records(&messages);
        assert!(lengths.len() > 2, "{messages}");
        let first = lengths.into_iter().max().unwrap();
        assert!(first <= longest + ADDED, "{options:?}: {first}");

        let mut control = stage.session().control;
        let data = control.epsv();
        control.send("RETR file");
        let (received, messages) = s_client(&stage.front, data, &options, b"");
        control.expect(150);
        control.expect(226);
        assert_eq!(received, file, "{options:?}");
        let longest_one = lengths_of_records(&messages).into_iter().max().unwrap();
        assert!(longest_one <= longest + ADDED, "{options:?}: {longest_one}");

        let data = control.epsv();
        control.send("STOR new");
        let options = [&options[..], &["-no_ign_eof"]].concat();
        s_client(&stage.front, data, &options, &file);
        control.expect(150);
        control.expect(226);
        assert_eq!(stage.backend.file("new"), Some(file.clone()), "{options:?}");
    }
}

#[test]
fn max_fragment_length_is_answered_on_both_connections_and_when_they_resume() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let session = stage.front.directory().join("tls-session");
    let session = session.to_str().expect("it is");
    let mut client = Command::new(program("openssl"))
        .args(["s_client", "-connect", &stage.proxy.implicit().to_string()])
        .args(["-tls1_2", "-maxfraglen", "1024", "-tlsextdebug", "-ign_eof"])
        .args(["-sess_out", session, "-CAfile"])
        .arg(stage.front.ca())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let mut commands = client.stdin.take().expect("it is piped");
    let mut said = client.stdout.take().expect("it is piped");
    let mut seen = String::new();
    let mut until = |what: &str| {
        let mut chunk = [0; 4096];
        while !seen.contains(what) {
            let count = said.read(&mut chunk).expect("openssl speaks");
            assert_ne!(count, 0, "{what} is missing: {seen}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        seen.clone()
    };
    let answer = "TLS server extension \"max fragment length\"";
    assert!(until("220 ").contains(answer));
    for (command, answered) in [
        ("USER alice", "331 "),
        ("PASS secret", "230 "),
        ("EPSV", "229 "),
    ] {
        commands
            .write_all(format!("{command}\r\n").as_bytes())
            .expect("openssl reads");
        until(answered);
    }
    let port = until("|)")
        .split("(|||")
        .nth(1)
        .unwrap()
        .split('|')
        .next()
        .unwrap()
        .to_owned();
    commands.write_all(b"RETR file\r\n").expect("openssl reads");
    let to = format!("{}:{port}", stage.proxy.implicit().ip());
    let data = Command::new(program("openssl"))
        .args([
            "s_client",
            "-connect",
            &to,
            "-tls1_2",
            "-maxfraglen",
            "1024",
        ])
        .args(["-tlsextdebug", "-ign_eof", "-sess_in", session])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("openssl runs");
    let data = String::from_utf8_lossy(&data.stdout).into_owned();
    assert!(data.contains(answer), "{data}");
    assert!(data.contains("Reused, TLSv1.2"), "{data}");
    assert!(data.contains("content"), "{data}");
    until("226 ");
    commands.write_all(b"QUIT\r\n").expect("openssl reads");
    until("221 ");
    client.wait().expect("openssl ends");
}
