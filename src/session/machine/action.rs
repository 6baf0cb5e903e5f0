//! Actions that the machine has its driver carry out, in order.

use std::net::SocketAddr;

use bytes::Bytes;

use super::{Ending, FileChange, Outcome, ProtocolError, Stage, TransferDetails};
use crate::base::SiteId;
use crate::ftp::address::AnnouncedEndpoint;
use crate::ftp::answer::Answer;
use crate::ftp::command::{Command, Verb};
use crate::ftp::reply::Reply;
use crate::ftp::server::{NoUserReply, PortMethods};
use crate::outcome::{Direction, LoginResult};
use crate::policy::Admission;
use crate::route::Route;

/// An action for the driver to carry out.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send this reply to the client.
    Reply(Bytes),
    /// Answer AUTH and do the TLS handshake with the client; `Event::Secured` follows.
    StartTls,
    /// Connect to the backend of the login's route; followed by `Event::Dialled`, or `Event::Blocked` from the guard, or
    /// `Event::SiteFull` or `Event::Maintenance`.
    Dial,
    /// The backend has not answered USER: hold it against it, if it is its fault.
    BackendFailed(NoUserReply),
    /// Give the backend up and connect to the next one of the site; followed by `Event::Dialled` or `Event::SiteFull`.
    DialNext,
    /// The client is about to be sent the backend's reply to USER: the login stays with it.
    CommitBackend,
    /// This USER or HOST has been accepted for handling.
    LoginAttempt {
        /// The client's command.
        command: Command,
        /// The site that the login leads to, if any. In a box, or it would make every [`Action`] larger.
        route: Option<Box<Route>>,
    },
    /// The backend or the site has refused another user: the login before holds, which leads here.
    FormerLogin(Route),
    /// Send this PASS or ACCT to the backend, unless the guard refuses it: then `Event::Blocked` follows.
    Authenticate {
        /// The client's command.
        command: Command,
        /// The site that the login is for, by which the guard counts.
        site: SiteId,
    },
    /// As [`Self::Authenticate`], but with a decoy, a password that no account has, in place of the client's: the login fails by
    /// the backend's own reply.
    AuthenticateWithDecoy {
        /// The client's command.
        command: Command,
        /// The site that the login is for, by which the guard counts.
        site: SiteId,
    },
    /// A login has failed, at this site or at none: hold back what follows for as long as the guard requires.
    DelayAfterFailure(Option<SiteId>),
    /// Send this line to the backend.
    Send(Bytes),
    /// Close the backend's control connection.
    CloseBackend,
    /// Listen for a data connection from the backend; `Event::Listening` follows.
    ListenForBackend,
    /// Connect to the backend's data port and make one for the client; `Event::Prepared` follows.
    PrepareData {
        /// How the backend's data connection is established.
        backend: BackendData,
        /// How the client's data connection is established.
        client: ClientData,
        /// Whether the client's data connection is to be under TLS, by the protection level at the moment.
        protection: Protection,
    },
    /// Open the prepared data connections; `Event::Data`s follow.
    OpenData {
        /// The direction of the bytes.
        direction: Direction,
        /// Whether the client's data connection is under TLS.
        protection: Protection,
    },
    /// After `DataEvent::BackendNotReached`: take this for the backend's data connection.
    ReplaceBackendData(BackendData),
    /// The transfer command has been sent: do the handshakes and move the bytes.
    CommandSent,
    /// The backend has begun the transfer: all deadlines start now.
    TransferStarted,
    /// The backend has announced how many bytes the download is to have: for the live view.
    TransferSize(u64),
    /// The source's end is valid: end the sink's leg in order, too.
    FinishSink,
    /// An abort begins: `DataEvent::BackendAccepted` follows if the backend has completed a TLS handshake on its data connection
    /// behind its 1yz. Asked for only now, so that it costs no other transfer anything.
    ReportAcceptance,
    /// Drop both data connections; connected peers get a reset.
    DropData,
    /// The backend would not begin the transfer: drop its data connection, and leave the client's until the client has read
    /// the reply. A reset may reach it first, and curl then reports that in its place.
    RefuseData,
    /// Remember for later sessions that this backend is not to be asked for data ports in these ways, if there is another.
    Avoid(PortMethods),
    /// Tell the metrics and the log.
    Record(Record),
    /// End the session.
    Close(Ending),
}

/// How the backend's data connection is established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendData {
    /// We connect to the port that it has announced, at its control connection's address.
    Passive(AnnouncedEndpoint),
    /// The backend connects to our listener.
    Active,
}

/// How the client's data connection is established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientData {
    /// The client connects to us.
    Passive,
    /// We connect to the client.
    Active(SocketAddr),
}

/// The protection level of data connections (RFC 2228 §3, RFC 4217 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// PROT C
    Clear,
    /// PROT P
    Private,
}

/// A record for the metrics and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The decision of the login's site about the client's certificate.
    Certificate(Admission),
    /// The backend has refused the password of a user with a proven certificate, with this code.
    CredentialsRefused(u16),
    /// A login succeeded or failed.
    Login(LoginResult),
    /// A login failed by the backend's reply to USER, PASS or ACCT.
    LoginRefused {
        /// The result of the login.
        result: LoginResult,
        /// The command sent to the backend.
        command: Verb,
        /// The backend's reply, which may repeat the password.
        reply: Reply,
    },
    /// A transfer is over.
    Transfer {
        /// The command that began it.
        command: Command,
        /// The direction of its bytes.
        direction: Direction,
        /// The outcome of the transfer.
        outcome: Outcome,
        /// Further details of the transfer. In a box, as all that is large, since it would make every [`Action`] larger.
        details: Box<TransferDetails>,
    },
    /// The backend has changed a file or a directory, as the client has asked.
    FileChanged(Box<FileChange>),
    /// A data port or a transfer was refused here; nothing was sent to the backend.
    Refused {
        /// The client's command.
        command: Command,
        /// Our reply to it.
        answer: Answer,
    },
    /// The site denies this command; nothing was sent to the backend.
    Denied(Command),
    /// The driver has delivered an event that it can't deliver in this state: a fault of ours.
    Unexpected {
        /// The state's name.
        state: &'static str,
        /// The event.
        event: String,
    },
    /// The backend was given up.
    BackendLost(Stage, ProtocolError),
    /// The backend refused a data port in every way, the last time like this; without a reply if that is our fault.
    NoDataPort(Option<Reply>),
}
