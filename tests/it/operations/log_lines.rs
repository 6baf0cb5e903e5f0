//! What single lines of the log answer: how a login came to its site, what became of which file in which directory, which start
//! it was; and that neither a full disk nor the signals of other servers end anything.

use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::config::Site;
use testkit::front::{Front, NAME};
use testkit::poll::poll;
use testkit::proxy::{LogLine, Proxy, Signal};
use testkit::script::{Script, reply};
use testkit::scripted::Backend;

use crate::program::{Before, Start, command};

#[test]
fn a_login_tells_what_has_led_to_its_site() {
    let front = Front::new(&["ftpb.test"]);
    let backend = Backend::start(Script::new());
    let sites = [
        Site::default("ftpa", backend.address()),
        Site::hosts("ftpb", &["ftpb.test"], backend.address()),
    ];
    let config = sites
        .iter()
        .fold(front.config(), |all, site| all.site(site));
    let proxy = Proxy::start(config);
    let mut by_default = front.implicit(&proxy);
    by_default.login("alice", "secret");
    let mut by_prefix = front.explicit(&proxy);
    by_prefix.login("FTPB.test|alice", "secret");
    by_prefix.command("PROT P", 200);
    by_prefix.login("ftpb.test|bob", "secret");
    let mut by_sni = front.implicit_as(&proxy, "ftpb.test");
    by_sni.login("alice", "secret");
    let mut by_host = front.explicit(&proxy);
    by_host.command("HOST ftpb.test", 220);
    by_host.login("alice", "secret");
    let lines = proxy.wait_for_logs(5, |line| line.message() == "logged in");
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let field = |name| line.field(name).unwrap_or_default();
            assert_eq!(field("client_tls"), "1.3");
            let seconds: f64 = field("seconds").parse().expect("a duration");
            assert!((0.0..30.0).contains(&seconds), "{seconds}");
            [
                field("chosen_by"),
                field("host"),
                field("sni"),
                field("prot"),
            ]
        })
        .collect();
    let expected = [
        ["default site", "", NAME, "P"],
        ["host|user", "ftpb.test", NAME, "C"],
        ["host|user", "ftpb.test", NAME, "P"],
        ["SNI", "ftpb.test", "ftpb.test", "P"],
        ["HOST", "ftpb.test", NAME, "C"],
    ];
    assert_eq!(told, expected.map(|fields| fields.map(str::to_owned)));
}

#[test]
fn a_failed_login_tells_what_has_led_to_its_site_or_nothing_of_an_earlier_one() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().password("secret"));
    let proxy = Proxy::start(front.config().site(&Site::hosts(
        "ftpb",
        &["ftpb.test"],
        backend.address(),
    )));
    let mut client = front.implicit(&proxy);
    client.command("USER ftpb.test|alice", 331);
    client.command("PASS wrong", 530);
    client.command("USER nowhere.test|alice", 530);
    let lines = proxy.wait_for_logs(2, |line| line.message() == "login failed");
    let field = |line: &LogLine, name| line.field(name);
    assert_eq!(field(&lines[0], "chosen_by").as_deref(), Some("host|user"));
    assert_eq!(field(&lines[0], "host").as_deref(), Some("ftpb.test"));
    assert_eq!(field(&lines[1], "site").as_deref(), Some("none"));
    assert_eq!(field(&lines[1], "chosen_by"), None);
    assert_eq!(field(&lines[1], "host"), None);
}

