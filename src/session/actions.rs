//! Executes the machine's decisions: each [`Action`] in its order, with its result as an [`Event`].

use std::fmt::Display;
use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::journal::{Entry, Journal, LoginRecord};
use super::machine::{Action, Dialled, Ending, Event, Outcome, ProtocolError, Record, Stage};
use super::registry::Registration;
use super::transfer::Order;
use super::{PreviousDial, Session};
use crate::backend::dial::DialError;
use crate::backend::{Backend, NoBackend, Pool, ReplyError, Selected, Selection, SiteSlot};
use crate::base::budget::Budget;
use crate::config::HostName;
use crate::ftp::command::{Command, Verb};
use crate::ftp::server::{NoUserReply, PortMethods};
use crate::net::control::ControlConnection;
use crate::net::options;
use crate::net::proxy_header::{Origin, ProxiedAddresses, RelayedClient};
use crate::outcome::LoginResult;
use crate::route::Route;

impl Session {
    /// Executes the machine's actions; returns the session's end, if that is one of them.
    pub(super) async fn run_actions(&mut self) -> Option<Ending> {
        if self.machine.is_closed() {
            // Before the goodbye: the client may start its next session as soon as it has received it.
            self.permit = None;
        }
        while let Some(action) = self.machine.next_action() {
            match action {
                Action::Reply(bytes) => self.reply(&bytes).await,
                Action::StartTls => {
                    if let Some(ending) = self.start_tls().await {
                        return Some(ending);
                    }
                }
                Action::LoginAttempt(command) => self.on_login_attempt(&command),
                Action::Route(route) => self.info.set_route(&route),
                Action::Dial(route) => {
                    self.info.set_route(&route);
                    if let Err(refused) = self.dial_rate_limited(&route).await {
                        self.pending_events.push_back(refused);
                    }
                }
                Action::DialNext(why) => self.dial_next(why).await,
                Action::KeepBackend => self.keep_backend(),
                Action::Authenticate(command) => match self.begin_attempt(&command).await {
                    Ok(()) => self.send(&[command.line(), b"\r\n"].concat()).await,
                    Err(refused) => self.pending_events.push_back(refused),
                },
                Action::Penalise(site) => self.apply_penalty(site).await,
                Action::Send(line) => self.send(&line).await,
                Action::HangUp => self.hang_up(),
                Action::ListenForBackend => self.listen_for_backend().await,
                Action::PrepareData {
                    backend,
                    client,
                    protection,
                } => self.prepare_data(backend, client, protection),
                Action::RedialBackend(backend) => self.redial_backend(backend),
                Action::Avoid(methods) => self.avoid(methods),
                Action::OpenData {
                    direction,
                    protection,
                } => self.open_data(direction, protection),
                Action::CommandSent => self.data.order(Order::CommandSent),
                Action::TransferStarted => {
                    self.data.order(Order::TransferStarted);
                    self.acknowledge_preliminary();
                }
                Action::FinishSink => self.data.order(Order::FinishSink),
                Action::DropData => self.drop_data(),
                Action::Record(record) => self.record(record),
                Action::Close(ending) => return Some(ending),
            }
        }
        if !self.machine.is_authenticating() {
            self.attempt = None;
        }
        None
    }

    /// Keeps the user name for the records, and its fingerprint for the guard.
    fn on_login_attempt(&mut self, command: &Command) {
        if command.verb() == Verb::User {
            self.info.set_user_argument(command.argument());
        }
        self.fingerprint = self.shared.guard.fingerprint(command.argument());
    }

    /// Dials, one connection after the other, and each but the first at the pace of new sessions: otherwise one session
    /// could use up a site's places, and the ports towards its backends.
    async fn dial_rate_limited(&mut self, route: &Route) -> Result<(), Event> {
        let login_expires_at = self.login_deadline();
        if let PreviousDial::Some(closing) = &mut self.previous_dial {
            let waiting = async {
                if let Some(closing) = closing {
                    // Whether it panicked or not, it is over.
                    let _ = closing.await;
                }
                let limits = &self.snapshot.runtime.settings.limits;
                let (limiter, client) = (&self.shared.limiter, self.info.client.ip());
                let mut warned = false;
                while let Err(wait) = limiter.dial(client, limits, Instant::now().into_std()) {
                    if !std::mem::replace(&mut warned, true) {
                        self.journal.write(&Entry::DialDelayed);
                    }
                    sleep(wait).await;
                }
            };
            tokio::select! {
                waited = timeout_at(login_expires_at, waiting) => waited.map_err(|_| Event::Expired)?,
                event = interrupted(&mut self.client, &mut self.registration) => return Err(event),
            }
        }
        self.previous_dial = PreviousDial::Some(None);
        let pool = Arc::clone(self.snapshot.runtime.pools.of(route.site_id));
        self.site_slot = Some(self.admitted(&pool)?);
        self.dial(pool, route).await;
        Ok(())
    }

