//! Why a session gives its backend up, and where: what the operator reads in the log.

/// How far a session with a backend has come.
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
    /// The word for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Command => "command",
            Self::DataPort => "data port",
            Self::Transfer => "transfer",
        }
    }
}

/// Why a backend was given up: there is no safe way to find back into step with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It answered what nobody had asked.
    Unasked,
    /// It answered with a reply that the command can't have.
    Misplaced,
    /// It sent 1yz without end.
    Preliminaries,
    /// It didn't answer in time.
    Silence,
    /// It refused PBSZ or PROT P behind the login as well.
    Unprotected,
    /// It answered ABOR, and said nothing of the transfer.
    NotAborted,
}

impl Loss {
    /// The words for it in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "a reply that nothing asked for",
            Self::Misplaced => "a reply that the command can't have",
            Self::Preliminaries => "too many preliminary replies to one command",
            Self::Silence => "no reply in time",
            Self::Unprotected => "it refuses PBSZ 0 and PROT P before the login and after it",
            Self::NotAborted => "a reply to ABOR that says nothing of the transfer",
        }
    }
}
