//! `portcullis reload`.

use clap::Args;

use super::running::At;
use crate::control::Request;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis reload
  portcullis reload --socket /run/portcullis/admin.sock";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    at: At,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    arguments.at.act(Request::reload())
}