#[test]
fn each_changed_file_and_each_transfer_is_told_with_its_directory() {
    let front = Front::new(&[]);
    let script = Script::new()
        .file("file", "some content")
        .on("DELE", [reply("250 gone")])
        .on("DELE kept", [reply("550 no")])
        .on("RNFR", [reply("350 and?")])
        .on("RNTO", [reply("250 renamed")])
        .on("MKD", [reply("257 \"/in/sub\" made")])
        .on("RMD", [reply("250 gone")])
        .on("SITE", [reply("200 done")]);
    let backend = Backend::start(script);
    let proxy = front.before_with(backend.address(), |config| config.log("debug"));
    let mut session = front.session(&proxy, "alice");
    for (line, code) in [
        ("DELE first", 250),
        ("PWD", 257),
        ("CWD in", 250),
        ("DELE second", 250),
        ("DELE kept", 550),
        ("RNFR old", 350),
        ("RNTO new", 250),
        ("MKD sub", 257),
        ("RMD sub", 250),
        ("SITE CHMOD 644 new", 200),
        ("SITE PSWD a-password", 200),
        ("REST 5", 350),
    ] {
        session.control.command(line, code);
    }
    assert_eq!(session.download("file"), b"content");
    let transfer = proxy.wait_for_log(|line| line.message() == "transfer complete");
    for (field, value) in [
        ("directory", "/in"),
        ("offset", "5"),
        ("mode", "passive"),
        ("prot", "P"),
        ("resumed", "true"),
        ("reply", "226"),
    ] {
        assert_eq!(transfer.field(field).as_deref(), Some(value), "{field}");
    }
    let begins = proxy.wait_for_log(|line| line.message() == "transfer begins");
    assert_eq!(begins.field("level").as_deref(), Some("DEBUG"));
    assert_eq!(begins.field("path").as_deref(), Some("file"));

    let lines = proxy.log_lines();
    let changes = lines.iter().filter(|line| line.message() == "file changed");
    let told: Vec<_> = changes
        .map(|line| {
            assert_eq!(line.field("user").as_deref(), Some("alice"));
            ["command", "path", "directory", "renamed_from"]
                .map(|name| line.field(name).unwrap_or_default())
        })
        .collect();
    let expected = [
        ["DELE", "first", "", ""],
        ["DELE", "second", "/in", ""],
        ["RNTO", "new", "/in", "old"],
        ["MKD", "sub", "/in", ""],
        ["RMD", "sub", "/in", ""],
        ["SITE", "CHMOD 644 new", "/in", ""],
        ["SITE", "PSWD", "/in", ""],
    ];
    assert_eq!(told, expected.map(|fields| fields.map(str::to_owned)));
    assert!(!lines.iter().any(|line| line.text.contains("a-password")));
}

#[test]
fn why_a_server_refuses_a_login_is_logged_in_its_own_words_and_without_the_password() {
    let front = Front::new(&[]);
    let inaccessible = "530 User cannot log in, home directory inaccessible.";
    let script = Script::new()
        .on("PASS right-one", [reply(inaccessible)])
        .on(
            "PASS a-password",
            [reply("530-No.\r\n530 A-Password is wrong")],
        )
        .on("PASS abc", [reply("530 abc is wrong")])
        .on("USER nobody", [reply("530 nobody lives here")]);
    let backend = Backend::start(script);
    let proxy = front.before(backend.address());
    for (user, password) in [
        ("alice", "right-one"),
        ("bob", "a-password"),
        ("carol", "abc"),
    ] {
        let mut client = front.implicit(&proxy);
        client.command(&format!("USER {user}"), 331);
        client.command(&format!("PASS {password}"), 530);
    }
    front.implicit(&proxy).command("USER nobody", 530);
    let lines = proxy.wait_for_logs(4, |line| line.message() == "login failed");
    let told: Vec<_> = lines
        .iter()
        .filter_map(|line| line.field("reply"))
        .collect();
    let expected = [
        inaccessible,
        "530-No. / 530 *** is wrong",
        "530 ***",
        "530 nobody lives here",
    ];
    assert_eq!(told, expected);
    assert!(lines.iter().all(|line| line.field("hint").is_none()));
}

#[test]
fn a_refused_login_names_what_the_configuration_of_its_backend_lacks() {
    let front = Front::new(&[]);
    let refusing = |verb, text| Backend::start(Script::new().on(verb, [reply(text)]));
    let wants_tls = refusing("USER", "530 Non-anonymous sessions must use encryption.");
    // It takes the header for a command, and its answer to that is the first to come.
    let misled = refusing("PROXY", "500 Unknown command.");
    let with_header = Site::hosts("header", &["header.test"], misled.address());
    let with_header = with_header.backend("proxy_protocol", "{version: 1}");
    let config = front
        .config()
        .site(&Site::default("clear", wants_tls.address()))
        .site(&with_header);
    let proxy = Proxy::start(config);
    front.implicit(&proxy).command("USER alice", 530);
    front
        .implicit(&proxy)
        .command("USER header.test|alice", 500);
    let lines = proxy.wait_for_logs(2, |line| line.message() == "login failed");
    let hint = |line: &LogLine| line.field("hint").unwrap_or_default();
    assert!(
        hint(&lines[0]).contains("`tls: explicit`"),
        "{}",
        lines[0].text
    );
    assert!(
        hint(&lines[1]).contains("PROXY header"),
        "{}",
        lines[1].text
    );
}

