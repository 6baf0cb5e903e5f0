//! `portcullis health`.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

use super::{OK, PROBLEM, fail};
use crate::health::{self, Question};

/// The default of `admin.address`.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9190);

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis health
  portcullis health --ready --address 10.0.0.5:9190
  HEALTHCHECK CMD [\"/usr/local/bin/portcullis\", \"health\"]";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The `admin.address` of the process.
    #[arg(long, value_name = "IP:PORT", default_value_t = ADDRESS)]
    address: SocketAddr,
    /// Ask whether new clients are accepted (/readyz), and not only whether the process runs (/healthz).
    #[arg(long)]
    ready: bool,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let question = if arguments.ready {
        Question::Ready
    } else {
        Question::Alive
    };
    match health::ask(arguments.address, question) {
        Ok(()) => OK,
        Err(error) => fail(PROBLEM, &error.to_string()),
    }
}
