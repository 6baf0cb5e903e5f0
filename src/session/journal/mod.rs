//! What a session has to tell, as values: each of its logins and transfers, each failure, its end.
//!
//! An [`Entry`] is made once, where something has happened, and then rendered: `log` makes a line of it, `metrics` counts
//! it. Each has one `match` over all of them, so that an entry that one of them leaves out shows. Who the session is stands
//! in its [`SessionInfo`]; no decision asks anything here.

mod log;
mod metrics;
mod transfers;

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::info::{SessionInfo, SiteName};
use super::machine::{Ending, Stage};
use crate::backend::Backend;
use crate::backend::dial::DialError;
use crate::config::TlsVersion;
use crate::ftp::answer::Answer;
use crate::ftp::command::Command;
use crate::ftp::reply::Reply;
use crate::ftp::server::PortMethods;
use crate::observe::metrics::Metrics;
use crate::outcome::{KeyExchange, LoginResult, Resumption};
use crate::passive::NoPort;

pub(super) use self::transfers::{Progress, TransferRecord, Transfers};

/// Something to tell of a session.
pub(super) enum Entry<'a> {
    /// The client's control connection is under TLS.
    Secured {
        version: TlsVersion,
        key_exchange: Option<KeyExchange>,
    },
    /// The handshake of the client's control connection failed.
    HandshakeFailed(&'a io::Error),
    /// It took too long.
    HandshakeTimedOut,
    /// A ClientHello arrived where a command should be.
    TlsWithoutAuth,
    /// So did clear text behind AUTH, in front of the handshake.
    ClearTextBehindAuth,
    /// The failures of another client were evicted to make space for this one's.
    FailuresEvicted { site: &'a str },
    /// The reply to a failed login is held back.
    ReplyDelayed { site: &'a str },
    /// The client has failed to log in too often, for this time.
    ClientBlocked { site: &'a str, time: Duration },
    /// The site has as many sessions as it may.
    SiteFull { site: &'a str, limit: usize },
    /// Each backend of the site has as many sessions as it may, or failed.
    BackendsFull { site: &'a str },
    /// A further dial has to wait.
    DialDelayed,
    /// One of the site's backends could not be connected to.
    BackendUnavailable {
        site: &'a str,
        backend: &'a Backend,
        error: &'a DialError,
    },
    /// A login succeeded or failed.
    Login(LoginRecord),
    /// A data port or a transfer was refused here; nothing was sent to the backend.
    Refused {
        command: &'a Command,
        answer: Answer,
    },
    /// The site denies this command to its clients.
    Denied(&'a Command),
    /// The backend's data ports are asked for in another way than these from now on.
    MethodsAvoided {
        backend: &'a Backend,
        methods: PortMethods,
    },
    /// Listening for the backend in active mode failed.
    NotListening(&'a io::Error),
    /// The backend refused a data port in every way, the last time like this; without a reply if that is our fault.
    NoBackendPort(Option<&'a Reply>),
    /// No passive port became free for the client.
    NoPassivePort(NoPort),
    /// The backend was given up.
    BackendLost {
        stage: Stage,
        reason: &'a dyn Display,
        hint: Option<&'static str>,
    },
    /// A transfer is over.
    Transfer(TransferRecord<'a>),
    /// The session is over.
    Ended {
        ending: Ending,
        transfers: &'a Transfers,
        /// What its data connections have shown of the client; none if none of them could resume.
        resumption: Option<Resumption>,
    },
}

/// How a login ended.
pub(super) struct LoginRecord {
    result: LoginResult,
    site: SiteName,
    /// Escaped.
    user: String,
    /// Since the session was accepted, if this is its first login that succeeded.
    elapsed: Option<Duration>,
}

impl LoginRecord {
    /// This result of the session's last login; `elapsed` since it was accepted, if it is the first one that succeeded.
    pub fn new(result: LoginResult, elapsed: Option<Duration>, info: &SessionInfo) -> Self {
        // A login without a site is recorded with its host, which is what the operator looks for.
        let (site, user) = match result {
            LoginResult::UnknownHost | LoginResult::ClearText => {
                (SiteName::NONE, info.user_argument())
            }
            _ => (info.site_name(), info.user()),
        };
        Self {
            result,
            site,
            user,
            elapsed,
        }
    }
}

/// Where the entries of one session go.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    info: Arc<SessionInfo>,
    metrics: Arc<Metrics>,
}

impl Journal {
    pub fn new(info: Arc<SessionInfo>, metrics: Arc<Metrics>) -> Self {
        Self { info, metrics }
    }

    /// Counts and logs this.
    pub fn write(&self, entry: &Entry<'_>) {
        metrics::count(entry, &self.info, &self.metrics);
        log::log(entry, &self.info);
    }
}
