//! One control connection of a scripted backend: it reads commands, and does the steps that stand for each.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, Socket, Type};

use super::Received;
use super::seen::Shared;
use crate::DEADLINE;
use crate::proxy_header;
use crate::script::{Headers, ScriptTls, Step};
use crate::wire::{End, Wire};

/// One control connection. An error ends it: the other side is gone.
pub(super) struct Session<'a> {
    pub shared: &'a Shared,
    number: usize,
    /// Taken when the script ends it.
    control: Option<BufReader<Wire>>,
    pub passive: Option<TcpListener>,
    /// Where the other side listens, as PORT or EPRT have said.
    pub active: Option<SocketAddr>,
    pub data: Option<Wire>,
    /// What came on `data` so far, and was asked for by itself.
    partial: Vec<u8>,
    /// The one under way.
    command: String,
    pub protected: bool,
    /// From REST.
    pub offset: usize,
    local: SocketAddr,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    NextStep,
    NextCommand,
    /// The session is over.
    End,
}

/// A connection on which a step could not be done.
enum Loss {
    Control(io::Error),
    Data,
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Control(error)
    }
}

impl<'a> Session<'a> {
    pub fn new(shared: &'a Shared, number: usize, socket: TcpStream) -> Self {
        let local = socket.local_addr().expect("the socket is open");
        let control = Some(BufReader::new(Wire::new(socket)));
        Self {
            shared,
            number,
            control,
            passive: None,
            active: None,
            data: None,
            partial: Vec::new(),
            command: String::new(),
            protected: false,
            offset: 0,
            local,
        }
    }

