//! A check for people to read: of everything that a session does at a backend, with what each stage has found.
//!
//! The stages are those of the active checks, by the same code, and those that a check can do without: the certificate,
//! FEAT, each way to ask for a data connection, whether it resumes the TLS session of the control connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::list::Listing;
use super::login::Login;
use super::{Check, CheckError, LONGEST};
use crate::backend::check_state::ProbeLogins;
use crate::backend::control::{BackendConnection, ReplyError};
use crate::backend::data::{DataEndpoint, ReadyConnection};
use crate::backend::dial::{self, Depth, Progress, Seen};
use crate::backend::pool::{Backend, Pools};
use crate::base::budget::Budget;
use crate::base::text::escape;
use crate::config::{Probe, ProxyVersion, Site, Timeouts, TlsMode, TlsVersion, Verify};
use crate::ftp::features;
use crate::ftp::reply::{Class, Reply};
use crate::ftp::server::{BackendProtection, PortMethod};
use crate::net::proxy_header::Origin;
use crate::net::proxy_header::write::openssl_name;
use crate::net::resolve::Resolver;
use crate::net::stream::Stream;
use crate::outcome::{DialStage, ProbeStage};
use crate::tls::ShownCertificate;

/// How many features are kept. Servers have some thirty.
const MOST_FEATURES: usize = 64;

/// A backend of a site.
#[derive(Debug, Clone)]
pub struct Target {
    /// The site.
    pub site: Arc<Site>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// One login at a time at all backends of the site, and none after the password was refused: they may have one account
    /// database, which would lock the account.
    logins: Arc<ProbeLogins>,
}

/// How far a probe goes.
#[derive(Debug, Clone)]
pub enum Goal {
    /// As far as a login before USER, and FEAT.
    Ready,
    /// A login, and the reply to EPSV and PASV.
    Login(Probe),
    /// The same, and a listing over a data connection.
    List(Probe),
}

/// What a probe came to: every stage that there is for such a backend, in order.
#[derive(Debug)]
pub struct ProbeRecord {
    /// When TLS starts, if it does.
    pub tls: Option<TlsMode>,
    /// All of them.
    pub stages: Vec<ProbedStage>,
    /// How long it took.
    pub took: Duration,
}

/// What one stage of a probe came to.
#[derive(Debug)]
pub struct ProbedStage {
    /// Which.
    pub stage: ProbeStage,
    /// How long it took; `None` for one that was not made, or that is part of the one before it.
    pub took: Option<Duration>,
    /// What came of it.
    pub outcome: ProbeOutcome,
}

/// What came of a stage of a probe.
#[derive(Debug)]
pub enum ProbeOutcome {
    /// It works.
    Done(Finding),
    /// It doesn't.
    Failed {
        /// Why not.
        error: CheckError,
        /// What to do about it.
        remedy: String,
    },
    /// It was not made.
    Skipped(Skipped),
}

/// Why a stage was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skipped {
    /// It was not asked for.
    NotAsked,
    /// Another one failed.
    Failure,
    /// The backend wants a login first, and there was none.
    WantsLogin,
    /// Another backend of the site has refused the password, which was not sent again.
    PasswordRefused,
}

/// What a stage that works has found.
#[derive(Debug)]
pub enum Finding {
    /// The addresses of the name.
    Addresses(Vec<SocketAddr>),
    /// The connection, and the version of the PROXY header that was sent on it.
    Connected {
        /// The address.
        to: SocketAddr,
        /// The header.
        header: Option<ProxyVersion>,
    },
    /// What the backend said.
    Reply(Reply),
    /// A handshake.
    Tls(AgreedTls),
    /// The certificate.
    Certificate(FoundCertificate),
    /// PBSZ and PROT, before or behind the login.
    Protection(BackendProtection),
    /// A login as this user.
    Login(String),
    /// What is in the reply to FEAT; `None` if the backend doesn't know it.
    Features(Option<Vec<String>>),
    /// The ways to ask for a data connection, at least one of which works.
    Ports(Vec<AskedPort>),
    /// The data connection: to there, or from there.
    Data(DataPeer),
    /// The handshake of the data connection.
    DataTls {
        /// What was agreed on.
        tls: AgreedTls,
        /// Whether it resumed the session of the control connection.
        resumed: bool,
    },
    /// A listing.
    Listing {
        /// How many bytes were read.
        bytes: usize,
        /// The reply after it; `None` if it is longer than what is read of one.
        reply: Option<Reply>,
    },
}

/// The certificate of a backend.
#[derive(Debug)]
pub struct FoundCertificate {
    /// It; `None` if it can't be read.
    pub own: Option<ShownCertificate>,
    /// Those that came with it.
    pub issuers: Vec<ShownCertificate>,
    /// Why it was accepted.
    pub trust: Trust,
}

