//! `portcullis explain`, held against what becomes of real logins, and what it says.

use serde_yaml::Value;
use testkit::config::Site;
use testkit::front::{Front, NAME};
use testkit::proxy::Proxy;
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::{self, Start};

/// The names of sites that are in the certificate too, so that a client can send them as server names.
const HOSTS: [&str; 2] = ["ftpb.test", "x.branch.test"];

/// The backends of [`deployment`], by the site or group that they are for.
const SERVED: [&str; 5] = ["a", "b", "c", "moved", "closed"];

/// A default site, sites with hosts, a wildcard and groups, one that is closed to unknown users, one for other networks, and
/// one that is out of service.
struct Deployment {
    front: Front,
    proxy: Proxy,
    backends: Vec<Backend>,
}

/// What becomes of a login.
#[derive(Debug, PartialEq)]
enum Fate {
    /// This backend is told this user.
    Served { backend: String, user: String },
    /// The client is told this.
    Refused(String),
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&HOSTS);
        let backends: Vec<Backend> = SERVED.map(|_| Backend::start(Script::new())).into();
        let [a, b, c, moved, closed] = [0, 1, 2, 3, 4].map(|number| backends[number].address());
        let group = |name: &str, users: &str, backend| {
            format!("[{{name: {name}, users: {users}, backends: [{{address: \"{backend}\"}}]}}]")
        };
        let config = front
            .config()
            .set(
                "user_forms",
                "{user_at_host: true, host_backslash_user: true}",
            )
            .set("guard", "{allow: [127.0.0.0/8]}")
            .site(&Site::default("a", a))
            .site(&Site::hosts("b", &["ftpb.test", "*.branch.test"], b).user("{host}|{user}"))
            .site(
                &Site::hosts("c", &["ftpc.test"], c)
                    .set("groups", &group("moved", "[alice, \"acme-*\"]", moved)),
            )
            .site(
                &Site::hosts("closed", &["closed.test"], c)
                    .set("groups", &group("known", "[alice]", closed))
                    .set("unknown_users", "refuse"),
            )
            .site(
                &Site::hosts("elsewhere", &["elsewhere.test"], a)
                    .set("clients", "{allow: [10.0.0.0/8]}"),
            )
            .site(
                &Site::hosts("down", &["down.test"], a).set("maintenance", "\"Down.\\nFor long.\""),
            );
        Self {
            proxy: Proxy::start(config),
            front,
            backends,
        }
    }

    fn explain(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = program::command()
            .args(["explain", "--format", "json", "--config"])
            .arg(self.proxy.config_file())
            .args(arguments)
            .output()
            .expect("cargo built it");
        // JSON is YAML, too.
        let said = serde_yaml::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), said)
    }

    fn explained(&self, user: &str, host: Option<&str>, sni: &str) -> Fate {
        let listener = self.proxy.implicit().to_string();
        let mut arguments = vec!["--listener", listener.as_str(), "--sni", sni];
        arguments.extend(host.into_iter().flat_map(|host| ["--host", host]));
        arguments.push(user);
        let (code, said) = self.explain(&arguments);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(reply) = text(&said["reply"]) {
            assert_eq!(code, Some(1), "{said:?}");
            assert_eq!(said["served"], Value::from(false));
            return Fate::Refused(reply);
        }
        let is_known = said["site"]["unknown_user"] == false;
        assert_eq!(code, Some(if is_known { 0 } else { 1 }), "{said:?}");
        assert_eq!(said["served"], Value::from(is_known));
        Fate::Served {
            backend: text(&said["site"]["backends"][0]).expect("a backend"),
            user: text(&said["site"]["sent_user"]).expect("a user"),
        }
    }

    fn real(&self, user: &str, host: Option<&str>, sni: &str) -> Fate {
        let mut client = self.front.implicit_as(&self.proxy, sni);
        if let Some(host) = host {
            client.send(&format!("HOST {host}"));
            client.reply();
        }
        let before: Vec<usize> = self.backends.iter().map(|it| it.users().len()).collect();
        client.send(&format!("USER {user}"));
        let reply = client.reply();
        let told = self
            .backends
            .iter()
            .zip(before)
            .find_map(|(backend, before)| {
                let user = backend.users().into_iter().nth(before)?;
                Some((backend.address().to_string(), user))
            });
        match told {
            Some((backend, user)) => {
                assert_eq!(reply.code, 331);
                Fate::Served { backend, user }
            }
            None => Fate::Refused(reply.text.replace("\r\n", "\n")),
        }
    }
}

