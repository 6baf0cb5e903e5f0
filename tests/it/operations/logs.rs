//! What the log and the metrics say of sessions: enough for the operator, one line for each thing that ended, no
//! password at any level, and nothing that a client could forge or blow up.

use std::collections::BTreeSet;
use std::io::Write;

use rustls::version::TLS12;
use testkit::config::Site;
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Script, ScriptTls, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::{Before, Start};

/// Part of every password here; no other text has it.
const CANARY: &str = "zebracanary";

fn session_ended(line: &LogLine) -> bool {
    line.message() == "session ended"
}

/// Sends lines one by one, and gives the replies to all of them.
fn converse(client: &mut Raw, lines: &[&str]) -> Vec<String> {
    let mut replies = Vec::new();
    for line in lines {
        client.send(&line.replace("{}", CANARY));
        replies.push(client.reply().text);
    }
    replies
}

#[test]
fn a_password_is_found_nowhere_not_even_at_the_lowest_level() {
    let front = Front::new(&[]);
    let script = Script::new()
        .tls(ScriptTls::explicit(&TLS12))
        .on("PASS", [reply("332 account please")])
        .on("ACCT", [reply("230 welcome")]);
    let secured = Backend::start(script);
    let plain = Backend::start(Script::new().on("PASS", [reply("530 Login incorrect.")]));
    let dying = Backend::start(Script::new().on("PASS", [reply("2nonsense")]));
    let config = front
        .config()
        .log("trace")
        .site(&Site::default("secured", secured.address()).backend_tls("explicit", None))
        .site(&Site::hosts("plain", &["plain.test"], plain.address()))
        .site(&Site::hosts("dying", &["dying.test"], dying.address()));
    let proxy = Proxy::start(config);

    let overlong = "PASS {}".repeat(2_000);
    let odd = [
        "PASS before-user-{}",
        "ACCT before-user-{}",
        &overlong,
        "PASS\t{}",
        "PASS a\r{}",
        "PASS \0{}",
        "PASS: {}",
        " PASS {}",
        "XPASS {}",
    ];
    let mut clear = Raw::connect(proxy.explicit());
    clear.expect(220);
    let mut replies = converse(&mut clear, &odd);
    clear.auth_tls(&front.tls(NAME));
    replies.extend(converse(&mut clear, &odd));
    let login = [
        "USER alice",
        "pass {}",
        "AcCt  {} with spaces ",
        "PASS {} again",
        "USER bob",
        "PASS {}",
        "QUIT",
    ];
    replies.extend(converse(&mut clear, &login));
    let mut client = front.implicit(&proxy);
    let wrong = [
        "USER plain.test|alice",
        "PASS {}",
        "PASS {}",
        "ACCT {}",
        "QUIT",
    ];
    replies.extend(converse(&mut client, &wrong));
    let mut client = front.implicit(&proxy);
    let lost = ["USER dying.test|alice", "PASS {}"];
    replies.extend(converse(&mut client, &lost));
    // One that goes away in the middle of its password.
    let mut client = front.implicit(&proxy);
    client.command("USER plain.test|alice", 331);
    client.send_bytes(format!("PASS {CANARY}").as_bytes());
    client.close(End::Reset);

    proxy.wait_for_logs(4, session_ended);
    let passwords = secured.commands();
    assert!(
        passwords.contains(&format!("pass {CANARY}")),
        "{passwords:?}"
    );
    let metrics = proxy.get("/metrics").1;
    let lines = proxy.log_lines();
    assert!(
        lines
            .iter()
            .any(|line| line.field("level").as_deref() == Some("TRACE")),
        "the lowest level isn't logged"
    );
    // As text, as a list of bytes, and in hexadecimal.
    let list: Vec<String> = CANARY.bytes().map(|byte| byte.to_string()).collect();
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [CANARY.to_owned(), list.join(", "), hex] {
        let texts = lines
            .iter()
            .map(|line| &line.text)
            .chain(&replies)
            .chain([&metrics]);
        for text in texts {
            assert!(!text.to_lowercase().contains(&form), "{text}");
        }
    }
}

