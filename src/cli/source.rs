//! The arguments of the commands that read a configuration as one instance does.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use crate::config::{Overrides, Source, port_range};

#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// The configuration file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The data ports announced to every client, in place of what the file says: as many as `passive.ports` has. For instances
    /// that share a file behind a balancer, where each needs a data port of its own.
    #[arg(long, value_name = "RANGE", value_parser = port_range)]
    announced_ports: Option<RangeInclusive<u16>>,
}

impl From<SourceArguments> for Source {
    fn from(arguments: SourceArguments) -> Self {
        Self {
            file: arguments.config,
            overrides: Overrides {
                announced_ports: arguments.announced_ports,
            },
        }
    }
}
