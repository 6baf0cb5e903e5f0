//! One check of a backend, in the way of a login and as deep as asked for: connection, greeting, TLS, login, listing.
//!
//! A check reports the result and the duration of each stage ([`CheckRecord`]), and decides nothing: the consequences for the
//! backend are up to the `checker`.

mod advice;
mod list;
mod login;
mod ports;
pub mod probe;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use self::login::Login;
use super::check_state::ProbeLogins;
use super::control::{BackendConnection, ReplyError};
use super::dial::{self, Depth, DialBudget, DialError, Progress, Seen};
use super::failure_cause::FailureCause;
use super::site_backend::Backend;
use crate::base::budget::Budget;
use crate::base::text::rounded;
use crate::config::{CheckLevel, PassiveMode, Probe, Timeouts};
use crate::ftp::reply::Class;
use crate::net::dns::DnsError;
use crate::net::proxy_header::Origin;
use crate::net::resolve::Resolver;
use crate::outcome::{CheckStage, DialStage};
use crate::tls::{HandshakeFault, Validity};

/// How long a check may take in all.
pub const LONGEST: Duration = Duration::from_secs(30);

/// The result of a check.
#[derive(Debug)]
pub struct CheckRecord {
    /// The stages in their order; only the last one may have failed.
    pub stages: Vec<StageRecord>,
    /// When the certificate is valid that the backend showed, be it refused for that.
    pub certificate: Option<Validity>,
}

