//! The commands that ask the running process.

mod answers;
mod process;

use std::path::Path;
use std::process::Output;

use crate::program;

/// Runs such a command.
fn run(arguments: &[&str], socket: &Path) -> Output {
    program::command()
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .output()
        .expect("cargo built it")
}

/// What it has printed.
///
/// # Panics
/// If it has failed.
fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What it has complained of.
fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}
