//! The command line: `run` and `check`, and what they exit with.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand, ValueEnum};

use crate::app::{App, StartError, names, notes::notes};
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings};
use crate::observe::log::{self, LogFormat};
use crate::tls::CertificateSet;

/// All is well.
const OK: u8 = 0;
/// `check` has found a problem, or `run` can't do what the configuration says.
const PROBLEM: u8 = 1;
/// The command line or the configuration can't be used.
const UNUSABLE: u8 = 2;

/// A TLS-terminating FTP reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy. SIGHUP reloads the configuration, SIGTERM and SIGINT drain and exit.
    Run {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How log lines on stderr are written.
        #[arg(long, value_enum, default_value_t = Format::Human)]
        log_format: Format,
        /// What is logged: off, error, warn, info, debug or trace, or directives such as info,portcullis::tls=debug.
        #[arg(long, value_name = "FILTER", default_value = "info")]
        log_level: String,
    },
    /// Check the configuration, the certificates and the keys, and exit: 0 all is well, 1 a problem, 2 a configuration
    /// that can't be used.
    Check {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let code = match CommandLine::parse().command {
        Command::Run {
            config,
            log_format,
            log_level,
        } => run(config, log_format, &log_level),
        Command::Check { config } => check(&config),
    };
    ExitCode::from(code)
}

fn run(config: PathBuf, format: Format, filter: &str) -> u8 {
    let format = match format {
        Format::Human => LogFormat::Human,
        Format::Json => LogFormat::Json,
    };
    let log = match log::init(format, filter) {
        Ok(guard) => guard,
        Err(error) => return fail(UNUSABLE, &format!("--log-level {filter}: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(PROBLEM, &format!("the runtime can't be started: {error}")),
    };
    let ended = runtime.block_on(async {
        App::start(config).await?.run().await;
        Ok::<(), StartError>(())
    });
    // A name lookup that is still running has no task left waiting for its result.
    runtime.shutdown_background();
    // So that what is said last stands last, behind the lines that were on their way.
    drop(log);
    match ended {
        Ok(()) => OK,
        Err(error @ StartError::Config(_)) => fail(UNUSABLE, &error.to_string()),
        Err(error) => fail(PROBLEM, &error.to_string()),
    }
}

fn fail(code: u8, message: &str) -> u8 {
    eprintln!("portcullis: {message}");
    code
}

/// Checks everything, so that one run reports all problems.
fn check(path: &Path) -> u8 {
    let settings = match config::load(path) {
        Ok(settings) => settings,
        Err(error) => return fail(UNUSABLE, &error.to_string()),
    };
    println!(
        "configuration {}: {}, {}",
        path.display(),
        counted(settings.listeners.len(), "listener"),
        counted(settings.sites.len(), "site")
    );
    println!("{}", data_ports(&settings.passive.ports));
    let certificate = check_certificate(&settings);
    let backends = match Pools::load(&settings.sites, &Registry::default()) {
        Ok(_) => true,
        Err(error) => {
            println!("problem: {error}");
            false
        }
    };
    let passive_address = check_passive_address(&settings);
    if certificate && backends && passive_address {
        OK
    } else {
        PROBLEM
    }
}

fn counted(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// How many ports there are for data connections, and for how many transfers of one client address that is enough.
fn data_ports(ports: &RangeInclusive<u16>) -> String {
    let (first, last) = (ports.start(), ports.end());
    let range = match ports.len() {
        1 => format!("data port {first}"),
        _ => format!("data ports {first}-{last}"),
    };
    let transfers = counted(ports.len(), "transfer");
    format!(
        "{range}: for one client address, {transfers} at a time without a resumed TLS session, any number with one"
    )
}

/// Looks up what names there are for passive addresses.
fn check_passive_address(settings: &Settings) -> bool {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            println!("problem: the runtime can't be started: {error}");
            return false;
        }
    };
    let looked_up = runtime.block_on(names::announcements(&settings.passive));
    runtime.shutdown_background();
    match looked_up {
        Ok(announcements) => {
            for name in announcements.names() {
                println!("passive address {}: {}", name.name(), name.address());
            }
            true
        }
        Err(error) => {
            println!("problem: {error}");
            false
        }
    }
}

fn check_certificate(settings: &Settings) -> bool {
    let now = SystemTime::now();
    let certificates = match CertificateSet::load(&settings.tls, now) {
        Ok(certificates) => certificates,
        Err(error) => {
            println!("problem: {error}");
            return false;
        }
    };
    let pair = certificates.default_pair();
    let left = pair.not_after.duration_since(now).unwrap_or_default();
    println!(
        "certificate {}: {}, names {}, {} days left, the key matches",
        settings.tls.certificate.display(),
        pair.subject,
        pair.names_and_addresses(),
        left.as_secs() / 86_400
    );
    for note in notes(settings, &certificates, now) {
        println!("note: {note}");
    }
    true
}
