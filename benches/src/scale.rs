//! What a login, a file and a GiB cost with TLS on one leg and on both, what a session and a transfer occupy, and what follows for
//! one core, for a machine and for ten of them: the numbers of docs/scale.md.
//!
//! A backend that speaks TLS is a second Portcullis before the backend of the other measurements. It runs beside that on the other
//! CPU, where nothing is measured.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Ground;
use crate::client::{DataRoute, Route, Session};
use crate::measure::{self, BULK, Unit, Work};
use crate::peers::{PASSIVE_PORTS, Running, free_port, free_ports};
use crate::process::Process;
use crate::table::{self, Spread, short};

/// What `scale` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The binary of Portcullis.
    portcullis: PathBuf,
    /// The page in which to replace the tables; without it they go to stdout.
    #[arg(long)]
    pub page: Option<PathBuf>,
    /// A tenth of the work, once: to see whether it works.
    #[arg(long)]
    quick: bool,
}

/// Where there is TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Legs {
    Client,
    Both,
}

impl Legs {
    const ALL: [Self; 2] = [Self::Client, Self::Both];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "TLS to clients",
            Self::Both => "TLS on both legs",
        }
    }
}

/// The units of work, with how many of them are one measurement, in how many sessions.
const WORK: [(Unit, u64, usize); 4] = [
    (Unit::Login, 2_000, 8),
    (Unit::SmallFile, 3_000, 8),
    (Unit::Download(BULK), 4, 1),
    (Unit::Upload(BULK), 4, 1),
];

/// How much of a core may be used before logins wait for each other, as the page says.
const LOAD: f64 = 0.7;

/// The machine that the page reckons with: so many cores, and instances of it.
const CORES: f64 = 8.0;
const INSTANCES: f64 = 10.0;

/// How many sessions are opened, and how many transfers run at once, to see what each occupies.
const SESSIONS: usize = 1_000;
const TRANSFERS: usize = 64;

/// What each of those transfers moves.
const TRANSFERRED: u64 = 32 << 20;

/// How often is looked at what they occupy.
const LOOK: Duration = Duration::from_millis(20);

/// How many logins run at once.
const AT_ONCE: usize = 50;

/// CPU time of each unit of [`WORK`], in seconds.
type Costs = [Spread; WORK.len()];

/// What one of something occupies.
#[derive(Debug, Clone, Copy)]
struct Share {
    memory: f64,
    descriptors: f64,
}

/// What a process without sessions occupies, and what each session and each transfer do in addition.
#[derive(Debug)]
struct Occupied {
    empty: Share,
    session: Share,
    download: Share,
    upload: Share,
}

/// Measures, and gives the tables.
pub async fn measure(options: &Options, ground: &Ground) -> io::Result<String> {
    let backend = format!("{{address: 127.0.0.1:{}}}", ground.backend.ports.0);
    let second = start(options, ground, 0, &backend)?;
    let encrypted = format!(
        "{{address: {}, tls: implicit, verify: none}}",
        second.route.control
    );
    let at = |legs| match legs {
        Legs::Client => &backend,
        Legs::Both => &encrypted,
    };
    let mut costs = Vec::new();
    let mut occupied = Vec::new();
    for legs in Legs::ALL {
        let running = start(options, ground, ground.cpu, at(legs))?;
        costs.push((legs, of_work(&running, legs, options.quick).await?));
    }
    for legs in Legs::ALL {
        eprintln!("{}: what sessions and transfers occupy", legs.name());
        let running = start(options, ground, ground.cpu, at(legs))?;
        occupied.push((legs, occupation(&running, options.quick).await?));
    }
    let mut text = table::machine()?;
    text.push('\n');
    text.push_str(&of_costs(&costs));
    text.push_str(&of_occupied(&occupied));
    text.push_str(&capacity(&costs));
    Ok(text)
}

