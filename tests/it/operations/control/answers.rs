//! What the commands ask, and what they make of answers: before a socket that answers as the test says.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::thread::JoinHandle;

use serde_yaml::Value;
use tempfile::TempDir;
use testkit::DEADLINE;
use testkit::process::{send_signal, wait};

use super::{run, stderr, stdout};
use crate::program;

/// A socket that answers one request after the other.
struct Scripted {
    path: PathBuf,
    requests: Option<JoinHandle<Vec<String>>>,
    /// Behind the last answer connections are taken, and wait.
    _listener: UnixListener,
    /// Where the socket is.
    _directory: TempDir,
}

impl Scripted {
    /// Answers the first connection with the first of these, and so on, whatever is asked.
    fn new(answers: Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        let accepting = listener.try_clone().expect("a descriptor");
        let answering = move || {
            let answers = answers.into_iter();
            answers
                .map(|answer| exchange(&accepting, &answer))
                .collect()
        };
        Self {
            path,
            requests: Some(std::thread::spawn(answering)),
            _listener: listener,
            _directory: directory,
        }
    }

    /// Runs a command that asks here.
    fn run(&self, arguments: &[&str]) -> Output {
        run(arguments, &self.path)
    }

    /// What was asked, once everything was answered: method and target.
    fn requests(mut self) -> Vec<String> {
        let requests = self.requests.take().expect("they are taken once");
        requests.join().expect("the socket answers")
    }
}

