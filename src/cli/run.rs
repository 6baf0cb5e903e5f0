//! `portcullis run`.

use std::ops::ControlFlow;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::source::SourceArguments;
use super::{OK, PROBLEM, UNUSABLE, fail};
use crate::app::{App, InheritedSockets, StartError};
use crate::observe::log::{self, LogFormat};
use crate::observe::metrics::{Metrics, STDERR_LOG};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis run --config portcullis.yaml
  portcullis run --config portcullis.yaml --log-format json --log-level info,portcullis::tls=debug
  portcullis run --config shared.yaml --announced-ports 30002    # one of several that share a file
  kill -HUP \"$(pidof portcullis)\"    # reads the configuration again";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    /// How log lines on stderr are written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    log_format: Format,
    /// What is logged: off, error, warn, info, debug or trace, or directives such as info,portcullis::tls=debug.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log_level: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Human readable.
    Human,
    /// One JSON object a line.
    Json,
}

/// Runs the proxy to its end; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let Arguments {
        source,
        log_format,
        log_level: filter,
    } = arguments;
    let format = match log_format {
        Format::Human => LogFormat::Human,
        Format::Json => LogFormat::Json,
    };
    // Before there is another thread.
    let inherited = match InheritedSockets::from_environment() {
        Ok(inherited) => inherited,
        Err(error) => return fail(UNUSABLE, &error.to_string()),
    };
    let metrics = Arc::new(Metrics::new());
    let (log, filter) = match log::init(format, &filter, metrics.dropped_lines(STDERR_LOG)) {
        Ok(started) => started,
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
        if let ControlFlow::Continue(app) =
            App::start(source.into(), metrics, filter, inherited).await?
        {
            app.run().await;
        }
        Ok::<(), StartError>(())
    });
    // A name lookup that is still running has no task left waiting for its result.
    runtime.shutdown_background();
    // So that what is said last stands last, behind the lines that were on their way.
    drop(log);
    match ended {
        Ok(()) => OK,
        Err(error @ (StartError::Config(_) | StartError::Inherited(_))) => {
            fail(UNUSABLE, &error.to_string())
        }
        Err(error) => fail(PROBLEM, &error.to_string()),
    }
}
