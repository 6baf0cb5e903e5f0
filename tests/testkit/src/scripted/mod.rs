//! A backend that does what no real server does, when a test wants it; it runs a [`Script`] and records what it sees.

mod seen;
mod session;
mod usual;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::loopback::Loopback;
use super::script::Script;
use super::wire::End;

use seen::{Seen, Shared, lock};
use session::Session;

/// A running scripted backend; it ends all its connections when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
    /// Keeps the address from others.
    loopback: Option<Loopback>,
}

/// An upload as the backend saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The command that it came for.
    pub command: String,
    /// What came before the end.
    pub content: Vec<u8>,
    /// How the data connection ended.
    pub end: End,
    /// The data connection's TLS session was one that the backend knew.
    pub resumed: bool,
}

impl Backend {
    /// Starts on an address of its own. On 127.0.0.1 a connection that another test makes to a port where it expects
    /// none could be taken for a data connection.
    pub fn start(script: Script) -> Self {
        let loopback = Loopback::claim();
        let mut backend = Self::start_at(loopback.at(0), script);
        backend.loopback = Some(loopback);
        backend
    }

    /// Starts at an address, such as `[::1]:0`.
    pub fn start_at(address: SocketAddr, script: Script) -> Self {
        let listener = listen(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::new(script));
        let acceptor = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, &shared))
        };
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
            loopback: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every command line so far, of all connections, without line ends.
    pub fn commands(&self) -> Vec<String> {
        self.shared.seen().commands.clone()
    }

    /// The arguments of USER among them, in the order in which they came.
    pub fn users(&self) -> Vec<String> {
        let commands = self.commands();
        let users = commands
            .iter()
            .filter_map(|line| line.strip_prefix("USER "));
        users.map(str::to_owned).collect()
    }

    /// Every command line so far, byte for byte.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.shared.seen().lines.clone()
    }

    /// How many control connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.seen().connections
    }

    /// The certificate that each handshake so far has shown, in DER; empty for one without.
    pub fn client_certificates(&self) -> Vec<Vec<u8>> {
        self.shared.seen().client_certificates.clone()
    }

    /// The PROXY header of each control connection so far.
    pub fn headers(&self) -> Vec<Vec<u8>> {
        self.shared.seen().headers.clone()
    }

    /// The PROXY header of each data connection so far, and the port that it came to.
    pub fn data_headers(&self) -> Vec<(u16, Vec<u8>)> {
        self.shared.seen().data_headers.clone()
    }

    /// Waits for so many PROXY headers of control connections, and returns the last of those.
    ///
    /// # Panics
    /// If they don't come in time.
    pub fn wait_for_header(&self, count: usize) -> Vec<u8> {
        self.wait("a PROXY header", |seen| {
            seen.headers.get(count.checked_sub(1)?).cloned()
        })
    }

    /// Waits for a command line that begins like this, and returns it whole.
    ///
    /// # Panics
    /// If none comes in time.
    pub fn wait_for_command(&self, start: &str) -> String {
        self.wait(&format!("a command {start}"), |seen| {
            seen.commands
                .iter()
                .find(|line| line.starts_with(start))
                .cloned()
        })
    }

    /// How many uploads came to an end so far, of whatever kind.
    pub fn uploads(&self) -> usize {
        self.shared.seen().received.len()
    }

    /// Waits until so many command lines that begin like this have come.
    ///
    /// # Panics
    /// If they don't in time.
    pub fn wait_for_commands(&self, start: &str, count: usize) {
        self.wait(&format!("{count} commands {start}"), |seen| {
            let commands = seen.commands.iter();
            let such = commands.filter(|line| line.starts_with(start)).count();
            (such >= count).then_some(())
        });
    }

    /// Waits until so many data connections were read to their end, and returns the last of those.
    ///
    /// # Panics
    /// If they don't come in time.
    pub fn wait_for_upload(&self, count: usize) -> Received {
        self.wait("an upload", |seen| {
            seen.received.get(count.checked_sub(1)?).cloned()
        })
    }

    /// Waits until the data connection of this command was read to its end.
    ///
    /// # Panics
    /// If it isn't in time.
    pub fn wait_for_upload_by(&self, command: &str) -> Received {
        self.wait(&format!("an upload by {command}"), |seen| {
            let mut received = seen.received.iter();
            received.find(|upload| upload.command == command).cloned()
        })
    }

    /// Waits until the other side has ended the data connection of this command, and tells how.
    ///
    /// # Panics
    /// If it hasn't in time.
    pub fn wait_for_data_end(&self, command: &str) -> End {
        self.wait(&format!("the end of data of {command}"), |seen| {
            seen.data_ends.get(command).copied()
        })
    }

    /// Waits until so many control connections were ended by the other side, and tells how the last of those was.
    ///
    /// # Panics
    /// If they aren't in time.
    pub fn wait_for_end(&self, count: usize) -> End {
        self.wait("the end of a session", |seen| {
            seen.ends.get(count.checked_sub(1)?).copied()
        })
    }

    /// A file as it is now.
    pub fn file(&self, name: &str) -> Option<Vec<u8>> {
        lock(&self.shared.files).get(name).cloned()
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&Seen) -> Option<T>) -> T {
        let seen = self.shared.seen();
        let (seen, _) = self
            .shared
            .changed
            .wait_timeout_while(seen, DEADLINE, |seen| look(seen).is_none())
            .expect("no test panics while it holds it");
        let found = look(&seen);
        let commands = seen.commands.clone();
        // The backend's own threads need the lock whether the test fails or not.
        drop(seen);
        found.unwrap_or_else(|| panic!("the backend never saw {what}; commands: {commands:?}"))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        {
            let mut seen = self.shared.seen();
            seen.stopped = true;
            for socket in seen.sockets.values() {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
        // Wakes the acceptor, which then sees that it is to stop.
        let _ = TcpStream::connect_timeout(&self.address, DEADLINE);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// With room for a crowd: a connection that finds the queue full is established for the client alone, and its greeting
/// may be half a minute away.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else { return };
        if shared.seen().stopped {
            return;
        }
        let copy = socket.try_clone().expect("the socket is open");
        let mut number = 0;
        shared.record(|seen| {
            seen.connections += 1;
            number = seen.connections;
            seen.sockets.insert(number, copy);
        });
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            Session::new(&shared, number, socket).run();
            shared.record(|seen| drop(seen.sockets.remove(&number)));
        });
    }
}