#[test]
fn a_user_name_is_one_escaped_word_of_its_line() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let long = "x".repeat(2000);
    let long_shown = format!("{}\u{2026}", "x".repeat(256));
    let names = [
        ("alice", "alice"),
        ("\u{1b}[31mred\u{7}", "\\x1b[31mred\\x07"),
        ("say \"hi\" \\n", "say \"hi\" \\n"),
        ("CORP\\xavier", "CORP\\x5cxavier"),
        ("cod.\u{202e}gpj", "cod.\\xe2\\x80\\xaegpj"),
        ("line\u{2028}two\u{85}", "line\\xe2\\x80\\xa8two\\xc2\\x85"),
        ("bob ending=quit session=1", "bob ending=quit session=1"),
        ("\u{fc}ser\ttab", "\u{fc}ser\\x09tab"),
        (&long, &long_shown),
    ];
    for (number, (name, shown)) in names.iter().enumerate() {
        let mut client = front.explicit(&proxy);
        client.login(name, "secret");
        client.command("RETR file", 425);
        client.command("QUIT", 221);
        proxy.wait_for_logs(number + 1, session_ended);
        let line = proxy.wait_for_log(|line| {
            session_ended(line) && line.field("user").as_deref() == Some(*shown)
        });
        assert_eq!(line.field("ending").as_deref(), Some("quit"));
    }
    // A login that leads nowhere is shown in the same way; a newline only ever begins another command.
    let mut client = front.explicit(&proxy);
    client.command("USER no\u{1b}where|al ice", 530);
    client.send_bytes(b"USER x|a\nINFO forged\r\nUSER a\rb\r\n");
    client.expect(530);
    client.expect(530);
    client.expect(501);
    client.command("QUIT", 221);
    proxy.wait_for_log(|line| line.field("user").as_deref() == Some("no\\x1bwhere|al ice"));
    proxy.wait_for_logs(names.len() + 1, session_ended);
    for line in proxy.log_lines() {
        assert!(
            line.field("level").is_some(),
            "not a line of ours: {}",
            line.text
        );
        let forbidden = |c: char| c.is_control() || "\u{202e}\u{2028}".contains(c);
        assert!(!line.text.contains(forbidden), "{}", line.text);
        assert!(line.text.len() < 1_500, "{}", line.text);
    }
}

#[test]
fn a_session_is_one_line_and_so_are_its_login_and_each_of_its_transfers() {
    let front = Front::new(&[]);
    let script = Script::new()
        .tls(ScriptTls::implicit(&TLS12))
        .file("old file", content::bytes(1, 70_000));
    let backend = Backend::start(script);
    let site = Site::hosts("ftpb", &["ftpb.test"], backend.address());
    let site = site.backend_tls("implicit", None).user("{host}|{user}");
    let proxy = Proxy::start(front.config().site(&site));
    let mut client = front.explicit(&proxy);
    client.login("FTPB.test|alice", "secret");
    client.protect_data();
    let tls = front.tls(NAME);
    for (command, upload) in [
        ("RETR old file", None),
        ("STOR new\u{1b}", Some(50_000)),
        ("NLST", None),
    ] {
        let mut data = open_data(client.epsv());
        client.command(command, 150);
        protect(&mut data, &tls).expect("a handshake");
        match upload {
            Some(length) => {
                data.write_all(&content::bytes(2, length))
                    .expect("the proxy reads");
                data.end(End::CloseNotify).expect("the proxy is there");
            }
            None => drop(data.read_to_end()),
        }
        client.expect(226);
    }
    client.epsv();
    client.command("RETR missing", 550);
    client.command("QUIT", 221);

    let ended = proxy.wait_for_log(session_ended);
    let id = ended.field("session");
    assert!(id.is_some());
    let listener = proxy.explicit().to_string();
    let backend = backend.address().to_string();
    // What NLST shows: "old file" and the new one, each with its line end.
    let listing = "old file\r\nnew\u{1b}\r\n".len();
    let downloaded = (70_000 + listing).to_string();
    for (field, value) in [
        ("site", "ftpb"),
        ("user", "alice"),
        ("listener", &listener),
        ("client_tls", "1.3"),
        ("backend", &backend),
        ("backend_tls", "1.2"),
        ("logged_in", "true"),
        ("transfers", "4"),
        ("uploaded", "50000"),
        ("downloaded", &downloaded),
        ("ending", "quit"),
    ] {
        assert_eq!(ended.field(field).as_deref(), Some(value), "{field}");
    }
    let client_address = ended.field("client").expect("an address");
    assert!(client_address.starts_with("127.0.0.1:"), "{client_address}");

    let lines = proxy.log_lines();
    let of_session: Vec<_> = lines
        .iter()
        .filter(|line| line.field("session") == id)
        .collect();
    assert_eq!(of_session.len(), 6, "{of_session:?}");
    for line in &of_session {
        assert_eq!(line.field("client").as_ref(), Some(&client_address));
        assert_eq!(line.field("site").as_deref(), Some("ftpb"));
        assert_eq!(line.field("user").as_deref(), Some("alice"));
    }
    assert_eq!(of_session[0].message(), "logged in");
    assert_eq!(of_session[0].field("backend").as_ref(), Some(&backend));
    let expected = [
        ("RETR", "old file", 70_000, "complete"),
        ("STOR", "new\\x1b", 50_000, "complete"),
        ("NLST", "", listing, "complete"),
        ("RETR", "missing", 0, "refused"),
    ];
    for (line, (command, path, bytes, verdict)) in of_session[1..].iter().zip(expected) {
        assert_eq!(line.field("command").as_deref(), Some(command));
        assert_eq!(line.field("path").as_deref(), Some(path));
        assert_eq!(line.field("bytes"), Some(bytes.to_string()));
        assert_eq!(line.field("verdict").as_deref(), Some(verdict));
        let seconds: f64 = line
            .field("seconds")
            .and_then(|text| text.parse().ok())
            .expect("a duration");
        assert!((0.0..30.0).contains(&seconds));
    }
}