    pub fn run(mut self) {
        if self.shared.script.headers != Headers::None {
            let Ok(header) = self.control().and_then(proxy_header::take) else {
                return;
            };
            self.shared.record(|seen| seen.headers.push(header));
        }
        if matches!(self.shared.script.tls, ScriptTls::Implicit(_)) && self.start_tls().is_err() {
            return;
        }
        let shared = self.shared;
        if !matches!(
            self.steps(&shared.script.greeting, "", ""),
            Ok(Flow::NextStep)
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
            let steps = shared
                .at_first(&verb)
                .or_else(|| overrides.get(&line))
                .or_else(|| overrides.get(&verb));
            let steps = steps.map_or(&default[..], Vec::as_slice);
            if matches!(self.steps(steps, &verb, argument), Ok(Flow::End) | Err(_)) {
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

    /// Does these steps, or as many as the connections last for.
    fn steps(&mut self, steps: &[Step], verb: &str, argument: &str) -> io::Result<Flow> {
        for step in steps {
            match self.step(step, verb, argument) {
                Ok(Flow::NextStep) => {}
                Ok(flow) => return Ok(flow),
                Err(Loss::Control(error)) => return Err(error),
                // As a server does: the session goes on.
                Err(Loss::Data) => {
                    self.data = None;
                    let reply = b"426 data connection lost\r\n";
                    self.control()?.write_all(reply)?;
                    return Ok(Flow::NextCommand);
                }
            }
        }
        Ok(Flow::NextStep)
    }

    fn step(&mut self, step: &Step, verb: &str, argument: &str) -> Result<Flow, Loss> {
        let lost = |_: io::Error| Loss::Data;
        match step {
            Step::Default => {
                let usual = self.usual(verb, argument).map_err(lost)?;
                // What it usually does never has a default among its steps.
                return Ok(self.steps(&usual, verb, argument)?);
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
            Step::Silence(how_long) => std::thread::sleep(*how_long),
            Step::AwaitCommand => {
                let control = self.control.as_mut();
                let control = control.ok_or(io::Error::from(io::ErrorKind::NotConnected))?;
                control.fill_buf()?;
            }
            Step::Announce(text) => {
                let text = self.announced(text)?;
                self.control()?.write_all(text.as_bytes())?;
            }
            Step::StartTls => self.start_tls()?,
            Step::OpenData => self.open_data(self.protected).map_err(lost)?,
            Step::OpenClearData => self.open_data(false).map_err(lost)?,
            Step::Send(bytes) => self.data()?.write_all(bytes).map_err(lost)?,
            Step::Dribble(bytes) => {
                let data = self.data()?;
                let mut bytes = bytes.iter();
                let sent = bytes.try_for_each(|byte| data.write_all(&[*byte]));
                sent.map_err(lost)?;
            }
            Step::Pour(bytes) => {
                let end = self.data()?.pour(bytes);
                self.data_ended(end);
            }
            Step::SendBelowTls(bytes) => self.data()?.send_below_tls(bytes).map_err(lost)?,
            Step::Alert => self.data()?.alert().map_err(lost)?,
            Step::ReceiveSome(count) => {
                let mut some = vec![0; *count];
                self.data()?.read_exact(&mut some).map_err(lost)?;
                self.partial.extend_from_slice(&some);
            }
            Step::Receive => drop(self.receive().map_err(lost)?),
            Step::ReceiveSlowly => {
                let socket = socket2::SockRef::from(self.data()?.socket());
                socket.set_recv_buffer_size(4096)?;
                self.receive_by(512).map_err(lost)?;
            }
            Step::EndData(end) => self.end_data(*end),
            Step::HangUp(end) => self.hang_up(*end)?,
            Step::End(end) => {
                // Nothing may hold the socket open any more, or there would be no RST.
                self.forget_socket();
                if let Some(control) = self.control.take() {
                    control.into_inner().end(*end)?;
                }
                return Ok(Flow::End);
            }
        }
        Ok(Flow::NextStep)
    }

    /// Opens a data port, and says so in these words.
    fn announced(&mut self, text: &str) -> io::Result<String> {
        let listener = TcpListener::bind((self.local.ip(), 0))?;
        let port = listener.local_addr()?.port();
        (self.passive, self.active) = (Some(listener), None);
        let address = self.local.ip().to_string().replace('.', ",");
        let six = format!("{address},{},{}", port >> 8, port & 255);
        let text = text
            .replace("{port}", &port.to_string())
            .replace("{six}", &six)
            .replace("{dots}", &six.replace(',', "."));
        Ok(format!("{text}\r\n"))
    }

    pub fn open_data(&mut self, protected: bool) -> io::Result<()> {
        let mut data = match self.active.take() {
            Some(target) => Wire::new(connect_from(self.local.ip(), target)?),
            None => {
                let listener = self.passive.take().ok_or(io::ErrorKind::NotConnected)?;
                let mut data = Wire::new(accept_in_time(&listener)?);
                if self.shared.script.headers == Headers::All {
                    let port = listener.local_addr()?.port();
                    let header = proxy_header::take(&mut data)?;
                    self.shared
                        .record(|seen| seen.data_headers.push((port, header)));
                }
                data
            }
        };
        if protected {
            let config = self.tls().ok_or(io::ErrorKind::Unsupported)?;
            data.handshake(server_connection(config))?;
            self.record_certificate(data.peer_certificate());
        }
        self.data = Some(data);
        Ok(())
    }

    pub fn receive(&mut self) -> io::Result<Received> {
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
        let control = self.control()?;
        control.handshake(connection)?;
        let shown = control.peer_certificate();
        self.record_certificate(shown);
        Ok(())
    }

    fn record_certificate(&self, shown: Option<Vec<u8>>) {
        let shown = shown.unwrap_or_default();
        self.shared
            .record(|seen| seen.client_certificates.push(shown));
    }

    fn tls(&self) -> Option<&Arc<ServerConfig>> {
        match &self.shared.script.tls {
            ScriptTls::None => None,
            ScriptTls::Explicit(config) | ScriptTls::Implicit(config) => Some(config),
        }
    }

    /// How the control connection ends in order.
    pub fn orderly_control(&self) -> End {
        let tls = self
            .control
            .as_ref()
            .is_some_and(|control| control.get_ref().version().is_some());
        if tls { End::CloseNotify } else { End::Fin }
    }

    pub fn control(&mut self) -> io::Result<&mut Wire> {
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

fn server_connection(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(Arc::clone(config)).expect("the configuration was accepted before")
}

/// Connects from the address of the control connection, as servers do: on a loopback interface any would do.
fn connect_from(ip: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.connect_timeout(&target.into(), DEADLINE)?;
    Ok(socket.into())
}

/// Accepts a data connection; one that never comes must not hold the session's thread for ever.
fn accept_in_time(listener: &TcpListener) -> io::Result<TcpStream> {
    // On Linux the read timeout of a listening socket bounds accept().
    socket2::SockRef::from(listener).set_read_timeout(Some(DEADLINE))?;
    Ok(listener.accept()?.0)
}
