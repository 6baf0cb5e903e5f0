//! What is measured: so much work through a peer, and what the peer used for it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::{Handshake, Route, Session};
use crate::peers::{Peer, Running};
use crate::process::Process;
use clap::ValueEnum;

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// CPU for a GiB of download.
    Down,
    /// CPU for a GiB of upload.
    Up,
    /// CPU for a login.
    Logins,
    /// CPU for a small file.
    Files,
    /// CPU for a command.
    Commands,
    /// Memory, and the costs again, in a growing crowd of sessions.
    Crowd,
}

impl Part {
    /// What is repeated, in the order of the table.
    pub const REPEATED: [Self; 5] = [
        Self::Down,
        Self::Up,
        Self::Logins,
        Self::Files,
        Self::Commands,
    ];

    /// How much of it in one repetition: CPU time comes in hundredths of a second, of which there should be a hundred.
    pub fn work(self, peer: Peer, quick: bool) -> Work {
        let (unit, count, sessions) = match self {
            Self::Down => (Unit::Download(BULK), 8, 1),
            Self::Up => (Unit::Upload(BULK), 8, 1),
            Self::Logins => (Unit::Login, 2_000, 8),
            Self::Files => (Unit::SmallFile, 3_000, 8),
            Self::Commands | Self::Crowd => (Unit::Command, 40_000, 8),
        };
        // A process for each session takes its time.
        let patience = match (peer, unit) {
            (Peer::ModProxy, Unit::Login | Unit::SmallFile) => 10,
            // It resets the second or third upload of this size in a session.
            (Peer::ModProxy, Unit::Upload(_)) => 8,
            _ => 1,
        };
        let less = if quick { 8 } else { 1 };
        Work {
            unit,
            count: (count / patience / less).max(1),
            sessions,
        }
    }
}

/// One unit of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A large download of so many bytes.
    Download(u64),
    /// A large upload of so many bytes.
    Upload(u64),
    /// Connection, full handshake, login, goodbye.
    Login,
    /// A download of 4 KiB in a session that is logged in; its data connection resumes.
    SmallFile,
    /// A command with a short reply in a session that is logged in.
    Command,
}

/// How many units, and how many at a time.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// What.
    pub unit: Unit,
    /// How often, in all.
    pub count: u64,
    /// In how many sessions at once.
    pub sessions: usize,
}

/// What one measurement gave.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The proxy's CPU time for one unit; `None` without a proxy.
    pub cpu: Option<Duration>,
    /// Units in a second.
    pub rate: f64,
    /// How long each unit took, sorted.
    pub took: Vec<Duration>,
}

/// Does the work through a running peer.
pub async fn measure(running: &Running, work: Work) -> io::Result<Sample> {
    let mut workers = Vec::new();
    for _ in 0..work.sessions {
        workers.push(Worker::new(&running.route, work.unit).await?);
    }
    Ok(run(running.process.as_ref(), workers, work).await?.0)
}

/// Shares the work out among workers; gives them back.
async fn run(
    process: Option<&Process>,
    workers: Vec<Worker>,
    work: Work,
) -> io::Result<(Sample, Vec<Worker>)> {
    let cpu_time = || process.map(Process::cpu_time).transpose();
    let left = Arc::new(AtomicU64::new(work.count));
    let mut tasks = JoinSet::new();
    let used = cpu_time()?;
    let began = Instant::now();
    for mut worker in workers {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            let mut took = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok()
            {
                let began = Instant::now();
                worker.work(work.unit).await?;
                took.push(began.elapsed());
            }
            io::Result::Ok((worker, took))
        });
    }
    let mut workers = Vec::new();
    let mut took = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (worker, times) = done.map_err(io::Error::other)??;
        workers.push(worker);
        took.extend(times);
    }
    let elapsed = began.elapsed();
    // What the peer does for the last unit after the client is served belongs to it: closing, and ending processes.
    tokio::time::sleep(AFTERMATH).await;
    let used = used
        .zip(cpu_time()?)
        .map(|(before, after)| after.saturating_sub(before));
    took.sort_unstable();
    let sample = Sample {
        cpu: used.map(|used| used.div_f64(work.count as f64)),
        rate: work.count as f64 / elapsed.as_secs_f64(),
        took,
    };
    Ok((sample, workers))
}

