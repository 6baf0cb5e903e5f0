//! From the greeting to the login, and logging in again: who answers, and what the backend is told, in which order.

use testkit::config::Site;
use testkit::front::{Front, NAME};
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Script, Step, reply};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;
use crate::stage::Stage;

#[test]
fn settings_are_replayed_before_user_in_order_and_refused_ones_again_after_the_login() {
    let script = Script::new()
        .on("CLNT", [reply("530 log in first")])
        .on("LANG", [reply("200 english")])
        .on("OPTS", [reply("504 not now")]);
    let stage = Stage::new(script);
    let mut client = stage.clear();
    for setting in [
        "CLNT a client",
        "LANG en",
        "OPTS UTF8 ON",
        "OPTS MLST size;",
    ] {
        // Whether the backend knows them is not known yet.
        client.command(setting, 202);
    }
    client.command("TYPE I", 200);
    client.command("TYPE A", 200);
    assert_eq!(stage.backend.connections(), 0);
    client.login("alice", "secret");
    client.command("TYPE I", 200);
    assert_eq!(
        stage.backend.commands(),
        [
            "CLNT a client",
            "LANG en",
            "OPTS UTF8 ON",
            "USER alice",
            "PASS secret",
            "CLNT a client",
            "OPTS UTF8 ON",
            "OPTS MLST size;",
            "TYPE A",
            "TYPE I",
        ]
    );
}

#[test]
fn settings_made_in_clear_text_before_auth_are_not_replayed() {
    let stage = Stage::new(Script::new());
    let mut client = stage.clear();
    client.command("OPTS UTF8 ON", 202);
    client.auth_tls(&stage.front.tls(NAME));
    client.command("CLNT a client", 202);
    client.login("alice", "secret");
    let commands = stage.backend.commands();
    assert_eq!(commands, ["CLNT a client", "USER alice", "PASS secret"]);
}

#[test]
fn the_greeting_is_the_one_that_is_configured() {
    let stage = Stage::before(
        Script::new(),
        |site| site,
        |config| config.set("greeting", "\"Authorised use: only.\""),
    );
    let mut client = Raw::connect(stage.proxy.explicit());
    assert_eq!(client.expect(220), "220 Authorised use: only.");
}

#[test]
fn before_login_only_the_proxy_answers() {
    let stage = Stage::new(Script::new());
    let mut client = stage.clear();
    for (line, code) in [
        ("NOOP", 200),
        ("HELP", 214),
        ("HELP SITE", 214),
        ("SYST", 530),
        ("STAT", 530),
        ("SITE CHMOD 644 x", 530),
        ("LANG", 202),
        ("ABOR", 225),
        ("PASS secret", 503),
        ("ACCT books", 503),
        ("REIN", 220),
        ("SIZE file", 530),
        ("EPSV ALL", 530),
        ("QUIT", 221),
    ] {
        client.command(line, code);
    }
    assert_eq!(client.end(), (Vec::new(), End::Fin));
    assert_eq!(stage.backend.connections(), 0);
}

#[test]
fn after_login_what_is_not_the_proxys_own_is_the_backends() {
    let mut script = Script::new();
    let lines = [
        ("SYST", "215 MVS is the operating system of this server."),
        ("HELP", "214-The commands are\r\n SITE\r\n214 all of them"),
        ("SITE", "200-one\r\n200 two"),
        ("STAT", "211-All\r\n is well\r\n211 End"),
        ("LANG", "200 deutsch"),
        ("OPTS", "501 command OPTS aborted"),
        ("CLNT", "200 Noted, client."),
        ("ACCT", "202 No account needed."),
        ("NOOP", "200 Zzz."),
        ("ABOR", "225 Nothing to abort."),
        ("SIZE", "550 Not in ASCII mode"),
        ("MDTM", "213 20261125101500.123"),
        ("MLST", "250-Listing\r\n type=file;size=3; /a b\r\n250 End"),
        ("XCRC", "250 DEADBEEF"),
        ("ALLO", "202 No storage allocation necessary."),
        ("SMNT", "502 No."),
    ];
    for (verb, answer) in lines {
        script = script.on(verb, [reply(answer)]);
    }
    let stage = Stage::new(script);
    let mut client = stage.session().control;
    for (verb, answer) in lines {
        client.send(&format!("{verb} x y "));
        assert_eq!(client.reply().text, answer, "{verb}");
        let expected = format!("{verb} x y ");
        assert_eq!(stage.backend.commands().pop(), Some(expected));
    }
}

#[test]
fn a_backend_that_greets_with_230_answers_user_with_it() {
    let stage = Stage::new(Script::new().greeting([reply("230-Come\r\n230 in")]));
    let mut client = stage.clear();
    assert_eq!(client.command("USER alice", 230), "230-Come\r\n230 in");
    client.command("PWD", 257);
    assert_eq!(stage.backend.commands(), ["PWD"]);
}

