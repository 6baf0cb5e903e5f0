//! What the log says of a session: one line for each login, one for each transfer, and one when it ends.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::machine::{AbortedBy, Ending, Failure, Outcome, Record, Stage};
use crate::backend::{Backend, BackendConnection};
use crate::base::SessionId;
use crate::config::{NO_SITE, TlsVersion};
use crate::ftp::command::{self, Command};
use crate::ftp::server::{PortMethod, PortMethods};
use crate::observe::log::escape;
use crate::observe::metrics::{
    HandshakeResult, LoginResult, Metrics, RunningTransfer, TransferDirection, Verdict,
};
use crate::route::Route;
use crate::tls::{self, Account};

/// What has been seen of a session so far.
#[derive(Debug)]
pub(super) struct Summary {
    id: SessionId,
    client: SocketAddr,
    listener: SocketAddr,
    began: Instant,
    metrics: Arc<Metrics>,
    client_tls: Option<TlsVersion>,
    /// The argument of the last USER, unchanged: all that is known of a login without a site.
    user_argument: Vec<u8>,
    route: Option<Route>,
    backend: Option<(SocketAddr, Option<TlsVersion>)>,
    logged_in: bool,
    transfers: u64,
    uploaded: u64,
    downloaded: u64,
    /// Of the transfer that runs or has just ended.
    moved: (u64, Duration),
    running: Option<RunningTransfer>,
}

