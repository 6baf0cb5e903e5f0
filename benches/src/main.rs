//! What Portcullis costs, measured beside its peers, in one run on one machine.
//!
//! Machines are noisy and differ, so what counts is the CPU time that the operating system charges to the proxy's
//! processes, and the ratio to that of the peers in the same run. The proxy runs on one CPU, the backend and the load
//! client on another. Every repetition visits all peers in turn.

mod backend;
mod certificate;
mod client;
mod counted;
mod hostile;
mod load;
mod measure;
mod peers;
mod process;
mod scale;
mod table;

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};

use clap::{Parser, Subcommand};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use certificate::Certificate;
use measure::{Crowd, Part, Sample};
use peers::{Peer, Running, Stage};

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure.
    Run(Options),
    /// See what a good client notices of many bad ones and of many idle ones.
    Load(load::Options),
    /// Count the instructions of whole logins, with a single backend and with a pool.
    Logins(counted::Options),
    /// Measure what one core carries, and what a session and a transfer take.
    Scale(scale::Options),
    /// Be the backend. Started by the others.
    Backend,
    /// Be the bad clients. Started by `load`.
    Attack(hostile::Target),
}

#[derive(Debug, clap::Args)]
struct Options {
    /// The binary of Portcullis.
    portcullis: PathBuf,
    /// Where benches/install.sh has unpacked the peers.
    peers: PathBuf,
    /// The page in which to replace the table; without it the table goes to stdout.
    #[arg(long)]
    page: Option<PathBuf>,
    /// A twentieth of the work, once: to see whether it works.
    #[arg(long)]
    quick: bool,
    /// Only these peers.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// How often everything is repeated.
    #[arg(long)]
    repetitions: Option<usize>,
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Run(options) => run(&options),
        Command::Load(options) => on_ground(options.page.as_deref(), async |ground| {
            load::measure(&options, ground).await
        }),
        Command::Logins(options) => on_ground(options.page.as_deref(), async |ground| {
            counted::measure(&options, ground).await
        }),
        Command::Scale(options) => on_ground(options.page.as_deref(), async |ground| {
            scale::measure(&options, ground).await
        }),
        Command::Backend => runtime().and_then(|runtime| runtime.block_on(backend::serve())),
        Command::Attack(target) => {
            runtime().and_then(|runtime| runtime.block_on(hostile::attack(target)))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One thread, which stays on its CPU.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn run(options: &Options) -> io::Result<()> {
    // nginx would look beside its configuration.
    let peers = options.peers.canonicalize()?;
    on_ground(options.page.as_deref(), async |ground| {
        let stage = Stage {
            portcullis: &options.portcullis,
            peers: &peers,
            folder: ground.folder.path(),
            certificate: &ground.certificate,
            backend: ground.backend.ports,
            cpu: ground.cpu,
            version: &rustls::version::TLS13,
        };
        table::markdown(&measure_all(&stage, options).await?, stage.peers)
    })
}

/// What there is beside the proxy.
struct Ground {
    /// For configurations and logs; removed in the end.
    folder: TempDir,
    certificate: Certificate,
    backend: Backend,
    /// Where the proxy runs, alone.
    cpu: usize,
}

/// Measures, and puts what is to be said of it into the page, or on stdout.
fn on_ground(
    page: Option<&Path>,
    measure: impl AsyncFnOnce(&Ground) -> io::Result<String>,
) -> io::Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    if cpus < 2 {
        return Err(io::Error::other("needs two CPUs: one for the proxy alone"));
    }
    process::move_to_cpu(0)?;
    let folder = tempfile::Builder::new()
        .prefix("portcullis-bench-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()?;
    let ground = Ground {
        certificate: Certificate::new(folder.path())?,
        backend: Backend::start()?,
        folder,
        cpu: cpus - 1,
    };
    // Told to end, it still ends what it has started.
    let text = runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            text = measure(&ground) => text,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.and(Err(io::ErrorKind::Interrupted.into()))
            }
            _ = terminate.recv() => Err(io::ErrorKind::Interrupted.into()),
        }
    })?;
    match page {
        Some(page) => table::replace(page, &text),
        None => {
            println!("{text}");
            Ok(())
        }
    }
}

/// All that was measured.
#[derive(Debug, Default)]
struct Results {
    samples: Vec<(Part, Peer, Vec<Sample>)>,
    crowds: Vec<(Peer, Vec<Crowd>)>,
}

impl Options {
    fn peers(&self) -> Vec<Peer> {
        let chosen = |peer: &Peer| self.only.is_empty() || self.only.contains(peer);
        Peer::ALL.into_iter().filter(chosen).collect()
    }

    fn includes(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    fn repetitions(&self) -> usize {
        self.repetitions.unwrap_or(if self.quick { 1 } else { 5 })
    }
}

async fn measure_all(stage: &Stage<'_>, options: &Options) -> io::Result<Results> {
    let mut results = Results::default();
    let peers = options.peers();
    let mut running: Vec<(Peer, Running)> = Vec::new();
    for &peer in &peers {
        running.push((peer, stage.start(peer)?));
    }
    let parts: Vec<Part> = Part::REPEATED
        .into_iter()
        .filter(|&part| options.includes(part))
        .collect();
    for repetition in 1..=options.repetitions() {
        for &part in &parts {
            let taking_part = running.iter().filter(|(peer, _)| peer.takes_part(part));
            for (peer, running) in taking_part {
                eprintln!("repetition {repetition}: {part:?}, {}", peer.name());
                let sample = measure::measure(running, part.work(*peer, options.quick))
                    .await
                    .map_err(|error| failed(*peer, error))?;
                results.add(part, *peer, sample);
            }
        }
    }
    drop(running);
    if options.includes(Part::Crowd) {
        let most = table::most_sessions()?;
        for peer in peers {
            eprintln!("crowd: {}", peer.name());
            let crowd = measure::crowd(&stage.start(peer)?, &peer.crowds(most, options.quick))
                .await
                .map_err(|error| failed(peer, error))?;
            results.crowds.push((peer, crowd));
        }
    }
    Ok(results)
}

fn failed(peer: Peer, error: io::Error) -> io::Error {
    io::Error::other(format!("through {}: {error}", peer.name()))
}

impl Results {
    fn add(&mut self, part: Part, peer: Peer, sample: Sample) {
        let known = self
            .samples
            .iter_mut()
            .find(|(of, by, _)| (*of, *by) == (part, peer));
        match known {
            Some((_, _, samples)) => samples.push(sample),
            None => self.samples.push((part, peer, vec![sample])),
        }
    }
}

/// The backend's process: of its own, since two file descriptors a session are more than one process may have.
struct Backend {
    child: Child,
    ports: (u16, u16),
}

impl Backend {
    fn start() -> io::Result<Self> {
        let mut child = process::on_cpu(&std::env::current_exe()?, 0)
            .arg("backend")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ports = line
            .trim_end()
            .split_once(' ')
            .and_then(|(control, raw)| Some((control.parse().ok()?, raw.parse().ok()?)))
            .ok_or_else(|| io::Error::other("the backend doesn't say its ports"))?;
        Ok(Self { child, ports })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
