//! The command line: `run`, `check`, `probe` and `explain`, and what they exit with.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::app::{App, StartError};
use crate::check::{self, Verdict};
use crate::explain;
use crate::observe::log::{self, LogFormat};
use crate::probe::{self, Health, Outcome};

/// All is well.
const OK: u8 = 0;
/// `check` has found a problem, or `run` can't do what the configuration says.
const PROBLEM: u8 = 1;
/// The command line or the configuration can't be used.
const UNUSABLE: u8 = 2;
/// The same, as the plugins of Nagios say it.
const NAGIOS_UNKNOWN: u8 = 3;

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
    #[command(after_long_help = CHECK_EXAMPLES)]
    Check {
        /// The configuration file (YAML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How the result is written.
        #[arg(long, value_enum, default_value_t = ResultFormat::Human)]
        format: ResultFormat,
        /// Exit with 1 for a warning as for a problem. Hints, such as a host that the certificate doesn't cover, are none.
        #[arg(long)]
        deny_warnings: bool,
    },
    /// Walk the backends as sessions do, and say what works and what to do where it doesn't.
    ///
    /// Each backend is connected to: name, connection, greeting, TLS, certificate, FEAT; with --user, login and passive mode;
    /// with --list, a listing over a data connection. No running Portcullis is needed.
    ///
    /// Exits with 0 if everything works, 1 if something doesn't, 2 if the configuration or the arguments can't be used;
    /// with --format nagios, 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
    #[command(after_long_help = PROBE_EXAMPLES)]
    Probe(ProbeArguments),
    /// Say what would become of a login: which site serves it and why, which certificate, backends and data ports, which
    /// policies and limits apply, or which reply refuses it.
    ///
    /// The configuration alone decides, by the code that sessions run; no backend is dialled. What only a running process knows
    /// is not looked at: failed logins, sessions that are open, backends that are out.
    ///
    /// Exits with 0 if the login would reach a backend, 1 if it would be refused, 2 if the configuration or the arguments can't
    /// be used.
    #[command(after_long_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArguments),
}

/// Behind the help of `explain`.
const EXPLAIN_EXAMPLES: &str = "\
Examples:
  portcullis explain --config portcullis.yaml 'ftpb.example.com|alice'
  portcullis explain --config portcullis.yaml --from 10.9.1.2 --sni ftpb.example.com alice
  portcullis explain --config portcullis.yaml --format json alice | jq .site.backends";

#[derive(Debug, Args)]
struct ExplainArguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The listener that the client connects to, as configured; default: the first one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listener: Option<SocketAddr>,
    /// The client's address; default: 127.0.0.1.
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,
    /// The server name of the client's TLS handshake.
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// The argument of the client's HOST.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = ResultFormat::Human)]
    format: ResultFormat,
    /// The argument of the client's USER.
    user: String,
}

/// How `check` and `explain` write their result.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ResultFormat {
    /// For people.
    Human,
    /// One JSON object.
    Json,
}

/// Behind the help of `check`.
const CHECK_EXAMPLES: &str = "\
Examples:
  portcullis check --config portcullis.yaml
  portcullis check --config portcullis.yaml --deny-warnings
  portcullis check --config portcullis.yaml --format json | jq -r '.findings[].code'";

/// Behind the help of `probe`.
const PROBE_EXAMPLES: &str = "\
Examples:
  portcullis probe --config portcullis.yaml
  portcullis probe --config portcullis.yaml --site ftpb --backend 10.0.0.11
  portcullis probe --config portcullis.yaml --site ftpb --user probe --password-file probe.pw --list
  portcullis probe --config portcullis.yaml --format json | jq 'select(.outcome != \"ok\")'";

#[derive(Debug, Args)]
struct ProbeArguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only the backends of this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Only this backend: its name, HOST:PORT or HOST.
    #[arg(long, value_name = "BACKEND")]
    backend: Option<String>,
    /// Log in as this user, which is sent as it is.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The file with the user's password, in one line.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// List the directory that the login leads to, over a data connection. 1 MiB of it is read.
    #[arg(long)]
    list: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = ProbeFormat::Human)]
    format: ProbeFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProbeFormat {
    /// For people.
    Human,
    /// One JSON object a line for each backend.
    Json,
    /// One line with performance data, and the exit codes of a Nagios plugin.
    Nagios,
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
        Command::Check {
            config,
            format,
            deny_warnings,
        } => run_check(&config, format, deny_warnings),
        Command::Probe(arguments) => run_probe(&arguments),
        Command::Explain(arguments) => run_explain(&arguments),
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

fn run_probe(arguments: &ProbeArguments) -> u8 {
    let format = match arguments.format {
        ProbeFormat::Human => probe::Format::Human,
        ProbeFormat::Json => probe::Format::Json,
        ProbeFormat::Nagios => probe::Format::Nagios,
    };
    let request = probe::Request {
        config: &arguments.config,
        site: arguments.site.as_deref(),
        backend: arguments.backend.as_deref(),
        user: arguments.user.as_deref(),
        password_file: arguments.password_file.as_deref(),
        list: arguments.list,
        format,
    };
    let is_plugin = format == probe::Format::Nagios;
    match probe::run(&request, &mut std::io::stdout()) {
        Outcome::Probed(health) if is_plugin => health.nagios_code(),
        Outcome::Probed(Health::Works | Health::WorksForNow) => OK,
        Outcome::Probed(Health::LoginRefused | Health::Fails) => PROBLEM,
        // It has said so on stdout, where such programs look.
        Outcome::Unusable(_) if is_plugin => NAGIOS_UNKNOWN,
        Outcome::Unusable(unusable) => fail(UNUSABLE, &unusable.to_string()),
    }
}

fn run_check(config: &Path, format: ResultFormat, deny_warnings: bool) -> u8 {
    let result = check::run(config);
    // A reader that has gone wants no more of it.
    let _ = match format {
        ResultFormat::Human => result.write_text(&mut std::io::stdout()),
        ResultFormat::Json => result.write_json(&mut std::io::stdout()),
    };
    match (result.verdict(), format) {
        (Verdict::Unusable(error), ResultFormat::Human) => fail(UNUSABLE, &error.to_string()),
        (Verdict::Unusable(_), ResultFormat::Json) => UNUSABLE,
        (Verdict::Problem, _) => PROBLEM,
        (Verdict::Warning, _) if deny_warnings => PROBLEM,
        (Verdict::Warning | Verdict::Good, _) => OK,
    }
}

fn run_explain(arguments: &ExplainArguments) -> u8 {
    let request = explain::Request {
        config: &arguments.config,
        user: &arguments.user,
        listener: arguments.listener,
        client: arguments.from,
        sni: arguments.sni.as_deref(),
        host: arguments.host.as_deref(),
        format: match arguments.format {
            ResultFormat::Human => explain::Format::Human,
            ResultFormat::Json => explain::Format::Json,
        },
    };
    match explain::run(&request, &mut std::io::stdout()) {
        explain::Outcome::Served => OK,
        explain::Outcome::Refused => PROBLEM,
        explain::Outcome::Unusable(why) => fail(UNUSABLE, &why),
    }
}

fn fail(code: u8, message: &str) -> u8 {
    eprintln!("portcullis: {message}");
    code
}
