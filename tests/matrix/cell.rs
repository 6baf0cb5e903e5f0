//! One cell of the matrix: a client, a server, a leg, and a proxy of its own between them.

use std::fmt;

use tempfile::TempDir;

use crate::action::{Action, Scene};
use crate::client::Client;
use crate::expectation::{self, Cannot};
use crate::job::Login;
use crate::leg::{Family, Leg};
use crate::server::{Kind, Running};
use crate::support::certs::{Authority, PairFiles};
use crate::support::clients::DataMode;
use crate::support::config::{Config, Site};
use crate::support::proxy::Proxy;

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
    /// It works directly.
    Lost(&'static str),
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
        let house = House::start(self, server, authority);
        let mut outcome = Outcome::default();
        for (number, &action) in self.actions.iter().enumerate() {
            match self.try_action(action, &format!("{id}-{number}"), server, &house) {
                Ok(verdict) => outcome.verdicts.push((action, verdict)),
                Err(report) => outcome
                    .failures
                    .push(format!("=== {self}: {action}: {report}")),
            }
        }
        let fails = expectation::cannot_over(self.client, self.leg).is_some();
        if !fails && let Err(report) = self.check_handshakes(&house.proxy) {
            outcome.failures.push(format!("=== {self}: {report}"));
        }
        outcome
    }

    fn try_action(
        &self,
        action: Action,
        id: &str,
        server: &Running,
        house: &House,
    ) -> Result<Verdict, String> {
        if let Some(reason) = self.client.cannot(action) {
            return Ok(Verdict::NotTried(reason));
        }
        let through = self.perform(action, format!("{id}-through"), &house.login, server);
        if let Some(reason) = expectation::cannot_over(self.client, self.leg) {
            return match through {
                Ok(_) => Err(format!("works, but is declared not to: {reason}")),
                Err(_) => Ok(Verdict::Fails(reason)),
            };
        }
        let expected = expectation::cannot(self.client, self.server, action);
        let report = match (expected, through) {
            (None, Ok(said)) => return self.check_data_mode(&said).map(|()| Verdict::Works),
            (Some(cannot), Ok(_)) => {
                return Err(format!("works, but is declared not to: {cannot:?}"));
            }
            (_, Err(report)) => report,
        };
        let directly = self.directly(action, id, server, house);
        match (expected, directly) {
            (Some(Cannot::AlsoDirectly(reason)), Err(_)) => Ok(Verdict::Cannot(reason)),
            (Some(Cannot::ThroughPortcullis(reason)), Ok(_)) => Ok(Verdict::Lost(reason)),
            (_, directly) => {
                let directly = match directly {
                    Ok(_) => "works",
                    Err(_) => "fails, too",
                };
                Err(format!(
                    "{report}\n(directly it {directly})\n{}",
                    house.log()
                ))
            }
        }
    }

    /// Without Portcullis, in clear text, as every server serves it.
    fn directly(
        &self,
        action: Action,
        id: &str,
        server: &Running,
        house: &House,
    ) -> Result<String, String> {
        let login = Login {
            address: server.address(),
            leg: Leg::PLAIN,
            ..house.login.clone()
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

    /// The client opened its data connections as it was told to, if it opened any.
    fn check_data_mode(&self, said: &str) -> Result<(), String> {
        let other = [DataMode::Pasv, DataMode::Epsv, DataMode::Active]
            .map(|data| Leg { data, ..self.leg }.reply())
            .into_iter()
            .find(|reply| *reply != self.leg.reply() && said.contains(reply));
        match other {
            Some(reply) => Err(format!("the client was told {reply:?}:\n{said}")),
            None => Ok(()),
        }
    }

    /// All sessions of the cell were protected as they should, and resumed if the client does that.
    fn check_handshakes(&self, proxy: &Proxy) -> Result<(), String> {
        let metrics = proxy.metrics();
        let sum = |labels: &[&str], name: &str| -> f64 {
            metrics
                .iter()
                .filter(|(series, _)| {
                    series.starts_with(name) && labels.iter().all(|label| series.contains(label))
                })
                .map(|(_, value)| value)
                .sum()
        };
        let control = "portcullis_tls_handshakes_total{";
        let data = "portcullis_data_tls_handshakes_total{";
        let sessions = sum(&[], "portcullis_sessions_total{");
        let done = |version: &str| {
            sum(
                &["result=\"ok\"", &format!("version=\"{version}\"")],
                control,
            )
        };
        let expected = match self.leg.protection.version() {
            None => (0.0, 0.0),
            Some(version) if version.label() == "1.2" => (sessions, 0.0),
            Some(_) => (0.0, sessions),
        };
        let found = (done("1.2"), done("1.3"));
        if found != expected {
            return Err(format!(
                "of {sessions} sessions, {found:?} have TLS 1.2 and 1.3"
            ));
        }
        let resumed = sum(&["leg=\"client\"", "kind=\"resumed\""], data);
        let full = sum(&["leg=\"client\"", "kind=\"full\""], data);
        let version = self.leg.protection.version();
        let should = version.is_some_and(|version| self.client.resumes(version));
        if (resumed > 0.0) != should {
            return Err(format!(
                "of the data connections, {resumed} resumed the session, and {full} did not"
            ));
        }
        Ok(())
    }
}

/// A proxy in front of one server, with a certificate for its own address.
struct House {
    proxy: Proxy,
    login: Login,
    _directory: TempDir,
}

impl House {
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
        let mut config = Config::new(&files).tls("required", "false").site(&site);
        if cell.leg.family == Family::V6 {
            // The one IPv6 address is shared with everybody.
            config = config.passive_ports("0");
            config = config.ipv6(if cell.leg.protection.implicit() {
                "implicit"
            } else {
                "explicit"
            });
        }
        let address = config.explicit().ip().to_string();
        authority.issue(&[&address, "::1"]).write(directory.path());
        let proxy = Proxy::start(config);
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
