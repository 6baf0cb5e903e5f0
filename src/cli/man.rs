//! `portcullis man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};

use super::{CommandLine, OK, PROBLEM, fail};
use crate::base::text::escape_path;

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis man /usr/local/share/man/man1";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory for the pages, which is made if it isn't there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    match write_pages(&arguments.directory) {
        Ok(()) => OK,
        Err(error) => fail(
            PROBLEM,
            &format!("{}: {error}", escape_path(&arguments.directory)),
        ),
    }
}

/// A page for the program and one for each command.
fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(CommandLine::command(), directory)
}