/// A Portcullis on this CPU, with this backend.
fn start(options: &Options, ground: &Ground, cpu: usize, backend: &str) -> io::Result<Running> {
    let (control, admin) = (free_port()?, free_port()?);
    let passive = free_ports(PASSIVE_PORTS)?;
    let config = format!(
        "listeners: [{{address: 127.0.0.1:{control}, tls: implicit}}]\n\
         tls: {{certificate: {certificate}, private_key: {key}}}\n\
         passive: {{ports: {passive}-{last}}}\n\
         sites: [{{name: bench, default: true, backends: [{backend}]}}]\n\
         limits: {{sessions: 20000, allow: [127.0.0.1]}}\n\
         timeouts: {{idle: 1h}}\n\
         admin: {{address: 127.0.0.1:{admin}}}\n",
        certificate = ground.certificate.chain.display(),
        key = ground.certificate.key.display(),
        last = passive + PASSIVE_PORTS - 1,
    );
    let file = ground.folder.path().join(format!("scale-{control}.yaml"));
    fs::write(&file, config)?;
    let log = ground.folder.path().join(format!("scale-{control}.log"));
    let mut process = Process::start(&options.portcullis, cpu, &log, |command| {
        command
            .args(["run", "--log-level", "warn", "--config"])
            .arg(file);
    })?;
    let control = SocketAddr::from((Ipv4Addr::LOCALHOST, control));
    process.wait_for(control)?;
    Ok(Running {
        process: Some(process),
        route: Route {
            control,
            data: DataRoute::Ftp,
            tls: Some(ground.certificate.client(&rustls::version::TLS13)),
        },
    })
}

async fn of_work(running: &Running, legs: Legs, quick: bool) -> io::Result<Costs> {
    let (repetitions, less) = if quick { (1, 10) } else { (5, 1) };
    let mut seen: [Vec<f64>; WORK.len()] = Default::default();
    for repetition in 1..=repetitions {
        for (seen, (unit, count, sessions)) in seen.iter_mut().zip(WORK) {
            eprintln!("{}, repetition {repetition}: {unit:?}", legs.name());
            let work = Work {
                unit,
                count: (count / less).max(1),
                sessions,
            };
            let sample = measure::measure(running, work).await?;
            seen.push(sample.cpu.unwrap_or_default().as_secs_f64());
        }
    }
    let mut costs = seen
        .into_iter()
        .filter_map(|seen| Spread::of(seen.into_iter()));
    let mut next = || {
        costs
            .next()
            .ok_or_else(|| io::Error::other("nothing was measured"))
    };
    Ok([next()?, next()?, next()?, next()?])
}

/// What a process occupies now.
fn look(running: &Running) -> io::Result<Share> {
    let process = running.process.as_ref().ok_or(io::ErrorKind::NotFound)?;
    Ok(Share {
        memory: process.private_memory()? as f64,
        descriptors: process.descriptors()? as f64,
    })
}

impl Share {
    /// What each of so many has added.
    fn each(self, before: Self, count: usize) -> Self {
        Self {
            memory: (self.memory - before.memory) / count as f64,
            descriptors: (self.descriptors - before.descriptors) / count as f64,
        }
    }
}

async fn occupation(running: &Running, quick: bool) -> io::Result<Occupied> {
    let count = if quick { SESSIONS / 10 } else { SESSIONS };
    // What is set up once belongs to nobody.
    let mut first = Session::login(&running.route).await?;
    first.protect().await?;
    first.download(1).await?;
    first.quit().await?;
    // The last connection is closed a moment later.
    sleep(Duration::from_secs(1)).await;
    let empty = look(running)?;
    let mut sessions = Vec::new();
    while sessions.len() < count {
        let mut logins = JoinSet::new();
        for _ in 0..AT_ONCE.min(count - sessions.len()) {
            let route = running.route.clone();
            logins.spawn(async move {
                let mut session = Session::login(&route).await?;
                session.protect().await?;
                io::Result::Ok(session)
            });
        }
        while let Some(session) = logins.join_next().await {
            sessions.push(session.map_err(io::Error::other)??);
        }
    }
    let idle = look(running)?;
    let (download, sessions) = transfers(running, sessions, |mut session| async move {
        session.download(TRANSFERRED).await?;
        Ok(session)
    })
    .await?;
    let (upload, _sessions) = transfers(running, sessions, |mut session| async move {
        session.upload(TRANSFERRED).await?;
        Ok(session)
    })
    .await?;
    Ok(Occupied {
        empty,
        session: idle.each(empty, count),
        download,
        upload,
    })
}