/// A session that does one unit after the other.
struct Worker {
    route: Route,
    /// `None` if each unit is a session of its own.
    session: Option<Session>,
}

impl Worker {
    async fn new(route: &Route, unit: Unit) -> io::Result<Self> {
        let session = match unit {
            Unit::Login => None,
            Unit::Command => Some(Session::login(route).await?),
            Unit::Download(_) | Unit::Upload(_) | Unit::SmallFile => {
                let mut session = Session::login(route).await?;
                session.protect().await?;
                // At a relay this is the data port's full handshake, which the next ones resume.
                session.download(SMALL).await?;
                Some(session)
            }
        };
        Ok(Self {
            route: route.clone(),
            session,
        })
    }

    async fn work(&mut self, unit: Unit) -> io::Result<()> {
        let Some(session) = &mut self.session else {
            return Session::login(&self.route).await?.quit().await;
        };
        match unit {
            Unit::Download(bytes) => session.download(bytes).await.map(drop),
            Unit::Upload(bytes) => session.upload(bytes).await.map(drop),
            Unit::SmallFile => match session.download(SMALL).await? {
                Handshake::Full => Err(io::Error::other("a data connection did not resume")),
                Handshake::Resumed | Handshake::Plain => Ok(()),
            },
            Unit::Command | Unit::Login => session.command("PWD", 257).await.map(drop),
        }
    }
}

/// What a crowd of sessions costs.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// How many sessions there are.
    pub sessions: usize,
    /// Private memory for each, in bytes.
    pub memory: f64,
    /// The proxy's CPU time for each of the logins that made the crowd this large.
    pub login: Duration,
    /// For a command, with every session giving its share.
    pub command: Duration,
    /// For a small file, likewise, some sessions at a time.
    pub file: Duration,
}

/// Opens more and more sessions in a fresh process and looks at it at each of these sizes.
pub async fn crowd(running: &Running, sizes: &[usize]) -> io::Result<Vec<Crowd>> {
    let Some(process) = &running.process else {
        return Ok(Vec::new());
    };
    // What is set up once belongs to nobody.
    let once = Work {
        unit: Unit::SmallFile,
        count: 8,
        sessions: 1,
    };
    measure(running, once).await?;
    let empty = process.private_memory()?;
    let mut seen = Vec::new();
    let mut workers: Vec<Worker> = Vec::new();
    for &size in sizes {
        let used = process.cpu_time()?;
        let more = size - workers.len();
        while workers.len() < size {
            let batch = (size - workers.len()).min(AT_ONCE);
            let mut logins = JoinSet::new();
            for _ in 0..batch {
                let route = running.route.clone();
                logins.spawn(async move { Worker::new(&route, Unit::Command).await });
            }
            while let Some(worker) = logins.join_next().await {
                workers.push(worker.map_err(io::Error::other)??);
            }
        }
        let login = (process.cpu_time()? - used).div_f64(more as f64);
        let memory = process.private_memory()?.saturating_sub(empty) as f64 / size as f64;
        let commands = Work {
            unit: Unit::Command,
            count: COMMANDS.max(size as u64 * 2),
            sessions: size,
        };
        let (sample, back) = run(Some(process), workers, commands).await?;
        workers = back;
        let files = Work {
            unit: Unit::SmallFile,
            count: FILES,
            sessions: AT_ONCE,
        };
        let file = measure(running, files).await?.cpu.unwrap_or_default();
        seen.push(Crowd {
            sessions: size,
            memory,
            login,
            command: sample.cpu.unwrap_or_default(),
            file,
        });
    }
    Ok(seen)
}

/// One bulk transfer.
pub const BULK: u64 = 256 << 20;

/// One small file.
const SMALL: u64 = 4096;
const AFTERMATH: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 50;
const COMMANDS: u64 = 20_000;
const FILES: u64 = 2_000;