#[test]
fn the_first_line_tells_version_configuration_and_an_id_of_the_start() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let starts = [(), ()].map(|()| {
        let proxy = front.before(backend.address());
        let first = proxy.log_lines().swap_remove(0);
        assert_eq!(first.message(), "starting");
        let version = first.field("version");
        assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let config = first.field("config").expect("a file");
        assert_eq!(config, proxy.config_file().display().to_string());
        first.field("start").expect("an id")
    });
    assert_ne!(starts[0], starts[1]);
}

#[test]
fn signals_of_other_servers_end_nothing() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let proxy = front.before(backend.address());
    let mut session = front.session(&proxy, "alice");
    for signal in [Signal::Reopen, Signal::User2, Signal::Alarm] {
        proxy.signal(signal);
    }
    proxy.wait_for_log(|line| line.message() == "reopening the transfer logs");
    for name in ["SIGUSR2", "SIGALRM"] {
        proxy.wait_for_log(|line| line.field("signal").as_deref() == Some(name));
    }
    assert_eq!(session.download("file"), b"content");
}

#[test]
fn a_stderr_on_a_full_disk_stops_nothing_and_is_counted() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new().file("file", "content"));
    let config = front
        .config()
        .site(&Site::default("only", backend.address()));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("portcullis.yaml");
    std::fs::write(&file, config.to_yaml()).expect("the test's directory is writable");
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut program = command()
        .args(["run", "--config"])
        .arg(&file)
        .stderr(full.expect("every Linux has it"))
        .spawn()
        .expect("cargo built it");
    let scrape = || {
        let mut socket = TcpStream::connect(config.admin()).ok()?;
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let of_log = "portcullis_log_lines_dropped_total{log=\"log\"} ";
        let line = answer.lines().find_map(|line| line.strip_prefix(of_log))?;
        line.parse::<u64>().ok()
    };
    poll(|| match scrape() {
        Some(1..) => Ok(()),
        Some(0) | None => Err("no line is counted".to_owned()),
    });
    program.kill().expect("it still runs");
    program.wait().expect("it is a child");
}

#[test]
fn at_level_debug_the_dialogue_of_both_legs_is_shown_without_passwords() {
    let front = Front::new(&[]);
    let script = Script::new()
        .on(
            "PASS",
            [reply("230 welcome, and your password is a-password")],
        )
        .on("PWD", [reply("257-two\r\n257 \"/\" lines")]);
    let backend = Backend::start(script);
    let proxy = front.before_with(backend.address(), |config| {
        config.log("info,portcullis::dialogue=debug")
    });
    let mut client = front.implicit(&proxy);
    client.login("alice", "a-password");
    client.command("PBSZ 0", 200);
    client.command("PROT P", 200);
    client.command("PWD", 257);
    client.command("SITE PSWD a-password new", 502);
    client.command("QUIT", 221);
    proxy.wait_for_log(|line| line.message() == "session ended");
    let lines = proxy.log_lines();
    let is_dialogue =
        |line: &&LogLine| line.field("target").as_deref() == Some("portcullis::dialogue");
    let told: Vec<_> = lines
        .iter()
        .filter(is_dialogue)
        .map(|line| {
            format!(
                "{}: {}",
                line.message(),
                line.field("line").unwrap_or_default()
            )
        })
        .collect();
    let expected = [
        "to client: 220 Service ready.",
        "from client: USER alice",
        "to backend: USER alice",
        "from backend: 331 password please",
        "to client: 331 password please",
        "from client: PASS ***",
        "to backend: PASS ***",
        "from backend: 230 welcome, and your password is ***",
        "to client: 230 welcome, and your password is ***",
        "from client: PBSZ 0",
        "to client: 200 PBSZ=0",
        "from client: PROT P",
        "to client: 200 Data connections are private.",
        "from client: PWD",
        "to backend: PWD",
        "from backend: 257-two",
        "from backend: 257 \"/\" lines",
        "to client: 257-two",
        "to client: 257 \"/\" lines",
        "from client: SITE PSWD",
        "to backend: SITE PSWD",
        "from backend: 502 ***",
        "to client: 502 ***",
        "from client: QUIT",
        "to backend: QUIT",
    ];
    assert_eq!(told[..expected.len()], expected, "{told:#?}");
    assert!(!lines.iter().any(|line| line.text.contains("a-password")));
}
