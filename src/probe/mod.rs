//! The command `probe`: walks the backends of a configuration as a session does, and reports what works and what to do where it
//! doesn't.
//!
//! `select` finds the backends that are meant, [`backend::check::probe`](crate::backend::check::probe) walks each of them,
//! a [`report`] has the words for what was found, and `human`, `json` and `nagios` write it down. No running Portcullis is
//! needed, no log is written and nothing is listened on, but for the data connections of `passive_mode: active`.

mod human;
mod json;
mod nagios;
pub mod report;
mod select;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Semaphore;

use self::report::{Name, Report};
use crate::backend::check::probe::{Goal, Target, probe, targets};
use crate::backend::{Pools, Registry};
use crate::base::task::Task;
use crate::config::{self, Probe, Timeouts};
use crate::net::resolve::Resolver;

/// How many backends are probed at a time.
const SIDE_BY_SIDE: usize = 16;

/// The parameters of a probe.
#[derive(Debug)]
pub struct Request<'a> {
    /// The configuration file.
    pub config: &'a Path,
    /// The only site to probe; `None` for all.
    pub site: Option<&'a str>,
    /// The only backend to probe; `None` for all.
    pub backend: Option<&'a str>,
    /// The user to log in as.
    pub user: Option<&'a str>,
    /// The file with the password.
    pub password_file: Option<&'a Path>,
    /// Whether to list a directory, too.
    pub list: bool,
    /// The directory to list; `None` for the one that the login leads to.
    pub path: Option<&'a str>,
    /// The format of the output.
    pub format: Format,
}

/// The format of a probe's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: a block of lines for each backend.
    Human,
    /// A JSON object for each backend, one a line.
    Json,
    /// One line for Nagios and others that have its plugins' format.
    Nagios,
}

/// The outcome of a probe.
#[derive(Debug)]
pub enum Outcome {
    /// Every backend was probed; how the worst of them is.
    Probed(Health),
    /// No backend was probed.
    Unusable(Unusable),
}

/// The health of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All that was asked for works.
    Works,
    /// The backend works, and needs to be looked at: its certificate expires soon.
    WorksForNow,
    /// The backend works as far as the login, which it has refused.
    LoginRefused,
    /// The backend fails at something else.
    Fails,
}

/// The reason why nothing can be probed.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the probe that is asked for, and writes the result to `output`. An output that takes no more, such as a pipe to `head`,
/// ends it.
pub fn run(request: &Request<'_>, output: &mut impl Write) -> Outcome {
    match prepare(request) {
        Err(unusable) => {
            if request.format == Format::Nagios {
                let _ = writeln!(output, "{}", nagios::unknown(&unusable));
            }
            Outcome::Unusable(unusable)
        }
        Ok((prepared, runtime)) => {
            let health = runtime.block_on(prepared.run(request.format, output));
            // A name lookup that is still running has no task left waiting for its result.
            runtime.shutdown_background();
            Outcome::Probed(health)
        }
    }
}

/// All data that a probe needs.
struct Prepared {
    targets: Vec<Target>,
    timeouts: Timeouts,
    goal: Goal,
}

fn prepare(request: &Request<'_>) -> Result<(Prepared, tokio::runtime::Runtime), Unusable> {
    let goal = goal(request)?;
    let settings = config::load(request.config).map_err(|error| Unusable(error.to_string()))?;
    let registry = Registry::default();
    let pools =
        Pools::load(&settings.sites, &registry).map_err(|error| Unusable(error.to_string()))?;
    let sites = select::sites(&settings.sites, request.site).map_err(Unusable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Unusable(format!("the runtime can't be started: {error}")))?;
    let found = runtime.block_on(targets(&pools, &sites, &settings.dns_servers, &registry));
    let prepared = Prepared {
        targets: select::backends(found, request.backend).map_err(Unusable)?,
        timeouts: settings.timeouts,
        goal,
    };
    Ok((prepared, runtime))
}

/// How far the probe goes.
fn goal(request: &Request<'_>) -> Result<Goal, Unusable> {
    let missing = |text: &str| Err(Unusable(text.to_owned()));
    let account = match (request.user, request.password_file) {
        (Some(user), Some(file)) => Some(Probe::read(user, file).map_err(Unusable)?),
        (Some(_), None) => {
            return missing(
                "--user needs --password-file FILE, a file with the password in one line",
            );
        }
        (None, Some(_)) => {
            return missing("--password-file needs --user NAME, whose password it is");
        }
        (None, None) => None,
    };
    let directory = request.path.map(config::list_argument).transpose();
    let directory = directory.map_err(Unusable)?;
    if directory.is_some() && !request.list {
        return missing("--path needs --list, whose directory it is");
    }
    match (account, request.list) {
        (None, true) => missing("--list needs a login: add --user NAME --password-file FILE"),
        (None, false) => Ok(Goal::Ready),
        (Some(account), false) => Ok(Goal::Login(account)),
        (Some(account), true) => Ok(Goal::List { account, directory }),
    }
}

impl Prepared {
    async fn run(self, format: Format, output: &mut impl Write) -> Health {
        let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
        let resolver = Arc::new(Resolver::default());
        let goal = Arc::new(self.goal);
        let timeouts = self.timeouts;
        let running = self.targets.into_iter().map(|target| {
            let (places, resolver) = (Arc::clone(&places), Arc::clone(&resolver));
            let goal = Arc::clone(&goal);
            Task::spawn(async move {
                // It is never closed.
                let _place = places.acquire_owned().await;
                let name = Name::of(&target);
                let record = probe(target, &resolver, &timeouts, &goal).await;
                Report::new(name, &record, SystemTime::now())
            })
        });
        let running: Vec<Task<Report>> = running.collect();
        let mut reports = Vec::with_capacity(running.len());
        for mut report in running {
            // One that has panicked has said so on stderr, and doesn't pass for one that works.
            let Some(report) = report.join().await else {
                return Health::Fails;
            };
            if write_report(&report, format, reports.is_empty(), output).is_err() {
                return Health::Fails;
            }
            reports.push(report);
        }
        let written = match format {
            Format::Human => write!(output, "{}", human::summary(&reports)),
            Format::Json => Ok(()),
            Format::Nagios => writeln!(output, "{}", nagios::line(&reports)),
        };
        let worst = reports.iter().map(Report::health).max();
        worst.filter(|_| written.is_ok()).unwrap_or(Health::Fails)
    }
}

/// As soon as it is there, in the formats that have something for each backend.
fn write_report(
    report: &Report,
    format: Format,
    first: bool,
    output: &mut impl Write,
) -> io::Result<()> {
    match format {
        Format::Human => {
            if !first {
                writeln!(output)?;
            }
            write!(output, "{}", human::block(report))?;
        }
        Format::Json => writeln!(output, "{}", json::line(report))?,
        Format::Nagios => {}
    }
    output.flush()
}
