//! A server that speaks like the FTP service of IIS 7 and later, in what that does differently from all others:
//!
//! - 125 instead of 150 where the data connection is there already,
//! - 226 before the data connection is closed, and no close_notify on it, ever,
//! - after an upload it waits for the client's FIN, not only for close_notify,
//! - a new PASV or EPSV is answered only when the former data connection is gone,
//! - 451 to a command that ends in a lone line feed,
//! - its texts, its FEAT, its listing in the manner of DOS, and no `"` in names.
//!
//! It knows no active mode: Portcullis never asks for it. User: `alice` with password `secret`.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection};
use tempfile::TempDir;
use testkit::DEADLINE;
use testkit::certs::Pair;
use testkit::loopback::Loopback;
use testkit::server::USER;
use testkit::wire::{End, Wire};

/// A running server.
#[derive(Debug)]
pub struct Iis {
    address: SocketAddr,
    root: TempDir,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    _loopback: Loopback,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    tls: Option<Arc<ServerConfig>>,
    open: Mutex<Open>,
}

/// What has to end with the server.
#[derive(Debug, Default)]
struct Open {
    sockets: Vec<TcpStream>,
    stopped: bool,
}

/// Starts one, with TLS for those who ask for it if there is a certificate.
pub fn start(pair: Option<&Pair>) -> Iis {
    let loopback = Loopback::claim();
    let address = loopback.at(2121);
    let listener = TcpListener::bind(address).expect("the address is ours");
    let root = tempfile::tempdir().expect("a temporary directory");
    let shared = Arc::new(Shared {
        root: root.path().to_owned(),
        tls: pair.map(|pair| pair.server_config(rustls::ALL_VERSIONS)),
        open: Mutex::default(),
    });
    let acceptor = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &shared))
    };
    Iis {
        address,
        root,
        shared,
        acceptor: Some(acceptor),
        _loopback: loopback,
    }
}

impl Iis {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory after login.
    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

impl Drop for Iis {
    fn drop(&mut self) {
        {
            let mut open = self.shared.open.lock().expect("nobody panics with it");
            open.stopped = true;
            for socket in &open.sockets {
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

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for socket in listener.incoming() {
        let Ok(socket) = socket else { return };
        {
            let mut open = shared.open.lock().expect("nobody panics with it");
            if open.stopped {
                return;
            }
            let copy = socket.try_clone().expect("the socket is open");
            open.sockets.push(copy);
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // An error is the end of the session: the other side is gone.
            let _ = Session::new(&shared, socket).and_then(Session::run);
        });
    }
}

/// One control connection.
struct Session<'a> {
    shared: &'a Shared,
    local: SocketAddr,
    control: BufReader<Wire>,
    user: bool,
    logged_in: bool,
    protected: bool,
    directory: Vec<u8>,
    offset: u64,
    from: Option<PathBuf>,
    passive: Option<TcpListener>,
    former: Option<Wire>,
}

type Done = io::Result<()>;

impl<'a> Session<'a> {
    fn new(shared: &'a Shared, socket: TcpStream) -> io::Result<Self> {
        Ok(Self {
            shared,
            local: socket.local_addr()?,
            control: BufReader::new(Wire::new(socket)),
            user: false,
            logged_in: false,
            protected: false,
            directory: b"/".to_vec(),
            offset: 0,
            from: None,
            passive: None,
            former: None,
        })
    }

    fn run(mut self) -> Done {
        self.reply("220 Microsoft FTP Service")?;
        loop {
            let mut line = Vec::new();
            self.control.read_until(b'\n', &mut line)?;
            let Some(line) = line.strip_suffix(b"\r\n") else {
                if line.is_empty() {
                    return Ok(());
                }
                self.reply("451 The parameter is incorrect.")?;
                continue;
            };
            let space = line.iter().position(|&byte| byte == b' ');
            let (verb, argument) = match space {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &b""[..]),
            };
            let verb = String::from_utf8_lossy(verb).to_ascii_uppercase();
            if verb == "QUIT" {
                self.reply("221 Goodbye.")?;
                return self.control.into_inner().end(End::Fin);
            }
            self.command(&verb, argument)?;
        }
    }

