//! Events of a session that are reported, as values: each of its logins and transfers, each failure, its end.
//!
//! A [`SessionEvent`] is made once, where something has happened, and then rendered: `log` makes a line of it, `metrics` counts
//! it. Each of the two has one `match` over all of them, so that an event that one of them leaves out shows. `transfer_log`
//! makes records of those that transfer logs are about. The session's identity is in its [`SessionInfo`]; no decision
//! asks anything here.

mod log;
mod metrics;
mod transfer_log;
mod transfers;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::info::{SessionInfo, SiteName};
use super::machine::{Ending, FileChange, Protection, Stage};
use crate::backend::Backend;
use crate::backend::dial::DialError;
use crate::config::{HostName, TlsVersion};
use crate::ftp::answer::Answer;
use crate::ftp::command::Command;
use crate::ftp::directory::Directory;
use crate::ftp::reply::Reply;
use crate::ftp::server::PortMethods;
use crate::observe::metrics::Metrics;
use crate::observe::transfer_log::TransferLogs;
use crate::outcome::{KeyExchange, LoginResult, Resumption};
use crate::passive::NoPort;
use crate::policy::{Admission, ClientIdentity};
use crate::route::Rule;

pub(super) use self::transfers::{Progress, TransferRecord, Transfers};

/// An event of a session that is reported.
pub(super) enum SessionEvent<'a> {
    /// The client's control connection is under TLS.
    Secured {
        version: TlsVersion,
        key_exchange: Option<KeyExchange>,
    },
    /// The handshake of the client's control connection failed.
    HandshakeFailed {
        error: &'a io::Error,
        /// The certificate that the client was shown, where there are several.
        certificate: Option<&'a str>,
        /// The client's own, if it is what was refused.
        refused: Option<&'a ClientIdentity>,
    },
    /// The handshake of the client's control connection took too long.
    HandshakeTimedOut,
    /// A ClientHello arrived where a command should be.
    TlsWithoutAuth,
    /// Clear text arrived after AUTH, in front of the handshake.
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
    /// The decision of a login's site about the client's certificate, if it has shown one.
    Certificate {
        admission: Admission,
        identity: Option<&'a ClientIdentity>,
    },
    /// The backend has refused the password of a user with the right certificate, with this code.
    CredentialsRefused { code: u16 },
    /// A login succeeded or failed.
    Login(LoginRecord),
    /// A data port or a transfer was refused here; nothing was sent to the backend.
    Refused {
        command: &'a Command,
        answer: Answer,
    },
    /// The site denies this command to its clients.
    Denied(&'a Command),
    /// So many commands were refused that the next ones are no longer logged.
    ManyRefused,
    /// The backend's data ports are asked for in another way than these from now on.
    MethodsAvoided {
        backend: &'a Backend,
        methods: PortMethods,
    },
    /// Listening for the backend in active mode failed.
    NotListening(&'a io::Error),
    /// The ends of a data connection can't be told from its control connections, since one of those is lost.
    NoDataEndpoint(&'a io::Error),
    /// The backend refused a data port in every way, the last time like this; without a reply if that is our fault.
    NoBackendPort(Option<&'a Reply>),
    /// No passive port became free for the client.
    NoPassivePort(NoPort),
    /// Driver and machine disagree: a fault of Portcullis.
    UnexpectedEvent { state: &'static str, event: &'a str },
    /// The backend was given up.
    BackendLost {
        stage: Stage,
        reason: &'a dyn Display,
        hint: Option<&'static str>,
    },
    /// A transfer begins.
    TransferBegins(RunningRecord<'a>),
    /// A transfer has run for a minute.
    TransferRuns(RunningRecord<'a>),
    /// A transfer is over.
    Transfer(TransferRecord<'a>),
    /// The backend has changed a file or a directory, as the client has asked.
    FileChanged(&'a FileChange),
    /// The session is over.
    Ended {
        ending: Ending,
        transfers: &'a Transfers,
        /// How far the client's data connections have resumed TLS sessions; `None` if none of them could.
        resumption: Option<Resumption>,
    },
}

/// A transfer that is not over.
pub(super) struct RunningRecord<'a> {
    pub command: &'a Command,
    /// The working directory that the command's path is relative to.
    pub directory: &'a Directory,
    pub progress: Progress,
}

/// The end of a login.
pub(super) struct LoginRecord {
    result: LoginResult,
    /// How the backend has refused it, if it did.
    refusal: Option<Refusal>,
    site: SiteName,
    /// The user, escaped.
    user: String,
    /// The rule that has chosen the site, if there is one.
    rule: Option<Rule>,
    /// The host that was named for that.
    host: Option<HostName>,
    context: LoginContext,
    /// Since the session was accepted, if this is its first login that succeeded.
    first_after: Option<Duration>,
}

/// A backend's refusal of a login.
pub(super) struct Refusal {
    /// The backend's reply, without the password, which it may repeat.
    pub reply: String,
    /// Advice what to look at first.
    pub hint: Option<&'static str>,
}

/// The circumstances of a login, and how long it took.
pub(super) struct LoginContext {
    /// The server name of the client's TLS handshake.
    pub server_name: Option<HostName>,
    /// The protection level of data connections.
    pub protection: Protection,
    /// The time since its USER.
    pub elapsed: Duration,
}

impl LoginRecord {
    /// A record of this result of the session's last login; `first_after` is the time since the session was accepted, if it is
    /// the first login that succeeded.
    pub fn new(
        result: LoginResult,
        refusal: Option<Refusal>,
        context: LoginContext,
        first_after: Option<Duration>,
        info: &SessionInfo,
    ) -> Self {
        // A login without a site is recorded with its host, which is what the operator looks for.
        let (site, user, rule, host) = match result {
            LoginResult::UnknownHost | LoginResult::ClearText => {
                (SiteName::NONE, info.user_argument(), None, None)
            }
            _ => (info.site_name(), info.user(), info.rule(), info.host()),
        };
        Self {
            result,
            refusal,
            site,
            user,
            rule,
            host,
            context,
            first_after,
        }
    }
}

/// How many refused commands of a session have a line in the log each: a client could write any number of them. Those that the
/// site denies have one each, for an audit.
const LOGGED_REFUSALS: u32 = 20;

/// The destination of one session's events: log, metrics and transfer logs.
#[derive(Debug, Clone)]
pub(super) struct EventSink {
    info: Arc<SessionInfo>,
    /// The address that the client has connected to.
    server: SocketAddr,
    metrics: Arc<Metrics>,
    transfer_logs: Arc<TransferLogs>,
}

impl EventSink {
    pub fn new(info: Arc<SessionInfo>, server: SocketAddr, shared: &Shared) -> Self {
        Self {
            info,
            server,
            metrics: Arc::clone(&shared.metrics),
            transfer_logs: Arc::clone(&shared.transfer_logs),
        }
    }

    /// Counts and logs this event.
    pub fn write(&self, event: &SessionEvent<'_>) {
        metrics::count(event, &self.info, &self.metrics);
        transfer_log::write(event, &self.info, self.server, &self.transfer_logs);
        let is_refusal = matches!(event, SessionEvent::Refused { .. });
        match is_refusal.then(|| self.info.count_refused_command()) {
            None | Some(0..LOGGED_REFUSALS) => log::log(event, &self.info),
            Some(LOGGED_REFUSALS) => log::log(&SessionEvent::ManyRefused, &self.info),
            Some(_) => {}
        }
    }
}
