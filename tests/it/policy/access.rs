//! Networks that a site doesn't serve, sites out of service, and texts at a login.

use testkit::config::Site;
use testkit::front::Front;
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::{Script, reply};
use testkit::scripted::Backend;
use testkit::server::Security;
use testkit::vsftpd;
use testkit::wire::End;

use crate::program::Start;
use crate::stage::Stage;

fn logins(proxy: &Proxy, site: &str, result: &str) -> f64 {
    proxy.metric(&format!(
        "portcullis_logins_total{{result=\"{result}\",site=\"{site}\"}}"
    ))
}

#[test]
fn a_client_of_a_denied_network_is_refused_and_the_backend_hears_nothing() {
    let stage = Stage::before(
        Script::new(),
        |site| site.set("clients", "{deny: [127.0.0.0/8]}"),
        |config| config,
    );
    let mut client = stage.clear();
    let text = client.command("USER alice", 530);
    assert_eq!(text, "530 User cannot log in.");
    client.command("PASS secret", 503);
    client.command("QUIT", 221);
    assert_eq!(stage.backend.connections(), 0);
    assert_eq!(logins(&stage.proxy, "only", "not_allowed"), 1.0);
    let line = stage
        .proxy
        .wait_for_log(|line| line.message() == "login failed");
    assert_eq!(line.field("result").as_deref(), Some("not_allowed"));
    assert_eq!(line.field("site").as_deref(), Some("only"));
}

#[test]
fn another_site_serves_the_networks_that_one_does_not() {
    let (backends, front) = (
        [Backend::start(Script::new()), Backend::start(Script::new())],
        Front::new(&[]),
    );
    let inside = Site::hosts("inside", &["in.test"], backends[0].address())
        .set("clients", "{allow: [10.0.0.0/8], deny: [10.9.0.0/16]}");
    let outside = Site::hosts("outside", &["out.test"], backends[1].address())
        .set("clients", "{allow: [127.0.0.0/8]}");
    let config = front.config().tls("required", "false");
    let proxy = Proxy::start(config.site(&inside).site(&outside));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.command("USER in.test|alice", 530);
    client.login("out.test|alice", "secret");
    // It is still not served where it wasn't.
    client.command("USER in.test|alice", 503);
    assert_eq!(backends[0].connections(), 0);
    assert_eq!(logins(&proxy, "inside", "not_allowed"), 1.0);
    assert_eq!(logins(&proxy, "outside", "accepted"), 1.0);
}

#[test]
fn a_site_out_of_service_says_why_and_hangs_up() {
    let stage = Stage::before(
        Script::new(),
        |site| site.set("maintenance", "\"Down.\\nBack on Monday.\""),
        |config| config,
    );
    let mut client = stage.clear();
    client.send("USER alice");
    let (said, end) = client.end();
    assert_eq!(said, b"421-Down.\r\n421 Back on Monday.\r\n");
    assert_eq!(end, End::Fin);
    assert_eq!(stage.backend.connections(), 0);
    assert_eq!(logins(&stage.proxy, "only", "maintenance"), 1.0);
    let ended = stage
        .proxy
        .wait_for_log(|line| line.message() == "session ended");
    assert_eq!(ended.field("ending").as_deref(), Some("maintenance"));
}

#[test]
fn a_reload_takes_a_site_out_of_service_and_its_sessions_go_on() {
    let front = Front::new(&[]);
    let backend = Backend::start(Script::new());
    let config = front.config().tls("required", "false");
    let site = Site::default("only", backend.address());
    let proxy = Proxy::start(config.site(&site));
    let connect = || {
        let mut client = Raw::connect(proxy.explicit());
        client.expect(220);
        client
    };
    let mut session = connect();
    session.login("alice", "secret");
    let in_service = proxy.config().to_yaml();
    proxy.reload(&format!("{in_service}\n").replace(
        "  - name: only\n",
        "  - name: only\n    maintenance: Back soon.\n",
    ));
    connect().command("USER alice", 421);
    session.command("PWD", 257);
    proxy.reload(&in_service);
    connect().login("alice", "secret");
}

#[test]
fn a_login_text_stands_before_what_the_server_says_itself() {
    let stage = Stage::before(
        Script::new().on("PASS", [reply("230-Hello\r\n230 alice")]),
        |site| site.set("login_text", "\"Authorised use only.\\nBy order.\""),
        |config| config,
    );
    let mut client = stage.clear();
    client.command("USER alice", 331);
    client.send("PASS secret");
    let reply = client.reply();
    assert_eq!(reply.code, 230);
    assert_eq!(
        reply.text.lines().collect::<Vec<_>>(),
        [
            "230-Authorised use only.",
            "230-By order.",
            "230-Hello",
            "230 alice"
        ]
    );
    client.command("NOOP", 200);
}

#[test]
fn a_real_servers_login_has_the_text_too() {
    let front = Front::new(&[]);
    let server = vsftpd::start(Security::Plain);
    let site = Site::default("only", server.address()).set("login_text", "Authorised use only.");
    let proxy = Proxy::start(front.config().tls("required", "false").site(&site));
    let mut client = Raw::connect(proxy.explicit());
    client.expect(220);
    client.command(&format!("USER {}", server.user()), 331);
    let text = client.command(&format!("PASS {}", server.password()), 230);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, ["230-Authorised use only.", "230 Login successful."]);
    client.command("PWD", 257);
}