/// The result of one stage of a check.
#[derive(Debug)]
pub struct StageRecord {
    /// The stage.
    pub stage: CheckStage,
    /// How long the stage took.
    pub took: Duration,
    /// The result.
    pub outcome: Result<(), CheckError>,
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The backend didn't become ready for USER.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No usable reply to this command.
    #[error("no reply to {command}: {reason}")]
    Reply {
        /// The command sent.
        command: &'static str,
        /// The reason why there was no usable reply.
        #[source]
        reason: ReplyError,
    },
    /// The probe's login was refused.
    #[error("{command} of the probe was refused: the backend said {said:?}")]
    Login {
        /// USER or PASS.
        command: &'static str,
        /// The reply, without the password, which it may repeat.
        said: String,
        /// The class of the reply.
        class: Class,
        /// Advice what to look at first, if there is any.
        hint: Option<&'static str>,
    },
    /// The backend accepts no PBSZ and PROT, neither before the login nor after it.
    #[error("PBSZ and PROT were refused before the login and behind it")]
    Unprotected,
    /// The data connection was refused on the control connection.
    #[error("no data port: {0}")]
    NoPort(#[source] ReplyError),
    /// The data connection couldn't be opened.
    #[error("no data connection to {to}: {cause}")]
    DataConnect {
        /// The address, or what was listened for.
        to: String,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// The backend didn't connect to us.
    #[error("no data connection from {from}: {cause}")]
    DataAccept {
        /// The address that the connection should have come from.
        from: IpAddr,
        /// The operating system's error.
        #[source]
        cause: io::Error,
    },
    /// The data connection broke.
    #[error("the data connection broke: {0}")]
    DataBroke(#[source] io::Error),
    /// The handshake on the data connection failed.
    #[error("TLS handshake on the data connection failed: {0}")]
    DataHandshake(#[source] HandshakeFault),
    /// The listing was refused, or not complete.
    #[error("LIST failed: {0}")]
    List(#[source] ReplyError),
    /// Other checks of the site have logged in, one after the other, for as long as this one had.
    #[error("no turn to log in after {}", rounded(.0))]
    NoTurn(Duration),
    /// The discovery found no server.
    #[error("no server found: {0}")]
    Discovery(#[source] DnsError),
    /// The name servers didn't complete the discovery in time.
    #[error("DNS discovery incomplete after {}", rounded(.0))]
    DiscoveryTimeout(Duration),
    /// The data connection was not done in time.
    #[error("the data connection is not done after {}", rounded(.0))]
    DataTimeout(Duration),
}

/// A check that is made.
pub(super) struct Check<'a> {
    /// The backend checked.
    pub backend: &'a Arc<Backend>,
    /// The way in which the backend is asked for data connections.
    pub passive_mode: PassiveMode,
    /// Resolves the backend's host name.
    pub resolver: &'a Arc<Resolver>,
    /// The time limits of steps, as for logins.
    pub timeouts: &'a Timeouts,
    /// The turns and pauses of the site's check logins.
    pub logins: &'a ProbeLogins,
}

impl CheckRecord {
    /// The stage at which it failed, and why.
    pub fn failure(&self) -> Option<(CheckStage, &CheckError)> {
        let last = self.stages.last()?;
        let error = last.outcome.as_ref().err()?;
        Some((last.stage, error))
    }

    /// How long all stages took.
    pub fn took(&self) -> Duration {
        self.stages.iter().map(|stage| stage.took).sum()
    }
}

impl CheckError {
    /// Whether the probe's account or password is wrong, as far as a reply can tell that.
    fn is_refusal(&self) -> bool {
        self.failure_cause() == FailureCause::CheckAccount
    }

    /// When the backend's certificate expired, if that is why it was refused.
    pub fn expired(&self) -> Option<SystemTime> {
        match self {
            Self::Dial(DialError::Handshake(fault)) => fault.expired(),
            _ => None,
        }
    }

    /// Advice what to look at first, if there is any.
    pub(super) fn hint(&self, backend: &Backend) -> Option<&'static str> {
        match self {
            Self::Dial(error) => error.hint(backend),
            Self::Login { hint, .. } => *hint,
            _ => None,
        }
    }
}

/// The stages so far, and when the current one began.
struct Stages {
    done: Vec<StageRecord>,
    began: Instant,
}

impl Stages {
    fn end(&mut self, stage: CheckStage, outcome: Result<(), CheckError>) {
        let now = Instant::now();
        self.done.push(StageRecord {
            stage,
            took: now - self.began,
            outcome,
        });
        self.began = now;
    }
}

impl Progress for Stages {
    fn done(&mut self, stage: DialStage, _: Seen<'_>) {
        self.end(stage.into(), Ok(()));
    }
}

impl Check<'_> {
    /// Makes the check, as far as `level`, and takes leave of the backend.
    pub async fn run(&self, level: &CheckLevel) -> CheckRecord {
        let mut stages = Stages {
            done: Vec::new(),
            began: Instant::now(),
        };
        let total = Budget::new(LONGEST);
        let certificate;
        let depth = match level {
            CheckLevel::Connect => Depth::Connected,
            CheckLevel::Greeting => Depth::Greeted,
            CheckLevel::Ready | CheckLevel::Login(_) | CheckLevel::List(_) => Depth::Ready,
        };
        let budget = self.budget(total);
        let (backend, resolver, origin) = (self.backend, self.resolver, Origin::Proxy);
        match dial::dial_to(depth, backend, resolver, origin, budget, &mut stages).await {
            Ok(mut connection) => {
                let shown = connection.stream().backend_certificate();
                certificate = shown.and_then(Validity::of);
                let probed = match level {
                    CheckLevel::Connect | CheckLevel::Greeting | CheckLevel::Ready => Ok(()),
                    CheckLevel::Login(probe) => {
                        let login = self.login_stage(&mut connection, probe, total, &mut stages);
                        login.await.map(drop)
                    }
                    CheckLevel::List(probe) => {
                        self.log_in_and_list(&mut connection, probe, total, &mut stages)
                            .await
                    }
                };
                if let Err((stage, error)) = probed {
                    stages.end(stage, Err(error));
                } else if depth != Depth::Connected {
                    // Whether it hears that or not, the connection ends.
                    let _ = connection.send(b"QUIT\r\n").await;
                    connection.close().await;
                }
            }
            Err(error) => {
                let stage = error.stage().into();
                let error = CheckError::from(error);
                certificate = error.expired().map(Validity::expired);
                stages.end(stage, Err(error));
            }
        }
        CheckRecord {
            stages: stages.done,
            certificate,
        }
    }

    /// The budget of the next step: as long as a login's attempt may take, which is what clients wait.
    fn budget(&self, total: Budget) -> DialBudget<'_> {
        DialBudget {
            timeouts: self.timeouts,
            total: total.at_most(self.step()),
        }
    }

    fn step(&self) -> Duration {
        let attempt = self.timeouts.backend_attempt;
        attempt.unwrap_or(self.timeouts.backend_connect)
    }

    async fn login_stage(
        &self,
        connection: &mut BackendConnection,
        probe: &Probe,
        total: Budget,
        stages: &mut Stages,
    ) -> Result<Login, (CheckStage, CheckError)> {
        let login = self
            .log_in(connection, probe, total, &mut stages.began)
            .await
            .map_err(|error| (CheckStage::Login, error))?;
        if login == Login::Done {
            stages.end(CheckStage::Login, Ok(()));
        }
        Ok(login)
    }

    async fn log_in_and_list(
        &self,
        connection: &mut BackendConnection,
        probe: &Probe,
        total: Budget,
        stages: &mut Stages,
    ) -> Result<(), (CheckStage, CheckError)> {
        let login = self.login_stage(connection, probe, total, stages).await?;
        if login == Login::Paused {
            return Ok(());
        }
        let data = self
            .open_data(connection, total)
            .await
            .map_err(|error| (CheckStage::Data, error))?;
        stages.end(CheckStage::Data, Ok(()));
        self.list(connection, data, Some(&probe.path), total, |_| {})
            .await
            .map_err(|error| (CheckStage::List, error))?;
        stages.end(CheckStage::List, Ok(()));
        Ok(())
    }
}
