//! Chromium without a window, which lays a page out as people see it.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::DEADLINE;
use crate::process::wait;
use crate::programs::server_file;

/// What it has made of a page.
#[derive(Debug)]
pub struct Shown {
    /// The document as it is after all that it did, as HTML.
    pub document: String,
    /// What it has complained about: scripts that fail, and what the page's policy forbids.
    pub complaints: Vec<String>,
}

/// Opens an address, such as `http://127.0.0.1:80/`, in a window of so many pixels.
///
/// # Panics
/// If it doesn't come to an end in time.
pub fn open(address: &str, width: u32) -> Shown {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str| directory.path().join(name);
    let create = |path: &Path| File::create(path).expect("the directory is ours");
    let (document, log) = (file("document"), file("log"));
    let mut child = Command::new(server_file(
        "chromium/usr/lib/chromium/chromium-headless-shell",
    ))
    // Its sandbox can't be had as root, nor in most containers.
    .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
    .args(["--enable-logging=stderr", "--dump-dom"])
    .arg(format!("--user-data-dir={}", file("profile").display()))
    .arg(format!("--window-size={width},900"))
    .arg(address)
    .stdout(create(&document))
    .stderr(create(&log))
    .spawn()
    .expect("it is executable");
    let status = wait(&mut child, DEADLINE);
    if status.is_none() {
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
    let log = fs::read_to_string(log).expect("text");
    match status {
        Some(status) => assert!(status.success(), "Chromium: {status}\n{log}"),
        None => panic!("Chromium has not ended after {DEADLINE:?}\n{log}"),
    }
    Shown {
        document: fs::read_to_string(document).expect("text"),
        complaints: log
            .lines()
            .filter(|line| line.contains(":CONSOLE:"))
            .map(str::to_owned)
            .collect(),
    }
}
