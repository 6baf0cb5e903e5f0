//! One cell of the matrix: a client, a server, a leg, and a proxy of its own between them.

use std::fmt;

use tempfile::TempDir;
use testkit::certs::{Authority, PairFiles};
use testkit::clients::DataMode;
use testkit::config::{Config, Site};
use testkit::proxy::Proxy;

use crate::action::{Action, Scene};
use crate::client::{Client, Resumption};
use crate::expectation::{self, Failure};
use crate::job::Login;
use crate::leg::{Family, Leg, Version};
use crate::server::{Kind, Running};

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// In front.
    pub client: Client,
    /// Behind.
    pub server: Kind,
    /// Between client and Portcullis.
    pub leg: Leg,
    /// What is done.
    pub actions: &'static [Action],
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ({})", self.client, self.server, self.leg)
    }
}

/// What came of one action in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Works,
    /// It was not tried: the client has no way to.
    NotTried(&'static str),
    /// It fails directly, too.
    Cannot(&'static str),
    /// The client fails over this leg, whatever is done.
    Fails(&'static str),
}

/// What came of a cell: a verdict for each action, or reports of what is not as declared.
#[derive(Debug, Default)]
pub struct Outcome {
    /// As declared.
    pub verdicts: Vec<(Action, Verdict)>,
    /// Not as declared: for people to read.
    pub failures: Vec<String>,
}

impl Cell {
    /// Tries everything. `id` is in the names of no other cell's directories.
    pub fn run(&self, id: &str, server: &Running, authority: &Authority) -> Outcome {
        let deployment = Deployment::start(self, server, authority);
        let mut outcome = Outcome::default();
        for (number, &action) in self.actions.iter().enumerate() {
            match self.try_action(action, &format!("{id}-{number}"), server, &deployment) {
                Ok(verdict) => outcome.verdicts.push((action, verdict)),
                Err(report) => outcome
                    .failures
                    .push(format!("=== {self}: {action}: {report}")),
            }
        }
        if expectation::cannot_over(self.client, self.leg).is_none()
            && let Err(report) = self.check_totals(&Counters::of(&deployment.proxy))
        {
            let log = deployment.log();
            outcome
                .failures
                .push(format!("=== {self}: {report}\n{log}"));
        }
        outcome
    }

    fn try_action(
        &self,
        action: Action,
        id: &str,
        server: &Running,
        deployment: &Deployment,
    ) -> Result<Verdict, String> {
        if let Some(reason) = self.client.cannot(action) {
            return Ok(Verdict::NotTried(reason));
        }
        let before = Counters::of(&deployment.proxy);
        let through = self.perform(action, format!("{id}-through"), &deployment.login, server);
        if let Some(failure) = expectation::cannot_over(self.client, self.leg) {
            return failed_as(failure, through).map(|()| Verdict::Fails(failure.reason));
        }
        let Some(expected) = expectation::cannot(self.server, action) else {
            let checked = through.and_then(|said| {
                self.check_data_mode(action, &said)?;
                self.check_resumption(action, &before, &Counters::of(&deployment.proxy))
            });
            return match checked {
                Ok(()) => Ok(Verdict::Works),
                Err(report) => {
                    let directly = match self.directly(action, id, server, deployment) {
                        Ok(_) => "works",
                        Err(_) => "fails, too",
                    };
                    Err(format!(
                        "{report}\n(directly it {directly})\n{}",
                        deployment.log()
                    ))
                }
            };
        };
        failed_as(expected, through)?;
        failed_as(expected, self.directly(action, id, server, deployment))?;
        Ok(Verdict::Cannot(expected.reason))
    }

    /// Without Portcullis, in clear text, as every server serves it.
    fn directly(
        &self,
        action: Action,
        id: &str,
        server: &Running,
        deployment: &Deployment,
    ) -> Result<String, String> {
        let login = Login {
            address: server.address(),
            leg: Leg::PLAIN,
            ..deployment.login.clone()
        };
        self.perform(action, format!("{id}-direct"), &login, server)
    }

    fn perform(
        &self,
        action: Action,
        id: String,
        login: &Login,
        server: &Running,
    ) -> Result<String, String> {
        action.perform(&Scene {
            client: self.client,
            login,
            server,
            id,
        })
    }

    /// The client opened its data connections as it was told to.
    fn check_data_mode(&self, action: Action, said: &str) -> Result<(), String> {
        if !self.client.shows_dialogue() {
            return Ok(());
        }
        let other = [DataMode::Pasv, DataMode::Epsv, DataMode::Active]
            .map(|data| Leg { data, ..self.leg }.reply())
            .into_iter()
            .find(|reply| *reply != self.leg.reply() && said.contains(reply));
        if let Some(reply) = other {
            return Err(format!("the client was told {reply:?}:\n{said}"));
        }
        if action.carries_data() && !said.contains(self.leg.reply()) {
            return Err(format!(
                "the client wasn't told {:?}:\n{said}",
                self.leg.reply()
            ));
        }
        Ok(())
    }

    /// Data connections resumed the TLS session of their control connection if that is what the client does.
    fn check_resumption(
        &self,
        action: Action,
        before: &Counters,
        after: &Counters,
    ) -> Result<(), String> {
        let Some(version) = self.leg.protection.version() else {
            return Ok(());
        };
        let resumed = after.resumed - before.resumed;
        let full = after.full - before.full;
        let as_declared = match self.client.resumption(version, action) {
            Resumption::Always => full == 0.0 && (resumed > 0.0 || !action.carries_data()),
            Resumption::Sometimes(_) => resumed + full > 0.0 || !action.carries_data(),
            Resumption::Never(_) => resumed == 0.0 && (full > 0.0 || !action.carries_data()),
        };
        if as_declared {
            return Ok(());
        }
        Err(format!(
            "of the data connections, {resumed} resumed the session, and {full} did not"
        ))
    }

    /// Every session was protected as it should be, and no client got over a failed transfer by trying again.
    fn check_totals(&self, counters: &Counters) -> Result<(), String> {
        let sessions = counters.sessions;
        let expected = match self.leg.protection.version() {
            None => (0.0, 0.0),
            Some(Version::Tls12) => (sessions, 0.0),
            Some(Version::Tls13) => (0.0, sessions),
        };
        let found = (counters.tls_1_2, counters.tls_1_3);
        if found != expected {
            return Err(format!(
                "of {sessions} sessions, {found:?} have TLS 1.2 and 1.3"
            ));
        }
        if counters.failed > 0.0 {
            return Err(format!("{} transfers failed", counters.failed));
        }
        Ok(())
    }
}

/// Whether it failed, and in the declared way.
fn failed_as(failure: Failure, outcome: Result<String, String>) -> Result<(), String> {
    match outcome {
        Ok(_) => Err(format!("works, but is declared not to: {}", failure.reason)),
        Err(report) if failure.signs.iter().any(|sign| report.contains(sign)) => Ok(()),
        Err(report) => Err(format!(
            "fails, but without one of {:?}: {report}",
            failure.signs
        )),
    }
}

/// What the proxy has counted so far.
#[derive(Debug)]
struct Counters {
    sessions: f64,
    tls_1_2: f64,
    tls_1_3: f64,
    resumed: f64,
    full: f64,
    failed: f64,
}

impl Counters {
    fn of(proxy: &Proxy) -> Self {
        let metrics = proxy.metrics();
        let sum = |name: &str, labels: &[&str]| -> f64 {
            metrics
                .iter()
                .filter(|(series, _)| {
                    series.starts_with(&format!("portcullis_{name}{{"))
                        && labels.iter().all(|label| series.contains(label))
                })
                .map(|(_, value)| value)
                .sum()
        };
        let data = |kind| {
            let kind = format!("kind=\"{kind}\"");
            sum("data_tls_handshakes_total", &["leg=\"client\"", &kind])
        };
        let control = |version| sum("tls_handshakes_total", &[&format!("version=\"{version}\"")]);
        let transfers = |verdict| sum("transfers_total", &[&format!("verdict=\"{verdict}\"")]);
        Self {
            sessions: sum("sessions_total", &[]),
            tls_1_2: control("1.2"),
            tls_1_3: control("1.3"),
            resumed: data("resumed"),
            full: data("full"),
            // Those that the server refuses are not among them, and a handshake that breaks off because the client has
            // heard so isn't either.
            failed: transfers("failed_client") + transfers("failed_backend") + transfers("aborted"),
        }
    }
}

/// What the program has without `passive.ports`: programs that share a session between connections take turns at a port
/// for whole transfers.
const DEFAULT_PORTS: &str = "30000-30063";

/// A proxy in front of one server, with a certificate for its own address.
struct Deployment {
    proxy: Proxy,
    login: Login,
    _directory: TempDir,
}

impl Deployment {
    fn start(cell: &Cell, server: &Running, authority: &Authority) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let files = PairFiles {
            certificate: directory.path().join("tls.crt"),
            private_key: directory.path().join("tls.key"),
        };
        let ca = authority.write(directory.path());
        let mut site = Site::default("site", server.address());
        if cell.server.has_tls() {
            site = site
                .backend_tls("explicit", Some(&ca))
                .backend("server_name", SERVER_NAME);
        }
        if cell.client.omits_close_notify() {
            site = site.set("close_notify", "optional");
        }
        let mut config = Config::new(&files)
            .tls("required", "false")
            .passive_ports(DEFAULT_PORTS)
            .site(&site);
        if cell.leg.family == Family::V6 {
            // The one IPv6 address is shared with everybody.
            config = config.passive_ports("0");
            config = config.ipv6(if cell.leg.protection.implicit() {
                "implicit"
            } else {
                "explicit"
            });
        }
        if let Some(greeting) = cell.server.greeting() {
            config = config.set("greeting", greeting);
        }
        let address = config.explicit().ip().to_string();
        let names = [&address, "::1", "localhost"];
        authority.issue(&names).write(directory.path());
        let proxy = Proxy::start_program(env!("CARGO_BIN_EXE_portcullis"), config);
        let address = match (cell.leg.family, cell.leg.protection.implicit()) {
            (Family::V4, false) => proxy.explicit(),
            (Family::V4, true) => proxy.implicit(),
            (Family::V6, _) => proxy.ipv6(),
        };
        let (user, password) = server.account();
        let login = Login {
            address,
            user: user.to_owned(),
            password: password.to_owned(),
            leg: cell.leg,
            ca,
        };
        Self {
            proxy,
            login,
            _directory: directory,
        }
    }

    fn log(&self) -> String {
        let lines = self.proxy.log_lines();
        let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
        format!("--- portcullis\n{}", lines.join("\n"))
    }
}

/// The name in the certificates of the servers.
pub const SERVER_NAME: &str = "server.test";
