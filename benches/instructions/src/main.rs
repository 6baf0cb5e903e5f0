//! How many instructions the hot paths take, compared with what they took before.
//!
//! Time depends on the machine and its mood, the number of instructions does not: valgrind counts them on a processor of
//! its own making, the same on every machine. So a few percent more are a change of the program, and can fail a build.

mod baseline;
mod paths;
mod valgrind;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use baseline::{Baseline, Count};
use paths::PATHS;

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count, and compare with a baseline.
    Compare {
        /// The baseline.
        baseline: PathBuf,
    },
    /// Count, and write a baseline.
    Write {
        /// The baseline.
        baseline: PathBuf,
    },
    /// Go one path, as often as it says. Started by the other two, under valgrind.
    Run {
        /// Its name.
        path: String,
    },
}

fn main() -> ExitCode {
    let good = match CommandLine::parse().command {
        Command::Run { path } => run(&path).map(|()| true),
        Command::Write { baseline } => count()
            .and_then(|counted| counted.write(&baseline))
            .map(|()| true),
        Command::Compare { baseline } => Baseline::read(&baseline)
            .and_then(|former| count().map(|counted| baseline::compare(&former, &counted))),
    };
    match good {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> io::Result<()> {
    let path = PATHS.iter().find(|path| path.name == name);
    let path = path.ok_or_else(|| io::Error::other(format!("there is no path {name}")))?;
    (path.go)(path.rounds)
}

fn count() -> io::Result<Baseline> {
    let count = |path: &paths::Path| {
        let counted = valgrind::count(path.name)?;
        Ok(Count {
            name: path.name.to_owned(),
            each: counted / u64::from(path.rounds),
        })
    };
    Ok(Baseline {
        environment: baseline::environment()?,
        counts: PATHS.iter().map(count).collect::<io::Result<_>>()?,
    })
}
