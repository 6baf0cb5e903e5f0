//! Why a session drops its backend, and at which stage: for the log.

/// The stage of a session with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The login is not complete yet.
    Login,
    /// Between commands, or waiting for the reply to one.
    Command,
    /// Waiting for the reply to EPSV, PASV or PORT.
    DataPort,
    /// In the middle of a transfer.
    Transfer,
}

impl Stage {
    /// The stage's text in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Command => "command",
            Self::DataPort => "data port",
            Self::Transfer => "transfer",
        }
    }
}

/// Why a backend was dropped: there is no safe way to resynchronise with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// The backend sent a reply that no command had asked for.
    UnsolicitedReply,
    /// The backend answered the command with an unexpected reply.
    UnexpectedReply,
    /// The backend sent 1yz without end.
    TooManyPreliminaries,
    /// The backend didn't answer in time.
    ReplyTimeout,
    /// The backend refused PBSZ or PROT P after the login as well.
    ProtectionRefused,
    /// The backend answered ABOR, but sent no reply to the transfer.
    AbortIgnored,
}

impl ProtocolError {
    /// The error's text in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnsolicitedReply => "unsolicited reply",
            Self::UnexpectedReply => "unexpected reply to the command",
            Self::TooManyPreliminaries => "too many preliminary replies to one command",
            Self::ReplyTimeout => "no reply in time",
            Self::ProtectionRefused => "PBSZ 0 and PROT P refused before and after the login",
            Self::AbortIgnored => "reply to ABOR without a result of the transfer",
        }
    }
}