/// Why a certificate was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// By its issuer, name and dates.
    Verified,
    /// By its fingerprint.
    Pinned,
    /// Without having been looked at.
    Unverified,
}

/// The other end of a data connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPeer {
    /// Portcullis has connected there.
    To(SocketAddr),
    /// The backend connects, once it has the command.
    From,
}

/// What two sides of a handshake have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgreedTls {
    /// The version.
    pub version: TlsVersion,
    /// OpenSSL's name of the cipher suite.
    pub cipher: &'static str,
}

/// One way to ask for a data connection.
#[derive(Debug)]
pub struct AskedPort {
    /// Which.
    pub method: PortMethod,
    /// Where the connection goes, or why there is none.
    pub answer: Result<PortAnswer, CheckError>,
}

/// A backend's answer to EPSV, PASV or PORT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAnswer {
    /// Where a passive connection goes.
    pub to: Option<SocketAddr>,
    /// The address in a 227, where it is another one.
    pub announced_elsewhere: Option<SocketAddr>,
}

/// The backends of these sites, in the order of the configuration.
pub fn targets(pools: &Pools, sites: &[Arc<Site>]) -> Vec<Target> {
    let of_site = |site: &Arc<Site>| {
        let pool = pools.all().find(|pool| pool.name() == site.name);
        let backends = pool.map(|pool| pool.backends.clone()).unwrap_or_default();
        let site = Arc::clone(site);
        let logins = Arc::<ProbeLogins>::default();
        backends.into_iter().map(move |backend| Target {
            site: Arc::clone(&site),
            backend,
            logins: Arc::clone(&logins),
        })
    };
    sites.iter().flat_map(of_site).collect()
}

/// Probes a backend, and takes leave of it. Takes [`LONGEST`] at most, and a few seconds for leaving.
pub async fn probe(
    target: &Target,
    resolver: &Arc<Resolver>,
    timeouts: &Timeouts,
    goal: &Goal,
) -> ProbeRecord {
    let check = Check {
        backend: &target.backend,
        passive_mode: target.site.passive_mode,
        resolver,
        timeouts,
        logins: &target.logins,
    };
    let began = Instant::now();
    let mut stages = Stages {
        made: Vec::new(),
        began,
        backend: &target.backend,
        password_refused: false,
    };
    check.probe_stages(goal, &mut stages).await;
    ProbeRecord {
        tls: stages.tls(),
        stages: stages.in_order(goal),
        took: began.elapsed(),
    }
}

