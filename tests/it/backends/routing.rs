//! Which site serves a login, and what its backend is told as USER: by the user's prefix, HOST, SNI, or none of them.

use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::proxy::Proxy;
use testkit::raw::Raw;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// Three sites: `a` is the default, `b` has a wildcard, `c` a host that the wildcard would cover.
struct Deployment {
    front: Front,
    proxy: Proxy,
    a: Backend,
    b: Backend,
    c: Backend,
}

/// The names of sites that are in the certificate too, so that a client can send them as server names.
const HOSTS: [&str; 4] = [
    "ftpa.test",
    "ftpb.test",
    "x.branch.test",
    "special.branch.test",
];

impl Deployment {
    fn new() -> Self {
        Self::with("{user}", |config| config)
    }

    /// With this template at site `b`.
    fn with(template: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&HOSTS);
        let [a, b, c] = [(); 3].map(|()| Backend::start(Script::new()));
        let config = front
            .config()
            .site(&Site::default("a", a.address()))
            .site(&Site::hosts("b", &["ftpb.test", "*.branch.test"], b.address()).user(template))
            .site(&Site::hosts("c", &["Special.Branch.test"], c.address()));
        let proxy = Proxy::start(change(config));
        Self {
            front,
            proxy,
            a,
            b,
            c,
        }
    }

    /// Which site got a login since the last time, and what its backend was told.
    fn served(&self, client: &mut Raw, user: &str) -> (&'static str, String) {
        let backends = [("a", &self.a), ("b", &self.b), ("c", &self.c)];
        let before = backends.map(|(_, backend)| backend.users().len());
        client.command(&format!("USER {user}"), 331);
        let mut served = backends
            .iter()
            .zip(before)
            .flat_map(|((site, backend), seen)| {
                backend
                    .users()
                    .into_iter()
                    .skip(seen)
                    .map(|user| (*site, user))
            });
        let first = served.next().expect("331 came from a backend");
        assert_eq!(served.next(), None, "one login, one backend");
        first
    }

    fn connections(&self) -> usize {
        self.a.connections() + self.b.connections() + self.c.connections()
    }
}

fn to(site: &'static str, user: &str) -> (&'static str, String) {
    (site, user.to_owned())
}

#[test]
fn the_host_before_the_first_bar_chooses_the_site_and_all_behind_it_is_the_user() {
    let deployment = Deployment::new();
    for (sent, site, user) in [
        ("ftpb.test|alice", "b", "alice"),
        ("FTPB.Test|Alice", "b", "Alice"),
        ("ftpb.test.|alice", "b", "alice"),
        ("ftpb.test|anonymous", "b", "anonymous"),
        ("ftpb.test|", "b", "anonymous"),
        ("ftpb.test|alice|bob", "b", "alice|bob"),
        ("ftpb.test|ftpa.test|bob", "b", "ftpa.test|bob"),
        ("ftpb.test|CORP\\alice", "b", "CORP\\alice"),
        ("ftpb.test|alice@corp.example", "b", "alice@corp.example"),
        ("ftpb.test| al ice ", "b", " al ice "),
        // The same letter in both of its forms, which must not be made one, and a bar that isn't ASCII's.
        (
            "ftpb.test|\u{e9}\u{6237}e\u{301}\u{ff5c}",
            "b",
            "\u{e9}\u{6237}e\u{301}\u{ff5c}",
        ),
        ("ftpb.test|a%7Cb", "b", "a%7Cb"),
        ("Lyon.Branch.Test|alice", "b", "alice"),
        ("special.branch.test|alice", "c", "alice"),
    ] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        assert_eq!(
            deployment.served(&mut client, sent),
            to(site, user),
            "{sent}"
        );
        let mut client = deployment.front.implicit(&deployment.proxy);
        assert_eq!(
            deployment.served(&mut client, sent),
            to(site, user),
            "{sent}"
        );
    }
}

#[test]
fn users_without_a_bar_reach_the_default_site_as_they_are() {
    let deployment = Deployment::new();
    for user in [
        "alice",
        "CORP\\alice",
        "alice@corp.example",
        "alice@ftpb.test",
        "ftpb.test\\alice",
        "ftpb.test",
        "\u{fc}ser",
    ] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        assert_eq!(deployment.served(&mut client, user), to("a", user));
    }
}

