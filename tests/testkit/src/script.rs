//! What a scripted backend does at each command: steps, and the gates at which it waits for the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rustls::{ServerConfig, SupportedProtocolVersion};

use super::DEADLINE;
use super::certs::Authority;
use super::wire::End;

/// One thing that a scripted backend does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Does what a well-behaved server does.
    Default,
    /// Sends these bytes on the control connection, as they are and in one piece.
    Bytes(Vec<u8>),
    /// Sends these bytes on the control connection again and again until the other side ends.
    Flood(Vec<u8>),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Opens the gate, on which the test waits.
    Open(Gate),
    /// Is silent for this long, as if the file came from tape.
    Silence(Duration),
    /// Waits until the next command comes, and leaves it unread.
    AwaitCommand,
    /// Opens a data port and sends this reply, with the port for `{port}`, or address and port for `{six}` or `{dots}`.
    Announce(&'static str),
    /// Starts TLS on the control connection.
    StartTls,
    /// Accepts the data connection, and starts TLS on it after PROT P.
    OpenData,
    /// Accepts the data connection, and starts no TLS on it whatever PROT says.
    OpenClearData,
    /// Sends these bytes on the data connection.
    Send(Vec<u8>),
    /// Sends these bytes on the data connection, each in a segment and a TLS record of its own.
    Dribble(Vec<u8>),
    /// Sends these bytes on the data connection again and again until the other side ends.
    Pour(Vec<u8>),
    /// Sends these bytes on the data connection below TLS, where they are no record of it.
    SendBelowTls(Vec<u8>),
    /// Sends a fatal TLS alert on the data connection.
    Alert,
    /// Reads so many bytes of the data connection.
    ReceiveSome(usize),
    /// Reads the data connection until the other side ends, and records what came.
    Receive,
    /// The same with hardly any buffer and a few bytes at a time.
    ReceiveSlowly,
    /// Ends the data connection.
    EndData(End),
    /// Ends the control connection alone: a data connection stays until the session's last step.
    HangUp(End),
    /// Ends the control connection, and with it the session.
    End(End),
}

/// A step that sends a reply; more lines than one are separated by CR LF.
pub fn reply(text: &str) -> Step {
    Step::Bytes(format!("{text}\r\n").into_bytes())
}

/// Holds a backend up until it is opened; then it stays open until it is shut. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the backend go on.
    pub fn open(&self) {
        self.set(true);
    }

    /// Holds the backend up from now on.
    pub fn shut(&self) {
        self.set(false);
    }

    fn set(&self, to: bool) {
        let (open, changed) = &*self.0;
        *open.lock().expect("no test panics while it holds it") = to;
        changed.notify_all();
    }

    /// Waits for [`Gate::open`], at most until the deadline, and tells whether it's open.
    pub fn wait(&self) -> bool {
        let (open, changed) = &*self.0;
        let open = open.lock().expect("no test panics while it holds it");
        let waited = changed.wait_timeout_while(open, DEADLINE, |open| !*open);
        *waited.expect("no test panics while it holds it").0
    }
}

/// When a scripted backend starts TLS, and with which certificate.
#[derive(Debug, Clone)]
pub enum ScriptTls {
    /// Never; AUTH is refused.
    None,
    /// After AUTH TLS.
    Explicit(Arc<ServerConfig>),
    /// With the first byte.
    Implicit(Arc<ServerConfig>),
}

impl ScriptTls {
    /// After AUTH TLS, in this version, with an untrusted certificate.
    pub fn explicit(version: &'static SupportedProtocolVersion) -> Self {
        Self::Explicit(untrusted(version))
    }

    /// With the first byte, in this version, with such a certificate.
    pub fn implicit(version: &'static SupportedProtocolVersion) -> Self {
        Self::Implicit(untrusted(version))
    }
}

fn untrusted(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let pair = Authority::new("authority of backends").issue(&["backend.test"]);
    pair.server_config(&[version])
}

/// Which connections to a scripted backend have to begin with a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// None.
    None,
    /// Control connections.
    Control,
    /// Those, and the data connections that the backend accepts.
    All,
}

/// A scripted backend's behaviour: that of a small, correct server with files in memory, but for what is overridden.
#[derive(Debug, Clone)]
pub struct Script {
    pub(super) headers: Headers,
    pub(super) tls: ScriptTls,
    pub(super) greeting: Vec<Step>,
    pub(super) overrides: BTreeMap<String, Vec<Step>>,
    pub(super) at_first: BTreeMap<String, (usize, Vec<Step>)>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) password: Option<String>,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// Correct in all things, without TLS and without files; any user with any password may log in.
    pub fn new() -> Self {
        Self {
            headers: Headers::None,
            tls: ScriptTls::None,
            greeting: vec![reply("220 scripted backend ready")],
            overrides: BTreeMap::new(),
            at_first: BTreeMap::new(),
            files: BTreeMap::new(),
            password: None,
        }
    }

    /// Reads PROXY headers, and closes connections that should begin with one and don't.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// With TLS.
    pub fn tls(mut self, tls: ScriptTls) -> Self {
        self.tls = tls;
        self
    }

    /// Greets like this.
    pub fn greeting(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.greeting = steps.into();
        self
    }

    /// Does this whenever a command with this verb comes, or just this whole line, which goes before its verb.
    pub fn on(mut self, command: &str, steps: impl Into<Vec<Step>>) -> Self {
        self.overrides.insert(command.to_owned(), steps.into());
        self
    }

    /// Does this the first time a command with this verb comes, on whatever connection, and then what it does else.
    pub fn once(self, command: &str, steps: impl Into<Vec<Step>>) -> Self {
        self.at_first(command, 1, steps)
    }

    /// The same so many times.
    pub fn at_first(mut self, command: &str, times: usize, steps: impl Into<Vec<Step>>) -> Self {
        let steps = (times, steps.into());
        self.at_first.insert(command.to_owned(), steps);
        self
    }

    /// Lets users in with this password only.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Has this file.
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(name.to_owned(), content.into());
        self
    }
}