    fn hang_up(&mut self) {
        let site_slot = self.site_slot.take();
        if let Some(backend) = self.backend.take() {
            let closing = tokio::spawn(async move {
                backend.close().await;
                drop(site_slot);
            });
            self.previous_dial = PreviousDial::Some(Some(closing));
        }
    }

    /// A slot at the site, or the event that keeps the client from its backend.
    fn admitted(&self, pool: &Pool) -> Result<SiteSlot, Event> {
        if self.is_blocked(pool.id()) {
            return Err(Event::Blocked);
        }
        let most = self.snapshot.runtime.settings.limits.sessions_per_site;
        let site_slot = pool.admit(most, &self.shared.metrics);
        site_slot.ok_or_else(|| {
            self.journal.write(&Entry::SiteFull {
                site: pool.name(),
                limit: most,
            });
            Event::SiteFull
        })
    }

    async fn reply(&mut self, bytes: &[u8]) {
        let Some(client) = &mut self.client else {
            return;
        };
        if client.send(bytes).await.is_err()
            && let Some(gone) = self.report_client_loss()
        {
            self.pending_events.push_back(gone);
        }
    }

    async fn send(&mut self, line: &[u8]) {
        let Some(backend) = &mut self.backend else {
            return;
        };
        if let Err(error) = backend.send(line).await {
            self.report_backend_loss(self.machine.stage(), &ReplyError::of(&error));
            self.backend = None;
            self.pending_events.push_back(Event::BackendGone);
        }
    }

    /// The backend sends next, and a server that leaves Nagle's algorithm on delays the 226 of a small file until its
    /// 150 has been acknowledged.
    fn acknowledge_preliminary(&self) {
        if let Some(backend) = &self.backend {
            // If the connection is gone, the next read shows it.
            let _ = options::quickack(backend.stream().socket());
        }
    }

    /// Dials the site's backends, unless the client disconnects or the session is to end meanwhile.
    async fn dial(&mut self, pool: Arc<Pool>, route: &Route) {
        let login_key = pool.login_key(&route.user, self.info.client.ip());
        let total = Budget::until(self.login_deadline());
        self.selection = Some(Selection::new(pool, login_key, total));
        self.dial_selected().await;
    }

    /// The same with the backends that are left, after one that was ready for USER has failed.
    async fn dial_next(&mut self, why: NoUserReply) {
        if let Some(backend) = self.backend.take() {
            // A goodbye for which the login doesn't wait.
            tokio::spawn(backend.close());
        }
        if let Some(selection) = &mut self.selection {
            let pool = selection.pool();
            let on_failure = report_unavailable(&self.journal, &pool);
            selection.abandon(why, &self.shared.metrics, on_failure);
        }
        self.dial_selected().await;
    }

    async fn dial_selected(&mut self) {
        let client = self.machine.route().map(|route| self.relayed_client(route));
        let (Some(client), Some(selection)) = (client, &mut self.selection) else {
            return self.pending_events.push_back(Event::Dialled(None));
        };
        let origin = Origin::Client(client);
        let pool = selection.pool();
        let on_failure = report_unavailable(&self.journal, &pool);
        let (resolver, metrics) = (&self.shared.resolver, &self.shared.metrics);
        let timeouts = &self.snapshot.runtime.settings.timeouts;
        let selected = tokio::select! {
            selected = selection.next(resolver, origin, timeouts, metrics, on_failure) => selected,
            event = interrupted(&mut self.client, &mut self.registration) => return self.pending_events.push_back(event),
        };
        let event = match selected {
            Ok(selected) => Event::Dialled(Some(self.dialled(selected))),
            Err(NoBackend::Unavailable) => Event::Dialled(None),
            Err(NoBackend::Full) => {
                let site = pool.name();
                self.journal.write(&Entry::BackendsFull { site });
                Event::SiteFull
            }
        };
        self.pending_events.push_back(event);
    }

