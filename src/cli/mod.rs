//! The command line: a file for each command, and what they exit with.

mod check;
mod explain;
mod import;
mod probe;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

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
    Run(run::Arguments),
    /// Check the configuration, the certificates and the keys, and exit: 0 all is well, 1 a problem, 2 a configuration
    /// that can't be used.
    #[command(after_long_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Walk the backends as sessions do, and say what works and what to do where it doesn't.
    ///
    /// Each backend is connected to: name, connection, greeting, TLS, certificate, FEAT; with --user, login and passive mode;
    /// with --list, a listing over a data connection. No running Portcullis is needed.
    ///
    /// Exits with 0 if everything works, 1 if something doesn't, 2 if the configuration or the arguments can't be used;
    /// with --format nagios, 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    #[command(after_long_help = probe::EXAMPLES)]
    Probe(probe::Arguments),
    /// Say what would become of a login: which site serves it and why, which certificate, backends and data ports, which
    /// policies and limits apply, or which reply refuses it.
    ///
    /// The configuration alone decides, by the code that sessions run; no backend is dialled. What only a running process knows
    /// is not looked at: failed logins, sessions that are open, backends that are out.
    ///
    /// Exits with 0 if the login would reach a backend, 1 if it would be refused, 2 if the configuration or the arguments can't
    /// be used.
    #[command(after_long_help = explain::EXAMPLES)]
    Explain(explain::Arguments),
    /// Make a configuration of that of another server, to start with.
    Import(import::Arguments),
}

/// How `check` and `explain` write their result.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ResultFormat {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let code = match CommandLine::parse().command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
    };
    ExitCode::from(code)
}

fn fail(code: u8, message: &str) -> u8 {
    eprintln!("portcullis: {message}");
    code
}
