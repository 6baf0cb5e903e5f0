//! `portcullis run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{OK, PROBLEM, UNUSABLE, fail};
use crate::app::{App, StartError};
use crate::observe::log::{self, LogFormat};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis run --config portcullis.yaml
  portcullis run --config portcullis.yaml --log-format json --log-level info,portcullis::tls=debug
  kill -HUP \"$(pidof portcullis)\"    # reads the configuration again";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How log lines on stderr are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    log_format: Format,
    /// What is logged: off, error, warn, info, debug or trace, or directives such as info,portcullis::tls=debug.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log_level: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Runs the proxy to its end; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let Arguments {
        config,
        log_format,
        log_level: filter,
    } = arguments;
    let format = match log_format {
        Format::Human => LogFormat::Human,
        Format::Json => LogFormat::Json,
    };
    let log = match log::init(format, &filter) {
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