impl Check<'_> {
    async fn probe_stages(&self, goal: &Goal, stages: &mut Stages<'_>) {
        let total = Budget::new(LONGEST);
        let (backend, resolver, origin) = (self.backend, self.resolver, Origin::Proxy);
        let budget = self.budget(total);
        let dialled = dial::dial_to(Depth::Ready, backend, resolver, origin, budget, stages).await;
        let mut connection = match dialled {
            Ok(connection) => connection,
            Err(error) => {
                let stage = ProbeStage::from(error.stage());
                return stages.failed(stage, error.into());
            }
        };
        match self
            .probe_commands(&mut connection, goal, total, stages)
            .await
        {
            Ok(()) => {}
            Err((stage, error)) => stages.failed(stage, error),
        }
        // Whether it hears that or not, the connection ends.
        let _ = connection.send(b"QUIT\r\n").await;
        connection.close().await;
    }

    /// What comes behind the dial.
    async fn probe_commands(
        &self,
        connection: &mut BackendConnection,
        goal: &Goal,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let mut logged_in = false;
        if let Some(account) = goal.account() {
            let login = self
                .log_in(connection, account, total, &mut stages.began)
                .await
                .map_err(|error| (ProbeStage::Login, error))?;
            match login {
                Login::Done => {
                    logged_in = true;
                    stages.found(ProbeStage::Login, Finding::Login(account.user.clone()));
                }
                Login::Paused => stages.password_refused = true,
            }
        }
        self.ask_for_features(connection, logged_in, total, stages)
            .await?;
        if !logged_in {
            return Ok(());
        }
        if connection.protection == BackendProtection::AfterLogin {
            self.settle_protection(connection, total)
                .await
                .map_err(|error| (ProbeStage::Protection, error))?;
            let finding = Finding::Protection(BackendProtection::AfterLogin);
            stages.found(ProbeStage::Protection, finding);
        }
        let endpoint = self.ask_for_ports(connection, total, stages).await?;
        if let Goal::List(_) = goal {
            let peer = match &endpoint {
                DataEndpoint::Passive { to, .. } => DataPeer::To(*to),
                DataEndpoint::Active { .. } => DataPeer::From,
            };
            let data = self
                .connect_data(endpoint, total)
                .await
                .map_err(|error| (ProbeStage::Data, error))?;
            stages.found(ProbeStage::Data, Finding::Data(peer));
            self.list_with_stages(connection, data, total, stages)
                .await?;
        }
        Ok(())
    }

    async fn ask_for_features(
        &self,
        connection: &mut BackendConnection,
        logged_in: bool,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let asked = connection.ask(b"FEAT\r\n", self.budget(total)).await;
        let reply = asked.map_err(|reason| {
            let command = "FEAT";
            (ProbeStage::Features, CheckError::Reply { command, reason })
        })?;
        let outcome = match (reply.number(), reply.class()) {
            (421, _) => {
                let (command, reason) = ("FEAT", ReplyError::Rejected(reply));
                return Err((ProbeStage::Features, CheckError::Reply { command, reason }));
            }
            (_, Class::Completion) => ProbeOutcome::Done(Finding::Features(Some(shown(&reply)))),
            (530, _) if !logged_in => ProbeOutcome::Skipped(Skipped::WantsLogin),
            _ => ProbeOutcome::Done(Finding::Features(None)),
        };
        stages.end(ProbeStage::Features, outcome);
        Ok(())
    }

    /// Asks in every way that sessions may use; returns the endpoint of the last one that works, since a server forgets the
    /// one before it.
    async fn ask_for_ports(
        &self,
        connection: &mut BackendConnection,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<DataEndpoint, (ProbeStage, CheckError)> {
        let mut asked = Vec::new();
        let mut endpoint = None;
        for method in self.methods() {
            let answer = self.ask_by(method, connection, total).await.map(|agreed| {
                let answer = PortAnswer::of(&agreed);
                endpoint = Some(agreed);
                answer
            });
            asked.push(AskedPort { method, answer });
            if total.left().is_zero() {
                break;
            }
        }
        match endpoint {
            Some(endpoint) => {
                stages.found(ProbeStage::Passive, Finding::Ports(asked));
                Ok(endpoint)
            }
            None => {
                let last = asked.pop().and_then(|asked| asked.answer.err());
                // There is a method at least, and none of them has worked.
                let error = last.unwrap_or(CheckError::NoPort(ReplyError::Closed));
                Err((ProbeStage::Passive, error))
            }
        }
    }

    async fn list_with_stages(
        &self,
        connection: &mut BackendConnection,
        data: ReadyConnection,
        total: Budget,
        stages: &mut Stages<'_>,
    ) -> Result<(), (ProbeStage, CheckError)> {
        let ready = |stream: &Stream| {
            if let Some(tls) = AgreedTls::of(stream) {
                let resumed = stream.is_resumed();
                let finding = Finding::DataTls { tls, resumed };
                stages.found(ProbeStage::DataHandshake, finding);
            }
        };
        let listed = self.list(connection, data, None, total, ready).await;
        let Listing { bytes, reply } = listed.map_err(|error| match error {
            CheckError::DataHandshake(_) | CheckError::DataTimeout(_) => {
                (ProbeStage::DataHandshake, error)
            }
            _ => (ProbeStage::List, error),
        })?;
        stages.found(ProbeStage::List, Finding::Listing { bytes, reply });
        Ok(())
    }
}

impl Goal {
    fn account(&self) -> Option<&Probe> {
        match self {
            Self::Ready => None,
            Self::Login(account) | Self::List(account) => Some(account),
        }
    }

    /// Whether this stage is part of it.
    fn includes(&self, stage: ProbeStage) -> bool {
        match self {
            Self::Ready => !needs_login(stage),
            Self::Login(_) => !is_of_data(stage),
            Self::List(_) => true,
        }
    }
}

/// Whether a stage is for those who are logged in.
fn needs_login(stage: ProbeStage) -> bool {
    matches!(stage, ProbeStage::Login | ProbeStage::Passive) || is_of_data(stage)
}

/// Whether a stage is one of a data connection.
fn is_of_data(stage: ProbeStage) -> bool {
    matches!(
        stage,
        ProbeStage::Data | ProbeStage::DataHandshake | ProbeStage::List
    )
}

impl AgreedTls {
    fn of(stream: &Stream) -> Option<Self> {
        Some(Self {
            version: stream.tls_version()?,
            cipher: openssl_name(stream.cipher_suite()?).unwrap_or("unknown cipher suite"),
        })
    }
}

impl Trust {
    /// What this backend's configuration asks for.
    fn at(backend: &Backend) -> Self {
        match backend.settings.tls.as_ref().map(|tls| &tls.verify) {
            Some(Verify::System | Verify::Ca(_)) => Self::Verified,
            Some(Verify::Fingerprint(_)) => Self::Pinned,
            Some(Verify::None) | None => Self::Unverified,
        }
    }
}

