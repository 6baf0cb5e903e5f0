//! Why a session drops its backend, and at which stage: for the log.

/// The stage of a session with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not logged in yet.
    Login,
    /// Between commands, or waiting for the reply to one.
    Command,
    /// Waiting for the reply to EPSV, PASV or PORT.
    DataPort,
    /// In a transfer.
    Transfer,
}

impl Stage {
    /// Its text in the log.
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
    /// It sent a reply that no command had asked for.
    UnsolicitedReply,
    /// It answered with unexpected reply to the command.
    UnexpectedReply,
    /// It sent 1yz without end.
    TooManyPreliminaries,
    /// It didn't answer in time.
    ReplyTimeout,
    /// It refused PBSZ or PROT P behind the login as well.
    ProtectionRefused,
    /// It answered ABOR, and said nothing of the transfer.
    AbortIgnored,
}

impl ProtocolError {
    /// Its text in the log.
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
