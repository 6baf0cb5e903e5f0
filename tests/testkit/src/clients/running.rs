//! A client while it runs.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use super::Outcome;

/// A client at work.
#[derive(Debug)]
pub struct Running {
    pub(super) child: Child,
    /// The file that it sends or writes.
    pub(super) local: PathBuf,
    /// What it prints.
    pub(super) output: PathBuf,
}

impl Running {
    /// Whether it has exited.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// How many bytes of a download are in its file.
    pub fn received(&self) -> u64 {
        fs::metadata(&self.local).map_or(0, |file| file.len())
    }

    /// Kills it; false if it has exited already.
    pub fn kill(&mut self) -> bool {
        !self.is_over() && self.child.kill().is_ok()
    }

    /// Waits for its exit: code -1 if it was killed, and for a download what is in its file.
    pub fn wait(mut self) -> Outcome {
        let status = self.child.wait().expect("the child is ours");
        let text = fs::read(&self.output).unwrap_or_default();
        Outcome {
            code: status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&text).into_owned(),
            content: fs::read(&self.local).unwrap_or_default(),
        }
    }
}
