//! Every step on which a session needs its backend, failing in every way: a fixed reply in time, one line in the log
//! that names site and stage, and in the end nothing is left of it.
//!
//! [`fault`] is the table, [`backend`] makes a backend with one fault, [`client`] leads a session into it; the tests
//! here run all faults against one proxy that has a site for each.

mod backend;
mod client;
mod fault;

use std::fmt::{self, Display};
use std::fs;

use rustls::version::{TLS12, TLS13};
use testkit::cells;
use testkit::certs::Authority;
use testkit::config::Site;
use testkit::front::Front;
use testkit::poll::poll;
use testkit::proxy::Proxy;
use testkit::resources;

use crate::program::Start;

use backend::Faulty;
use fault::{Fault, Outcome, Phase};

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
struct Cell {
    phase: Phase,
    fault: Fault,
    leg: Leg,
    outcome: Outcome,
}

/// The backend leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Plain,
    Tls,
}

impl Cell {
    /// All cells that can happen.
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for fault in Fault::ALL {
            for phase in Phase::ALL {
                for leg in [Leg::Plain, Leg::Tls] {
                    if leg == Leg::Plain && phase.needs_tls() {
                        continue;
                    }
                    if let Some(outcome) = phase.outcome(fault) {
                        cells.push(Self {
                            phase,
                            fault,
                            leg,
                            outcome,
                        });
                    }
                }
            }
        }
        cells
    }

    /// The site's name.
    fn site(&self) -> String {
        let Self {
            phase, fault, leg, ..
        } = self;
        format!("{phase:?}-{fault:?}-{leg:?}").to_lowercase()
    }
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            phase, fault, leg, ..
        } = self;
        write!(formatter, "{phase:?} {fault:?}, backend {leg:?}")
    }
}

/// One proxy with a site for each cell.
struct Deployment {
    front: Front,
    proxy: Proxy,
    cells: Vec<(Cell, Faulty)>,
}

impl Deployment {
    fn new() -> Self {
        let front = Front::new(&[]);
        let pair = Authority::new("authority of backends").issue(&["backend.test"]);
        let (old, new) = (pair.server_config(&[&TLS12]), pair.server_config(&[&TLS13]));
        let cells: Vec<_> = Cell::all()
            .into_iter()
            .map(|cell| (cell, Faulty::start(&cell, &old, &new)))
            .collect();
        let mut config = front
            .config()
            .passive_ports("50000-50127")
            .timeout("login", "8s");
        for step in ["backend_connect", "backend_reply", "tls_handshake"] {
            config = config.timeout(step, STEP);
        }
        for step in ["data_connect", "data_idle", "final_reply"] {
            config = config.timeout(step, STEP);
        }
        let site = |name: &str, address, leg| {
            let site = Site::hosts(name, &[&format!("{name}.test")], address);
            match leg {
                Leg::Plain => site,
                Leg::Tls => site.backend_tls("explicit", None),
            }
        };
        for (cell, faulty) in &cells {
            config = config.site(&site(&cell.site(), faulty.address(), cell.leg));
        }
        Self {
            proxy: Proxy::start(config),
            front,
            cells,
        }
    }

    /// Plays all cells for the `round`th time, and names those that fail.
    fn play(&self, round: usize) {
        cells::play(
            &self.cells,
            AT_ONCE,
            |(cell, _)| cell.to_string(),
            |(cell, faulty)| client::play(cell, faulty, self, round),
        );
    }

    /// Tasks and file descriptors of the process, this question's own among them.
    fn holdings(&self) -> (f64, usize) {
        (
            self.proxy.metric("portcullis_tasks"),
            resources::descriptors(&self.proxy),
        )
    }

    /// The least of many looks: now and then the process has a certificate file open, which it polls.
    fn holdings_at_rest(&self) -> (f64, usize) {
        let looks = (0..100).map(|_| self.holdings());
        looks
            .reduce(|(tasks, files), (more_tasks, more_files)| {
                (tasks.min(more_tasks), files.min(more_files))
            })
            .expect("a hundred looks")
    }

    /// Waits until the process holds no more than at the beginning.
    fn wait_for_rest(&self, beginning: (f64, usize)) {
        for gauge in ["sessions", "transfers", "passive_ports_in_use"] {
            let name = format!("portcullis_{gauge}");
            self.proxy.wait_for_metric(&name, |value| value == 0.0);
        }
        poll(|| {
            let now = self.holdings();
            let has_rest = now.0 <= beginning.0 && now.1 <= beginning.1;
            let held = || format!("tasks and descriptors: {now:?}, at the beginning {beginning:?}");
            has_rest.then_some(()).ok_or_else(held)
        });
    }

    /// A line such as `VmRSS` of the process' status, in bytes.
    fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.proxy.pid()));
        let status = status.expect("the process runs");
        let mut lines = status.lines();
        let line = lines
            .find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))
            .expect("every process has it");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>();
        kibibytes.expect("a number") * 1024
    }
}

/// How long each step may take. Long enough for a busy machine, short enough to be waited for.
const STEP: &str = "3s";

/// How many cells are played side by side: most of them only wait.
const AT_ONCE: usize = 32;

/// What floods may cost while they last. A reply may be a mebibyte long, and there are many at once.
const FLOOD_MEMORY: u64 = 96 << 20;

/// What may stay with the process' allocator from one round to the next.
const KEPT_MEMORY: u64 = 8 << 20;

#[test]
fn every_fault_of_a_backend_ends_in_a_reply_a_log_line_and_nothing_left_behind() {
    let deployment = Deployment::new();
    let beginning = deployment.holdings_at_rest();
    let before = deployment.memory("VmRSS");
    deployment.play(1);
    deployment.wait_for_rest(beginning);
    let first = deployment.memory("VmRSS");
    // Again, since what leaks grows.
    deployment.play(2);
    deployment.wait_for_rest(beginning);
    let (second, most) = (deployment.memory("VmRSS"), deployment.memory("VmHWM"));
    let shown = [before, first, second, most].map(|bytes| bytes >> 10);
    assert!(
        second < first + KEPT_MEMORY && most < before + FLOOD_MEMORY,
        "KiB at the beginning, after one round, after two, at most: {shown:?}"
    );
}
