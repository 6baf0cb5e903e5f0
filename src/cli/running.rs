//! What the commands that ask a running process have in common: the socket, the format, and the exit codes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{OK, PROBLEM, UNUSABLE, fail, write_out};
use crate::control::{self, ControlError, Report, Request, Rounds, Socket, socket};

/// Where the process is asked.
#[derive(Debug, Args)]
pub(super) struct At {
    /// The socket of the process: the configuration's `admin.socket`.
    #[arg(long, value_name = "PATH", default_value = socket::DEFAULT)]
    socket: PathBuf,
}

/// How something is shown.
#[derive(Debug, Args)]
pub(super) struct Shown {
    #[command(flatten)]
    at: At,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Show it again every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Human readable.
    Human,
    /// JSON, one object a line; with --watch one object a round.
    Json,
}

impl Shown {
    /// Shows it; returns the exit code.
    pub(super) fn show<const N: usize>(&self, report: &mut impl Report<N>) -> u8 {
        let format = match self.format {
            Format::Human => control::Format::Human,
            Format::Json => control::Format::Json,
        };
        let rounds = if self.watch {
            Rounds::Many
        } else {
            Rounds::One
        };
        match control::show(report, &self.at.socket(), format, rounds) {
            Ok(()) => OK,
            Err(error) => failed(&error),
        }
    }
}

impl At {
    /// Has the process do this, and says what it has done; returns the exit code.
    pub(super) fn act(&self, request: Request) -> u8 {
        match control::act(&self.socket(), request) {
            Ok(done) => write_out(format!("{done}\n").as_bytes()),
            Err(error) => failed(&error),
        }
    }

    fn socket(&self) -> Socket {
        Socket::new(self.socket.clone())
    }
}

fn failed(error: &ControlError) -> u8 {
    let code = match error {
        ControlError::Refused(_) | ControlError::Output(_) => PROBLEM,
        _ => UNUSABLE,
    };
    fail(code, &error.to_string())
}
