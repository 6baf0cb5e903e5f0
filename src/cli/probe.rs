//! `portcullis probe`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{OK, PROBLEM, UNUSABLE, fail};
use crate::probe::{self, Health, Outcome};

/// An error of ours, as the plugins of Nagios say it.
const NAGIOS_UNKNOWN: u8 = 3;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis probe --config portcullis.yaml
  portcullis probe --config portcullis.yaml --site ftpb --backend 10.0.0.11
  portcullis probe --config portcullis.yaml --site ftpb --user probe --password-file probe.pw --list
  portcullis probe --config portcullis.yaml --format json | jq 'select(.outcome != \"ok\")'";

#[derive(Debug, Args)]
pub(super) struct Arguments {
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
    /// List this directory instead.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Human readable.
    Human,
    /// One JSON object a line for each backend.
    Json,
    /// One line with performance data, and the exit codes of a Nagios plugin.
    Nagios,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let format = match arguments.format {
        Format::Human => probe::Format::Human,
        Format::Json => probe::Format::Json,
        Format::Nagios => probe::Format::Nagios,
    };
    let request = probe::Request {
        config: &arguments.config,
        site: arguments.site.as_deref(),
        backend: arguments.backend.as_deref(),
        user: arguments.user.as_deref(),
        password_file: arguments.password_file.as_deref(),
        list: arguments.list,
        path: arguments.path.as_deref(),
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