#[test]
fn what_is_explained_is_what_happens_for_every_way_of_naming_a_site() {
    let deployment = Deployment::new();
    let named = [
        "alice",
        "ftpb.test|alice",
        "FTPC.test.|acme-bob",
        "ftpc.test|bob",
        "closed.test|alice",
        "closed.test|mallory",
        "elsewhere.test|alice",
        "down.test|alice",
        "nowhere.test|alice",
        "|alice",
        "ftpb.test|",
        "ftpc.test\\alice",
        "CORP\\alice",
        "alice@ftpb.test",
        "alice@example.com",
        "ftpb.test|alice@ftpc.test",
        "two words",
    ];
    let hosts = [
        None,
        Some("ftpc.test"),
        Some("nowhere.test"),
        Some(NAME),
        Some("[bad"),
    ];
    for user in named {
        for host in hosts {
            for sni in [NAME, HOSTS[0], HOSTS[1]] {
                assert_eq!(
                    deployment.explained(user, host, sni),
                    deployment.real(user, host, sni),
                    "USER {user}, HOST {host:?}, SNI {sni}"
                );
            }
        }
    }
}

#[test]
fn an_explanation_names_the_rule_that_counts_and_those_that_do_not() {
    let deployment = Deployment::new();
    let (code, said) = deployment.explain(&["--sni", "ftpb.test", "ftpc.test|bob"]);
    assert_eq!(code, Some(0));
    let rules = said["rules"].as_sequence().expect("a list");
    let found = rules.iter().map(|it| {
        let text = |key: &str| it[key].as_str().expect("text").to_owned();
        let decides = it["decides"].as_bool().expect("a truth");
        (text("rule"), text("finding"), decides)
    });
    let expected = [
        ("host|user", "ftpc.test, of site c", true),
        ("host\\user", "no configured host in USER", false),
        ("user@host", "no configured host in USER", false),
        ("HOST", "no HOST", false),
        ("SNI", "ftpb.test, of site b", false),
        ("default site", "site a", false),
    ];
    let expected =
        expected.map(|(rule, finding, decides)| (rule.to_owned(), finding.to_owned(), decides));
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn for_people_it_is_a_line_for_each_subject() {
    let deployment = Deployment::new();
    let output = program::command()
        .args(["explain", "--config"])
        .arg(deployment.proxy.config_file())
        .args(["--from", "192.0.2.7", "ftpc.test|acme-bob"])
        .output()
        .expect("cargo built it");
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{said}");
    let explicit = deployment.proxy.explicit();
    let moved = deployment.backends[3].address();
    for line in [
        format!("listener     {explicit}, explicit TLS"),
        "client       192.0.2.7".to_owned(),
        "site by      -> host|user     ftpc.test, of site c".to_owned(),
        "site         c".to_owned(),
        "user         acme-bob".to_owned(),
        "group        moved".to_owned(),
        "USER sent    acme-bob".to_owned(),
        format!("backends     1. {moved}, balance: first"),
        format!("data ports   {}, ports 50000-50000", explicit.ip()),
        "served       the backend decides about the password".to_owned(),
    ] {
        assert!(said.lines().any(|it| it == line), "{line}\n{said}");
    }
}

#[test]
fn what_can_not_be_explained_is_said_with_exit_code_2() {
    let deployment = Deployment::new();
    for (arguments, message) in [
        (
            &["--listener", "192.0.2.1:21", "alice"][..],
            "the configuration has no such listener; it has ",
        ),
        (&["--sni", "a b", "alice"], "--sni: `a b` isn't a host name"),
        (
            &["--config", "missing.yaml", "alice"],
            "missing.yaml: the configuration can't be read",
        ),
        (
            &["al\rice"],
            "can't be sent as USER: a CR or NUL inside the line",
        ),
    ] {
        let mut command = program::command();
        command.arg("explain");
        if !arguments.contains(&"--config") {
            command.arg("--config").arg(deployment.proxy.config_file());
        }
        let output = command.args(arguments).output().expect("cargo built it");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn a_host_that_is_refused_decides_nothing() {
    let deployment = Deployment::new();
    // It contradicts the server name.
    let (code, said) = deployment.explain(&["--host", "ftpc.test", "--sni", "ftpb.test", "bob"]);
    assert_eq!(code, Some(0));
    assert_eq!(said["host_reply"], Value::from("504 Host not known here."));
    assert_eq!(
        said["rules"][3]["finding"],
        Value::from("HOST names no site")
    );
    assert_eq!(said["site"]["name"], Value::from("b"));
}
