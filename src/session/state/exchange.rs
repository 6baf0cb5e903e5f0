//! What goes between the machine and its driver: events in, actions out.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Cause, DataFailure, Ending, Loss, Stage};
use crate::base::SiteId;
use crate::config::HostName;
use crate::ftp::address::Announced;
use crate::ftp::answer::Answer;
use crate::ftp::command::{BadCommand, Command, Direction};
use crate::ftp::reply::Reply;
use crate::ftp::server::{BackendProtection, Ways};
use crate::observe::metrics::{LoginResult, Verdict};
use crate::route::Route;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The client sent a command.
    Command(Command),
    /// The client sent a line that is none.
    BadLine(BadLine),
    /// The client has ended its side of the control connection, and may still read.
    ClientEnded,
    /// The client's control connection is lost, or is given up.
    ClientGone,
    /// The handshake that [`Action::StartTls`] asked for is done.
    Secured {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
    },
    /// The backend connection that [`Action::Dial`] asked for is ready for USER, or there is none.
    Dialled(Option<Dialled>),
    /// The guard lets the client try no further: what [`Action::Dial`], [`Action::Guess`] or [`Action::Penalise`] came upon.
    Blocked,
    /// The site of [`Action::Dial`] has as many sessions as it may.
    SiteFull,
    /// The backend sent a reply.
    Reply(Reply),
    /// The backend's control connection ended, or what came was no reply.
    BackendGone,
    /// Where the driver listens for the backend, as [`Action::ListenForBackend`] asked; `None` if it can't.
    Listening(Option<SocketAddr>),
    /// The data port that [`Action::PrepareData`] asked for.
    Prepared(Prepared),
    /// Something happened to the transfer's data connections.
    Data(DataEvent),
    /// The time for [`Machine::wait`](super::Machine::wait) is over.
    Expired,
    /// The process is to end: finish what runs, begin nothing.
    Drain,
    /// The process ends now, whatever runs.
    DrainOver,
}

/// What the data connections of a transfer have to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent {
    /// The backend's data connection is open, or will come from it: the command may go out, but for an upload's.
    BackendOpen,
    /// The backend's data port can't be reached. [`Action::RedialBackend`] leads to another one.
    BackendNotReached,
    /// The client's data connection of an upload is there, too.
    ClientConnected,
    /// The source ended, and everything that came from it is with the sink. `proven` if the end can't be taken for a
    /// lost connection: it was a close_notify, or the backend's, whose reply decides.
    SourceEnded {
        /// False for a plain FIN from a client.
        proven: bool,
    },
    /// After [`Action::ProceedData`]: the sink, a backend in clear text, was told the end, and has yet to end its side.
    Ended,
    /// After [`Action::ProceedData`]: the sink's leg was ended in order.
    Finished,
    /// It went wrong. Both legs stay as they are until [`Action::DropData`] resets them.
    Failed(DataFailure),
}

/// A line that is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// Over the limit.
    TooLong,
    /// Not in the form of a command.
    Malformed(BadCommand),
}

/// A backend connection that is ready for USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// Whether its control connection runs over IPv6, where only EPSV makes sense.
    pub ipv6: bool,
    /// The 230 of a backend that lets everybody in without USER.
    pub welcome: Option<Reply>,
    /// Whether it has to be told after the login that data connections are private.
    pub protection: BackendProtection,
    /// How it is not to be asked for data ports, as earlier sessions have found out.
    pub avoid: Ways,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this reply to the client.
    Reply(Bytes),
    /// Answer AUTH and do the TLS handshake with the client; then comes [`Event::Secured`].
    StartTls,
    /// Connect to the site's backend; then comes [`Event::Dialled`], or [`Event::Blocked`] from the guard, or
    /// [`Event::SiteFull`].
    Dial(Route),
    /// This USER or HOST has been taken up; it may lead nowhere.
    Asked(Command),
    /// The login leads here, on the connection that there is.
    Route(Route),
    /// Send this PASS or ACCT to the backend, unless the guard says otherwise: then comes [`Event::Blocked`] in its place.
    Guess(Command),
    /// A login has failed, at this site or at none: hold back what follows for as long as the guard says.
    Penalise(Option<SiteId>),
    /// Send this line to the backend.
    Send(Bytes),
    /// Close the backend's control connection.
    HangUp,
    /// Listen for a data connection from the backend; then comes [`Event::Listening`].
    ListenForBackend,
    /// Connect to the backend's data port and make one for the client; then comes [`Event::Prepared`].
    PrepareData {
        /// How the backend's data connection comes to be.
        backend: BackendData,
        /// How the client's data connection comes to be.
        client: ClientData,
        /// Whether it is to be under TLS, as things stand.
        protection: Protection,
    },
    /// Bring the prepared data connections to life; then come [`Event::Data`]s.
    OpenData {
        /// Which way the bytes go.
        direction: Direction,
        /// Whether the client's data connection is under TLS.
        protection: Protection,
    },
    /// After [`DataEvent::BackendNotReached`]: take this for the backend's data connection.
    RedialBackend(BackendData),
    /// The transfer command is out: do the handshakes and let the bytes flow.
    BeginData,
    /// The backend has begun the transfer: from now on nobody has a reason to wait.
    ExpectData,
    /// The source's end is good: end the sink's leg in order, too.
    ProceedData,
    /// Drop both data connections, with a reset to whoever is connected.
    DropData,
    /// Remember for later sessions that this backend is not to be asked for data ports in these ways, if there is another.
    Avoid(Ways),
    /// Tell the metrics and the log.
    Record(Record),
    /// End the session.
    Close(Ending),
}

/// How the backend's data connection comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendData {
    /// We connect to the port that it has announced, at its control connection's address.
    Passive(Announced),
    /// It connects to where we listen.
    Active,
}

/// How the client's data connection comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientData {
    /// The client connects to us.
    Passive,
    /// We connect to the client.
    Active(SocketAddr),
}

/// What became of [`Action::PrepareData`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// The client may connect to this port.
    Passive(u16),
    /// We'll connect to the client.
    Active,
    /// No passive port was free.
    NoPort,
}

/// The protection level of data connections (RFC 2228 §3, RFC 4217 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// PROT C
    Clear,
    /// PROT P
    Private,
}

/// What the metrics and the log are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A login succeeded or failed.
    Login(LoginResult),
    /// A transfer is over.
    Transfer {
        /// The command that began it.
        command: Command,
        /// Which way its bytes went.
        direction: Direction,
        /// How it ended.
        verdict: Verdict,
        /// What ended it, unless it is complete or the client has aborted it.
        cause: Option<Cause>,
    },
    /// A data port or a transfer was refused here, and the backend has not heard of it.
    Refused {
        /// What the client asked for.
        command: Command,
        /// What it was told.
        answer: Answer,
    },
    /// The backend was given up.
    BackendLost(Stage, Loss),
    /// The backend refused a data port in every way, the last time like this; without a reply if that is our fault.
    NoDataPort(Option<Reply>),
}
