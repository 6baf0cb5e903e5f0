//! What systemd is to the program: a socket that it tells how it is, and listening sockets that it gets and that stay open
//! without it. The test holds both, in place of a manager that runs.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::DEADLINE;

/// The other end of `NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    received: Vec<String>,
    directory: TempDir,
}

impl ServiceManager {
    /// One that listens.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a new name");
        Self {
            socket,
            received: Vec::new(),
            directory,
        }
    }

    /// For `NOTIFY_SOCKET`.
    pub fn address(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// All that it was told so far, message by message.
    pub fn received(&mut self) -> &[String] {
        self.socket.set_nonblocking(true).expect("a socket");
        while self.receive() {}
        &self.received
    }

    /// Waits until it has been told something like this, `from` so many messages on; returns that message and its number.
    ///
    /// # Panics
    /// If it isn't in time.
    pub fn wait(&mut self, from: usize, wanted: impl Fn(&str) -> bool) -> (usize, String) {
        self.socket.set_nonblocking(false).expect("a socket");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut known = self.received.iter().enumerate().skip(from);
            if let Some((number, message)) = known.find(|(_, message)| wanted(message)) {
                return (number, message.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).expect("not zero");
            let told = self.receive() || Instant::now() < deadline;
            assert!(told, "not told in time, but: {:#?}", self.received);
        }
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let Ok(length) = self.socket.recv(&mut buffer) else {
            return false;
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        self.received.push(text.into_owned());
        true
    }
}

/// The program with these two listeners as its sockets, as sd_listen_fds(3) says. They stay open when it ends.
///
/// # Panics
/// If there are no file descriptors left.
pub fn passing(program: &str, listeners: [&TcpListener; 2]) -> Command {
    // A new process gets three descriptors from std, whose first two are put where they belong; and it keeps the shell's id.
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_FDS=2; LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec \"$@\"";
    let mut command = Command::new("sh");
    let [first, second] = listeners.map(|one| OwnedFd::from(one.try_clone().expect("a duplicate")));
    command
        .args(["-c", script, "sh", program])
        .stdin(Stdio::from(first))
        .stdout(Stdio::from(second));
    command
}
