//! Doing what the machine has decided: each [`Action`] in its order, and what comes of it as an [`Event`].

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::data::Order;
use super::data_side::DataSide;
use super::state::{Action, Dialled, Ending, Event, Loss, Record, Stage};
use super::summary::Summary;
use super::{Dials, Session, Shared};
use crate::backend::dial::{self, Patience};
use crate::backend::{BackendConnection, NoReply};
use crate::config::{Backend, Site};
use crate::ftp::command::{Command, Verb};
use crate::ftp::server::Ways;
use crate::limit::SitePlace;
use crate::live::Live;
use crate::net::control::ControlConnection;
use crate::net::options;
use crate::observe::metrics::{LoginResult, Verdict};
use crate::route::Route;

impl Session {
    /// Does what the machine has decided; gives the session's end, if that is part of it.
    pub(super) async fn act(&mut self) -> Option<Ending> {
        let actions = self.machine.take_actions();
        if actions
            .last()
            .is_some_and(|last| matches!(last, Action::Close(_)))
        {
            // Before the goodbye: the client may begin its next session as soon as it has heard it.
            self.permit = None;
        }
        for action in actions {
            match action {
                Action::Reply(bytes) => self.reply(&bytes).await,
                Action::StartTls => {
                    if let Some(ending) = self.start_tls().await {
                        return Some(ending);
                    }
                }
                Action::Asked(command) => self.asked(&command),
                Action::Route(route) => self.summary.site(route),
                Action::Dial(route) => {
                    self.summary.site(route.clone());
                    if let Err(refused) = self.dial_in_turn(&route).await {
                        self.happened.push_back(refused);
                    }
                }
                Action::Guess(command) => match self.may_guess(&command).await {
                    Ok(()) => self.send(&[command.line(), b"\r\n"].concat()).await,
                    Err(refused) => self.happened.push_back(refused),
                },
                Action::Penalise(site) => self.penalise(site).await,
                Action::Send(line) => self.send(&line).await,
                Action::HangUp => self.hang_up(),
                Action::ListenForBackend => self.listen_for_backend().await,
                Action::PrepareData {
                    backend,
                    client,
                    protection,
                } => self.prepare_data(backend, client, protection),
                Action::RedialBackend(backend) => self.redial_backend(backend),
                Action::Avoid(ways) => self.avoid(ways),
                Action::OpenData {
                    direction,
                    protection,
                } => self.open_data(direction, protection),
                Action::BeginData => self.data.order(Order::Begin),
                Action::ExpectData => {
                    self.data.order(Order::Expect);
                    self.acknowledge_preliminary();
                }
                Action::ProceedData => self.data.order(Order::Proceed),
                Action::DropData => self.drop_data(),
                Action::Record(record) => self.record(&record),
                Action::Close(ending) => return Some(ending),
            }
        }
        if !self.machine.is_guessing() {
            self.guess = None;
        }
        None
    }

    /// Who tries to log in is for the log, and with what for the guard.
    fn asked(&mut self, command: &Command) {
        if command.verb() == Verb::User {
            self.summary.asked_for(command.argument());
        }
        self.trial = self.shared.guard.trial(command.argument());
    }

    /// Dials, one connection after the other, and each but the first at the pace of new sessions: otherwise one session could
    /// use up a site's places, and the ports towards its backends.
    async fn dial_in_turn(&mut self, route: &Route) -> Result<(), Event> {
        let login_by = self.login_deadline();
        if let Dials::Some(closing) = &mut self.dials {
            let waiting = async {
                if let Some(closing) = closing {
                    // Whether it panicked or not, it is over.
                    let _ = closing.await;
                }
                let limits = &self.live.policy.settings.limits;
                let (limiter, summary) = (&self.shared.limiter, &self.summary);
                let client = summary.client().ip();
                let mut told = false;
                while let Err(wait) = limiter.dial(client, limits, Instant::now().into_std()) {
                    if !std::mem::replace(&mut told, true) {
                        summary.dials_too_often();
                    }
                    sleep(wait).await;
                }
            };
            tokio::select! {
                waited = timeout_at(login_by, waiting) => waited.map_err(|_| Event::Expired)?,
                () = client_goes(&mut self.client) => return Err(Event::ClientGone),
            }
        }
        self.dials = Dials::Some(None);
        let place = self.admitted(&route.site)?;
        let counted = self.shared.metrics.session_at(&route.site.name);
        self.place = Some((place, counted));
        self.dial(route).await;
        Ok(())
    }

    fn hang_up(&mut self) {
        let place = self.place.take();
        if let Some(backend) = self.backend.take() {
            let closing = tokio::spawn(async move {
                backend.close().await;
                drop(place);
            });
            self.dials = Dials::Some(Some(closing));
        }
    }

    /// A place at the site, or what keeps the client from its backend.
    fn admitted(&self, site: &Arc<Site>) -> Result<SitePlace, Event> {
        if self.is_blocked(site) {
            return Err(Event::Blocked);
        }
        let limits = &self.live.policy.settings.limits;
        let place = self.shared.limiter.admit_to(site, limits);
        place.ok_or_else(|| {
            self.summary.site_full(site, limits.sessions_per_site);
            Event::SiteFull
        })
    }

