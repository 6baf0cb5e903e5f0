//! Counting: a path is gone in a process of its own, under valgrind's callgrind, which counts inside one function.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Does the work as often as asked. Callgrind counts while this function runs, and only then, so that what has to be made
/// ready before costs nothing.
#[inline(never)]
pub fn counted_from_here(rounds: u32, work: &mut dyn FnMut()) {
    for _ in 0..rounds {
        work();
    }
}

/// The instructions that a path takes, all its rounds together.
pub fn count(path: &str) -> io::Result<u64> {
    let profile = profiles()?.join(format!("{path}.out"));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--toggle-collect=*counted_from_here*")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe()?)
        .args(["run", path])
        .output()
        .map_err(|error| io::Error::other(format!("valgrind can't be started: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let failed = || io::Error::other(format!("{path}: valgrind gives no count:\n{said}"));
    if !output.status.success() {
        return Err(failed());
    }
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok());
    // A function that valgrind didn't find would be free of charge.
    collected.filter(|count| *count > 0).ok_or_else(failed)
}

/// Where the profiles stay, for callgrind_annotate.
fn profiles() -> io::Result<PathBuf> {
    let target = env::current_exe()?
        .ancestors()
        .nth(2)
        .map(|target| target.join("instructions"))
        .ok_or_else(|| io::Error::other("the program stands outside of target/"))?;
    fs::create_dir_all(&target)?;
    Ok(target)
}
