//! Sessions written down: one line for each thing that happens, so that a case that was found can be read, kept and
//! changed by hand.
//!
//! ```text
//! implicit                the listener (the first line)
//! C USER b.lab|al         the client says
//! +                       what the machine asked for (TLS, backend, data port) is there; - it isn't
//! S 230 In                the backend says
//! D open                  a data event
//! ```

use portcullis::session::machine::{DataEvent, DataFailure};

/// One thing to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// `C …`: a line from the client.
    Client(Vec<u8>),
    /// `C!`: a line from the client that is over the limit.
    ClientTooLong,
    /// `S …`: a line from the backend.
    Backend(Vec<u8>),
    /// `D …`: a data event.
    Data(DataEvent),
    /// `+` or `-`: the answer to StartTls, Dial or PrepareData.
    Answer(bool),
    /// `+230`: the backend that Dial asked for greets with a login.
    Welcome,
    /// `+ one of several`: the backend that Dial asked for is there, and another one could take over.
    OneOfSeveral,
    /// The guard's answer to Dial or DelayAfterFailure.
    Blocked,
    /// The limiter's answer to Dial.
    SiteFull,
    /// An operator's answer to Dial.
    Maintenance,
    /// `expired`: the deadline has passed.
    Expired,
    /// `drain`: the program ends when sessions have.
    Drain,
    /// `drain over`: it ends now.
    DrainOver,
    /// `terminate`: an operator ends the session.
    Terminate,
    /// `client ended`: the client says no more.
    ClientEnded,
    /// `client gone`: its control connection is lost.
    ClientGone,
    /// `backend gone`: the backend's is.
    BackendGone,
}

/// What a session begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// TLS begins with AUTH.
    Explicit,
    /// Explicit, and USER may come in clear text.
    ClearAllowed,
    /// Explicit, and transfers need PROT P.
    DataRequired,
    /// TLS begins with the connection.
    Implicit,
    /// Implicit, and every address is IPv6.
    Ipv6,
}

/// What sessions begin with, and the first line that says so.
pub const LISTENERS: &[(&str, Listener)] = &[
    ("explicit", Listener::Explicit),
    ("explicit, clear text allowed", Listener::ClearAllowed),
    ("explicit, PROT P required", Listener::DataRequired),
    ("implicit", Listener::Implicit),
    ("implicit, IPv6", Listener::Ipv6),
];

/// What clients say; what matters most is there more than once.
pub const CLIENT: &[&str] = &[
    "C USER al",
    "C USER b.lab|al",
    "C USER x.lab|al",
    "C USER read-only.lab|al",
    "C USER read-only.lab|al",
    "C USER elsewhere.lab|al",
    "C USER down.lab|al",
    "C USER grouped.lab|al",
    "C USER grouped.lab|bo",
    "C USER b.lab|",
    "C USER",
    "C PASS p",
    "C ACCT x",
    "C AUTH TLS",
    "C AUTH SSL",
    "C PBSZ 0",
    "C PROT P",
    "C PROT C",
    "C CCC",
    "C HOST b.lab",
    "C HOST proxy.lab",
    "C OPTS UTF8 ON",
    "C OPTS MLST size;",
    "C CLNT x",
    "C LANG en",
    "C TYPE I",
    "C MODE Z",
    "C FEAT",
    "C EPSV",
    "C EPSV",
    "C EPSV",
    "C PASV",
    "C EPSV ALL",
    "C PORT 192,0,2,7,8,0",
    "C PORT 1,2,3,4,5,6",
    "C EPRT |2|2001:db8::7|2048|",
    "C REST 5",
    "C REST 5",
    "C RANG 5 9",
    "C RANG 1 0",
    "C RETR x",
    "C RETR x",
    "C STOR x",
    "C STOR x",
    "C LIST",
    "C ABOR",
    "C ABOR",
    "C \u{0}",
    "C NOOP",
    "C STAT",
    "C STAT x",
    "C QUIT",
    "C PWD",
    "C REIN",
    "C DELE x",
    "C SITE chmod 1 x",
    "C SITE HELP",
    "C 1",
    "C GET / HTTP/1.1",
    "C",
    "C!",
];

/// What backends say.
pub const BACKEND: &[&str] = &[
    "S 125 x",
    "S 150 x",
    "S 150 x",
    "S 200 x",
    "S 200 x",
    "S 202 x",
    "S 211-x",
    "S 211 x",
    "S 213 x",
    "S 225 x",
    "S 226 x",
    "S 226 x",
    "S 227 x (1,2,3,4,8,0)",
    "S 229 x (|||2000|)",
    "S 229 x (|||2000|)",
    "S 229 x (|||22|)",
    "S 230 x",
    "S 230 x",
    "S 331 x",
    "S 332 x",
    "S 350 x",
    "S 421 x",
    "S 425 x",
    "S 426 x",
    "S 500 x",
    "S 502 x",
    "S 530 x",
    "S 550 x",
    "S  UTF8",
    "S x",
];

/// What data connections have to say.
pub const DATA: &[(&str, DataEvent)] = &[
    ("D open", DataEvent::BackendOpen),
    ("D not reached", DataEvent::BackendNotReached),
    ("D connected", DataEvent::ClientConnected),
    ("D ended", DataEvent::Ended),
    ("D close_notify", DataEvent::SourceEnded { proven: true }),
    ("D fin", DataEvent::SourceEnded { proven: false }),
    ("D finished", DataEvent::Finished),
    ("D accepted", DataEvent::BackendAccepted),
    ("D client lost", DataEvent::Failed(DataFailure::ClientLost)),
    (
        "D backend lost",
        DataEvent::Failed(DataFailure::BackendLost),
    ),
];

/// Everything else.
pub const OTHER: &[(&str, Happening)] = &[
    ("C!", Happening::ClientTooLong),
    ("+", Happening::Answer(true)),
    ("-", Happening::Answer(false)),
    ("+230", Happening::Welcome),
    ("+ one of several", Happening::OneOfSeveral),
    ("blocked", Happening::Blocked),
    ("site full", Happening::SiteFull),
    ("maintenance", Happening::Maintenance),
    ("expired", Happening::Expired),
    ("drain", Happening::Drain),
    ("drain over", Happening::DrainOver),
    ("terminate", Happening::Terminate),
    ("client ended", Happening::ClientEnded),
    ("client gone", Happening::ClientGone),
    ("backend gone", Happening::BackendGone),
];

/// Reads a whole session. Lines that mean nothing are left out: a fuzzer writes many.
pub fn read(text: &[u8]) -> Option<(Listener, Vec<Happening>)> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let listener = named(LISTENERS, lines.next()?)?;
    Some((listener, lines.filter_map(happening).collect()))
}

/// Reads one line.
pub fn happening(line: &[u8]) -> Option<Happening> {
    if let Some(event) = named(DATA, line) {
        return Some(Happening::Data(event));
    }
    if let Some(other) = named(OTHER, line) {
        return Some(other);
    }
    let (who, what) = line.split_first()?;
    let what = what.strip_prefix(b" ").unwrap_or(what);
    // As a line buffer leaves it.
    let what = what.strip_suffix(b"\r").unwrap_or(what).to_vec();
    match who {
        b'C' => Some(Happening::Client(what)),
        b'S' => Some(Happening::Backend(what)),
        _ => None,
    }
}

fn named<T: Clone>(names: &[(&str, T)], line: &[u8]) -> Option<T> {
    let found = names.iter().find(|(name, _)| name.as_bytes() == line);
    found.map(|(_, value)| value.clone())
}
