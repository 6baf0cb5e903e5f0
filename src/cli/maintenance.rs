//! `portcullis maintenance`.

use clap::{Args, ValueEnum};

use super::running::At;
use crate::control::Request;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis maintenance ftpb on
  portcullis maintenance ftpb off";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The site's name.
    site: String,
    /// Whether it is out of service.
    #[arg(value_enum)]
    state: State,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// New logins are refused; live sessions go on.
    On,
    /// It serves, unless the configuration says otherwise.
    Off,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let state = match arguments.state {
        State::On => "on",
        State::Off => "off",
    };
    let request = Request::act("/api/v1/sites/maintenance")
        .with("site", Some(&arguments.site))
        .with("state", Some(state));
    arguments.at.act(request)
}