    fn dialled(&mut self, selected: Selected) -> Dialled {
        let Selected {
            mut connection,
            next_after,
        } = selected;
        self.info.set_backend(&connection);
        self.dialled = Some(Arc::clone(&connection.backend));
        let dialled = Dialled {
            ipv6: connection.address.ip().to_canonical().is_ipv6(),
            welcome: connection.welcome.take(),
            protection: connection.protection,
            avoid: connection.backend.avoided(Instant::now().into_std()),
            next_after,
        };
        self.backend = Some(connection);
        dialled
    }

    fn keep_backend(&mut self) {
        if let Some(selection) = self.selection.take() {
            selection.settle(&self.shared.metrics);
        }
    }

    /// What backends that expect PROXY headers are told.
    pub(super) fn relayed_client<'a>(&self, route: &'a Route) -> RelayedClient<'a> {
        RelayedClient {
            addresses: ProxiedAddresses {
                client: self.info.client,
                destination: self.destination,
            },
            authority: route.host.as_ref().map(HostName::as_str),
            unique_id: self.info.global_id(),
            tls: self
                .client
                .as_ref()
                .and_then(|client| client.stream().client_tls()),
        }
    }

    fn avoid(&mut self, methods: PortMethods) {
        if let Some(backend) = &self.dialled
            && backend.avoid(methods, Instant::now().into_std())
        {
            self.journal
                .write(&Entry::MethodsAvoided { backend, methods });
        }
    }

    /// Records what the machine has concluded, with what else is known of it here.
    fn record(&mut self, record: Record) {
        // Before a transfer's record, which leaves no connection to ask.
        self.note_progress();
        match record {
            Record::Login(result) => {
                if result == LoginResult::Accepted {
                    self.info.set_logged_in();
                    self.tls.logged_in(self.info.account());
                }
                let login = LoginRecord::new(result, &self.info);
                self.journal.write(&Entry::Login(login));
            }
            Record::Transfer {
                command,
                direction,
                outcome,
            } => {
                if let Some(running) = self.data.take_running()
                    && outcome == Outcome::Complete
                {
                    running.complete();
                }
                let transfer = self.transfers.end(&command, direction, &outcome);
                self.journal.write(&Entry::Transfer(transfer));
            }
            Record::Refused { command, answer } => self.journal.write(&Entry::Refused {
                command: &command,
                answer,
            }),
            Record::BackendLost(stage, why) => {
                let reason = self.reason_of_loss(stage, why);
                self.report_backend_loss(stage, &reason);
            }
            Record::NoDataPort(reply) => {
                self.journal.write(&Entry::NoBackendPort(reply.as_ref()));
            }
        }
    }

    pub(super) fn report_backend_loss(&self, stage: Stage, reason: &dyn Display) {
        let at_login = self.dialled.as_ref().filter(|_| stage == Stage::Login);
        self.journal.write(&Entry::BackendLost {
            stage,
            reason,
            hint: at_login.and_then(|backend| backend.login_hint()),
        });
    }

    /// Why the backend was dropped; with what it has said so far, where it was too slow.
    fn reason_of_loss(&self, stage: Stage, why: ProtocolError) -> String {
        // In a login the reply may repeat the password.
        if why == ProtocolError::ReplyTimeout
            && stage != Stage::Login
            && let Some(said) = self.backend.as_ref().and_then(|it| it.partial_reply())
        {
            return format!("{}, but {said}", why.as_str());
        }
        why.as_str().to_owned()
    }
}

/// Writes down each backend that fails before a login stays with it.
fn report_unavailable(journal: &Journal, pool: &Pool) -> impl Fn(&Backend, &DialError) {
    |backend, error| {
        journal.write(&Entry::BackendUnavailable {
            site: pool.name(),
            backend,
            error,
        });
    }
}

/// Waits until there is a reason not to wait for anything else any more, and returns it: the client ends its connection,
/// or the session is to end.
pub(super) async fn interrupted(
    client: &mut Option<ControlConnection>,
    registration: &mut Registration,
) -> Event {
    tokio::select! {
        biased;
        () = client_closed(client) => Event::ClientGone,
        () = registration.end_requested() => Event::Terminate,
    }
}

/// Waits until the client ends its connection, and takes in what it sends before that.
async fn client_closed(client: &mut Option<ControlConnection>) {
    while let Some(client) = client
        && !client.is_over()
    {
        client.fill().await;
    }
}
