//! The table of faults: where a session needs its backend, what the backend does there, and what comes of it.

/// Where the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The connection to the backend.
    Dial,
    /// Its greeting.
    Greeting,
    /// Its reply to AUTH TLS.
    Auth,
    /// The handshake after that.
    Handshake,
    /// Its reply to USER.
    User,
    /// Its reply to PASS.
    Pass,
    /// Nobody has asked anything; a backend that hangs does so at the next command.
    Idle,
    /// Its reply to EPSV, and to PASV after that.
    Pasv,
    /// The connection to its data port.
    DataDial,
    /// The handshake on that.
    DataHandshake,
    /// Its control connection while half of a download has come.
    MidTransfer,
    /// Its reply after all of the download has come.
    FinalReply,
}

/// What the backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It lets nobody connect; in handshakes it sends a fatal alert.
    Refuse,
    /// It does nothing.
    Hang,
    /// It resets the connection.
    Reset,
    /// It closes the connection.
    Fin,
    /// It sends what is no reply, or no TLS.
    Garbage,
    /// It says 4xx.
    Transient,
    /// It says 5xx.
    Permanent,
    /// It sends a line without end.
    FloodByBytes,
    /// It sends a reply without end.
    FloodByLines,
    /// It sends replies without end: 1xx where one of another class is due, any where none is.
    FloodByReplies,
}

impl Phase {
    pub const ALL: [Self; 12] = [
        Self::Dial,
        Self::Greeting,
        Self::Auth,
        Self::Handshake,
        Self::User,
        Self::Pass,
        Self::Idle,
        Self::Pasv,
        Self::DataDial,
        Self::DataHandshake,
        Self::MidTransfer,
        Self::FinalReply,
    ];

    /// It exists only where the backend speaks TLS.
    pub fn needs_tls(self) -> bool {
        matches!(self, Self::Auth | Self::Handshake | Self::DataHandshake)
    }

    /// What comes of a fault here; none if it can't happen here, or is another phase's.
    pub fn outcome(self, fault: Fault) -> Option<Outcome> {
        use Fault::*;
        use Logged::*;
        use Told::*;
        let (told, logged) = match (self, fault) {
            // Where the session is, what happens   the client is told   the log says
            (Self::Dial, Refuse | Hang) => (Unavailable, Dial("connect")),
            (Self::Dial, _) => return None,

            (Self::Greeting | Self::Auth, Refuse) => return None,
            // So early that the kernel may tell it while connecting.
            (Self::Greeting, Reset) => (Unavailable, DialOrConnect("greeting")),
            (Self::Greeting, _) => (Unavailable, Dial("greeting")),
            (Self::Auth, _) => (Unavailable, Dial("auth")),

            (Self::Handshake, Transient | Permanent | FloodByLines | FloodByReplies) => {
                return None;
            }
            (Self::Handshake, _) => (Unavailable, Dial("handshake")),

            (Self::User | Self::Pass, Refuse) => return None,
            // The deadline for the whole login.
            (Self::User | Self::Pass, Hang) => (LoginTimeout, Login("timed_out")),
            (Self::User | Self::Pass, Transient) => (Passed(430), Login("rejected")),
            (Self::User | Self::Pass, Permanent) => (Passed(530), Login("rejected")),
            (Self::User | Self::Pass, _) => (Lost, Loss("login")),

            (Self::Idle, Refuse) => return None,
            // The only reply that may come unasked (RFC 959 §5.4).
            (Self::Idle, Transient) => (Closed, Ended("closed by backend")),
            (Self::Idle, _) => (Lost, Loss("command")),

            (Self::Pasv, Refuse) => return None,
            (Self::Pasv, Transient | Permanent) => (Own(425), NoDataPort),
            (Self::Pasv, _) => (Lost, Loss("data port")),

            (Self::DataDial, Refuse | Hang) => {
                (Own(425), Transfer("backend's data port not reached"))
            }
            // Open for a moment; what the backend says of the transfer counts.
            (Self::DataDial, Reset | Fin) => (Passed(426), Verdict("failed_backend")),
            (Self::DataDial, Transient) => (Passed(425), Verdict("refused")),
            (Self::DataDial, Permanent) => (Passed(550), Verdict("refused")),
            (Self::DataDial, _) => return None,

            (Self::DataHandshake, Transient | Permanent | FloodByLines | FloodByReplies) => {
                return None;
            }
            (Self::DataHandshake, _) => {
                let reason = "tls handshake with the backend failed";
                (Own(425), Transfer(reason))
            }

            (Self::MidTransfer | Self::FinalReply, Refuse) => return None,
            (Self::MidTransfer, Hang) => {
                (Own(426), Transfer("backend data connection idle timeout"))
            }
            // Deaf for ABOR, too.
            (Self::FinalReply, Hang) => (Lost, Loss("transfer")),
            (Self::MidTransfer | Self::FinalReply, Transient) => {
                (Passed(451), Verdict("failed_backend"))
            }
            (Self::MidTransfer | Self::FinalReply, Permanent) => {
                (Passed(552), Verdict("failed_backend"))
            }
            (Self::MidTransfer | Self::FinalReply, _) => (Lost, Loss("transfer")),
        };
        Some(Outcome { told, logged })
    }
}

impl Fault {
    /// Those first that take their time, so that they do it side by side.
    pub const ALL: [Self; 10] = [
        Self::Hang,
        Self::FloodByReplies,
        Self::FloodByLines,
        Self::FloodByBytes,
        Self::Refuse,
        Self::Reset,
        Self::Fin,
        Self::Garbage,
        Self::Transient,
        Self::Permanent,
    ];
}

/// What must come of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub told: Told,
    pub logged: Logged,
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// 421, and no more: the way to the site is closed.
    Unavailable,
    /// 421, and no more: the login took too long.
    LoginTimeout,
    /// 421, and no more: the session lost its backend.
    Lost,
    /// The backend's own 421, and no more.
    Closed,
    /// The backend's own reply; the session goes on.
    Passed(u16),
    /// This number in the proxy's words; the session goes on.
    Own(u16),
}

/// The line of the log that names the site, and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logged {
    /// "backend not available", at this stage.
    Dial(&'static str),
    /// The same, at this stage or while connecting.
    DialOrConnect(&'static str),
    /// "login failed", with this result.
    Login(&'static str),
    /// "backend's control connection lost", at this stage.
    Loss(&'static str),
    /// "backend opened no data port".
    NoDataPort,
    /// "transfer not complete", for this reason.
    Transfer(&'static str),
    /// The same, with this verdict: the reason is in the backend's reply.
    Verdict(&'static str),
    /// "session ended", like this.
    Ended(&'static str),
}