/// Takes one request and answers it: the request's method and target.
fn exchange(listener: &UnixListener, answer: &str) -> String {
    let (stream, _) = listener.accept().expect("a connection");
    let deadline = Some(DEADLINE);
    stream.set_read_timeout(deadline).expect("it isn't zero");
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().expect("a request").expect("it is text");
    let rest = lines.map(|line| line.expect("it is text"));
    // The head ends with an empty line.
    let _ = rest.take_while(|line| !line.is_empty()).count();
    // A command that has read enough hangs up.
    let _ = (&stream).write_all(answer.as_bytes());
    let words: Vec<&str> = first.split(' ').collect();
    words[..2].join(" ")
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn ok(body: &str) -> String {
    http("200 OK", body)
}

const SESSION: &str = r#"{"id":7,"client":"192.0.2.7:50412","listener":"0.0.0.0:21","since":"2026-11-30T12:00:00Z","seconds":200.5,"state":"transfer","tls":"1.3","site":"ftpb","group":null,"user":"al\u001bice","logged_in":true,"backend":"10.0.0.11:21","backend_tls":null,"transfer":null}"#;

fn transfers(bytes: u64, seconds: f64) -> String {
    ok(&format!(
        r#"{{"version":1,"total":1,"transfers":[{{"session":7,"client":"192.0.2.7:50412","site":"ftpb","user":"alice","backend":"10.0.0.11:21","command":"RETR","path":"/a.bin","direction":"download","bytes":{bytes},"size":10485760,"since":"2026-11-30T12:00:00Z","seconds":{seconds},"bytes_per_second":1024.0}}]}}"#
    ))
}

#[test]
fn a_list_is_a_table_or_an_object_a_line() {
    let sessions = ok(&format!(
        r#"{{"version":1,"total":2,"sessions":[{SESSION},{SESSION}]}}"#
    ));
    let socket = Scripted::new(vec![sessions.clone(), sessions]);
    let table = stdout(&socket.run(&["sessions"]));
    assert_eq!(
        table.lines().next_back(),
        Some(" 7  192.0.2.7  ftpb  al?ice  10.0.0.11:21  transfer  3m20s")
    );
    let filter = [
        "--site",
        "ftpb",
        "--client",
        "192.0.2.0/24",
        "--user",
        "a b",
        "--backend",
        "a",
    ];
    let json = stdout(&socket.run(&[&["sessions", "--format", "json"][..], &filter].concat()));
    assert_eq!(json, format!("{SESSION}\n{SESSION}\n"));
    assert_eq!(
        socket.requests(),
        [
            "GET /api/v1/sessions?limit=10000",
            "GET /api/v1/sessions?limit=10000&site=ftpb&client=192.0.2.0%2F24&user=a+b&backend=a",
        ]
    );
}

#[test]
fn the_status_asks_for_all_that_may_need_attention() {
    let list = |name| ok(&format!(r#"{{"version":1,"total":0,"{name}":[]}}"#));
    let config = ok(
        r#"{"version":1,"config":{"version":"9.9.9","config":"p.yaml","started":"2026-11-30T12:00:00Z","uptime_seconds":61,"readiness":"draining","sessions":1,"max_sessions":10,"transfers":0,"listeners":[],"passive_ports":1,"reloads":[],"added":"later"}}"#,
    );
    let socket = Scripted::new(vec![
        config,
        ok(
            r#"{"version":1,"total":1,"attention":[{"severity":"note","what":"It drains","reason":null,"remedy":"Wait."}]}"#,
        ),
        list("certificates"),
        list("sites"),
        list("backends"),
    ]);
    let text = stdout(&socket.run(&["status"]));
    assert!(
        text.starts_with(
            "portcullis 9.9.9, draining, up for 1m01s\n\nneeds attention:\n  note: It drains\n    Wait.\n\n"
        ),
        "{text}"
    );
    assert_eq!(
        socket.requests(),
        [
            "GET /api/v1/config",
            "GET /api/v1/attention?limit=10000",
            "GET /api/v1/certificates?limit=10000",
            "GET /api/v1/sites?limit=10000",
            "GET /api/v1/backends?limit=10000",
        ]
    );
}

#[test]
fn watching_shows_round_after_round_until_it_is_interrupted() {
    let rounds = vec![transfers(1 << 20, 10.0), transfers(5 << 20, 12.0)];
    let socket = Scripted::new(rounds);
    let mut child = program::command()
        .args(["transfers", "--watch", "--socket"])
        .arg(&socket.path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo built it");
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let mut next = || lines.next().expect("a line").expect("it is text");
    assert!(next().starts_with("ID  CLIENT "));
    assert!(next().ends_with("1.0 MiB   10%  1.0 KiB/s  2h33m"));
    assert_eq!(next(), "");
    assert!(next().starts_with("ID  CLIENT "));
    assert!(next().ends_with("5.0 MiB   50%  2.0 MiB/s    2s"));
    send_signal("INT", &child.id().to_string());
    let status = wait(&mut child, DEADLINE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn watching_as_json_is_an_object_a_round() {
    let socket = Scripted::new(vec![transfers(1, 1.0), transfers(2, 2.0)]);
    let mut child = program::command()
        .args(["transfers", "--watch", "--format", "json", "--socket"])
        .arg(&socket.path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo built it");
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    for bytes in 1..=2 {
        let line = lines.next().expect("a line").expect("it is text");
        // JSON is YAML, too.
        let round: Value = serde_yaml::from_str(&line).expect("JSON");
        assert_eq!(round["transfers"][0]["bytes"], Value::from(bytes));
    }
    send_signal("INT", &child.id().to_string());
    assert!(wait(&mut child, DEADLINE).is_some_and(|status| status.success()));
}

#[test]
fn an_action_is_posted_and_what_was_done_is_said() {
    for (arguments, request) in [
        (&["end", "42"][..], "/api/v1/sessions/end?id=42"),
        (
            &["end", "--user", "alice", "--site", "ftpb"],
            "/api/v1/sessions/end?user=alice&site=ftpb",
        ),
        (
            &["end", "--client", "2001:db8::7"],
            "/api/v1/sessions/end?client=2001%3Adb8%3A%3A7",
        ),
        (
            &["end", "--backend", "10.0.0.11:21"],
            "/api/v1/sessions/end?backend=10.0.0.11%3A21",
        ),
        (
            &["drain", "ftpb", "first"],
            "/api/v1/backends/drain?site=ftpb&backend=first",
        ),
        (
            &["ready", "ftpb", "first"],
            "/api/v1/backends/ready?site=ftpb&backend=first",
        ),
        (
            &["maintenance", "ftpb", "on"],
            "/api/v1/sites/maintenance?site=ftpb&state=on",
        ),
        (
            &["maintenance", "ftpb", "off"],
            "/api/v1/sites/maintenance?site=ftpb&state=off",
        ),
        (
            &["guard", "forget", "192.0.2.7", "--site", "ftpb"],
            "/api/v1/guard/forget?client=192.0.2.7&site=ftpb",
        ),
        (&["reload"], "/api/v1/reload"),
        (
            &["log", "level", "info,portcullis::tls=debug"],
            "/api/v1/log-level?level=info%2Cportcullis%3A%3Atls%3Ddebug",
        ),
        (
            &["log", "dialogue", "192.0.2.0/24"],
            "/api/v1/dialogue?client=192.0.2.0%2F24",
        ),
    ] {
        let socket = Scripted::new(vec![ok(r#"{"version":1,"done":"it is done\u0007"}"#)]);
        assert_eq!(stdout(&socket.run(arguments)), "it is done?\n");
        assert_eq!(socket.requests(), [format!("POST {request}")]);
    }
}

#[test]
fn what_the_process_refuses_is_said_in_its_words_with_exit_code_1() {
    let refusal =
        r#"{"version":1,"error":"portcullis.yaml:8:3: unknown key `a`\n  |\n8 |   \u001b[2J"}"#;
    let socket = Scripted::new(vec![http("409 Conflict", refusal)]);
    let output = socket.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "portcullis: portcullis.yaml:8:3: unknown key `a`\n  |\n8 |   ?[2J\n"
    );
}

#[test]
fn where_no_portcullis_answers_it_is_said_what_to_do_with_exit_code_2() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("missing.sock");
    let left_over = directory.path().join("left-over.sock");
    drop(UnixListener::bind(&left_over).expect("a free path"));
    for (path, text) in [
        (
            missing,
            "isn't running, or its configuration doesn't say `admin: {socket: ",
        ),
        (left_over, "nothing listens on "),
    ] {
        for arguments in [&["status"][..], &["end", "7"], &["sessions", "--watch"]] {
            let output = run(arguments, &path);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let said = stderr(&output);
            assert!(
                said.contains(text) && said.contains("--socket PATH"),
                "{said}"
            );
        }
    }
}

#[test]
fn an_answer_of_another_program_is_not_shown() {
    let other_version = r#"{"version":2,"sessions":[]}"#;
    for (answer, text) in [
        (String::new(), "gave no complete answer"),
        ("220 ready\r\n".to_owned(), "gave no complete answer"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned(),
            "gave no complete answer",
        ),
        (ok("<html>"), "isn't from the admin socket of Portcullis"),
        (ok(r#"{"version":1}"#), "it has no `sessions`"),
        (ok(other_version), "of version 2 of the API"),
        (http("404 Not Found", "no"), "isn't from the admin socket"),
        (
            http("404 Not Found", r#"{"version":1}"#),
            "it has no `error`",
        ),
    ] {
        let socket = Scripted::new(vec![answer.clone()]);
        let output = socket.run(&["sessions"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(output.stdout.is_empty());
        let said = stderr(&output);
        assert!(said.contains(text), "{answer}: {said}");
    }
}

#[test]
fn an_answer_without_end_is_given_up() {
    let endless = ok(&" ".repeat(65 << 20));
    let socket = Scripted::new(vec![endless]);
    let output = socket.run(&["sessions"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("longer than 64 MiB"), "{output:?}");
}

#[test]
fn arguments_that_name_nothing_or_too_much_are_refused() {
    for arguments in [
        &["end"][..],
        &["end", "alice"],
        &["end", "7", "--user", "alice"],
        &["end", "7", "--site", "ftpb"],
        &["drain", "ftpb"],
        &["maintenance", "ftpb", "maybe"],
        &["guard", "--watch", "forget", "192.0.2.7"],
    ] {
        let output = program::command().args(arguments).output();
        let output = output.expect("cargo built it");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains("--help"), "{output:?}");
    }
}