    fn command(&mut self, verb: &str, argument: &[u8]) -> Done {
        let text = String::from_utf8_lossy(argument).into_owned();
        match verb {
            "AUTH" => match self.shared.tls.clone() {
                Some(_) if text != "TLS" && text != "SSL" => {
                    self.reply("504 Security mechanism not implemented.")
                }
                Some(config) => {
                    self.reply("234 AUTH command ok. Expecting TLS Negotiation.")?;
                    self.control.get_mut().handshake(connection(&config)?)
                }
                None => {
                    self.reply("534 Local policy on server does not allow TLS secure connections.")
                }
            },
            "PBSZ" => self.reply("200 PBSZ command successful."),
            "PROT" => {
                self.protected = text == "P";
                self.reply("200 PROT command successful.")
            }
            "USER" => {
                self.user = text == USER.0;
                self.reply("331 Password required")
            }
            "PASS" if self.user && text == USER.1 => {
                self.logged_in = true;
                self.reply("230 User logged in.")
            }
            "PASS" => self.reply("530 User cannot log in."),
            "FEAT" => self.reply(FEATURES),
            "HOST" => self.reply("220 Host accepted."),
            "SYST" => self.reply("215 Windows_NT"),
            "NOOP" => self.reply("200 noop command successful."),
            "OPTS" if text.eq_ignore_ascii_case("UTF8 ON") => {
                self.reply("200 OPTS UTF8 command successful - UTF8 encoding now ON.")
            }
            "OPTS" => self.reply("501 option not supported."),
            _ if !self.logged_in => self.reply("530 Please login with USER and PASS."),
            "TYPE" => self.reply(&format!("200 Type set to {text}.")),
            "MODE" if text == "S" => self.reply("200 Mode S ok."),
            "STRU" if text == "F" => self.reply("200 STRU F ok."),
            "PWD" | "XPWD" => {
                let directory = String::from_utf8_lossy(&self.directory).into_owned();
                self.reply(&format!("257 \"{directory}\" is current directory."))
            }
            "CWD" | "CDUP" => {
                let argument = if verb == "CDUP" { b".." } else { argument };
                let path = self.absolute(argument);
                if !self.file(&path).is_some_and(|file| file.is_dir()) {
                    return self.reply(NOT_FOUND);
                }
                self.directory = path;
                self.reply(&format!("250 {verb} command successful."))
            }
            "PASV" | "EPSV" => self.listen(verb),
            "REST" => match text.parse() {
                Ok(offset) => {
                    self.offset = offset;
                    self.reply(&format!("350 Restarting at {offset}."))
                }
                Err(_) => self.reply("501 Parameters or arguments are not valid."),
            },
            "LIST" | "NLST" => self.list(verb, argument),
            "RETR" => self.send(argument),
            "STOR" | "APPE" => self.receive(verb, argument),
            _ => self.change(verb, argument),
        }
    }

