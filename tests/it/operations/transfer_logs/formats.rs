//! What each format has of transfers and of changed files.

use std::fs;
use std::io::Write;

use serde_json::Value;
use testkit::clients::{Client, ClientTls, Login};
use testkit::content;
use testkit::front::{Front, NAME};
use testkit::proftpd;
use testkit::raw::open_data;
use testkit::script::{Script, Step, reply};
use testkit::server::Security;
use testkit::wire::{End, Wire};

use super::{Logs, end, text};
use crate::program::Before;
use crate::stage::Stage;

/// Of a line of an xferlog. The time in front of them has the form of ctime(3), in which a day of one digit stands behind two blanks.
fn xferlog_fields_behind_the_time(line: &str) -> Vec<&str> {
    let (time, fields) = line.split_at("Sun Nov 29 07:59:10 2026".len());
    let fields = fields.strip_prefix(' ');
    let fields = fields.unwrap_or_else(|| panic!("no blank behind {time:?}: {line}"));
    fields.split(' ').collect()
}

#[test]
fn every_format_tells_of_each_transfer_and_each_changed_file() {
    let logs = Logs::new();
    let script = Script::new()
        .file("x y.csv", content::bytes(1, 70_000))
        .on("DELE", [reply("250 gone")])
        .on("RNFR", [reply("350 and?")])
        .on("RNTO", [reply("250 renamed")])
        .on(
            "RETR endless",
            [
                reply("150 here it comes"),
                Step::OpenData,
                Step::Send(content::bytes(2, 1_000)),
                Step::AwaitCommand,
                Step::EndData(End::Reset),
                reply("426 cut"),
            ],
        );
    let Stage {
        front,
        backend,
        proxy,
    } = Stage::with(script, |config| logs.configured(config));
    let mut session = front.session(&proxy, "alice");
    for (line, code) in [("PWD", 257), ("CWD in/2026", 250), ("TYPE I", 200)] {
        session.control.command(line, code);
    }
    assert_eq!(session.download("x y.csv").len(), 70_000);
    session.upload("new", b"some content");
    session.control.command("REST 69000", 350);
    assert_eq!(session.download("x y.csv").len(), 1_000);
    let listing = session.begin("NLST");
    session.finish_download(listing);
    let _port = session.control.epsv();
    session.control.command("RETR missing", 550);
    // The client breaks the connection off; then it aborts.
    let mut cut = session.begin("STOR cut");
    cut.write_all(b"half").expect("the proxy reads");
    cut.end(End::Reset).expect("it is open");
    session.control.expect(426);
    let aborted = session.begin("RETR endless");
    session.control.send("ABOR");
    session.control.expect(426);
    session.control.expect(226);
    drop(aborted);
    for (line, code) in [
        ("DELE x", 250),
        ("RNFR old", 350),
        ("RNTO /new name", 250),
        ("QUIT", 221),
    ] {
        session.control.command(line, code);
    }
    let server = proxy.explicit();
    end(proxy);
    drop(backend);

    let objects = logs.objects();
    let told: Vec<_> = objects
        .iter()
        .map(|it| {
            (
                text(it, "command"),
                text(it, "path"),
                it["verdict"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("RETR", "x y.csv", Some("complete")),
            ("STOR", "new", Some("complete")),
            ("RETR", "x y.csv", Some("complete")),
            ("NLST", "", Some("complete")),
            ("RETR", "missing", Some("refused")),
            ("STOR", "cut", Some("failed_client")),
            ("RETR", "endless", Some("aborted")),
            ("DELE", "x", None),
            ("RNTO", "/new name", None),
        ]
    );
    let [
        download,
        upload,
        tail,
        listing,
        refused,
        cut,
        aborted,
        _,
        rename,
    ] = &objects[..]
    else {
        unreachable!("nine of them")
    };
    assert_eq!(text(download, "full_path"), "/in/2026/x y.csv");
    assert_eq!(download["bytes"], 70_000);
    assert_eq!(
        text(download, "sha256"),
        content::sha256(&content::bytes(1, 70_000))
    );
    assert_eq!(text(download, "sha256_of"), "file");
    assert_eq!(text(download, "type"), "binary");
    assert_eq!(download["tls"]["data"], true);
    assert!(download["first_byte_ms"].is_u64(), "{download}");
    assert_eq!(text(upload, "sha256"), content::sha256(b"some content"));
    assert_eq!(
        (&tail["offset"], text(tail, "sha256_of")),
        (&69_000.into(), "tail")
    );
    let whole = content::bytes(1, 70_000);
    assert_eq!(text(tail, "sha256"), content::sha256(&whole[69_000..]));
    assert_eq!(text(listing, "full_path"), "/in/2026");
    assert_eq!(text(listing, "sha256_of"), "wire");
    assert_eq!(refused["reply"], 550);
    for incomplete in [refused, cut, aborted] {
        assert_eq!(incomplete["sha256"], Value::Null, "{incomplete}");
    }
    assert_eq!(aborted["reply"], 426);
    assert_eq!(text(rename, "renamed_from"), "old");
    assert_eq!(text(rename, "full_renamed_from"), "/in/2026/old");
    let sessions: Vec<_> = objects.iter().map(|it| text(it, "id")).collect();
    assert!(sessions.iter().all(|id| *id == sessions[0]), "{sessions:?}");

    let xferlog = logs.lines("xferlog");
    let of_each: Vec<_> = xferlog
        .iter()
        .map(|line| {
            let fields = xferlog_fields_behind_the_time(line);
            assert_eq!(fields.len(), 13, "{line}");
            let field = |number: usize| fields[number];
            assert_eq!(field(1), "127.0.0.1");
            [field(3), field(4), field(6), field(12)]
        })
        .collect();
    assert_eq!(
        of_each,
        [
            ["/in/2026/x_y.csv", "b", "o", "c"],
            ["/in/2026/new", "b", "i", "c"],
            ["/in/2026/x_y.csv", "b", "o", "c"],
            ["/in/2026/cut", "b", "i", "i"],
            ["/in/2026/endless", "b", "o", "i"],
            ["/in/2026/x", "b", "d", "c"],
        ]
    );

    assert!(logs.lines("w3c")[0].starts_with("#Software: Portcullis "));
    let w3c = logs.w3c();
    let field = |record: &[(String, String)], name: &str| {
        let found = record.iter().find(|(field, _)| field == name);
        found.expect("the field is there").1.clone()
    };
    let of_each: Vec<_> = w3c
        .iter()
        .map(|record| {
            assert_eq!(field(record, "c-ip"), "127.0.0.1");
            assert_eq!(field(record, "s-ip"), server.ip().to_string());
            assert_eq!(field(record, "s-port"), server.port().to_string());
            let names = [
                "cs-method",
                "cs-uri-stem",
                "sc-status",
                "sc-bytes",
                "cs-bytes",
            ];
            names.map(|name| field(record, name))
        })
        .collect();
    let expected = [
        ["RETR", "x+y.csv", "226", "70000", "0"],
        ["STOR", "new", "226", "0", "12"],
        ["RETR", "x+y.csv", "226", "1000", "0"],
    ];
    assert_eq!(of_each[..3], expected.map(|it| it.map(str::to_owned)));
    assert_eq!(of_each.len(), 9);
}

#[test]
fn a_hostile_name_is_one_line_in_every_format() {
    let logs = Logs::new();
    let stage = Stage::with(Script::new(), |config| logs.configured(config));
    let names = [
        "plain",
        "two  words ",
        "\u{1b}[31mred\ttab",
        "line\u{2028}two\u{85}",
        "cod.\u{202e}gpj",
        "quote\"s\\ and 'x'",
        "100%+1",
        "-",
        "\u{fc}\u{65e5}",
        &"x".repeat(2_000),
    ];
    for name in names {
        let mut session = stage.front.session(&stage.proxy, name);
        session.upload(name, b"content");
        session.control.command("QUIT", 221);
    }
    end(stage.proxy);
    assert_eq!(logs.objects().len(), names.len());
    assert_eq!(logs.w3c().len(), names.len());
    let xferlog = logs.lines("xferlog");
    assert_eq!(xferlog.len(), names.len());
    for line in xferlog {
        assert_eq!(xferlog_fields_behind_the_time(&line).len(), 13, "{line}");
    }
    for name in ["json", "xferlog", "w3c"] {
        let text = fs::read_to_string(logs.file(name)).expect("UTF-8");
        let forbidden = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c);
        assert!(!text.contains(forbidden), "{text}");
    }
}

#[test]
fn curl_and_a_real_server_agree_with_the_xferlog() {
    let server = proftpd::start(Security::Plain);
    let directory = server.root().join("in");
    fs::create_dir(&directory).expect("the test's directory is writable");
    fs::set_permissions(
        &directory,
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .expect("it is ours");
    let front = Front::new(&[]);
    let logs = Logs::new();
    let proxy = front.before_with(server.address(), |config| logs.configured(config));
    let login = Login::new(proxy.explicit(), server.user(), server.password())
        .tls(ClientTls::Explicit, &front.ca())
        .name(NAME);
    let content = content::bytes(3, 300_000);
    login
        .upload(Client::Curl, &content, "in/file")
        .expect_success();
    login.download(Client::Curl, "in/file").expect_success();
    end(proxy);

    let objects = logs.objects();
    let transfers: Vec<_> = objects
        .iter()
        .filter(|it| it["event"] == "transfer")
        .collect();
    assert_eq!(transfers.len(), 2, "{objects:?}");
    for transfer in transfers {
        assert_eq!(text(transfer, "path"), "file");
        assert!(
            text(transfer, "full_path").ends_with("/in/file"),
            "{transfer}"
        );
        assert_eq!(text(transfer, "sha256"), content::sha256(&content));
        assert_eq!(text(transfer, "sha256_of"), "file");
    }
    // The address and the time apart, the server's own log says the same.
    let facts = |line: &str| {
        let [_seconds, _host, bytes, path, others @ ..] = &xferlog_fields_behind_the_time(line)[..]
        else {
            panic!("{line}");
        };
        let name = path.rsplit('/').next().map(str::to_owned);
        (bytes.to_string(), name, others.join(" "))
    };
    let ours: Vec<_> = logs
        .lines("xferlog")
        .iter()
        .map(|line| facts(line))
        .collect();
    let theirs = server.transfer_log();
    let theirs: Vec<_> = theirs.lines().map(facts).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn a_transfer_at_a_limited_rate_has_its_hash() {
    let logs = Logs::new();
    let script = Script::new().file("file", content::bytes(4, 200_000));
    let stage = Stage::before(
        script,
        |site| site.set("rate", "{session: 100M}"),
        |config| logs.configured(config),
    );
    let mut session = stage.session();
    session.control.command("TYPE I", 200);
    session.download("file");
    session.upload("file", b"content");
    end(stage.proxy);
    let objects = logs.objects();
    let hashes: Vec<_> = objects.iter().map(|it| text(it, "sha256")).collect();
    let expected = [
        content::sha256(&content::bytes(4, 200_000)),
        content::sha256(b"content"),
    ];
    assert_eq!(hashes, expected);
}

#[test]
fn clear_text_and_active_mode_are_told() {
    let logs = Logs::new();
    let stage = Stage::with(Script::new().file("file", "content"), |config| {
        config.set("transfer_logs", &logs.json())
    });
    let mut client = stage.clear_session();
    let listener = client.eprt();
    client.command("RETR file", 150);
    let mut data = Wire::new(listener.accept().expect("the proxy connects").0);
    assert_eq!(data.read_to_end().0, b"content");
    drop(data);
    client.expect(226);
    let mut data = open_data(client.epsv());
    client.command("RETR file", 150);
    assert_eq!(data.read_to_end().0, b"content");
    drop(data);
    client.expect(226);
    end(stage.proxy);
    let objects = logs.objects();
    let modes: Vec<_> = objects.iter().map(|it| text(it, "mode")).collect();
    assert_eq!(modes, ["active", "passive"]);
    for object in &objects {
        assert_eq!(object["tls"]["data"], false);
        assert_eq!(object["full_path"], Value::Null);
        assert_eq!(text(object, "type"), "ascii");
        assert!(object.get("sha256").is_none());
    }
}