    async fn reply(&mut self, bytes: &[u8]) {
        let Some(client) = &mut self.client else {
            return;
        };
        if client.send(bytes).await.is_err()
            && let Some(gone) = self.client_is_gone()
        {
            self.happened.push_back(gone);
        }
    }

    async fn send(&mut self, line: &[u8]) {
        let Some(backend) = &mut self.backend else {
            return;
        };
        if let Err(error) = backend.send(line).await {
            let reason = NoReply::of(&error);
            self.summary.backend_lost(self.machine.stage(), reason);
            self.backend = None;
            self.happened.push_back(Event::BackendGone);
        }
    }

    /// The next word is the backend's again, and a server that leaves Nagle's algorithm on keeps the 226 of a small file
    /// back until it knows that its 150 has arrived.
    fn acknowledge_preliminary(&self) {
        if let Some(backend) = &self.backend {
            // If the connection is gone, the next read shows it.
            let _ = options::acknowledge(backend.stream().socket());
        }
    }

    /// Dials the site's backends in turn, unless the client goes away meanwhile.
    async fn dial(&mut self, route: &Route) {
        let live = Arc::clone(&self.live);
        let dialling = dial_site(
            &live,
            route,
            self.login_deadline(),
            &self.shared,
            &self.summary,
        );
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            () = client_goes(&mut self.client) => return self.happened.push_back(Event::ClientGone),
        };
        let (configured, backend) = dialled.unzip();
        if let Some(backend) = &backend {
            self.summary.backend(backend);
        }
        self.backend = backend;
        self.dialled = configured.cloned();
        let known = &self.shared.backend_ports;
        let dialled = self.backend.as_mut().zip(configured);
        let dialled = dialled.map(|(backend, configured)| Dialled {
            ipv6: backend.address.ip().to_canonical().is_ipv6(),
            welcome: backend.welcome.take(),
            protection: backend.protection,
            avoid: known.avoid(configured, Instant::now().into_std()),
        });
        self.happened.push_back(Event::Dialled(dialled));
    }

    fn avoid(&mut self, ways: Ways) {
        if let Some(backend) = &self.dialled {
            let now = Instant::now().into_std();
            let known = &self.shared.backend_ports;
            if known.remember(backend, ways, now) {
                self.summary.avoid(backend, ways);
            }
        }
    }

    fn record(&mut self, record: &Record) {
        if let DataSide::Running(running) = &self.data {
            self.summary.moved(running.moved(), running.elapsed());
            if let Record::Transfer { verdict, .. } = record
                && let DataSide::Running(running) =
                    std::mem::replace(&mut self.data, DataSide::None)
                && *verdict == Verdict::Complete
            {
                running.complete();
            }
        }
        if matches!(record, Record::Login(LoginResult::Accepted)) {
            self.tls.logged_in(self.summary.account());
        }
        // A server that is asked for a password may repeat it.
        if let Record::BackendLost(stage, Loss::Silence) = record
            && *stage != Stage::Login
            && let Some(said) = self.backend.as_ref().and_then(|it| it.unfinished())
        {
            let reason = format!("{}, but {said}", Loss::Silence.as_str());
            return self.summary.backend_lost(*stage, reason);
        }
        self.summary.record(record);
    }
}

/// Waits until the client ends its connection, and takes in what it sends before that.
pub(super) async fn client_goes(client: &mut Option<ControlConnection>) {
    while let Some(client) = client
        && !client.is_over()
    {
        client.fill().await;
    }
}

/// Tries the site's backends in turn; each failure is one log line and one count.
///
/// A backend that accepts connections and then says nothing must not use up the time of those after it: each may take
/// its share of what is left until the login has to be done.
async fn dial_site<'a>(
    live: &'a Live,
    route: &'a Route,
    login_by: Instant,
    shared: &Shared,
    summary: &Summary,
) -> Option<(&'a Backend, BackendConnection)> {
    let metrics = &shared.metrics;
    let mut untried = u32::try_from(route.site.backends.len()).unwrap_or(u32::MAX);
    for (backend, tls) in live.policy.backends(&route.site) {
        let began = Instant::now();
        let share = login_by.saturating_duration_since(began) / untried.max(1);
        untried = untried.saturating_sub(1);
        let patience = Patience {
            timeouts: &live.policy.settings.timeouts,
            by: began + share,
        };
        match dial::dial(backend, tls, &shared.resolver, patience).await {
            Ok(connection) => {
                metrics.backend_dialled(&route.site.name, began.elapsed());
                return Some((backend, connection));
            }
            Err(error) => {
                metrics.backend_dial_failed(&route.site.name, error.stage());
                tracing::warn!(
                    session = summary.id().0,
                    client = %summary.client(),
                    site = route.site.name,
                    backend = %backend,
                    stage = error.stage().as_str(),
                    %error,
                    "backend not available"
                );
            }
        }
    }
    None
}