    /// Commands about files without a data connection.
    fn change(&mut self, verb: &str, argument: &[u8]) -> Done {
        if !matches!(
            verb,
            "SIZE" | "MDTM" | "DELE" | "MKD" | "XMKD" | "RMD" | "XRMD" | "RNFR" | "RNTO"
        ) {
            return self.reply("500 Command not understood.");
        }
        let path = self.absolute(argument);
        let Some(file) = self.file(&path) else {
            return self.reply(BAD_NAME);
        };
        let shown = String::from_utf8_lossy(argument).into_owned();
        let done = |outcome: io::Result<()>| match outcome {
            Ok(()) => format!("250 {verb} command successful."),
            Err(_) => NOT_FOUND.to_owned(),
        };
        let answer = match verb {
            "SIZE" => match fs::metadata(&file) {
                Ok(found) if found.is_file() => format!("213 {}", found.len()),
                _ => NOT_FOUND.to_owned(),
            },
            "MDTM" => match fs::metadata(&file) {
                Ok(found) if found.is_file() => format!("213 {}", time_of(&found)),
                _ => NOT_FOUND.to_owned(),
            },
            "DELE" => done(fs::remove_file(&file)),
            "RMD" | "XRMD" => done(fs::remove_dir(&file)),
            "MKD" | "XMKD" => match fs::create_dir(&file) {
                Ok(()) => format!("257 \"{shown}\" directory created."),
                Err(_) => "550 Cannot create a file when that file already exists. ".to_owned(),
            },
            "RNFR" if file.exists() => {
                self.from = Some(file);
                "350 Requested file action pending further information.".to_owned()
            }
            "RNFR" => NOT_FOUND.to_owned(),
            _ => match self.from.take() {
                Some(from) => done(fs::rename(from, &file)),
                None => "503 Bad sequence of commands.".to_owned(),
            },
        };
        self.reply(&answer)
    }

    fn listen(&mut self, verb: &str) -> Done {
        if let Some(mut former) = self.former.take() {
            // Bounded by the wire's own deadline.
            let _ = io::copy(&mut former, &mut io::sink());
        }
        let listener = TcpListener::bind((self.local.ip(), 0))?;
        let port = listener.local_addr()?.port();
        self.passive = Some(listener);
        if verb == "EPSV" {
            return self.reply(&format!("229 Entering Extended Passive Mode (|||{port}|)"));
        }
        let address = self.local.ip().to_string().replace('.', ",");
        let (high, low) = (port >> 8, port & 255);
        self.reply(&format!(
            "227 Entering Passive Mode ({address},{high},{low})."
        ))
    }

    /// The data connection, with the preliminary reply said in time.
    fn open(&mut self) -> io::Result<Option<Wire>> {
        let Some(listener) = self.passive.take() else {
            self.reply("425 Cannot open data connection.")?;
            return Ok(None);
        };
        listener.set_nonblocking(true)?;
        let socket = match listener.accept() {
            Ok((socket, _)) => {
                self.reply("125 Data connection already open; Transfer starting.")?;
                socket
            }
            Err(_) => {
                self.reply("150 Opening BINARY mode data connection.")?;
                listener.set_nonblocking(false)?;
                // On Linux the read timeout of a listening socket bounds accept().
                socket2::SockRef::from(&listener).set_read_timeout(Some(DEADLINE))?;
                listener.accept()?.0
            }
        };
        socket.set_nonblocking(false)?;
        let mut data = Wire::new(socket);
        if self.protected {
            let Some(config) = &self.shared.tls else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            data.handshake(connection(config)?)?;
        }
        Ok(Some(data))
    }

    fn list(&mut self, verb: &str, argument: &[u8]) -> Done {
        // Options of `ls` are options of no Windows program.
        let argument = if argument.starts_with(b"-") {
            b""
        } else {
            argument
        };
        let path = self.absolute(argument);
        let Some(directory) = self.file(&path).filter(|file| file.is_dir()) else {
            return self.reply(NOT_FOUND);
        };
        let mut entries: Vec<_> = fs::read_dir(directory)?.filter_map(Result::ok).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        let mut listing = Vec::new();
        for entry in entries {
            if verb == "LIST" {
                let found = entry.metadata()?;
                let column = if found.is_dir() {
                    "<DIR>          ".to_owned()
                } else {
                    format!("{:>20}", found.len())
                };
                let width = if found.is_dir() { "       " } else { "" };
                write!(listing, "01-02-26  12:00PM {width}{column} ")?;
            }
            listing.extend_from_slice(entry.file_name().as_bytes());
            listing.extend_from_slice(b"\r\n");
        }
        let Some(data) = self.open()? else {
            return Ok(());
        };
        self.deliver(data, &mut listing.as_slice())
    }

