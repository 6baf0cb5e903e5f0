//! What the real FTP servers have in common: how a test wants them, and what it gets.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::certs::{Pair, PairFiles};
use super::loopback::Loopback;
use super::process::Process;
use super::programs;

/// How a server protects its connections.
#[derive(Debug, Clone, Copy)]
pub enum Security<'a> {
    /// No TLS at all.
    Plain,
    /// TLS after AUTH TLS, and clear text for clients that don't ask for it.
    Explicit(&'a Pair, Reuse),
    /// TLS with the first byte.
    Implicit(&'a Pair, Reuse),
}

/// Whether a data connection has to resume the TLS session of its control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Refused otherwise.
    Required,
    /// As the client likes.
    Optional,
}

/// A real FTP server, running on its own address until this is dropped.
#[derive(Debug)]
pub struct Server {
    // Dropped first: a server that loses its directory while it runs writes confusing logs.
    process: Process,
    address: SocketAddr,
    user: &'static str,
    password: &'static str,
    place: Place,
}

impl Server {
    /// Where it listens; also the port of implicit TLS.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user that may log in.
    pub fn user(&self) -> &str {
        self.user
    }

    /// That user's password.
    pub fn password(&self) -> &str {
        self.password
    }

    /// The directory that the user sees as its home; put files into it and look at them as you like.
    pub fn root(&self) -> PathBuf {
        self.place.root()
    }

    /// Its own process, which accepts.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The processes that serve its sessions now.
    pub fn sessions(&self) -> Vec<u32> {
        self.process.children()
    }

    /// What it has logged of transfers so far, in its own format.
    pub fn transfer_log(&self) -> String {
        let log = fs::read(self.place.file("xfer.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Starts a command and waits until the server accepts connections.
    pub fn start(
        place: Place,
        command: Command,
        logs: &[&str],
        (user, password): (&'static str, &'static str),
        security: Security<'_>,
    ) -> Self {
        let address = place.address();
        let mut process = Process::start(command, place.directory(), logs);
        process.poll("accept connections", || greeting(address, security));
        Self {
            process,
            address,
            user,
            password,
            place,
        }
    }
}

/// What a server needs before it can start: an address, a directory, an owner of its files.
#[derive(Debug)]
pub struct Place {
    loopback: Loopback,
    directory: TempDir,
    owner: (u32, u32),
}

impl Place {
    /// One that no other server has. As root the files belong to `nobody`, since servers refuse to let root log in; else to
    /// the user of the test.
    pub fn claim() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("root");
        fs::create_dir(&root).expect("the directory is new");
        let own = fs::metadata(&root).expect("it was just made");
        let owner = if own.uid() == 0 {
            NOBODY
        } else {
            (own.uid(), own.gid())
        };
        if owner == NOBODY {
            chown(&root, Some(owner.0), Some(owner.1)).expect("root may");
            // The server's sessions run as nobody and have to get through.
            let mode = fs::Permissions::from_mode(0o711);
            fs::set_permissions(directory.path(), mode).expect("it is ours");
        }
        Self {
            loopback: Loopback::claim(),
            directory,
            owner,
        }
    }

    /// Control connections.
    pub fn address(&self) -> SocketAddr {
        self.loopback.at(CONTROL_PORT)
    }

    /// For configuration, certificates, logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file in that directory, as text for configuration files.
    pub fn file(&self, name: &str) -> String {
        self.directory().join(name).display().to_string()
    }

    /// The user's home.
    pub fn root(&self) -> PathBuf {
        self.directory().join("root")
    }

    /// User and group id of those files.
    pub fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// Writes a file that only its owner may read: servers insist on that for keys and passwords.
    pub fn write_private(&self, name: &str, content: &str) -> String {
        let file = self.directory().join(name);
        fs::write(&file, content).expect("the test's directory is writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
        self.file(name)
    }

    /// Writes a certificate and its key.
    pub fn write_pair(&self, pair: &Pair) -> PairFiles {
        self.write_private("tls.crt", &pair.certificate);
        self.write_private("tls.key", &pair.private_key);
        PairFiles {
            certificate: self.directory().join("tls.crt"),
            private_key: self.directory().join("tls.key"),
        }
    }
}

/// The first and the last port of passive data connections; each server has an address of its own. Many, since sessions
/// of Pure-FTPd that choose the same one at the same moment fail: "Unable to identify the local data socket: Address
/// already in use".
pub const PASSIVE_PORTS: (u16, u16) = (10_000, 31_999);

/// The user of servers that have users, and `secret` as crypt(3) has it (SHA-512).
pub const USER: (&str, &str) = ("alice", "secret");
/// See [`USER`].
pub const PASSWORD_HASH: &str = "$6$portcullis$mO9ys7okpXYvIIaYj9pTZnY2AuNScmD/EDMofIng74lJkf7KOJBbjX2LmzubWVVnUokz0Me4vS.1E/BjmEg0X.";

/// Not below 1024, for tests run by normal users.
const CONTROL_PORT: u16 = 2121;
/// `nobody` and `nogroup` on every Debian.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// Something while the server is up: its greeting's first byte, or, under implicit TLS, where the client speaks first,
/// the connection alone.
fn greeting(address: SocketAddr, security: Security<'_>) -> Option<()> {
    let mut socket = TcpStream::connect(address).ok()?;
    if matches!(security, Security::Implicit(..)) {
        return Some(());
    }
    socket.set_read_timeout(Some(super::DEADLINE)).ok()?;
    let mut first = [0];
    socket.read_exact(&mut first).ok()?;
    (first == *b"2").then_some(())
}

/// A file of an unpacked server, ready to run.
pub fn command(path: &str) -> Command {
    Command::new(programs::server_file(path))
}
