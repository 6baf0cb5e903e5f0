//! Faults of data connections: which side caused them, and the texts for client and operator.

use std::fmt;
use std::net::IpAddr;

use crate::ftp::answer::{self, Answer};
use crate::outcome::Verdict;

/// A failure of a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataFailure {
    /// The client did not connect in time.
    NoClient,
    /// The client did not connect in time, but there was a connection from this address to its port: perhaps the client, behind
    /// another address.
    OnlyFrom(IpAddr),
    /// The client could not be reached in active mode.
    ClientUnreachable,
    /// The client's connection began with something else than TLS where PROT P is in force.
    ClientClearText,
    /// The client's connection sent nothing where PROT P is in force: it may wait for a file in clear text.
    ClientSilent,
    /// The client's handshake failed.
    ClientHandshake,
    /// The client's handshake was a full one where session reuse is required.
    NotResumed,
    /// The client's handshake was a full one, and didn't show the certificate of the control connection.
    OtherCertificate,
    /// Another connection from the client's address came to its data port, and it is unknown which one is the transfer's.
    AnotherConnection,
    /// The connection of an earlier transfer may still arrive at the data port, and could not be distinguished from
    /// this one's.
    LateConnection,
    /// The client had its data port for too long without a transfer, and another one of its address needed it.
    PortWithdrawn,
    /// The client's connection broke.
    ClientLost,
    /// The client's upload ended without close_notify.
    ClientUnclean,
    /// The client began TLS where the upload was to be in clear text.
    UnexpectedTls,
    /// The client's upload in clear text stood still, and then the load balancer ended it.
    ClientStalled,
    /// The client sent so many commands behind its plaintext upload that an ABOR may be among those unread.
    TooManyPendingCommands,
    /// The client neither sent nor took a byte for too long.
    ClientIdle,
    /// The backend's data port could not be reached.
    NoBackend,
    /// The backend did not connect to the port of ours that it was sent.
    BackendDidNotConnect,
    /// The handshake with the backend failed.
    BackendHandshake,
    /// The backend's connection broke.
    BackendLost,
    /// The backend neither sent nor took a byte for too long.
    BackendIdle,
    /// The backend called an upload complete before its end.
    EarlyCompletion,
    /// The backend's final reply did not arrive, or its first.
    NoFinalReply,
    /// This machine has no file descriptor, port or memory left for a data connection.
    Shortage,
    /// A task that held a data connection has panicked.
    Internal,
}

impl DataFailure {
    /// The verdict for this failure.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NoClient
            | Self::OnlyFrom(_)
            | Self::ClientUnreachable
            | Self::ClientClearText
            | Self::ClientSilent
            | Self::ClientHandshake
            | Self::NotResumed
            | Self::OtherCertificate
            | Self::AnotherConnection
            | Self::LateConnection
            | Self::PortWithdrawn
            | Self::ClientLost
            | Self::ClientUnclean
            | Self::UnexpectedTls
            | Self::ClientStalled
            | Self::TooManyPendingCommands
            | Self::ClientIdle => Verdict::FailedClient,
            Self::NoBackend
            | Self::BackendDidNotConnect
            | Self::BackendHandshake
            | Self::BackendLost
            | Self::BackendIdle
            | Self::EarlyCompletion
            | Self::NoFinalReply => Verdict::FailedBackend,
            Self::Shortage | Self::Internal => Verdict::FailedProxy,
        }
    }

    /// Whether the failure may be the effect of a refusal on the data connection, whose reply is yet to come.
    pub fn may_be_a_refusal(self) -> bool {
        matches!(self, Self::BackendHandshake | Self::BackendLost)
    }

    /// The reply to the client, unless the backend has sent a better one.
    pub(super) fn answer(self) -> Answer {
        match self {
            Self::NoClient | Self::OnlyFrom(_) => answer::NO_DATA_CONNECTION,
            Self::ClientUnreachable => answer::DATA_PORT_UNREACHABLE,
            Self::ClientClearText => answer::DATA_IN_CLEAR_TEXT,
            Self::ClientSilent => answer::DATA_WITHOUT_HANDSHAKE,
            Self::ClientHandshake => answer::DATA_HANDSHAKE_FAILED,
            Self::NotResumed => answer::REUSE_REQUIRED,
            Self::OtherCertificate => answer::DATA_CERTIFICATE,
            Self::AnotherConnection | Self::LateConnection => answer::AMBIGUOUS_DATA,
            Self::PortWithdrawn => answer::PORT_WITHDRAWN,
            Self::ClientLost => answer::CLIENT_DATA_LOST,
            Self::ClientUnclean => answer::UNCLEAN_UPLOAD,
            Self::UnexpectedTls => answer::UNEXPECTED_TLS,
            Self::ClientStalled => answer::STALLED_UPLOAD,
            Self::TooManyPendingCommands => answer::UNHEARD_UPLOAD,
            Self::ClientIdle | Self::BackendIdle => answer::DATA_TIMEOUT,
            Self::NoBackend | Self::BackendDidNotConnect | Self::BackendHandshake => {
                answer::NO_BACKEND_DATA
            }
            Self::BackendLost => answer::BACKEND_DATA_LOST,
            Self::EarlyCompletion => answer::EARLY_COMPLETION,
            Self::NoFinalReply => answer::NO_FINAL_REPLY,
            Self::Shortage => answer::SHORTAGE,
            Self::Internal => answer::INTERNAL_ERROR,
        }
    }

    /// The failure's text in the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::NoClient | Self::OnlyFrom(_) => "client opened no data connection",
            Self::ClientUnreachable => "client's data port not reached",
            Self::ClientClearText => {
                "client sent clear text on its data connection, where PROT P is in force"
            }
            Self::ClientSilent => {
                "client began no tls handshake on its data connection, where PROT P is in force: it may expect clear text"
            }
            Self::ClientHandshake => "tls handshake with the client failed",
            Self::NotResumed => "client did not resume its tls session",
            Self::OtherCertificate => {
                "client did not show the certificate of its control connection, nor resume that one's tls session"
            }
            Self::AnotherConnection => {
                "another connection of the client's address came to its data port"
            }
            Self::LateConnection => {
                "a late connection of the client's address may come to its data port"
            }
            Self::PortWithdrawn => "another session of the client's address needed its data port",
            Self::ClientLost => "client's data connection broke",
            Self::ClientUnclean => "client ended without close_notify",
            Self::UnexpectedTls => "client began tls on a data connection in clear text",
            Self::ClientStalled => {
                "the load balancer ended a client's data connection that stood still"
            }
            Self::TooManyPendingCommands => {
                "client sent too many commands behind an upload without tls"
            }
            Self::ClientIdle => "client data connection idle timeout",
            Self::NoBackend => "backend's data port not reached",
            Self::BackendDidNotConnect => "backend opened no data connection to our port",
            Self::BackendHandshake => "tls handshake with the backend failed",
            Self::BackendLost => "backend's data connection broke",
            Self::BackendIdle => "backend data connection idle timeout",
            Self::EarlyCompletion => "backend confirmed the upload before its end",
            Self::NoFinalReply => "backend sent no final reply",
            Self::Shortage => {
                "this machine has no file descriptor, port or memory left for a data connection"
            }
            Self::Internal => "internal error",
        }
    }
}

/// Writes the failure as the log has it.
impl fmt::Display for DataFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        match self {
            Self::OnlyFrom(other) => write!(
                f,
                "; a connection from {other} came to its port, and that is not the address of its control connection"
            ),
            _ => Ok(()),
        }
    }
}
