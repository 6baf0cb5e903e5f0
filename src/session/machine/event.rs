//! Events of a session, as reported by its driver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::DataFailure;
use crate::config::HostName;
use crate::ftp::command::{BadCommand, Command};
use crate::ftp::reply::Reply;
use crate::ftp::server::{BackendProtection, PortMethods};
use crate::policy::ClientIdentity;

/// An event that the driver reports.
#[derive(Debug)]
pub enum Event {
    /// The client sent a command.
    Command(Command),
    /// The client sent a line that is not a command.
    BadLine(BadLine),
    /// The client has ended its side of the control connection, and may still read.
    ClientEnded,
    /// The client's control connection is lost, or is given up.
    ClientGone,
    /// The handshake that `Action::StartTls` asked for is done.
    Secured {
        /// The server name that the client sent, if it is a host name.
        sni: Option<HostName>,
        /// The certificate that it has shown.
        certificate: Option<Arc<ClientIdentity>>,
    },
    /// The backend connection that `Action::Dial` requested is ready for USER, or could not be made.
    Dialled(Option<Dialled>),
    /// The guard lets the client try no further: what `Action::Dial`, `Action::Authenticate` or `Action::DelayAfterFailure` came
    /// upon.
    Blocked,
    /// The site of `Action::Dial`, or each of its backends, has as many sessions as it may.
    SiteFull,
    /// An operator has taken the site of `Action::Dial` out of service.
    Maintenance,
    /// The backend sent a reply.
    Reply(Reply),
    /// The backend's control connection ended, or sent something that is not a reply.
    BackendGone,
    /// The address at which the driver listens for the backend, as `Action::ListenForBackend` asked; `None` if it can't.
    Listening(Option<SocketAddr>),
    /// The data port that `Action::PrepareData` asked for.
    Prepared(PreparedPort),
    /// Something happened to the transfer's data connections.
    Data(DataEvent),
    /// The deadline has passed that [`Machine::deadline`](super::Machine::deadline) has returned.
    Expired,
    /// The process is to end: finish what runs, begin nothing.
    Drain,
    /// The process ends now, whatever runs.
    DrainOver,
    /// An operator ends the session now, whatever runs.
    Terminate,
}

/// An event at the data connections of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent {
    /// The backend's data connection is open, or the backend will open it: the command may be sent, except for an
    /// upload's.
    BackendOpen,
    /// The backend's data port can't be reached. `Action::ReplaceBackendData` leads to another one.
    BackendNotReached,
    /// The client's data connection of an upload is connected, too.
    ClientConnected,
    /// The source ended, and everything that came from it is with the sink. `proven` if the end can't be taken for a
    /// lost connection: it was a close_notify, or the backend's, whose reply decides.
    SourceEnded {
        /// False for a plain FIN from a client.
        proven: bool,
    },
    /// After `Action::FinishSink`: the sink, a backend in clear text, was sent the end of the file, and has yet to
    /// close its side.
    Ended,
    /// After `Action::FinishSink`: the sink's leg was ended in order.
    Finished,
    /// After `Action::ReportAcceptance`: the backend has accepted its data connection for this transfer.
    BackendAccepted,
    /// A failure. Both legs stay as they are until `Action::DropData` resets them.
    Failed(DataFailure),
}

/// A line that is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLine {
    /// The line is longer than the limit.
    TooLong,
    /// The line doesn't have the form of a command.
    Malformed(BadCommand),
}

/// A backend connection that is ready for USER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// Whether the backend's control connection runs over IPv6, where only EPSV makes sense.
    pub ipv6: bool,
    /// The 230 of a backend that requires no USER.
    pub welcome: Option<Reply>,
    /// Whether the backend has to be sent PBSZ and PROT after the login.
    pub protection: BackendProtection,
    /// The methods by which the backend is not to be asked for data ports, as earlier sessions have found out.
    pub avoid: PortMethods,
    /// How long the backend's reply to USER may take before another backend takes over; `None` if there is no other.
    pub failover_timeout: Option<Duration>,
}

/// The result of `Action::PrepareData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreparedPort {
    /// The client may connect to this port.
    Passive(u16),
    /// We'll connect to the client.
    Active,
    /// No passive port was free.
    NoPort,
}