/// What each of the transfers occupies at most that these sessions have at once; gives the sessions back.
async fn transfers<F>(
    running: &Running,
    mut sessions: Vec<Session>,
    transfer: impl Fn(Session) -> F,
) -> io::Result<(Share, Vec<Session>)>
where
    F: Future<Output = io::Result<Session>> + Send + 'static,
{
    let count = TRANSFERS.min(sessions.len());
    let before = look(running)?;
    let mut most = before;
    let mut tasks = JoinSet::new();
    for session in sessions.drain(..count) {
        tasks.spawn(transfer(session));
    }
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => sessions.push(done.map_err(io::Error::other)??),
            () = sleep(LOOK) => {
                let now = look(running)?;
                most.memory = most.memory.max(now.memory);
                most.descriptors = most.descriptors.max(now.descriptors);
            }
        }
    }
    Ok((most.each(before, count), sessions))
}

/// CPU time.
fn of_costs(costs: &[(Legs, Costs)]) -> String {
    let mut text = String::from(
        "CPU time of the proxy: median (lowest – highest).\n\n\
         | | ms / login | ms / 4 KiB file | s / GiB down | s / GiB up |\n|---|---|---|---|---|\n",
    );
    for (legs, [login, file, down, up]) in costs {
        let gib = (1 << 30) as f64 / BULK as f64;
        let columns = [(login, 1e3), (file, 1e3), (down, gib), (up, gib)];
        let columns = columns.map(|(spread, unit)| {
            let [median, lowest, highest] =
                [spread.median, spread.lowest, spread.highest].map(|value| short(value * unit));
            format!("**{median}** ({lowest} – {highest})")
        });
        text.push_str(&format!("| {} | {} |\n", legs.name(), columns.join(" | ")));
    }
    text + "\n"
}

/// Memory and descriptors.
fn of_occupied(occupied: &[(Legs, Occupied)]) -> String {
    let mut text = String::from(
        "Private memory, and file descriptors: of the process without sessions, of each idle session, and what a transfer at full \
         speed adds to that at most.\n\n\
         | | process | session | download | upload |\n|---|---|---|---|---|\n",
    );
    for (legs, it) in occupied {
        let kib = |share: Share| format!("{} KiB", short(share.memory / 1024.0));
        text.push_str(&format!(
            "| {}: memory | {} MiB | {} | {} | {} |\n",
            legs.name(),
            short(it.empty.memory / 1048576.0),
            kib(it.session),
            kib(it.download),
            kib(it.upload),
        ));
        let number = |share: Share| format!("{:.1}", share.descriptors);
        text.push_str(&format!(
            "| {}: descriptors | {:.0} | {} | {} | {} |\n",
            legs.name(),
            it.empty.descriptors,
            number(it.session),
            number(it.download),
            number(it.upload),
        ));
    }
    text + "\n"
}

/// What follows, by the formulas of the page.
fn capacity(costs: &[(Legs, Costs)]) -> String {
    let mut text = format!(
        "What that comes to where {:.0} % of each core are used: one core, a machine of {CORES} cores, and {INSTANCES} such machines, \
         of which nine carry all while one restarts.\n\n\
         | a second | one core | {CORES} cores | {INSTANCES} machines, nine of them |\n|---|---|---|---|\n",
        LOAD * 100.0
    );
    for (legs, [login, file, down, up]) in costs {
        let mib = BULK as f64 / 1048576.0;
        // Half of the bytes each way.
        let bytes = (down.median + up.median) / 2.0;
        for (what, unit, cost) in [
            ("logins", 1.0, login.median),
            ("4 KiB files", 1.0, file.median),
            ("MiB", mib, bytes),
        ] {
            let core = LOAD * unit / cost;
            let columns = [core, core * CORES, core * CORES * (INSTANCES - 1.0)];
            let columns = columns.map(|value| format!("{value:.0}"));
            text.push_str(&format!(
                "| {what}, {} | {} |\n",
                legs.name(),
                columns.join(" | ")
            ));
        }
    }
    text
}
