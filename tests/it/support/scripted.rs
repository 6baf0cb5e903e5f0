//! A backend that does what no real server does, when a test wants it; it runs a [`Script`] and records what it sees.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};

use super::DEADLINE;
use super::loopback::Loopback;
use super::script::{Script, ScriptTls, Step, reply};
use super::wire::{End, Wire};

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
    /// nobody could be taken for a data connection.
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
        let files = Mutex::new(script.files.clone());
        let shared = Arc::new(Shared {
            script,
            files,
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
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

    /// The same, byte for byte.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.shared.seen().lines.clone()
    }

    /// How many control connections were made so far.
    pub fn connections(&self) -> usize {
        self.shared.seen().connections
    }

    /// Waits for a command line that begins like this, and gives it whole.
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

    /// Waits until so many data connections were read to their end, and gives the last of those.
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

#[derive(Debug)]
struct Shared {
    script: Script,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    commands: Vec<String>,
    lines: Vec<Vec<u8>>,
    received: Vec<Received>,
    // By command.
    data_ends: BTreeMap<String, End>,
    ends: Vec<End>,
    connections: usize,
    // Of the sessions that run, by number: kept to end them, which run in threads of their own, with the backend.
    sockets: BTreeMap<usize, TcpStream>,
    stopped: bool,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn record(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test panics while it holds it")
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

/// One control connection. An error ends it: the other side is gone.
struct Session<'a> {
    shared: &'a Shared,
    number: usize,
    // Taken when the script ends it.
    control: Option<BufReader<Wire>>,
    passive: Option<TcpListener>,
    data: Option<Wire>,
    // What came on it so far.
    partial: Vec<u8>,
    // The one under way.
    command: String,
    protected: bool,
    offset: usize,
    local: SocketAddr,
}

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, number: usize, socket: TcpStream) -> Self {
        let local = socket.local_addr().expect("the socket is open");
        let control = Some(BufReader::new(Wire::new(socket)));
        Self {
            shared,
            number,
            control,
            passive: None,
            data: None,
            partial: Vec::new(),
            command: String::new(),
            protected: false,
            offset: 0,
            local,
        }
    }

    fn run(mut self) {
        if matches!(self.shared.script.tls, ScriptTls::Implicit(_)) && self.start_tls().is_err() {
            return;
        }
        let shared = self.shared;
        if !matches!(
            self.steps(&shared.script.greeting, "", ""),
            Ok(ControlFlow::Continue(()))
        ) {
            return;
        }
        while let Some(line) = self.read_line() {
            let bytes = line;
            let line = String::from_utf8_lossy(&bytes).into_owned();
            self.shared.record(|seen| {
                seen.commands.push(line.clone());
                seen.lines.push(bytes);
            });
            self.command.clone_from(&line);
            let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = verb.to_ascii_uppercase();
            let default = [Step::Default];
            let overrides = &shared.script.overrides;
            let steps = overrides.get(&line).or_else(|| overrides.get(&verb));
            let steps = steps.map_or(&default[..], Vec::as_slice);
            if !matches!(
                self.steps(steps, &verb, argument),
                Ok(ControlFlow::Continue(()))
            ) {
                return;
            }
        }
    }

    /// The next command, or the end of the session, which is recorded.
    fn read_line(&mut self) -> Option<Vec<u8>> {
        let control = self.control.as_mut()?;
        let tls = control.get_ref().version().is_some();
        let mut line = Vec::new();
        let outcome = control.read_until(b'\n', &mut line);
        if line.ends_with(b"\n") {
            let whole = line.len() - if line.ends_with(b"\r\n") { 2 } else { 1 };
            line.truncate(whole);
            return Some(line);
        }
        let end = match outcome {
            Ok(_) if tls => End::CloseNotify,
            Ok(_) => End::Fin,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => End::Fin,
            Err(_) => End::Reset,
        };
        self.shared.record(|seen| seen.ends.push(end));
        None
    }

    fn steps(&mut self, steps: &[Step], verb: &str, argument: &str) -> io::Result<ControlFlow<()>> {
        for step in steps {
            match step {
                Step::Default => {
                    let usual = self.usual(verb, argument)?;
                    // What it usually does never has a default among its steps.
                    if self.steps(&usual, verb, argument)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Step::Bytes(bytes) => self.control()?.write_all(bytes)?,
                Step::Flood(bytes) => {
                    let control = self.control()?;
                    while control.write_all(bytes).is_ok() {}
                }
                Step::Wait(gate) => {
                    gate.wait();
                }
                Step::Open(gate) => gate.open(),
                Step::AwaitCommand => {
                    let control = self.control.as_mut();
                    control.ok_or(io::ErrorKind::NotConnected)?.fill_buf()?;
                }
                Step::Announce(text) => {
                    let text = self.announced(text)?;
                    self.control()?.write_all(text.as_bytes())?;
                }
                Step::StartTls => self.start_tls()?,
                Step::OpenData => self.open_data(self.protected)?,
                Step::OpenClearData => self.open_data(false)?,
                Step::Send(bytes) => self.data()?.write_all(bytes)?,
                Step::Dribble(bytes) => {
                    let data = self.data()?;
                    bytes.iter().try_for_each(|byte| data.write_all(&[*byte]))?;
                }
                Step::Pour(bytes) => {
                    let end = self.data()?.pour(bytes);
                    self.data_ended(end);
                }
                Step::SendBelowTls(bytes) => self.data()?.send_below_tls(bytes)?,
                Step::Alert => self.data()?.alert()?,
                Step::ReceiveSome(count) => {
                    let mut some = vec![0; *count];
                    self.data()?.read_exact(&mut some)?;
                    self.partial.extend_from_slice(&some);
                }
                Step::Receive => drop(self.receive()?),
                Step::ReceiveSlowly => {
                    let socket = socket2::SockRef::from(self.data()?.socket());
                    socket.set_recv_buffer_size(4096)?;
                    self.receive_by(512)?;
                }
                Step::EndData(end) => self.end_data(*end),
                Step::HangUp(end) => self.hang_up(*end)?,
                Step::End(end) => {
                    // Nothing may hold the socket open any more, or there would be no RST.
                    self.forget_socket();
                    if let Some(control) = self.control.take() {
                        control.into_inner().end(*end)?;
                    }
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What a well-behaved server does, as steps.
    fn usual(&mut self, verb: &str, argument: &str) -> io::Result<Vec<Step>> {
        let orderly = if self.protected {
            End::CloseNotify
        } else {
            End::Fin
        };
        let one = |text: &str| Ok(vec![reply(text)]);
        match verb {
            "AUTH" => match self.shared.script.tls {
                ScriptTls::Explicit(_) => Ok(vec![reply("234 start TLS"), Step::StartTls]),
                _ => one("502 no TLS here"),
            },
            "USER" => one("331 password please"),
            "PASS" => match &self.shared.script.password {
                Some(right) if right != argument => one("530 not logged in"),
                _ => one("230 logged in"),
            },
            "PBSZ" => one("200 PBSZ=0"),
            "PROT" => {
                self.protected = argument == "P";
                one("200 protection set")
            }
            "FEAT" => one("211-Features:\r\n EPSV\r\n PASV\r\n REST STREAM\r\n SIZE\r\n211 End"),
            "SYST" => one("215 UNIX Type: L8"),
            "PWD" => one("257 \"/\" is the directory"),
            "CWD" => one("250 changed"),
            "TYPE" | "OPTS" | "NOOP" | "CLNT" | "MODE" | "STRU" => one("200 fine"),
            "STAT" => one("211 all is well"),
            "ABOR" => {
                (self.data, self.passive) = (None, None);
                one("226 nothing to abort")
            }
            "QUIT" => Ok(vec![
                reply("221 goodbye"),
                Step::End(self.orderly_control()),
            ]),
            "EPSV" => Ok(vec![Step::Announce(
                "229 entering passive mode (|||{port}|)",
            )]),
            "PASV" => Ok(vec![Step::Announce("227 entering passive mode ({six})")]),
            "REST" => match argument.parse() {
                Ok(offset) => {
                    self.offset = offset;
                    one("350 go on")
                }
                Err(_) => one("501 not a number"),
            },
            "SIZE" => match lock(&self.shared.files).get(argument) {
                Some(content) => one(&format!("213 {}", content.len())),
                None => one("550 no such file"),
            },
            "RETR" => match lock(&self.shared.files).get(argument) {
                Some(content) => {
                    let offset = std::mem::take(&mut self.offset);
                    Ok(download(content.get(offset..).unwrap_or_default(), orderly))
                }
                None => one("550 no such file"),
            },
            "LIST" | "NLST" => {
                let names: Vec<String> = lock(&self.shared.files)
                    .keys()
                    .map(|name| format!("{name}\r\n"))
                    .collect();
                Ok(download(names.concat().as_bytes(), orderly))
            }
            "STOR" => {
                let offset = std::mem::take(&mut self.offset);
                self.store(argument, offset)
            }
            "APPE" => self.store(argument, usize::MAX),
            _ => one("502 unknown command"),
        }
    }

    /// Opens a data port, and says so in these words.
    fn announced(&mut self, text: &str) -> io::Result<String> {
        let listener = TcpListener::bind((self.local.ip(), 0))?;
        let port = listener.local_addr()?.port();
        self.passive = Some(listener);
        let address = self.local.ip().to_string().replace('.', ",");
        let six = format!("{address},{},{}", port >> 8, port & 255);
        let text = text
            .replace("{port}", &port.to_string())
            .replace("{six}", &six)
            .replace("{dots}", &six.replace(',', "."));
        Ok(format!("{text}\r\n"))
    }

    /// Receives a file; what comes replaces the file's content from `offset` on.
    fn store(&mut self, name: &str, offset: usize) -> io::Result<Vec<Step>> {
        self.control()?.write_all(b"150 send it\r\n")?;
        if self.open_data(self.protected).is_err() {
            return Ok(vec![reply("425 no data connection")]);
        }
        let tls = self.protected;
        let Received { content, end, .. } = self.receive()?;
        {
            let mut files = lock(&self.shared.files);
            let file = files.entry(name.to_owned()).or_default();
            file.truncate(offset);
            file.extend_from_slice(&content);
        }
        let complete = end == if tls { End::CloseNotify } else { End::Fin };
        Ok(vec![
            Step::EndData(end),
            reply(if complete {
                "226 stored"
            } else {
                "426 the data connection broke"
            }),
        ])
    }

    fn open_data(&mut self, protected: bool) -> io::Result<()> {
        let listener = self.passive.take().ok_or(io::ErrorKind::NotConnected)?;
        let mut data = Wire::new(accept_in_time(&listener)?);
        if protected {
            let config = self.tls().ok_or(io::ErrorKind::Unsupported)?;
            data.handshake(server_connection(config))?;
        }
        self.data = Some(data);
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Received> {
        self.receive_by(16 * 1024)
    }

    fn receive_by(&mut self, count: usize) -> io::Result<Received> {
        let data = self.data()?;
        let resumed = data.resumed();
        let (rest, end) = data.read_to_end_by(count);
        let received = Received {
            command: self.command.clone(),
            content: [std::mem::take(&mut self.partial), rest].concat(),
            end,
            resumed,
        };
        let record = received.clone();
        self.shared.record(|seen| seen.received.push(record));
        self.data_ended(end);
        Ok(received)
    }

    /// Records how the other side ended the data connection; the first to say so is right.
    fn data_ended(&self, end: End) {
        let command = self.command.clone();
        self.shared.record(|seen| {
            seen.data_ends.entry(command).or_insert(end);
        });
    }

    fn end_data(&mut self, end: End) {
        let Some(mut data) = self.data.take() else {
            return;
        };
        // A client that reset its side already has nothing more to be told.
        let _ = match end {
            End::CloseNotify => data.finish(),
            End::Fin => data.fin(),
            End::Reset => return data.reset(),
        };
        // Closing with unread input would turn the FIN into a RST: wait for the other side's end, however it comes.
        self.data_ended(data.read_to_end().1);
    }

    fn hang_up(&mut self, end: End) -> io::Result<()> {
        self.forget_socket();
        match end {
            End::CloseNotify => self.control()?.finish(),
            End::Fin => self.control()?.fin(),
            End::Reset => {
                if let Some(control) = self.control.take() {
                    control.into_inner().reset();
                }
                Ok(())
            }
        }
    }

    /// Lets this session alone hold its socket.
    fn forget_socket(&self) {
        self.shared
            .record(|seen| drop(seen.sockets.remove(&self.number)));
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let connection = server_connection(self.tls().ok_or(io::ErrorKind::Unsupported)?);
        self.control()?.handshake(connection)
    }

    fn tls(&self) -> Option<&Arc<ServerConfig>> {
        match &self.shared.script.tls {
            ScriptTls::None => None,
            ScriptTls::Explicit(config) | ScriptTls::Implicit(config) => Some(config),
        }
    }

    fn orderly_control(&self) -> End {
        let tls = self
            .control
            .as_ref()
            .is_some_and(|control| control.get_ref().version().is_some());
        if tls { End::CloseNotify } else { End::Fin }
    }

    fn control(&mut self) -> io::Result<&mut Wire> {
        Ok(self
            .control
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected)?
            .get_mut())
    }

    fn data(&mut self) -> io::Result<&mut Wire> {
        self.data
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

fn download(content: &[u8], end: End) -> Vec<Step> {
    vec![
        reply("150 here it comes"),
        Step::OpenData,
        Step::Send(content.to_vec()),
        Step::EndData(end),
        reply("226 done"),
    ]
}

fn server_connection(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(Arc::clone(config)).expect("the configuration was accepted before")
}

/// Accepts a data connection; one that never comes must not hold the session's thread for ever.
fn accept_in_time(listener: &TcpListener) -> io::Result<TcpStream> {
    // On Linux the read timeout of a listening socket bounds accept().
    socket2::SockRef::from(listener).set_read_timeout(Some(DEADLINE))?;
    Ok(listener.accept()?.0)
}