#[test]
fn a_challenge_of_several_rounds_is_between_client_and_backend() {
    let script = Script::new()
        .on("USER", [reply("336 s/key 97 ab12345")])
        .on("PASS", [reply("332 your account?")])
        .on("ACCT", [reply("232 you may come in")]);
    let stage = Stage::new(script);
    let mut client = stage.clear();
    assert_eq!(client.command("USER alice", 336), "336 s/key 97 ab12345");
    client.command("PASS GOLD RUSH", 332);
    client.command("PWD", 530);
    client.command("ACCT books", 232);
    client.command("PWD", 257);
}

/// Two sites, `a` for logins that name no host, and `b`.
struct TwoSites {
    front: Front,
    a: Backend,
    b: Backend,
    proxy: Proxy,
}

impl TwoSites {
    fn new(script: &Script) -> Self {
        let front = Front::new(&[]);
        let (a, b) = (
            Backend::start(script.clone()),
            Backend::start(script.clone()),
        );
        let config = front
            .config()
            .site(&Site::default("a", a.address()))
            .site(&Site::hosts("b", &["b.test"], b.address()));
        let proxy = Proxy::start(config);
        Self { front, a, b, proxy }
    }
}

#[test]
fn another_user_may_log_in_on_the_same_connection_but_not_at_another_site() {
    let sites = TwoSites::new(&Script::new());
    let mut client = sites.front.explicit(&sites.proxy);
    client.login("alice", "secret");
    client.command("USER b.test|bob", 503);
    client.command("PWD", 257);
    client.login("bob", "other");
    client.command("PWD", 257);
    let expected = [
        "USER alice",
        "PASS secret",
        "PWD",
        "USER bob",
        "PASS other",
        "PWD",
    ];
    assert_eq!(sites.a.commands(), expected);
    assert_eq!((sites.a.connections(), sites.b.connections()), (1, 0));
}

#[test]
fn before_the_login_is_done_another_site_takes_its_place_and_never_sees_the_password() {
    let sites = TwoSites::new(&Script::new());
    for change in ["USER b.test|alice", "HOST b.test"] {
        let mut client = sites.front.explicit(&sites.proxy);
        client.command("USER alice", 331);
        if change.starts_with("HOST") {
            client.command(change, 220);
            client.command("USER alice", 331);
        } else {
            client.command(change, 331);
        }
        client.command("PASS secret", 230);
    }
    sites.a.wait_for_end(2);
    assert_eq!(sites.a.commands(), ["USER alice"; 2]);
    assert_eq!(sites.b.commands(), ["USER alice", "PASS secret"].repeat(2));
}

#[test]
fn host_after_login_and_during_a_transfer_is_too_late() {
    let stage = Stage::new(Script::new().file("file", "content"));
    let mut client = stage.session();
    client.control.command("HOST proxy.test", 503);
    let data = client.begin("RETR file");
    client.control.send("HOST proxy.test");
    client.finish_download(data);
    client.control.expect(503);
    client.control.command("PWD", 257);
}

#[test]
fn auth_after_a_login_in_clear_text_ends_that_login() {
    let stage = Stage::new(Script::new());
    let mut client = stage.clear_session();
    client.auth_tls(&stage.front.tls(NAME));
    stage.backend.wait_for_end(1);
    client.command("PWD", 530);
    client.command("PASS secret", 503);
    client.login("bob", "other");
    client.command("PWD", 257);
    let commands = stage.backend.commands();
    assert_eq!(commands[2..], ["USER bob", "PASS other", "PWD"]);
}

#[test]
fn features_are_the_backends_but_for_tls_and_data_ports() {
    for (feat, listed) in [
        (
            "211-Ext\r\nMLST type*;size;\r\n AUTH SSL;\r\n PROT C\r\n CCC\r\n HOST\r\n SITE X\r\n211 x",
            &[" MLST type*;size;", " SITE X"][..],
        ),
        ("211 no features", &[]),
        ("500 what?", &[]),
        ("502 no", &[]),
        ("550 not permitted", &[]),
    ] {
        let stage = Stage::new(Script::new().on("FEAT", [reply(feat)]));
        let mut client = stage.session().control;
        let own = [" AUTH TLS", " PBSZ", " PROT", " EPSV", " EPRT", " HOST"];
        let text = client.command("FEAT", 211);
        let lines: Vec<&str> = text.split("\r\n").collect();
        let expected = [&["211-Features:"], &own[..], listed, &["211 End"]].concat();
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_421_of_an_idle_backend_is_the_clients_last_reply() {
    let steps = [
        Step::Default,
        reply("421-Idle\r\n421 for too long"),
        Step::End(End::Fin),
    ];
    let stage = Stage::new(Script::new().on("PWD", steps));
    let mut client = stage.session().control;
    client.command("PWD", 257);
    let (bytes, end) = client.end();
    assert_eq!(bytes, b"421-Idle\r\n421 for too long\r\n");
    assert_eq!(end, End::CloseNotify);
}