#[test]
fn a_host_that_no_site_has_is_refused_without_dialling_anybody() {
    let deployment = Deployment::new();
    for (number, user) in [
        "nowhere.test|alice",
        "|alice",
        "|",
        "proxy.test|alice",
        "branch.test|alice",
        "a.b.branch.test|alice",
        "*.branch.test|alice",
        "ftpb.test |alice",
        " ftpb.test|alice",
        "ftpb.test:21|alice",
        "alice@ftpb.test|alice",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = deployment.front.explicit(&deployment.proxy);
        let answer = client.command(&format!("USER {user}"), 530);
        assert_eq!(answer, "530 Valid hostname is expected.");
        assert_eq!(deployment.connections(), number, "{user}");
        deployment.proxy.wait_for_logs(number + 1, |line| {
            line.field("result").as_deref() == Some("unknown_host")
                && line.field("site").as_deref() == Some("none")
        });
        // The connection is as good as before.
        assert_eq!(deployment.served(&mut client, "alice"), to("a", "alice"));
    }
    let refused = "portcullis_logins_total{result=\"unknown_host\",site=\"none\"}";
    assert_eq!(deployment.proxy.metrics().get(refused), Some(&11.0));
    deployment.proxy.wait_for_log(|line| {
        line.field("result").as_deref() == Some("unknown_host")
            && line.field("user").as_deref() == Some("nowhere.test|alice")
    });
}

#[test]
fn without_a_default_site_every_login_has_to_name_a_host() {
    let front = Front::new(&["ftpb.test"]);
    let backend = Backend::start(Script::new());
    let site = Site::hosts("b", &["ftpb.test"], backend.address());
    let proxy = Proxy::start(front.config().site(&site));
    let mut client = front.explicit(&proxy);
    let answer = client.command("USER alice", 530);
    assert_eq!(answer, "530 Valid hostname is expected.");
    assert_eq!(backend.connections(), 0);
    client.command("USER ftpb.test|alice", 331);
    assert_eq!(backend.users(), ["alice"]);
}

#[test]
fn host_chooses_the_site_and_only_before_login() {
    let deployment = Deployment::new();
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.command("HOST FTPB.test.", 220);
    assert_eq!(deployment.served(&mut client, "alice"), to("b", "alice"));
    client.command("PASS secret", 230);
    client.command("HOST ftpa.test", 503);
    client.command("PWD", 257);

    // The last one counts, also when a backend waits for PASS already.
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.command("HOST lyon.branch.test", 220);
    client.command("HOST special.branch.test", 220);
    assert_eq!(deployment.served(&mut client, "bob"), to("c", "bob"));
    client.command("HOST ftpb.test", 220);
    assert_eq!(deployment.served(&mut client, "bob"), to("b", "bob"));
    client.command("PASS secret", 230);
}

#[test]
fn host_refuses_what_no_site_has_and_takes_the_proxys_own_name_as_no_choice() {
    let deployment = Deployment::new();
    let mut client = deployment.front.explicit(&deployment.proxy);
    for unknown in ["nowhere.test", "branch.test", "10.1.2.3", "[fd00::1]"] {
        client.command(&format!("HOST {unknown}"), 504);
    }
    for nonsense in ["", "two words", "ftpb.test:21", "::1", "ftpb.test|x"] {
        client.command(&format!("HOST {nonsense}"), 501);
    }
    assert_eq!(deployment.served(&mut client, "alice"), to("a", "alice"));

    let own_address = deployment.proxy.explicit().ip().to_string();
    for own in [NAME, "Proxy.Test.", &own_address] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        client.command(&format!("HOST {own}"), 220);
        assert_eq!(deployment.served(&mut client, "alice"), to("a", "alice"));
    }
}

#[test]
fn host_before_auth_survives_auth() {
    let deployment = Deployment::new();
    let mut client = Raw::connect(deployment.proxy.explicit());
    client.expect(220);
    client.command("HOST ftpb.test", 220);
    client.auth_tls(&deployment.front.tls(NAME));
    assert_eq!(deployment.served(&mut client, "alice"), to("b", "alice"));
}

