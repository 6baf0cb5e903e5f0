//! A program that a test runs: its output is kept and shown if the test fails, and it ends with the test.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::DEADLINE;

/// A running server, with the children that it forks for its sessions.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    logs: Vec<PathBuf>,
}

impl Process {
    /// Starts a command in a process group of its own; what it prints goes to `output.log` in `directory`.
    ///
    /// `logs` are files that it writes itself and that help to understand a failure.
    pub fn start(mut command: Command, directory: &Path, logs: &[&str]) -> Self {
        let name = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let output = directory.join("output.log");
        let file = File::create(&output).expect("the test's directory is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the file is open"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let logs = logs
            .iter()
            .map(|log| directory.join(log))
            .chain([output])
            .collect();
        Self { name, child, logs }
    }

    /// Asks again and again until there is an answer: for what a program can't be waited for in another way.
    ///
    /// # Panics
    /// If the program ends or the deadline passes first.
    pub fn poll<T>(&mut self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}) before: {what}", self.name);
            }
            assert!(
                Instant::now() < deadline,
                "{} didn't do in time: {what}",
                self.name
            );
            // Not to wait for anything, only to leave the processor to the program.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has forked and that still run.
    pub fn children(&self) -> Vec<u32> {
        let group = self.child.id();
        let all = fs::read_dir("/proc").expect("every Linux has it");
        let numbers = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers
            .filter(|process| *process != group && runs_in(*process, group))
            .collect()
    }
}

/// Whether a process is in this process group and is no zombie.
fn runs_in(process: u32, group: u32) -> bool {
    let Ok(line) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return false;
    };
    // Behind the name, which may hold anything: state, parent, group.
    let rest = line.rsplit(')').next().unwrap_or_default();
    let words: Vec<&str> = rest.split_whitespace().take(3).collect();
    matches!(words[..], [state, _, of] if state != "Z" && of == group.to_string())
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in &self.logs {
                let text = fs::read(log).unwrap_or_default();
                eprintln!(
                    "--- {} {}\n{}",
                    self.name,
                    log.display(),
                    String::from_utf8_lossy(&text)
                );
            }
        }
        // TERM lets the server end its sessions; sessions that outlive it are in its process group.
        let group = format!("-{}", self.child.id());
        send_signal("TERM", &group);
        wait(&mut self.child, Duration::from_secs(5));
        send_signal("KILL", &group);
        let _ = self.child.wait();
    }
}

/// Sends a signal such as `HUP` to a process, or to a process group if its id has a minus in front. That the process
/// is gone already is no error.
pub fn send_signal(signal: &str, process: &str) {
    // By the shell's own command: std can only kill, the system call needs unsafe code, and small machines lack the
    // program.
    Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "sh", signal, process])
        .stderr(Stdio::null())
        .status()
        .expect("every Linux has a shell");
}

/// Waits for a child to exit, at most so long.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        // std can't wait for a child with a deadline.
        std::thread::sleep(Duration::from_millis(2));
    }
}
