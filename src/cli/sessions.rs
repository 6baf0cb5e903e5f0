//! `portcullis sessions` and `portcullis transfers`, which list the sessions that are meant, or the transfers of those.

use clap::Args;

use super::running::Shown;
use crate::control::sessions::{Filter, Sessions};
use crate::control::transfers::Transfers;

/// Behind the help of `sessions`.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis sessions
  portcullis sessions --site ftpb --user alice
  portcullis sessions --format json | jq -r 'select(.seconds > 3600) | .id'";

/// Behind the help of `transfers`.
pub(super) const TRANSFERS_EXAMPLES: &str = "\
Examples:
  portcullis transfers --watch
  portcullis transfers --backend 10.0.0.11
  portcullis transfers --format json | jq -r .path";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only those of this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Only those of this client address or network.
    #[arg(long, value_name = "IP[/BITS]")]
    client: Option<String>,
    /// Only those of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only those with this backend: its name, or its address with or without the port.
    #[arg(long, value_name = "IP[:PORT]")]
    backend: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// Runs `sessions`; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let (filter, shown) = arguments.split();
    shown.show(&mut Sessions { filter })
}

/// Runs `transfers`; returns the exit code.
pub(super) fn run_transfers(arguments: Arguments) -> u8 {
    let (filter, shown) = arguments.split();
    shown.show(&mut Transfers::new(filter))
}

impl Arguments {
    fn split(self) -> (Filter, Shown) {
        let filter = Filter {
            site: self.site,
            client: self.client,
            user: self.user,
            backend: self.backend,
        };
        (filter, self.shown)
    }
}
