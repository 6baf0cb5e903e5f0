//! The command line: `run` and `check`, and what they exit with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Parser, Subcommand, ValueEnum};

use crate::app::{App, StartError, names};
use crate::config::{self, HostPattern, Settings};
use crate::live;
use crate::observe::log::{self, LogFormat};
use crate::tls::CertificatePair;

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

/// All is well.
const OK: u8 = 0;
/// `check` has found a problem, or `run` can't do what the configuration says.
const PROBLEM: u8 = 1;
/// The command line or the configuration can't be used.
const UNUSABLE: u8 = 2;

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
    let _log = match log::init(format, filter) {
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
    let code = runtime.block_on(async {
        match App::start(config).await {
            Ok(app) => {
                app.run().await;
                OK
            }
            Err(error @ StartError::Config(_)) => fail(UNUSABLE, &error.to_string()),
            Err(error) => fail(PROBLEM, &error.to_string()),
        }
    });
    // A name that is still being looked up has nobody left who waits for it.
    runtime.shutdown_background();
    code
}

fn fail(code: u8, message: &str) -> u8 {
    eprintln!("portcullis: {message}");
    code
}

/// Looks at everything, so that one run tells of all problems.
fn check(path: &Path) -> u8 {
    let settings = match config::load(path) {
        Ok(settings) => settings,
        Err(error) => return fail(UNUSABLE, &error.to_string()),
    };
    println!(
        "configuration {}: {} listeners, {} sites",
        path.display(),
        settings.listeners.len(),
        settings.sites.len()
    );
    let certificate = check_certificate(&settings);
    let backends = match live::backend_clients(&settings) {
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
    let pair =
        match CertificatePair::load(&settings.tls.certificate, &settings.tls.private_key, now) {
            Ok(pair) => pair,
            Err(error) => {
                println!("problem: {error}");
                return false;
            }
        };
    let left = pair.not_after.duration_since(now).unwrap_or_default();
    println!(
        "certificate {}: {}, names {}, {} days left, the key fits",
        settings.tls.certificate.display(),
        pair.subject,
        if pair.names.is_empty() {
            "none".to_owned()
        } else {
            pair.names.join(" ")
        },
        left.as_secs() / 86_400
    );
    if left < RENEWAL_IS_DUE {
        println!("note: the certificate expires soon, renew it");
    }
    if pair.names.is_empty() {
        println!("note: the certificate has no DNS name, clients will not accept it");
    }
    if pair.shuts_out_old_windows() {
        println!(
            "note: the certificate has an RSA key: programs that use the TLS of Windows before 10 and Server 2016 can't \
             connect; with an ECDSA key they can (docs/tls-limits.md)"
        );
    }
    for site in &settings.sites {
        for host in &site.hosts {
            if let HostPattern::Exact(name) = host
                && !pair.covers(name.as_str())
            {
                println!(
                    "note: site {}: the certificate does not cover {name}; clients that connect to that name will refuse it",
                    site.name
                );
            }
        }
    }
    true
}

/// ACME clients renew a month ahead; less than two weeks means that the renewal fails.
const RENEWAL_IS_DUE: Duration = Duration::from_secs(14 * 86_400);
