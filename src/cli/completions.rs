//! `portcullis completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CommandLine, write_out};

/// Behind its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  portcullis completions bash > /usr/share/bash-completion/completions/portcullis
  portcullis completions zsh > /usr/share/zsh/vendor-completions/_portcullis
  portcullis completions fish > /usr/share/fish/vendor_completions.d/portcullis.fish";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell.
    shell: Shell,
}

/// Runs it; returns the exit code.
pub(super) fn run(arguments: &Arguments) -> u8 {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(arguments.shell, &mut command, "portcullis", &mut script);
    write_out(&script)
}
