//! The program under test, as its users run it: `portcullis run --config FILE`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tempfile::TempDir;

use super::DEADLINE;
use super::config::Config;
use super::log::Log;
pub use super::log::LogLine;
use super::poll::poll;
use super::process::{send_signal, wait};

/// A running proxy; it is killed when dropped, and its log shown if the test fails.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    config: Arc<Config>,
    directory: TempDir,
}

/// What an operator sends to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload.
    Reload,
    /// SIGTERM: drain and exit.
    Terminate,
    /// SIGINT: the same, from a terminal.
    Interrupt,
    /// SIGUSR1: opens the transfer logs anew.
    Reopen,
    /// SIGUSR2: means nothing.
    User2,
    /// SIGALRM: means nothing.
    Alarm,
    /// SIGKILL: as a crash.
    Kill,
}

impl Proxy {
    /// Starts the program at this path and waits until all its listeners accept and it says that it is ready. The path
    /// comes from outside: cargo tells it to the tests of the program's own package alone.
    ///
    /// # Panics
    /// If it exits or isn't ready in time; its log is shown.
    pub fn start_program(program: &str, config: impl Into<Arc<Config>>) -> Self {
        let proxy = Self::start_unready_program(program, config);
        proxy.expect_ready();
        proxy
    }

    /// The same without waiting until it says that it is ready.
    pub fn start_unready_program(program: &str, config: impl Into<Arc<Config>>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self::start_unready_by(config, command)
    }

