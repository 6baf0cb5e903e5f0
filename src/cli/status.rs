//! `portcullis status`.

use clap::Args;

use super::running::Shown;
use crate::control::status::Status;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis status
  portcullis status --watch
  portcullis status --format json | jq '.certificates[].days_left'";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    shown: Shown,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    arguments.shown.show(&mut Status)
}