impl PortAnswer {
    fn of(endpoint: &DataEndpoint) -> Self {
        match endpoint {
            DataEndpoint::Passive { to, announced, .. } => Self {
                to: Some(*to),
                announced_elsewhere: announced
                    .map(|announced| SocketAddr::new(announced.into(), to.port()))
                    .filter(|announced| announced.ip() != to.ip().to_canonical()),
            },
            DataEndpoint::Active { .. } => Self {
                to: None,
                announced_elsewhere: None,
            },
        }
    }
}

/// The stages so far, and when the current one began.
struct Stages<'a> {
    made: Vec<ProbedStage>,
    began: Instant,
    backend: &'a Backend,
    /// See [`Skipped::PasswordRefused`].
    password_refused: bool,
}

impl Stages<'_> {
    fn found(&mut self, stage: ProbeStage, finding: Finding) {
        self.end(stage, ProbeOutcome::Done(finding));
    }

    fn failed(&mut self, stage: ProbeStage, error: CheckError) {
        let remedy = error.remedy(self.backend);
        self.end(stage, ProbeOutcome::Failed { error, remedy });
    }

    fn end(&mut self, stage: ProbeStage, outcome: ProbeOutcome) {
        let now = Instant::now();
        // PBSZ and PROT may have been tried before the login.
        self.made.retain(|made| made.stage != stage);
        self.made.push(ProbedStage {
            stage,
            took: Some(now - self.began),
            outcome,
        });
        self.began = now;
    }

    fn tls(&self) -> Option<TlsMode> {
        self.backend.tls.as_ref().map(|tls| tls.start)
    }

    /// The stages for such a backend, those included that were not made.
    fn in_order(mut self, goal: &Goal) -> Vec<ProbedStage> {
        let stages = ProbeStage::order(self.tls());
        let stages = stages.iter().map(|stage| {
            let made = self.made.iter().position(|made| made.stage == *stage);
            made.map(|at| self.made.swap_remove(at))
                .unwrap_or(ProbedStage {
                    stage: *stage,
                    took: None,
                    outcome: ProbeOutcome::Skipped(if !goal.includes(*stage) {
                        Skipped::NotAsked
                    } else if self.password_refused && needs_login(*stage) {
                        Skipped::PasswordRefused
                    } else {
                        Skipped::Failure
                    }),
                })
        });
        stages.collect()
    }
}

impl Progress for Stages<'_> {
    fn done(&mut self, stage: DialStage, seen: Seen<'_>) {
        let finding = match seen {
            Seen::Addresses(addresses) => Finding::Addresses(addresses.to_vec()),
            Seen::Connected(to) => {
                let expected = self.backend.settings.proxy_protocol;
                let header = expected.map(|expected| expected.version);
                Finding::Connected { to, header }
            }
            Seen::Reply(reply) => Finding::Reply(reply.clone()),
            Seen::Protection(protection) => Finding::Protection(protection),
            Seen::Handshake(stream) => {
                if let Some(tls) = AgreedTls::of(stream) {
                    self.found(ProbeStage::Handshake, Finding::Tls(tls));
                }
                let mut chain = stream.backend_chain().iter().map(ShownCertificate::read);
                let found = FoundCertificate {
                    own: chain.next().flatten(),
                    issuers: chain.flatten().collect(),
                    trust: Trust::at(self.backend),
                };
                self.made.push(ProbedStage {
                    stage: ProbeStage::Certificate,
                    took: None,
                    outcome: ProbeOutcome::Done(Finding::Certificate(found)),
                });
                return;
            }
        };
        self.found(stage.into(), finding);
    }
}

impl ProbeStage {
    /// The stages of a probe of a backend whose TLS starts so, in their order.
    fn order(tls: Option<TlsMode>) -> &'static [Self] {
        match tls {
            None => &[
                Self::Dns,
                Self::Connect,
                Self::Greeting,
                Self::Login,
                Self::Features,
                Self::Passive,
                Self::Data,
                Self::List,
            ],
            Some(TlsMode::Explicit) => Self::ALL,
            Some(TlsMode::Implicit) => &[
                Self::Dns,
                Self::Connect,
                Self::Handshake,
                Self::Certificate,
                Self::Greeting,
                Self::Protection,
                Self::Login,
                Self::Features,
                Self::Passive,
                Self::Data,
                Self::DataHandshake,
                Self::List,
            ],
        }
    }
}

/// The features in a reply, for people.
fn shown(reply: &Reply) -> Vec<String> {
    let features = features::theirs(reply).take(MOST_FEATURES);
    features.map(escape).collect()
}