    /// The same within the limits that this sets as an argument of the shell's `ulimit`, such as `-n 100`.
    pub fn start_program_limited(program: &str, config: Config, limit: &str) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit {limit} && exec \"$@\"");
        command
            .args(["-c", &script, "sh", program])
            .stdin(Stdio::null());
        Self::start_by(config, command)
    }

    /// The same by a command that becomes the program, with the arguments that are added here.
    pub fn start_by(config: impl Into<Arc<Config>>, command: Command) -> Self {
        let proxy = Self::start_unready_by(config, command);
        proxy.expect_ready();
        proxy
    }

    fn start_unready_by(config: impl Into<Arc<Config>>, mut command: Command) -> Self {
        let config = config.into();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("portcullis.yaml");
        fs::write(&file, config.to_yaml()).expect("the test's directory is writable");
        let mut child = command
            .args(["run", "--log-format", "json", "--config"])
            .arg(&file)
            .args(config.arguments())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo built it");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("it is piped");
        let reader = {
            let log = Arc::clone(&log);
            std::thread::spawn(move || log.follow(stderr))
        };
        let proxy = Self {
            child,
            log,
            reader: Some(reader),
            config,
            directory,
        };
        let all = proxy.config.listeners();
        proxy.log.wait("all listeners", |lines| {
            (lines
                .iter()
                .filter(|line| line.listening().is_some())
                .count()
                >= all)
                .then_some(())
        });
        proxy
    }

    fn expect_ready(&self) {
        let (status, body) = self.get("/readyz");
        assert_eq!(status, 200, "the listeners accept, but /readyz says {body}");
    }

    /// Where clients of explicit TLS connect.
    pub fn explicit(&self) -> SocketAddr {
        self.config.explicit()
    }

    /// Where clients of implicit TLS connect.
    pub fn implicit(&self) -> SocketAddr {
        self.config.implicit()
    }

    /// Where the metrics are.
    pub fn admin(&self) -> SocketAddr {
        self.config.admin()
    }

    /// The listener of [`Config::ipv6`].
    pub fn ipv6(&self) -> SocketAddr {
        let listening = |lines: &[LogLine]| {
            lines
                .iter()
                .filter_map(LogLine::listening)
                .find(SocketAddr::is_ipv6)
        };
        self.log.wait("an IPv6 listener", listening)
    }

    /// The process, for what the system knows about it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The configuration file, for `check` and for edits that [`Config`] can't express.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("portcullis.yaml")
    }

    /// The configuration as it was at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every sample of `/metrics`: by name and labels, such as `sessions{site="ftpa"}`, as the exposition has them.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        samples
            .filter_map(|line| {
                // A label's value may hold spaces; the number can't.
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }

    /// One sample of `/metrics`; 0 if there is none.
    pub fn metric(&self, name: &str) -> f64 {
        self.metrics().get(name).copied().unwrap_or(0.0)
    }

    /// Asks for one sample of `/metrics` until it is as wanted, and returns it.
    ///
    /// # Panics
    /// If it isn't in time.
    pub fn wait_for_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        poll(|| match self.metric(name) {
            value if wanted(value) => Ok(value),
            value => Err(format!("{name} is still {value}")),
        })
    }

    /// Replaces the configuration file in one step; [`Signal::Reload`] puts it in force.
    pub fn rewrite_config(&self, yaml: &str) {
        let beside = self.directory.path().join("portcullis.new");
        fs::write(&beside, yaml).expect("the test's directory is writable");
        fs::rename(&beside, self.config_file()).expect("both are in the same directory");
    }

    /// Puts a configuration in force for new sessions.
    ///
    /// # Panics
    /// If it is refused, or not in force in time.
    pub fn reload(&self, yaml: &str) {
        let reloads = |lines: &[LogLine]| {
            let of_reloads = lines.iter().filter(|line| {
                let message = line.message();
                message == "configuration reloaded" || message.starts_with("reload refused")
            });
            of_reloads.map(LogLine::message).collect::<Vec<_>>()
        };
        let before = reloads(&self.log_lines()).len();
        self.rewrite_config(yaml);
        self.signal(Signal::Reload);
        let outcome = self.log.wait("the outcome of a reload", |lines| {
            reloads(lines).get(before).cloned()
        });
        assert_eq!(outcome, "configuration reloaded");
    }

    /// Asks the admin endpoint: status and body.
    ///
    /// # Panics
    /// If there is no HTTP answer.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut socket = TcpStream::connect_timeout(&self.admin(), DEADLINE)
            .expect("the admin endpoint accepts");
        socket
            .set_read_timeout(Some(DEADLINE))
            .expect("the deadline isn't zero");
        let host = self.admin();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )
        .expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        (status, body.to_owned())
    }

    /// The log as far as it has been written and read: what isn't waited for may be missing while the program runs.
    pub fn log_lines(&self) -> Vec<LogLine> {
        self.log.state().lines.clone()
    }

    /// Waits for a line of the log, past ones included.
    ///
    /// # Panics
    /// If none comes in time, or the program exits first.
    pub fn wait_for_log(&self, wanted: impl Fn(&LogLine) -> bool) -> LogLine {
        self.log.wait("a line of the log", |lines| {
            lines.iter().find(|line| wanted(line)).cloned()
        })
    }

    /// Waits until the log holds this many such lines, past ones included, and returns them.
    ///
    /// # Panics
    /// If it doesn't in time, or the program exits first.
    pub fn wait_for_logs(&self, count: usize, wanted: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
        self.log.wait("lines of the log", |lines| {
            let found: Vec<LogLine> = lines.iter().filter(|line| wanted(line)).cloned().collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Reload => "HUP",
            Signal::Terminate => "TERM",
            Signal::Interrupt => "INT",
            Signal::Reopen => "USR1",
            Signal::User2 => "USR2",
            Signal::Alarm => "ALRM",
            Signal::Kill => "KILL",
        };
        send_signal(name, &self.pid().to_string());
    }

    /// Stops the program (SIGSTOP) while this is done, so that all of it is there when the program looks next.
    ///
    /// # Panics
    /// If it doesn't stop in time.
    pub fn stopped<T>(&self, done: impl FnOnce() -> T) -> T {
        let pid = self.pid().to_string();
        send_signal("STOP", &pid);
        let by = Instant::now() + DEADLINE;
        while !is_stopped(&pid) {
            assert!(Instant::now() < by, "the program doesn't stop");
            std::thread::yield_now();
        }
        let outcome = done();
        send_signal("CONT", &pid);
        outcome
    }

    /// Waits for the program to exit: its code, or none if a signal ended it. Its log is whole then.
    ///
    /// # Panics
    /// If it doesn't in time.
    pub fn wait_exit(&mut self) -> Option<i32> {
        let status = wait(&mut self.child, DEADLINE).expect("the program exits in time");
        self.log.wait_for_end();
        status.code()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- portcullis");
            for line in &self.log.state().lines {
                eprintln!("{}", line.text);
            }
            return;
        }
        // Of one task, which costs a session or nothing, and would go unnoticed.
        let panic = |line: &&LogLine| line.message().contains("panicked");
        let found = self.log.state().lines.iter().find(panic).cloned();
        assert!(found.is_none(), "the program has panicked: {found:?}");
    }
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the program runs");
    tasks.flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state is the first word behind the name, which is in parentheses and may hold anything.
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" T"))
    })
}