    fn send(&mut self, argument: &[u8]) -> Done {
        let path = self.absolute(argument);
        let offset = std::mem::take(&mut self.offset);
        let Some(mut file) = self.file(&path).and_then(|file| File::open(file).ok()) else {
            return self.reply(NOT_FOUND);
        };
        file.seek(SeekFrom::Start(offset))?;
        match self.open()? {
            Some(data) => self.deliver(data, &mut file),
            None => Ok(()),
        }
    }

    /// Says 226 while the data connection is still open, then ends it without close_notify.
    fn deliver(&mut self, mut data: Wire, content: &mut impl Read) -> Done {
        if io::copy(content, &mut data).is_err() {
            return self.reply("426 Connection closed; transfer aborted.");
        }
        self.reply("226 Transfer complete.")?;
        data.fin()?;
        self.former = Some(data);
        Ok(())
    }

    fn receive(&mut self, verb: &str, argument: &[u8]) -> Done {
        let path = self.absolute(argument);
        let offset = std::mem::take(&mut self.offset);
        let Some(file) = self.file(&path) else {
            return self.reply(BAD_NAME);
        };
        let append = verb == "APPE";
        let opened = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(!append && offset == 0)
            .open(file);
        let Ok(mut file) = opened else {
            return self.reply("550 Access is denied. ");
        };
        let start = if append {
            SeekFrom::End(0)
        } else {
            SeekFrom::Start(offset)
        };
        file.seek(start)?;
        let Some(mut data) = self.open()? else {
            return Ok(());
        };
        if io::copy(&mut data, &mut file).is_err() {
            return self.reply("426 Connection closed; transfer aborted.");
        }
        // Under TLS that was close_notify; the FIN has to follow.
        let mut rest = [0];
        if data.socket().read(&mut rest)? != 0 {
            return self.reply("426 Connection closed; transfer aborted.");
        }
        self.reply("226 Transfer complete.")?;
        self.former = Some(data);
        self.former.as_mut().map_or(Ok(()), Wire::fin)
    }

    /// A path as the client means it, from the root.
    fn absolute(&self, argument: &[u8]) -> Vec<u8> {
        let whole = if argument.starts_with(b"/") {
            argument.to_vec()
        } else {
            [&self.directory, &b"/"[..], argument].concat()
        };
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in whole.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        [&b"/"[..], &parts.join(&b'/')].concat()
    }

    /// The file behind a path, unless Windows has no such names.
    fn file(&self, absolute: &[u8]) -> Option<PathBuf> {
        if absolute.iter().any(|byte| b"\"<>|*?:".contains(byte)) {
            return None;
        }
        let relative = OsStr::from_bytes(absolute.strip_prefix(b"/")?);
        Some(self.shared.root.join(relative))
    }

    fn reply(&mut self, text: &str) -> Done {
        let control = self.control.get_mut();
        control.write_all(format!("{text}\r\n").as_bytes())
    }
}

/// When the file was changed, as MDTM has it (RFC 3659 §2.3): NcFTP resumes no upload of a file that has changed since.
fn time_of(found: &fs::Metadata) -> String {
    let changed = found.modified().expect("Linux knows it");
    let changed = time::OffsetDateTime::from(changed);
    format!(
        "{}{:02}{:02}{:02}{:02}{:02}",
        changed.year(),
        u8::from(changed.month()),
        changed.day(),
        changed.hour(),
        changed.minute(),
        changed.second()
    )
}

fn connection(config: &Arc<ServerConfig>) -> io::Result<ServerConnection> {
    ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)
}

const FEATURES: &str = "211-Extended features supported:\r\n LANG EN*\r\n UTF8\r\n AUTH TLS;TLS-C;SSL;TLS-P;\r\n PBSZ\r\n \
                        PROT C;P;\r\n CCC\r\n HOST\r\n SIZE\r\n MDTM\r\n REST STREAM\r\n211 END";
const NOT_FOUND: &str = "550 The system cannot find the file specified. ";
const BAD_NAME: &str = "550 The filename, directory name, or volume label syntax is incorrect. ";
