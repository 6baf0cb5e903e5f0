//! `portcullis health`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;

use super::{PROBLEM, fail, write_out};
use crate::health::{self, Question};

/// The default of `admin.address`.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9190);

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
    let (question, yes) = if arguments.ready {
        (Question::Ready, "ready\n")
    } else {
        (Question::Alive, "healthy\n")
    };
    match health::ask(arguments.address, question) {
        Ok(()) => write_out(yes.as_bytes()),
        Err(error) => fail(PROBLEM, &error.to_string()),
    }
}
