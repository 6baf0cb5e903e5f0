//! Commands that a site denies, before scripted backends and real servers.

use std::fs;

use testkit::config::Site;
use testkit::front::{Client, Front, NAME};
use testkit::proxy::Proxy;
use testkit::raw::{Raw, open_data, protect};
use testkit::script::{Script, reply};
use testkit::server::{Security, Server};
use testkit::{proftpd, pureftpd, vsftpd};

use crate::program::Start;
use crate::stage::Stage;

fn stage(script: Script, commands: &str) -> Stage {
    Stage::before(
        script,
        |site| site.set("commands", commands),
        |config| config,
    )
}

fn denied(proxy: &Proxy) -> f64 {
    proxy.metric("portcullis_commands_denied_total{site=\"only\"}")
}

#[test]
fn a_denied_command_is_answered_550_and_the_backend_hears_nothing_of_it() {
    let stage = stage(Script::new(), "{deny: [DELE, MKD, \"SITE CHMOD\"]}");
    let mut client = stage.clear_session();
    let all = [
        "DELE x",
        "dele x",
        "XMKD x",
        "SITE CHMOD 777 x",
        "site  chmod 777 x",
        "SITE \"CHMOD\" 777 x",
    ];
    for line in all {
        assert_eq!(
            client.command(line, 550),
            "550 Permission denied.",
            "{line}"
        );
    }
    client.command("NOOP", 200);
    let commands = stage.backend.commands();
    for line in commands {
        assert!(
            !["DELE", "XMKD", "SITE"]
                .iter()
                .any(|verb| line.to_uppercase().starts_with(verb)),
            "{line}"
        );
    }
    assert_eq!(denied(&stage.proxy), all.len() as f64);
    let line = stage
        .proxy
        .wait_for_log(|line| line.message() == "command denied by the site's policy");
    assert_eq!(line.field("command").as_deref(), Some("DELE"));
    assert_eq!(line.field("user").as_deref(), Some("alice"));
}

#[test]
fn nothing_denied_slips_through_in_a_packet_with_what_is_allowed() {
    let stage = stage(
        Script::new().on("SIZE", [reply("213 5")]),
        "{preset: read_only}",
    );
    let mut client = stage.clear_session();
    client.send_bytes(
        b"SIZE a\r\nDELE a\r\nRNFR a\r\nRNTO b\r\nSIZE b\r\nSTOR c\r\nSTOU\r\nAPPE d\r\nNOOP\r\n",
    );
    for code in [213, 550, 550, 550, 213, 550, 550, 550, 200] {
        client.expect(code);
    }
    let verbs = ["DELE", "RNFR", "RNTO", "STOR", "STOU", "APPE"];
    let commands = stage.backend.commands();
    assert!(
        !commands
            .iter()
            .any(|line| verbs.contains(&&line[..4.min(line.len())])),
        "{commands:?}"
    );
}

#[test]
fn a_denied_command_behind_a_transfer_is_answered_behind_it() {
    let stage = stage(Script::new().file("a", b"content"), "{deny: [DELE]}");
    let mut client = stage.session();
    let data = client.begin("RETR a");
    client.control.send("DELE a");
    assert_eq!(client.finish_download(data), b"content");
    client.control.expect(550);
    assert!(!stage.backend.commands().contains(&"DELE a".to_owned()));
}

#[test]
fn the_features_of_what_is_denied_are_not_listed() {
    let features = "211-Features:\r\n MDTM\r\n MFMT\r\n SITE UTIME\r\n UTF8\r\n211 End";
    let stage = stage(
        Script::new().on("FEAT", [reply(features)]),
        "{preset: read_only}",
    );
    let mut client = stage.clear_session();
    let list = client.command("FEAT", 211);
    assert!(list.contains(" MDTM") && list.contains(" UTF8"), "{list}");
    assert!(!list.contains("MFMT") && !list.contains("SITE"), "{list}");
}

/// Each real server, with a client that is logged in at a site with this preset.
fn deployments(preset: &str) -> Vec<(&'static str, Server, Proxy, Client)> {
    let servers = [
        ("vsftpd", vsftpd::start(Security::Plain)),
        ("ProFTPD", proftpd::start(Security::Plain)),
        ("Pure-FTPd", pureftpd::start(Security::Plain)),
    ];
    let deployments = servers.into_iter().map(|(name, server)| {
        let front = Front::new(&[]);
        let site = Site::default("only", server.address())
            .set("commands", &format!("{{preset: {preset}}}"));
        let proxy = Proxy::start(front.config().site(&site));
        let tls = front.tls(NAME);
        let mut control = Raw::connect_auth_tls(proxy.explicit(), &tls);
        control.send(&format!("USER {}", server.user()));
        if control.reply().code == 331 {
            control.command(&format!("PASS {}", server.password()), 230);
        }
        control.protect_data();
        control.command("TYPE I", 200);
        (name, server, proxy, Client { control, tls })
    });
    deployments.collect()
}

#[test]
fn read_only_changes_nothing_at_any_server() {
    for (name, server, _proxy, mut client) in deployments("read_only") {
        let file = server.root().join("a");
        fs::write(&file, b"content").expect("the directory is writable");
        for line in [
            "DELE a",
            "RNFR a",
            "RNTO b",
            "MKD d",
            "XMKD d",
            "RMD d",
            "MFMT 20200101000000 a",
            "MDTM 20200101000000 a",
            "SITE CHMOD 777 a",
            "SITE MKDIR d",
            "SITE CPFR a",
            "SITE CPTO b",
            "SITE UTIME 20200101000000 a",
        ] {
            let text = client.control.command(line, 550);
            assert_eq!(text, "550 Permission denied.", "{name}: {line}");
        }
        for line in ["STOR b", "APPE a", "STOU"] {
            let _data = open_data(client.control.epsv());
            client.control.command(line, 550);
        }
        assert_eq!(client.download("a"), b"content", "{name}");
        client.control.command("SIZE a", 213);
        let mut listing = client.begin("LIST");
        let (content, _) = listing.read_to_end();
        client.control.expect(226);
        assert!(String::from_utf8_lossy(&content).contains('a'), "{name}");
        let left: Vec<_> = fs::read_dir(server.root()).expect("it is there").collect();
        assert_eq!(left.len(), 1, "{name}: {left:?}");
        assert_eq!(fs::read(&file).expect("it is there"), b"content", "{name}");
    }
}

#[test]
fn upload_only_takes_files_and_shows_none() {
    for (name, server, _proxy, mut client) in deployments("upload_only") {
        client.upload("a", b"content");
        assert_eq!(
            fs::read(server.root().join("a")).expect("it is there"),
            b"content",
            "{name}"
        );
        let mut data = open_data(client.control.epsv());
        client.control.command("RETR a", 550);
        for line in [
            "DELE a",
            "RNFR a",
            "MFMT 20200101000000 a",
            "SITE CHMOD 777 a",
            "XCRC a",
            "HASH a",
        ] {
            client.control.command(line, 550);
        }
        // The data port is still good for what is allowed.
        client.control.command("STOR b", 150);
        protect(&mut data, &client.tls).expect("a handshake");
        client.finish_upload(data);
        client.control.command("MKD d", 257);
        assert!(server.root().join("d").is_dir(), "{name}");
    }
}