#[test]
fn the_server_name_of_the_handshake_chooses_the_site_on_both_listeners() {
    let deployment = Deployment::new();
    for (name, site) in [
        ("ftpb.test", "b"),
        ("x.branch.test", "b"),
        ("special.branch.test", "c"),
        // No site's: what clients send that know the proxy by its own name.
        (NAME, "a"),
        ("ftpa.test", "a"),
    ] {
        let mut client = deployment.front.implicit_as(&deployment.proxy, name);
        assert_eq!(deployment.served(&mut client, "alice"), to(site, "alice"));
        let tls = deployment.front.tls(name);
        let mut client = Raw::connect_auth_tls(deployment.proxy.explicit(), &tls);
        assert_eq!(deployment.served(&mut client, "alice"), to(site, "alice"));
    }
}

#[test]
fn the_prefix_beats_host_and_host_beats_the_server_name() {
    let deployment = Deployment::with("{host}|{user}", |config| config);
    // All three name a site: the prefix decides.
    let mut client = deployment.front.implicit_as(&deployment.proxy, "ftpb.test");
    client.command("HOST x.branch.test", 220);
    let served = deployment.served(&mut client, "special.branch.test|alice");
    assert_eq!(served, to("c", "alice"));
    // HOST and the server name differ within one site: HOST decides.
    let mut client = deployment.front.implicit_as(&deployment.proxy, "ftpb.test");
    client.command("HOST x.branch.test", 220);
    let served = deployment.served(&mut client, "alice");
    assert_eq!(served, to("b", "x.branch.test|alice"));
    // The server name names no site, HOST does.
    let mut client = deployment.front.implicit(&deployment.proxy);
    client.command("HOST special.branch.test", 220);
    assert_eq!(deployment.served(&mut client, "alice"), to("c", "alice"));
    // Another site than that of the server name is refused by RFC 7151 section 4, and changes nothing.
    let mut client = deployment.front.implicit_as(&deployment.proxy, "ftpb.test");
    client.command("HOST special.branch.test", 504);
    let served = deployment.served(&mut client, "alice");
    assert_eq!(served, to("b", "ftpb.test|alice"));
    // A prefix that leads nowhere is not made up for by the others.
    let mut client = deployment.front.implicit_as(&deployment.proxy, "ftpb.test");
    client.command("HOST x.branch.test", 220);
    client.command("USER nowhere.test|alice", 530);
}

#[test]
fn the_backend_is_told_the_user_as_the_site_wants_it() {
    for (template, named, told, plain) in [
        (
            "{host}|{user}",
            "FTPB.test|al|ice",
            "ftpb.test|al|ice",
            "ftpb.test|alice",
        ),
        (
            "{user}@{host}",
            "x.branch.test.|al@corp",
            "al@corp@x.branch.test",
            "alice@ftpb.test",
        ),
        (
            "CORP\\{user}",
            "ftpb.test|\u{e9}",
            "CORP\\\u{e9}",
            "CORP\\alice",
        ),
    ] {
        let deployment = Deployment::with(template, |config| config);
        let mut client = deployment.front.explicit(&deployment.proxy);
        assert_eq!(deployment.served(&mut client, named), to("b", told));
        let mut client = deployment.front.implicit_as(&deployment.proxy, "ftpb.test");
        assert_eq!(deployment.served(&mut client, "alice"), to("b", plain));
    }
}

#[test]
fn other_forms_of_user_names_count_where_they_are_switched_on_and_name_a_site() {
    let deployment = Deployment::with("{user}", |config| {
        config.set(
            "user_forms",
            "{user_at_host: true, host_backslash_user: true}",
        )
    });
    for (sent, site, user) in [
        ("alice@ftpb.test", "b", "alice"),
        (
            "alice@corp.example@Special.Branch.test",
            "c",
            "alice@corp.example",
        ),
        ("ftpb.test\\alice", "b", "alice"),
        ("ftpb.test\\CORP\\alice", "b", "CORP\\alice"),
        (
            "ftpb.test|alice@special.branch.test",
            "b",
            "alice@special.branch.test",
        ),
        ("alice@corp.example", "a", "alice@corp.example"),
        ("CORP\\alice", "a", "CORP\\alice"),
    ] {
        let mut client = deployment.front.explicit(&deployment.proxy);
        assert_eq!(
            deployment.served(&mut client, sent),
            to(site, user),
            "{sent}"
        );
    }
    // They are prefixes of a kind: HOST yields to them.
    let mut client = deployment.front.explicit(&deployment.proxy);
    client.command("HOST ftpb.test", 220);
    let served = deployment.served(&mut client, "alice@special.branch.test");
    assert_eq!(served, to("c", "alice"));
}
