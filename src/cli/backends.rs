//! `portcullis backends`, and `drain` and `ready`, which take one of them out of service and back.

use clap::Args;

use super::running::{At, Shown};
use crate::control::Request;
use crate::control::backends::Backends;

/// Behind the help of `backends`.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis backends --watch
  portcullis backends --format json | jq -r 'select(.state != \"up\") | .backend'";

/// Behind the help of `drain`.
pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  portcullis drain ftpb 10.0.0.11:21";

/// Behind the help of `ready`.
pub(super) const READY_EXAMPLES: &str = "\
Examples:
  portcullis ready ftpb 10.0.0.11:21";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only those of this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

/// One backend.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The site's name.
    site: String,
    /// The backend's name, HOST:PORT or HOST.
    backend: String,
    #[command(flatten)]
    at: At,
}

/// Runs `backends`; returns the exit code.
pub(super) fn run(arguments: Arguments) -> u8 {
    let site = arguments.site;
    arguments.shown.show(&mut Backends { site })
}

/// Runs `drain`; returns the exit code.
pub(super) fn drain(one: &One) -> u8 {
    one.have("/api/v1/backends/drain")
}

/// Runs `ready`; returns the exit code.
pub(super) fn ready(one: &One) -> u8 {
    one.have("/api/v1/backends/ready")
}

impl One {
    fn have(&self, path: &'static str) -> u8 {
        let request = Request::act(path)
            .with("site", Some(&self.site))
            .with("backend", Some(&self.backend));
        self.at.act(request)
    }
}