/// The log after a client has sent a warning, and a fatal alert behind it, in place of its ClientHello.
fn log_of_alerts(filter: &'static str) -> Vec<LogLine> {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before_with(backend.address(), |config| config.log(filter));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.command("AUTH TLS", 234);
    let (warning, fatal) = (1, 2);
    let (unrecognized_name, unknown_ca) = (112, 48);
    client.send_bytes(&[21, 3, 1, 0, 2, warning, unrecognized_name]);
    client.send_bytes(&[21, 3, 1, 0, 2, fatal, unknown_ca]);
    proxy.wait_for_log(session_ended);
    proxy.log_lines()
}

fn is_of_rustls(line: &LogLine) -> bool {
    let target = line.field("target").unwrap_or_default();
    target.starts_with("rustls")
}

#[test]
fn the_alerts_of_a_client_are_one_line_of_its_session_and_none_of_the_tls_library() {
    let lines = log_of_alerts("info");
    let failed = lines
        .iter()
        .find(|line| line.message() == "TLS handshake with the client failed")
        .expect("the line of the session");
    let error = failed.field("error").expect("the field is there");
    assert!(error.contains("unknown_ca"), "{error}");
    assert!(!lines.iter().any(is_of_rustls));
}

#[test]
fn what_the_tls_library_says_is_there_for_whoever_asks_for_it() {
    for filter in ["debug", "info,rustls=warn", "info,portcullis=debug"] {
        let lines = log_of_alerts(filter);
        assert!(lines.iter().any(is_of_rustls), "{filter}");
    }
}

#[test]
fn the_log_names_the_user_who_is_logged_in_now() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before(backend.address());
    let mut client = front.explicit(&proxy);
    client.login("alice", "secret");
    client.login("bob", "secret");
    let _port = client.epsv();
    client.command("RETR missing", 550);
    client.command("QUIT", 221);
    let transfer = proxy.wait_for_log(|line| line.field("verdict").is_some());
    assert_eq!(transfer.field("user").as_deref(), Some("bob"));
    let lines = proxy.log_lines();
    let logins = lines.iter().filter(|line| line.message() == "logged in");
    let users: Vec<_> = logins.filter_map(|line| line.field("user")).collect();
    assert_eq!(users, ["alice", "bob"]);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn clients_cannot_make_up_series_of_metrics() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let proxy = front.before_with(backend.address(), |config| {
        config.set("guard", "{allow: [127.0.0.0/8]}")
    });
    let series = || -> BTreeSet<String> { proxy.metrics().into_keys().collect() };
    let before = series();
    assert!(before.len() > 50, "{before:?}");
    for session in 0..10 {
        let mut client = front.implicit(&proxy);
        for number in 0..20 {
            let random = content::sha256(&content::bytes(session * 20 + number, 32));
            client.command(&format!("HOST {}.test", &random[..20]), 504);
            client.command(&format!("USER {}.test|{random}", &random[..20]), 530);
            client.command(&format!("USER {random}"), 331);
            let letters: String = random
                .chars()
                .filter(char::is_ascii_alphabetic)
                .take(8)
                .collect();
            client.command(&format!("{letters} {random}"), 530);
        }
        client.command("PASS secret", 230);
        let random = content::sha256(&[session as u8]);
        client.command(&format!("XSECRETVERB {random}"), 502);
        let _port = client.epsv();
        client.command(&format!("RETR {random}"), 550);
        client.command("QUIT", 221);
    }
    proxy.wait_for_logs(10, session_ended);
    assert_eq!(series(), before);
    let unknown = "portcullis_logins_total{result=\"unknown_host\",site=\"none\"}";
    assert_eq!(proxy.metrics().get(unknown), Some(&200.0));
}
