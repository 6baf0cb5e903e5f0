//! The command line: a file for each command, and what they exit with.

mod backends;
mod check;
mod completions;
mod end;
mod explain;
mod guard;
mod health;
mod import;
mod log;
mod maintenance;
mod man;
mod probe;
mod reload;
mod run;
mod running;
mod schema;
mod sessions;
mod source;
mod status;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// All is well.
const OK: u8 = 0;
/// `check` has found a problem, `run` can't do what the configuration says, what `health` asks isn't well, or the running
/// process refuses something.
const PROBLEM: u8 = 1;
/// The command line or the configuration can't be used, or no running process can be asked.
const UNUSABLE: u8 = 2;

/// What to do first, for a command line without a command.
const FIRST_STEPS: &str = "\
Portcullis is a TLS-terminating FTP reverse proxy. To begin:

  1. Write a configuration. Copy the smallest that works, and name your
     certificate and your FTP server in it:
       config/minimal.yaml                                  in the repository
       /usr/share/doc/portcullis/examples/minimal.yaml      where a package is installed
  2. portcullis check --config portcullis.yaml      says what is wrong with it, and where
  3. portcullis probe --config portcullis.yaml      tries the server behind it
  4. portcullis run --config portcullis.yaml        serves

`portcullis --help` lists all commands, `portcullis COMMAND --help` has examples of each.";

/// What `--version` says.
const VERSION: &str = if cfg!(feature = "fips") {
    concat!(env!("CARGO_PKG_VERSION"), " (FIPS)")
} else {
    env!("CARGO_PKG_VERSION")
};

/// Behind the help of the program.
const EXAMPLES: &str = "\
Examples:
  portcullis check --config portcullis.yaml
  portcullis run --config portcullis.yaml
  portcullis explain --config portcullis.yaml 'ftpb.example.com|alice'

`portcullis COMMAND --help` has more for each command.";

/// A TLS-terminating FTP reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version = VERSION, after_long_help = EXAMPLES)]
pub struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy. SIGHUP reloads the configuration, SIGTERM and SIGINT drain and exit.
    #[command(after_long_help = run::EXAMPLES)]
    Run(run::Arguments),
    /// Check the configuration, the certificates and the keys, and exit: 0 all is well, 1 a problem, 2 a configuration
    /// that can't be used.
    #[command(after_long_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Test the backends step by step as a session uses them, and show what works and what to do where it doesn't.
    ///
    /// Each backend is connected to: name, connection, greeting, TLS, certificate, FEAT; with --user, login and passive mode;
    /// with --list, a listing over a data connection. No running Portcullis is needed.
    ///
    /// Exits with 0 if everything works, 1 if something doesn't, 2 if the configuration or the arguments can't be used;
    /// with --format nagios, 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    #[command(after_long_help = probe::EXAMPLES)]
    Probe(probe::Arguments),
    /// Show how a login would be handled: which site serves it and why, which certificate, backends and data ports, which
    /// policies and limits apply, or which reply refuses it.
    ///
    /// The configuration alone decides, by the code that sessions run; no backend is dialled. What only a running process knows
    /// is not looked at: failed logins, sessions that are open, backends that are out.
    ///
    /// Exits with 0 if the login would reach a backend, 1 if it would be refused, 2 if the configuration or the arguments can't
    /// be used.
    #[command(after_long_help = explain::EXAMPLES)]
    Explain(explain::Arguments),
    /// Import the configuration or the certificate of another server.
    #[command(after_long_help = import::EXAMPLES)]
    Import(import::Arguments),
    /// Show the running process on one screen: what needs attention, sessions, backends, certificates, reloads.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = status::EXAMPLES)]
    Status(status::Arguments),
    /// List the live sessions.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = sessions::EXAMPLES)]
    Sessions(sessions::Arguments),
    /// List the running transfers, with their rate, and with progress and time left where the size is known.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = sessions::TRANSFERS_EXAMPLES)]
    Transfers(sessions::Arguments),
    /// List the backends and their states.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = backends::EXAMPLES)]
    Backends(backends::Arguments),
    /// List the clients whose failed logins count, and forget those of one.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = guard::EXAMPLES)]
    Guard(guard::Arguments),
    /// End a session, or all of a user, a client or a backend. Their transfers fail.
    ///
    /// Exits with 0 if sessions were ended, 1 if there are none such, 2 if the process can't be asked.
    #[command(after_long_help = end::EXAMPLES)]
    End(end::Arguments),
    /// Take a backend out of service for new logins, until `ready` or the end of the process. It keeps its sessions.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = backends::DRAIN_EXAMPLES)]
    Drain(backends::One),
    /// Return a drained backend to service.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = backends::READY_EXAMPLES)]
    Ready(backends::One),
    /// Take a site out of service for new logins, until it is taken back or the process ends. It keeps its sessions.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = maintenance::EXAMPLES)]
    Maintenance(maintenance::Arguments),
    /// Reload the configuration, and show what is wrong if it is refused.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = reload::EXAMPLES)]
    Reload(reload::Arguments),
    /// Change what the running process logs, until it ends.
    ///
    /// Exits with 0 if it is done, 1 if the process refuses it, 2 if the process can't be asked.
    #[command(after_long_help = log::EXAMPLES)]
    Log(log::Arguments),
    /// Query the liveness or readiness of a running Portcullis, and exit: 0 yes, 1 no, or no answer within 3 seconds.
    #[command(after_long_help = health::EXAMPLES)]
    Health(health::Arguments),
    /// Print the JSON Schema of the configuration, for editors.
    #[command(after_long_help = schema::EXAMPLES)]
    Schema,
    /// Print the completions for a shell.
    #[command(hide = true, after_long_help = completions::EXAMPLES)]
    Completions(completions::Arguments),
    /// Write the manual pages into a directory.
    #[command(hide = true, after_long_help = man::EXAMPLES)]
    Man(man::Arguments),
}

/// How `check` and `explain` write their result.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ResultFormat {
    /// Human readable.
    Human,
    /// One JSON object.
    Json,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let Some(command) = CommandLine::parse().command else {
        eprintln!("{FIRST_STEPS}");
        return ExitCode::from(UNUSABLE);
    };
    let code = match command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Explain(arguments) => explain::run(arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Sessions(arguments) => sessions::run(arguments),
        Command::Transfers(arguments) => sessions::run_transfers(arguments),
        Command::Backends(arguments) => backends::run(arguments),
        Command::Guard(arguments) => guard::run(&arguments),
        Command::End(arguments) => end::run(&arguments),
        Command::Drain(one) => backends::drain(&one),
        Command::Ready(one) => backends::ready(&one),
        Command::Maintenance(arguments) => maintenance::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Log(arguments) => log::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Schema => schema::run(),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    ExitCode::from(code)
}

/// Writes what a command is run for to stdout; returns the exit code. A reader that has gone wants no more of it.
fn write_out(text: &[u8]) -> u8 {
    let mut stdout = io::stdout();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(PROBLEM, &format!("stdout: {error}"))
        }
        _ => OK,
    }
}

fn fail(code: u8, message: &str) -> u8 {
    eprintln!("portcullis: {message}");
    code
}