impl Summary {
    pub fn new(
        id: SessionId,
        client: SocketAddr,
        listener: SocketAddr,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            id,
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            listener,
            began: Instant::now(),
            metrics,
            client_tls: None,
            user_argument: Vec::new(),
            route: None,
            backend: None,
            logged_in: false,
            transfers: 0,
            uploaded: 0,
            downloaded: 0,
            moved: (0, Duration::ZERO),
            running: None,
        }
    }

    /// The session's number.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Where the login leads, as a number.
    pub fn account(&self) -> Account {
        match &self.route {
            Some(route) => Account::of(Some(route.site_id), &route.user),
            None => Account::of(None, &[]),
        }
    }

    /// The metric label of the session's site.
    pub fn site_name(&self) -> &str {
        self.route
            .as_ref()
            .map_or(NO_SITE, |route| &route.site.name)
    }

    /// The client's control connection is under TLS.
    pub fn secured(&mut self, version: TlsVersion) {
        self.metrics.handshake(HandshakeResult::Ok(version));
        self.client_tls = Some(version);
    }

    /// The handshake of the client's control connection failed.
    pub fn handshake_failed(&self, error: &io::Error) {
        self.metrics.handshake(HandshakeResult::Failed);
        tracing::info!(session = self.id.0, client = %self.client, error = %tls::classify_error(error), "TLS handshake with the client failed");
    }

    /// A ClientHello arrived where a command should be.
    pub fn tls_without_auth(&self) {
        tracing::info!(
            session = self.id.0,
            client = %self.client,
            "client began TLS without AUTH; it may expect an implicit listener"
        );
    }

    /// It took too long.
    pub fn handshake_timed_out(&self) {
        self.metrics.handshake(HandshakeResult::TimedOut);
        tracing::info!(
            session = self.id.0,
            client = %self.client,
            "TLS handshake with the client took too long"
        );
    }

    /// The client's address.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// A USER has arrived; it may name no site.
    pub fn set_user_argument(&mut self, user_argument: &[u8]) {
        self.user_argument = user_argument.to_vec();
    }

    /// Where the login leads now.
    pub fn site(&mut self, route: Route) {
        self.route = Some(route);
    }

    pub fn backend(&mut self, backend: &BackendConnection) {
        self.backend = Some((backend.address, backend.stream().tls_version()));
    }

    pub fn backend_lost(&self, stage: Stage, reason: impl Display) {
        tracing::warn!(session = self.id.0, site = self.site_name(), stage = stage.as_str(), %reason, "backend's control connection lost");
    }

    /// Listening for the backend in active mode failed.
    pub fn not_listening(&self, error: &io::Error) {
        tracing::warn!(session = self.id.0, site = self.site_name(), %error, "cannot listen for a data connection from the backend");
    }

    /// Its data ports are asked for in another way than these from now on.
    pub fn avoid(&self, backend: &Backend, methods: PortMethods) {
        let avoided: Vec<_> = [
            (PortMethod::Epsv, "EPSV"),
            (PortMethod::Pasv, "PASV"),
            (PortMethod::Active, "PORT"),
        ]
        .into_iter()
        .filter_map(|(method, name)| methods.has(method).then_some(name))
        .collect();
        tracing::info!(
            session = self.id.0,
            site = self.site_name(),
            %backend,
            avoided = avoided.join(" "),
            "backend is asked for data ports by another method for an hour; passive_mode can fix the method for the site"
        );
    }

    /// The site has as many sessions as it may.
    pub fn site_full(&self, site: &str, limit: usize) {
        tracing::warn!(
            session = self.id.0,
            client = %self.client,
            site,
            limit,
            "login refused, the site has as many sessions as limits.sessions_per_site allows"
        );
    }

    /// Every backend of the site has as many sessions as it may.
    pub fn backends_full(&self, site: &str) {
        tracing::warn!(
            session = self.id.0,
            client = %self.client,
            site,
            "login refused, each backend of the site has as many sessions as its max_sessions allows, or failed"
        );
    }

    /// A further dial has to wait.
    pub fn dial_delayed(&self) {
        tracing::warn!(
            session = self.id.0,
            client = %self.client,
            site = self.site_name(),
            "login delayed, its client has dialled backends more often than limits.sessions_per_client_per_minute allows"
        );
    }

    /// A transfer's data connections are being opened.
    pub fn transfer_begins(&mut self) {
        self.moved = (0, Duration::ZERO);
        self.running = Some(self.metrics.transfer_running());
    }

    pub fn moved(&mut self, bytes: u64, elapsed: Duration) {
        self.moved = (bytes, elapsed);
    }

    /// Counts and logs what the machine has concluded.
    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Login(result) => self.login(*result),
            Record::Transfer {
                command,
                direction,
                outcome,
            } => self.transfer(command, *direction, outcome),
            Record::Refused { command, answer } => {
                tracing::info!(
                    session = self.id.0,
                    client = %self.client,
                    site = self.site_name(),
                    user = self.user(),
                    command = command.verb_text(),
                    argument = escape(command.argument()),
                    reply = answer.text(),
                    "command refused"
                );
            }
            Record::BackendLost(stage, why) => self.backend_lost(*stage, why.as_str()),
            Record::NoDataPort(reply) => {
                let reply = reply
                    .as_ref()
                    .map(|reply| escape(reply.bytes().trim_ascii_end()));
                tracing::warn!(
                    session = self.id.0,
                    site = self.site_name(),
                    reply,
                    "backend opened no data port"
                );
            }
        }
    }

    fn login(&mut self, result: LoginResult) {
        self.logged_in |= result == LoginResult::Accepted;
        // A login without a site is logged with its host, which is what the operator looks for.
        let (site, user) = match result {
            LoginResult::UnknownHost | LoginResult::ClearText => {
                (NO_SITE, escape(&self.user_argument))
            }
            _ => (self.site_name(), self.user()),
        };
        self.metrics.login(site, result);
        if result == LoginResult::Accepted {
            let backend = self.backend.map(|(address, _)| address);
            tracing::info!(
                session = self.id.0,
                client = %self.client,
                site,
                user,
                backend = backend.map(tracing::field::display),
                "logged in"
            );
        } else {
            tracing::info!(session = self.id.0, client = %self.client, site, user, result = result.as_str(), "login failed");
        }
    }

    fn transfer(&mut self, command: &Command, direction: command::Direction, outcome: &Outcome) {
        let verdict = outcome.verdict();
        let (bytes, elapsed) = std::mem::take(&mut self.moved);
        self.running = None;
        self.transfers += 1;
        let direction = match direction {
            command::Direction::Upload => TransferDirection::Upload,
            command::Direction::Download => TransferDirection::Download,
            command::Direction::Listing => TransferDirection::Listing,
        };
        match direction {
            TransferDirection::Upload => self.uploaded += bytes,
            TransferDirection::Download | TransferDirection::Listing => self.downloaded += bytes,
        }
        self.metrics
            .transfer(self.site_name(), direction, verdict, bytes);
        tracing::info!(
            session = self.id.0,
            client = %self.client,
            site = self.site_name(),
            user = self.user(),
            command = command.verb_text(),
            path = escape(command.argument()),
            bytes,
            seconds = elapsed.as_secs_f64(),
            verdict = verdict.as_str(),
            reason = reason(outcome),
            "transfer {}",
            if verdict == Verdict::Complete {
                "complete"
            } else {
                "not complete"
            },
        );
    }

    /// The session's own line.
    pub fn write(self, ending: Ending) {
        let (backend, backend_tls) = match self.backend {
            Some((address, tls)) => (Some(address), Some(version(tls))),
            None => (None, None),
        };
        tracing::info!(
            session = self.id.0,
            client = %self.client,
            listener = %self.listener,
            client_tls = version(self.client_tls),
            site = self.site_name(),
            user = self.user(),
            backend = backend.map(tracing::field::display),
            backend_tls,
            logged_in = self.logged_in,
            transfers = self.transfers,
            uploaded = self.uploaded,
            downloaded = self.downloaded,
            seconds = self.began.elapsed().as_secs_f64(),
            ending = ending.as_str(),
            "session ended"
        );
    }

    fn user(&self) -> String {
        escape(
            self.route
                .as_ref()
                .map_or(&self.user_argument, |route| &route.user),
        )
    }
}

/// Why a transfer is not complete, unless the client has aborted it.
fn reason(outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Complete | Outcome::Aborted(AbortedBy::Client) => return None,
        Outcome::Aborted(AbortedBy::Drain) => "the process ended".to_owned(),
        Outcome::Refused(reply) | Outcome::Failed(Failure::Reply(reply)) => {
            escape(reply.bytes().trim_ascii_end())
        }
        Outcome::Failed(Failure::Data(failure)) => failure.to_string(),
        Outcome::Failed(Failure::ClientGone) => "client's control connection ended".to_owned(),
        Outcome::Failed(Failure::BackendGone) => "backend's control connection ended".to_owned(),
    })
}

fn version(tls: Option<TlsVersion>) -> &'static str {
    tls.map_or("none", TlsVersion::as_str)
}
