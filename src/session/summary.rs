//! What the log says of a session: one line when it ends, and one for each transfer.

use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dial::BackendConnection;
use super::state::{Ending, Record, Stage};
use crate::config::Site;
use crate::ftp::command;
use crate::observe::log::Shown;
use crate::observe::metrics::{Direction, LoginResult, Metrics, NO_SITE, RunningTransfer, Verdict};
use crate::route::Route;

/// What has been seen of a session so far.
#[derive(Debug)]
pub(super) struct Summary {
    id: u64,
    client: SocketAddr,
    listener: SocketAddr,
    began: Instant,
    metrics: Arc<Metrics>,
    client_tls: &'static str,
    /// The argument of the last USER, as it came: all that is known of a login that leads nowhere.
    asked: Vec<u8>,
    route: Option<Route>,
    backend: Option<(SocketAddr, &'static str)>,
    logged_in: bool,
    transfers: u64,
    uploaded: u64,
    downloaded: u64,
    /// Of the transfer that runs or has just ended.
    moved: (u64, Duration),
    running: Option<RunningTransfer>,
}

impl Summary {
    pub fn new(id: u64, client: SocketAddr, listener: SocketAddr, metrics: Arc<Metrics>) -> Self {
        Self {
            id,
            client: SocketAddr::new(client.ip().to_canonical(), client.port()),
            listener,
            began: Instant::now(),
            metrics,
            client_tls: "none",
            asked: Vec::new(),
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

    /// The session's number, by which its lines belong together.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The metric label of the session's site.
    pub fn site_name(&self) -> &str {
        self.route
            .as_ref()
            .map_or(NO_SITE, |route| &route.site.name)
    }

    pub fn client_tls(&mut self, version: &'static str) {
        self.client_tls = version;
    }

    /// Who connected.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// A USER has come; it may lead nowhere.
    pub fn asked_for(&mut self, user_argument: &[u8]) {
        self.asked = user_argument.to_vec();
    }

    /// Where the login leads now.
    pub fn site(&mut self, route: &Route) {
        if self.route.as_ref() != Some(route) {
            self.route = Some(route.clone());
        }
    }

    pub fn backend(&mut self, backend: &BackendConnection) {
        self.backend = Some((backend.address, backend.stream().tls_version()));
    }

    pub fn backend_lost(&self, stage: Stage, reason: impl Display) {
        tracing::warn!(session = self.id, site = self.site_name(), stage = stage.as_str(), %reason, "backend's control connection lost");
    }

    /// The site has as many sessions as it may.
    pub fn site_full(&self, site: &Site, limit: usize) {
        tracing::warn!(
            session = self.id,
            client = %self.client,
            site = site.name,
            limit,
            "login refused, the site has as many sessions as limits.sessions_per_site allows"
        );
    }

    /// PASV or EPSV waited in vain.
    pub fn no_port(&self) {
        tracing::warn!(
            session = self.id,
            client = %self.client,
            "no passive port became free for this address: its other sessions hold them all, and not every client is \
             told apart by its TLS session"
        );
    }

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
            Record::Login(result) => {
                self.logged_in |= *result == LoginResult::Accepted;
                let site = match result {
                    LoginResult::UnknownHost | LoginResult::ClearText => NO_SITE,
                    _ => self.site_name(),
                };
                self.metrics.login(site, *result);
                if *result != LoginResult::Accepted {
                    // What led to no site is shown with the host in it, which is what the operator looks for.
                    let user = match result {
                        LoginResult::UnknownHost | LoginResult::ClearText => Shown(&self.asked),
                        _ => self.user(),
                    };
                    tracing::info!(session = self.id, client = %self.client, site, user = %user, result = result.as_str(), "login failed");
                }
            }
            Record::Transfer {
                command,
                direction,
                verdict,
                failure,
            } => {
                let (bytes, took) = self.moved;
                let direction = match direction {
                    command::Direction::Upload => Direction::Upload,
                    command::Direction::Download => Direction::Download,
                    command::Direction::Listing => Direction::Listing,
                };
                self.running = None;
                self.transfers += 1;
                match direction {
                    Direction::Upload => self.uploaded += bytes,
                    Direction::Download | Direction::Listing => self.downloaded += bytes,
                }
                self.metrics
                    .transfer(self.site_name(), direction, *verdict, bytes);
                tracing::info!(
                    session = self.id,
                    site = self.site_name(),
                    user = %self.user(),
                    command = command.verb_text(),
                    path = %Shown(command.argument()),
                    bytes,
                    seconds = took.as_secs_f64(),
                    verdict = verdict.as_str(),
                    reason = failure.map(super::state::DataFailure::as_str),
                    "transfer {}",
                    if *verdict == Verdict::Complete { "complete" } else { "not complete" },
                );
                self.moved = (0, Duration::ZERO);
            }
            Record::BackendLost(stage, why) => self.backend_lost(*stage, why.as_str()),
            Record::NoDataPort(reply) => {
                let reply = Shown(reply.bytes().trim_ascii_end());
                tracing::warn!(session = self.id, site = self.site_name(), %reply, "backend gave no data port");
            }
        }
    }

    /// The session's own line.
    pub fn write(self, ending: Ending) {
        let (backend, backend_tls) = match self.backend {
            Some((address, tls)) => (Some(address), Some(tls)),
            None => (None, None),
        };
        tracing::info!(
            session = self.id,
            client = %self.client,
            listener = %self.listener,
            client_tls = self.client_tls,
            site = self.site_name(),
            user = %self.user(),
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

    fn user(&self) -> Shown<'_> {
        Shown(self.route.as_ref().map_or(&self.asked, |route| &route.user))
    }
}
