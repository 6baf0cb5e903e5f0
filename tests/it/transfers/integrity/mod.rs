//! Every transfer command, over every pair of legs, ended in every way: nobody may believe that part of a file is all
//! of it.
//!
//! [`ending`] is the table: what happens, and what each party must see of it. [`backend`] and [`client`] play the two
//! ends of one cell of the matrix, with raw sockets; the tests here run all cells against one proxy.

mod backend;
mod client;
mod ending;

use std::fmt::{self, Display};
use std::thread;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::cells;
use testkit::certs::Authority;
use testkit::config::{Config, Site};
use testkit::front::Front;
use testkit::proxy::{Proxy, Signal};
use testkit::script::{Gate, Script, ScriptTls};
use testkit::scripted::Backend;
use testkit::wire::End;

use crate::program::Start;

use ending::{Direction, Ending};

/// The commands that move files.
const VERBS: [&str; 4] = ["STOR", "APPE", "RETR", "LIST"];

/// How a leg is protected, control and data alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Plain,
    Tls12,
    Tls13,
}

impl Leg {
    const ALL: [Self; 3] = [Self::Plain, Self::Tls12, Self::Tls13];

    fn version(self) -> Option<&'static SupportedProtocolVersion> {
        match self {
            Self::Plain => None,
            Self::Tls12 => Some(&TLS12),
            Self::Tls13 => Some(&TLS13),
        }
    }

    /// How it ends if all is well.
    fn orderly(self) -> End {
        match self {
            Self::Plain => End::Fin,
            Self::Tls12 | Self::Tls13 => End::CloseNotify,
        }
    }
}

/// One cell of the matrix.
#[derive(Debug, Clone)]
struct Cell {
    verb: &'static str,
    ending: Ending,
    client: Leg,
    backend: Leg,
    /// Opened when half of the content is where it should go.
    halfway: Gate,
}

impl Cell {
    /// All cells with one of these endings that make sense.
    fn all(endings: &[Ending]) -> Vec<Self> {
        let mut cells = Vec::new();
        for &ending in endings {
            for verb in VERBS {
                for client in Leg::ALL {
                    for backend in Leg::ALL {
                        let halfway = Gate::new();
                        let cell = Self {
                            verb,
                            ending,
                            client,
                            backend,
                            halfway,
                        };
                        if cell.outcome().is_some() {
                            cells.push(cell);
                        }
                    }
                }
            }
        }
        cells
    }

    fn direction(&self) -> Direction {
        match self.verb {
            "STOR" | "APPE" => Direction::Upload,
            _ => Direction::Download,
        }
    }

    /// What must come of it; none if it can't happen.
    fn outcome(&self) -> Option<ending::Outcome> {
        let (source, sink) = match self.direction() {
            Direction::Upload => (self.client, self.backend),
            Direction::Download => (self.backend, self.client),
        };
        self.ending.outcome(self.direction(), source, sink)
    }

    /// The transfer command; by it the backend knows which cell it's in.
    fn command(&self) -> String {
        format!("{} {:?}-{:?}", self.verb, self.ending, self.client)
    }
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            ending,
            client,
            backend,
            ..
        } = self;
        write!(
            formatter,
            "{verb} {ending:?}, client {client:?}, backend {backend:?}"
        )
    }
}

/// One proxy with a site for each kind of backend leg, where the backends know what to do in each cell.
struct Deployment {
    front: Front,
    proxy: Proxy,
    backends: Vec<(Leg, Backend)>,
}

impl Deployment {
    fn new(cells: &[Cell], change: impl FnOnce(Config) -> Config) -> Self {
        let front = Front::new(&[]);
        let pair = Authority::new("authority of backends").issue(&["backend.test"]);
        let backends = Leg::ALL.map(|leg| {
            let mut script = Script::new().file(client::AFTERWARDS, content());
            if let Some(version) = leg.version() {
                script = script.tls(ScriptTls::Explicit(pair.server_config(&[version])));
            }
            for cell in cells.iter().filter(|cell| cell.backend == leg) {
                script = script.on(&cell.command(), backend::steps(cell));
            }
            (leg, Backend::start(script))
        });
        let mut config = front
            .config()
            .tls("required", "false")
            .passive_ports("50000-50127");
        for (leg, backend) in &backends {
            let name = format!("{leg:?}").to_lowercase();
            let site = Site::hosts(&name, &[&format!("{name}.test")], backend.address());
            config = config.site(&match leg {
                Leg::Plain => site,
                Leg::Tls12 => site.backend_tls("explicit", None),
                Leg::Tls13 => site
                    .backend_tls("explicit", None)
                    .backend("max_version", "\"1.3\""),
            });
        }
        Self {
            proxy: Proxy::start(change(config)),
            front,
            backends: backends.into(),
        }
    }

    fn backend(&self, leg: Leg) -> &Backend {
        let mut backends = self.backends.iter();
        let (_, backend) = backends
            .find(|(of, _)| *of == leg)
            .expect("there is one of each");
        backend
    }

    fn play(&self, cells: &[Cell], at_once: usize) {
        cells::play(cells, at_once, Cell::to_string, |cell| {
            client::play(cell, self)
        });
    }
}

/// What is transferred in all cells but those of a size of their own: more than one TLS record.
fn content() -> Vec<u8> {
    testkit::content::bytes(7, 60_000)
}

/// The half of it that arrives before the cell's ending begins.
fn half() -> Vec<u8> {
    content()[..30_000].to_vec()
}

#[test]
fn a_transfer_is_called_complete_only_if_every_byte_and_every_end_was_in_order() {
    let cells = Cell::all(&Ending::prompt());
    let deployment = Deployment::new(&cells, |config| config);
    deployment.play(&cells, 12);
}

#[test]
fn what_stands_still_or_is_never_confirmed_is_reset_when_its_time_is_over() {
    let cells = Cell::all(&Ending::UNTIL_TIMEOUT);
    let deployment = Deployment::new(&cells, |config| {
        config
            .timeout("data_idle", "2s")
            .timeout("final_reply", "2s")
    });
    deployment.play(&cells, 36);
}

#[test]
fn a_killed_proxy_resets_both_legs_of_every_transfer() {
    let cells = Cell::all(&[Ending::ProxyKilled]);
    let deployment = Deployment::new(&cells, |config| config);
    let transfers: Vec<_> = thread::scope(|scope| {
        let begun: Vec<_> = cells
            .iter()
            .map(|cell| scope.spawn(|| client::begin_and_reach_half(cell, &deployment)))
            .collect();
        let begun = begun.into_iter();
        begun
            .map(|transfer| transfer.join().expect("it gets to its half"))
            .collect()
    });
    deployment.proxy.signal(Signal::Kill);
    for (cell, mut transfer) in cells.iter().zip(transfers) {
        assert_eq!(transfer.data.read_to_end().1, End::Reset, "{cell}: client");
        let backend = deployment.backend(cell.backend);
        let seen = backend.wait_for_data_end(&cell.command());
        assert_eq!(seen, End::Reset, "{cell}: backend");
    }
}
