//! DNS-01 (RFC 8555 §8.4): the answer is a TXT record, which a program of the operator's makes and removes.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Proof;
use crate::base::text::{escape, escape_path};

/// How long the program may take for one record.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Limit of the hook's output on stderr that is logged: in bytes, and in lines.
const MAX_STDERR: usize = 4 * 1024;
const MAX_LINES: usize = 20;

/// How long what is left of its stderr is waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a record is not made.
#[derive(Debug, thiserror::Error)]
#[error("the program {} (challenge.dns) {cause}", escape_path(program))]
pub struct HookError {
    program: PathBuf,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("can't be run: {0}")]
    Start(#[source] io::Error),
    #[error("is no file that may be executed")]
    NotExecutable,
    #[error("failed with {0}")]
    Failed(ExitStatus),
    #[error("was not done after 2 minutes, and was killed")]
    TimedOut,
}

/// The records of one order.
#[derive(Debug)]
pub struct Records {
    program: PathBuf,
    records: Vec<TxtRecord>,
    /// How many of them were made, or tried to be.
    made: usize,
    /// The number of those that were removed, or are reported as left.
    removed: usize,
}

/// A TXT record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxtRecord {
    name: String,
    value: String,
}

impl TxtRecord {
    /// Warns that a record is left from when there was a program for it, and tells what ends that.
    pub fn warn_without_program(&self, file: &Path) {
        tracing::warn!(
            record = self.name,
            value = self.value,
            file = %escape_path(file),
            "a TXT record of an earlier order may be left, and without `challenge.dns` there is no program that removes it: remove \
             it, and then this file"
        );
    }
}

impl Records {
    /// The records for these proofs; none has been made yet.
    pub fn of(program: PathBuf, proofs: &[Proof]) -> Self {
        let records = proofs.iter().map(|proof| TxtRecord {
            name: format!("_acme-challenge.{}", proof.name),
            value: proof.authorization.dns_value(),
        });
        Self {
            program,
            records: records.collect(),
            made: 0,
            removed: 0,
        }
    }

    /// All of them.
    pub fn all(&self) -> &[TxtRecord] {
        &self.records
    }

    /// Makes all records, one after the other.
    pub async fn make(&mut self) -> Result<(), HookError> {
        for record in &self.records {
            // Also what fails half way is to be removed.
            self.made += 1;
            run(&self.program, "present", record).await?;
        }
        Ok(())
    }

    /// Removes the records that may have been made; returns those that may be left.
    pub async fn remove(mut self) -> Vec<TxtRecord> {
        let mut left = Vec::new();
        for record in self.records.iter().take(self.made) {
            if let Err(error) = run(&self.program, "remove", record).await {
                warn_of(record, &error);
                left.push(record.clone());
            }
            self.removed += 1;
        }
        left
    }
}

/// Removes what earlier orders have left, until one of them can't be removed: an order waits for this, and the program may take
/// its time to fail for each. Returns those that may be left, that one last, so that the others are tried before it.
pub async fn remove_left(program: &Path, mut records: Vec<TxtRecord>) -> Vec<TxtRecord> {
    while let Some(record) = records.first() {
        if let Err(error) = run(program, "remove", record).await {
            warn_of(record, &error);
            records.rotate_left(1);
            break;
        }
        records.remove(0);
    }
    records
}

fn warn_of(record: &TxtRecord, error: &dyn fmt::Display) {
    tracing::warn!(
        record = record.name,
        value = record.value,
        %error,
        "a TXT record of the challenge may be left; the next order tries again to remove it"
    );
}

impl Drop for Records {
    /// The process ends before the program was done.
    fn drop(&mut self) {
        for record in self.records.iter().take(self.made).skip(self.removed) {
            warn_of(record, &"broken off");
        }
    }
}

/// Runs the program: without a shell, and with nothing of our environment but the path on which it finds others.
async fn run(program: &Path, action: &'static str, record: &TxtRecord) -> Result<(), HookError> {
    let failed = |cause| HookError {
        program: program.to_owned(),
        cause,
    };
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("PORTCULLIS_ACTION", action)
        .env("PORTCULLIS_NAME", &record.name)
        .env("PORTCULLIS_VALUE", &record.value)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = command
        .spawn()
        .map_err(|error| failed(Cause::Start(error)))?;
    let mut group = Group::of(child);
    let (status, said) = group.wait().await;
    let status = match status {
        Some(status) => status.map_err(|error| failed(Cause::Start(error)))?,
        None => {
            log(program, action, &said, true);
            return Err(failed(Cause::TimedOut));
        }
    };
    log(program, action, &said, !status.success());
    status
        .success()
        .then_some(())
        .ok_or_else(|| failed(Cause::Failed(status)))
}

fn log(program: &Path, action: &'static str, said: &[u8], failed: bool) {
    let lines = said.split(|byte| *byte == b'\n');
    let lines = lines
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    for line in lines.take(MAX_LINES) {
        let (program, text) = (escape_path(program), escape(line));
        if failed {
            tracing::warn!(%program, action, stderr = text, "the program for the challenge says");
        } else {
            tracing::info!(%program, action, stderr = text, "the program for the challenge says");
        }
    }
}

/// The program and whatever it has started, which end with this.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            id: id.and_then(Pid::from_raw),
            child,
        }
    }

    /// How the program has ended, and the beginning of its output; `None` if it was not done in time.
    async fn wait(&mut self) -> (Option<io::Result<ExitStatus>>, Vec<u8>) {
        let mut said = Vec::new();
        let stderr = self.child.stderr.take();
        let mut is_closed = false;
        let status = {
            let mut reading = std::pin::pin!(read(stderr, &mut said));
            let child = &mut self.child;
            let status = timeout(TIMEOUT, async {
                loop {
                    tokio::select! {
                        biased;
                        status = child.wait() => break status,
                        // It has closed stderr, and may go on.
                        () = &mut reading, if !is_closed => is_closed = true,
                    }
                }
            });
            let status = status.await.ok();
            // Its child processes may keep stderr open for ever.
            if status.is_some() && !is_closed {
                is_closed = timeout(LAST_WORDS, reading).await.is_ok();
            }
            status
        };
        if is_closed && status.is_some() {
            // Nothing of it is left, and the number may be another's before long.
            self.id = None;
        }
        if status.is_none() {
            self.kill();
            // No process survives that signal, and an ended one has to be waited for.
            let _ = self.child.wait().await;
        }
        (status, said)
    }

    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // It fails where the whole group has ended by itself.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads to the end, and keeps the beginning. Ends at once when it has ended.
async fn read(from: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let room = MAX_STDERR.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
}

/// Whether this program could be run. Runs nothing.
///
/// # Errors
/// What is wrong with it.
pub fn check_program(program: &Path) -> Result<(), HookError> {
    let failed = |cause| HookError {
        program: program.to_owned(),
        cause,
    };
    let metadata = std::fs::metadata(program).map_err(|error| failed(Cause::Start(error)))?;
    let may_be_executed = metadata.is_file() && metadata.permissions().mode() & 0o111 != 0;
    let is_ours = rustix::fs::access(program, rustix::fs::Access::EXEC_OK).is_ok();
    (may_be_executed && is_ours)
        .then_some(())
        .ok_or_else(|| failed(Cause::NotExecutable))
}

#[cfg(test)]
mod tests;
