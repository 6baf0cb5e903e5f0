//! What goes between the machine and its driver: events in, actions out.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Cause, DataFailure, Ending, Loss, Stage};
use crate::config::{HostName, Site};
use crate::ftp::answer::Answer;
use crate::ftp::command::{BadCommand, Command, Direction};
use crate::ftp::reply::Reply;
use crate::observe::metrics::{LoginResult, Verdict};
use crate::route::Route;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The client sent a command.
    Command(Command),
    /// The client sent a line that is none.
    BadLine(BadLine),
    /// The client's control connection ended.
    ClientGone,
    /// The handshake that [`Action::StartTls`] asked for is done.
    Secured {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
    },
    /// The backend connection that [`Action::Dial`] asked for is ready for USER, or there is none.
    Dialled(Option<Dialled>),
    /// The guard lets the client try no further: what [`Action::Dial`] or [`Action::Penalise`] came upon.
    Blocked,
    /// The site of [`Action::Dial`] has as many sessions as it may.
    SiteFull,
    /// The backend sent a reply.
    Reply(Reply),
    /// The backend's control connection ended, or what came was no reply.
    BackendGone,
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
    /// The backend's data connection is open: the command may go out.
    BackendOpen,
    /// The source ended, and everything that came from it is with the sink. `proven` if the end can't be taken for a
    /// lost connection: it was a close_notify, or the backend's, whose reply decides.
    SourceEnded {
        /// False for a plain FIN from a client.
        proven: bool,
    },
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
    /// A login has failed, at this site or at none: hold back what follows for as long as the guard says.
    Penalise(Option<Arc<Site>>),
    /// Send this line to the backend.
    Send(Bytes),
    /// Close the backend's control connection.
    HangUp,
    /// Connect to the backend's data port and make one for the client; then comes [`Event::Prepared`].
    PrepareData {
        /// The port that the backend announced.
        backend_port: u16,
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
    /// The transfer command is out: do the handshakes and let the bytes flow.
    BeginData,
    /// The backend has begun the transfer: from now on nobody has a reason to wait.
    ExpectData,
    /// The source's end is good: end the sink's leg in order, too.
    ProceedData,
    /// Drop both data connections, with a reset to whoever is connected.
    DropData,
    /// Tell the metrics and the log.
    Record(Record),
    /// End the session.
    Close(Ending),
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
    /// The backend refused both EPSV and PASV, the last time like this.
    NoDataPort(Reply),
}
