//! `portcullis guard`.

use clap::{Args, Subcommand};

use super::running::{At, Shown};
use crate::control::Request;
use crate::control::guard::Guard;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis guard
  portcullis guard forget 192.0.2.7";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Forget the failed logins of a client, which ends its block.
    #[command(after_long_help = EXAMPLES)]
    Forget(Forget),
}

#[derive(Debug, Args)]
struct Forget {
    /// The client's address, as listed.
    client: String,
    /// Only those at this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    match &arguments.action {
        None => arguments.shown.show(&mut Guard),
        Some(Action::Forget(forget)) => {
            let request = Request::act("/api/v1/guard/forget")
                .with("client", Some(&forget.client))
                .with("site", forget.site.as_deref());
            forget.at.act(request)
        }
    }
}
