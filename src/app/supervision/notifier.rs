//! Messages to the service manager: datagrams of lines to the Unix socket that `NOTIFY_SOCKET` names (sd_notify(3)).
//!
//! Nothing waits for the manager. Messages that its socket has no room for wait here, the newest of each kind alone, and go with
//! the next one; where it can't be reached, that is logged once, and the process serves all the same.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::base::text::escape;

/// The environment variable with the address of the manager's socket.
const ADDRESS: &str = "NOTIFY_SOCKET";

/// Sends to the manager.
#[derive(Debug)]
pub(super) struct Notifier(Mutex<Sender>);

#[derive(Debug)]
struct Sender {
    /// The socket and the manager's address; an error if there is no way to send.
    way: Result<(UnixDatagram, SocketAddr), ()>,
    /// Messages not delivered yet: at most one of each kind, in the order in which they were sent.
    waiting: Vec<(Kind, String)>,
    /// The status as it was last sent.
    status: String,
    has_warned: bool,
}

/// The kind of a message: a later one of the same kind takes the place of one that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ready,
    Reloading,
    Stopping,
    Status,
    Timeout,
    Watchdog,
}

impl Notifier {
    /// To the manager that the environment names, if it does.
    pub fn from_environment() -> Option<Self> {
        let address = env::var_os(ADDRESS)?;
        (!address.is_empty()).then(|| Self::to(&address))
    }

    /// A notifier to the socket of this name: a path, or `@` and an abstract name.
    pub fn to(address: &OsStr) -> Self {
        let way = socket_address(address).and_then(|to| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, to))
        });
        let has_warned = way.is_err();
        Self(Mutex::new(Sender {
            way: way.map_err(|error| warn(&error)),
            waiting: Vec::new(),
            status: String::new(),
            has_warned,
        }))
    }

    /// Clients are served, as of the start or of a reload.
    pub fn ready(&self, status: &str) {
        let mut sender = self.sender();
        status.clone_into(&mut sender.status);
        sender.send(Kind::Ready, format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that a reload has begun. Managers compare the time with that of their request.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        let message = format!("RELOADING=1\nMONOTONIC_USEC={microseconds}");
        self.sender().send(Kind::Reloading, message);
    }

    /// The process is about to end.
    pub fn stopping(&self, status: &str) {
        let mut sender = self.sender();
        status.clone_into(&mut sender.status);
        sender.send(Kind::Stopping, format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Sends the status, if it has changed.
    pub fn status(&self, status: &str) {
        let mut sender = self.sender();
        if sender.status == status {
            sender.deliver();
        } else {
            status.clone_into(&mut sender.status);
            sender.send(Kind::Status, format!("STATUS={status}"));
        }
    }

    /// Asks for this much time before the manager ends the process.
    pub fn extend_timeout(&self, time: Duration) {
        let microseconds = time.as_micros();
        let message = format!("EXTEND_TIMEOUT_USEC={microseconds}");
        self.sender().send(Kind::Timeout, message);
    }

    /// Sends a sign of life.
    pub fn feed_watchdog(&self) {
        self.sender().send(Kind::Watchdog, "WATCHDOG=1".to_owned());
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    fn send(&mut self, kind: Kind, message: String) {
        self.waiting.retain(|(waiting, _)| *waiting != kind);
        self.waiting.push((kind, message));
        self.deliver();
    }

    /// Sends as much as the manager has room for.
    fn deliver(&mut self) {
        let Ok((socket, to)) = &self.way else {
            self.waiting.clear();
            return;
        };
        while let Some((_, message)) = self.waiting.first() {
            match socket.send_to_addr(message.as_bytes(), to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if !std::mem::replace(&mut self.has_warned, true) => warn(&error),
                Ok(_) | Err(_) => {}
            }
            self.waiting.remove(0);
        }
    }
}

fn socket_address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither a path nor an abstract name",
        )),
    }
}

fn warn(error: &io::Error) {
    let address = env::var_os(ADDRESS).unwrap_or_default();
    tracing::warn!(
        socket = %escape(address.as_bytes()),
        %error,
        "cannot notify the service manager (NOTIFY_SOCKET), serving without it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager's socket.
    struct Manager {
        socket: UnixDatagram,
        directory: tempfile::TempDir,
    }

    impl Manager {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a folder");
            let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
            socket.set_nonblocking(true).expect("set");
            Self { socket, directory }
        }

        fn notifier(&self) -> Notifier {
            Notifier::to(self.directory.path().join("notify").as_os_str())
        }

        fn received(&self) -> Vec<String> {
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut buffer) {
                received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            received
        }
    }

    #[test]
    fn a_status_is_told_when_it_has_changed() {
        let manager = Manager::new();
        let notifier = manager.notifier();
        notifier.ready("0 sessions");
        notifier.status("0 sessions");
        notifier.status("1 session");
        notifier.status("1 session");
        notifier.stopping("1 session");
        let wanted = [
            "READY=1\nSTATUS=0 sessions",
            "STATUS=1 session",
            "STOPPING=1\nSTATUS=1 session",
        ];
        assert_eq!(manager.received(), wanted);
    }

    #[test]
    fn a_reload_has_the_time_of_its_beginning() {
        let manager = Manager::new();
        let notifier = manager.notifier();
        let before = clock_gettime(ClockId::Monotonic).tv_sec;
        notifier.reloading();
        let received = manager.received();
        let time = received[0]
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect("both");
        let seconds = time.parse::<i64>().expect("a number") / 1_000_000;
        assert!((before..before + 60).contains(&seconds));
    }

    #[test]
    fn a_manager_that_does_not_look_gets_what_its_socket_holds_and_then_the_newest_state() {
        let manager = Manager::new();
        let notifier = manager.notifier();
        for number in 0..10_000 {
            notifier.status(&number.to_string());
        }
        for _ in 0..100 {
            notifier.reloading();
            notifier.ready("reloaded");
            notifier.feed_watchdog();
        }
        notifier.stopping("the end");
        notifier.extend_timeout(Duration::from_secs(1));
        let mut received = Vec::new();
        loop {
            let more = manager.received();
            if more.is_empty() {
                break;
            }
            received.extend(more);
            // Nothing new, so it only delivers what waits.
            notifier.status("the end");
        }
        let held = received.len() - 6;
        for (number, message) in received[..held].iter().enumerate() {
            assert_eq!(*message, format!("STATUS={number}"));
        }
        assert!(received[held + 1].starts_with("RELOADING=1\n"));
        received.remove(held + 1);
        let newest = [
            "STATUS=9999",
            "READY=1\nSTATUS=reloaded",
            "WATCHDOG=1",
            "STOPPING=1\nSTATUS=the end",
            "EXTEND_TIMEOUT_USEC=1000000",
        ];
        assert_eq!(received[held..], newest);
    }

    #[test]
    fn an_abstract_name_is_reached_and_one_that_is_nowhere_is_no_trouble() {
        let name = format!("portcullis-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Notifier::to(OsStr::new(&format!("@{name}"))).ready("");
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).expect("a message");
        assert_eq!(&buffer[..length], b"READY=1\nSTATUS=");
        for nowhere in ["/nowhere/notify", "vsock:2:1234", "notify", "@"] {
            let notifier = Notifier::to(OsStr::new(nowhere));
            notifier.ready("");
            notifier.feed_watchdog();
            assert!(notifier.sender().waiting.is_empty(), "{nowhere}");
        }
    }
}
