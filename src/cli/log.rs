//! `portcullis log`.

use clap::{Args, Subcommand};

use super::running::At;
use crate::control::Request;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis log level info,portcullis::tls=debug
  portcullis log dialogue 192.0.2.7
  portcullis log dialogue off";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Change,
}

#[derive(Debug, Subcommand)]
enum Change {
    /// Set the log filter until the end of the process, as `run --log-level`.
    #[command(after_long_help = EXAMPLES)]
    Level {
        /// The filter: off, error, warn, info, debug or trace, or directives.
        filter: String,
        #[command(flatten)]
        at: At,
    },
    /// Log the dialogue of the clients of one network on both legs, without passwords; of one network at a time.
    #[command(after_long_help = EXAMPLES)]
    Dialogue {
        /// The client's address, a network, or off.
        client: String,
        #[command(flatten)]
        at: At,
    },
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    match &arguments.change {
        Change::Level { filter, at } => {
            at.act(Request::act("/api/v1/log-level").with("level", Some(filter)))
        }
        Change::Dialogue { client, at } => {
            at.act(Request::act("/api/v1/dialogue").with("client", Some(client)))
        }
    }
}
