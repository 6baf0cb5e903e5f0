//! `portcullis end`.

use clap::{ArgGroup, Args};

use super::running::At;
use crate::control::Request;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis end 42
  portcullis end --user alice --site ftpb
  portcullis end --client 192.0.2.7
  portcullis end --backend 10.0.0.11:21";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["id", "user", "client", "backend"]))]
pub(super) struct Arguments {
    /// The session's id, as `sessions` and the log have it.
    id: Option<u64>,
    /// All sessions of this user.
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// All sessions of this client address or network.
    #[arg(long, value_name = "IP[/BITS]")]
    client: Option<String>,
    /// All sessions with this backend: its name, or its address with or without the port.
    #[arg(long, value_name = "IP[:PORT]")]
    backend: Option<String>,
    /// Of these, only those at this site.
    #[arg(long, value_name = "SITE", conflicts_with = "id")]
    site: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let id = arguments.id.map(|id| id.to_string());
    let request = Request::act("/api/v1/sessions/end")
        .with("id", id.as_deref())
        .with("user", arguments.user.as_deref())
        .with("client", arguments.client.as_deref())
        .with("backend", arguments.backend.as_deref())
        .with("site", arguments.site.as_deref());
    arguments.at.act(request)
}
