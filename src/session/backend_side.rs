//! The way to the login's backend: admission, dialling, the backends that take over, and closing its connection.

use std::sync::Arc;

use tokio::time::{Instant, sleep, timeout_at};

use super::events::{EventSink, SessionEvent};
use super::interrupt::interrupted;
use super::machine::{Dialled, Event};
use super::{PreviousDial, Session};
use crate::backend::dial::DialError;
use crate::backend::{Backend, NoBackend, Pool, Selected, Selection, SiteSlot};
use crate::base::budget::Budget;
use crate::config::HostName;
use crate::ftp::server::{NoUserReply, PortMethods};
use crate::net::proxy_header::{Origin, ProxiedAddresses, RelayedClient};
use crate::route::Route;

impl Session {
    /// Dials the site of the login, one connection after the other, and each but the first at the pace of new sessions: otherwise
    /// one session could use up a site's slots, and the ports towards its backends.
    pub(super) async fn start_dial(&mut self) -> Result<(), Event> {
        let login_expires_at = self.login_deadline();
        if !matches!(self.previous_dial, PreviousDial::None) {
            let waiting = async {
                if let PreviousDial::Closing(closing) = &mut self.previous_dial {
                    // Whether it panicked or not, it is over.
                    let _ = closing.await;
                }
                let limits = &self.snapshot.runtime.settings.limits;
                let (limiter, client) = (&self.shared.limiter, self.info.client.ip());
                let mut warned = false;
                while let Err(wait) = limiter.dial(client, limits, Instant::now().into_std()) {
                    if !std::mem::replace(&mut warned, true) {
                        self.events.write(&SessionEvent::DialDelayed);
                    }
                    sleep(wait).await;
                }
            };
            tokio::select! {
                waited = timeout_at(login_expires_at, waiting) => waited.map_err(|_| Event::Expired)?,
                event = interrupted(&mut self.client, &mut self.registration, &self.drain) => return Err(event),
            }
        }
        self.previous_dial = PreviousDial::Closed;
        let route = self.machine.route().ok_or(Event::Dialled(None))?;
        let pools = &self.snapshot.runtime.pools;
        let pool = Arc::clone(pools.of(route.site_id, route.membership.group()));
        let login_key = pool.login_key(&route.user, self.info.client.ip());
        self.site_slot = Some(self.site_slot(&pool)?);
        let total = Budget::until(self.login_deadline());
        self.selection = Some(Selection::new(pool, login_key, total));
        self.dial_selected().await;
        Ok(())
    }

    pub(super) fn close_backend(&mut self) {
        let site_slot = self.site_slot.take();
        self.info.set_logged_out();
        if let Some(backend) = self.backend.take() {
            let closing = tokio::spawn(async move {
                backend.close().await;
                drop(site_slot);
            });
            self.previous_dial = PreviousDial::Closing(closing);
        }
    }

    /// A slot at the site, or the event that keeps the client from its backend.
    fn site_slot(&self, pool: &Pool) -> Result<SiteSlot, Event> {
        if !self.may_log_in(pool.id()) {
            return Err(Event::Blocked);
        }
        let most = self.snapshot.runtime.settings.limits.sessions_per_site;
        let site_slot = pool.admit(most, &self.shared.metrics);
        site_slot.ok_or_else(|| {
            self.events.write(&SessionEvent::SiteFull {
                site: pool.name(),
                limit: most,
            });
            Event::SiteFull
        })
    }

    /// Dials the backends that are left, after one that was ready for USER has failed.
    pub(super) async fn dial_next(&mut self) {
        if let Some(backend) = self.backend.take() {
            // A goodbye for which the login doesn't wait.
            tokio::spawn(backend.close());
        }
        self.dial_selected().await;
    }

    pub(super) fn note_backend_failure(&mut self, why: NoUserReply) {
        if let Some(selection) = &mut self.selection {
            let pool = selection.pool();
            let on_failure = report_unavailable(&self.events, &pool);
            selection.fail_current(why, &self.shared.metrics, on_failure);
        }
    }

    /// Dials the backends of the selection, unless the client disconnects or the session is to end meanwhile.
    async fn dial_selected(&mut self) {
        let client = self.machine.route().map(|route| self.relayed_client(route));
        let (Some(client), Some(selection)) = (client, &mut self.selection) else {
            return self.pending_events.push_back(Event::Dialled(None));
        };
        let origin = Origin::Client(client);
        let pool = selection.pool();
        let on_failure = report_unavailable(&self.events, &pool);
        let (resolver, metrics) = (&self.shared.resolver, &self.shared.metrics);
        let timeouts = &self.snapshot.runtime.settings.timeouts;
        let selected = tokio::select! {
            selected = selection.next(resolver, origin, timeouts, metrics, on_failure) => selected,
            event = interrupted(&mut self.client, &mut self.registration, &self.drain) => return self.pending_events.push_back(event),
        };
        let event = match selected {
            Ok(selected) => Event::Dialled(Some(self.dialled(selected))),
            Err(NoBackend::Unavailable) => Event::Dialled(None),
            Err(NoBackend::Maintenance) => Event::Maintenance,
            Err(NoBackend::Full) => {
                let site = pool.name();
                self.events.write(&SessionEvent::BackendsFull { site });
                Event::SiteFull
            }
        };
        self.pending_events.push_back(event);
    }

    fn dialled(&mut self, selected: Selected) -> Dialled {
        let Selected {
            mut connection,
            failover_timeout,
        } = selected;
        self.info.set_backend(&connection);
        self.dialled = Some(Arc::clone(&connection.backend));
        let dialled = Dialled {
            ipv6: connection.is_ipv6(),
            welcome: connection.welcome.take(),
            protection: connection.protection,
            avoid: connection.backend.avoided(Instant::now().into_std()),
            failover_timeout,
        };
        self.backend = Some(connection);
        dialled
    }

    pub(super) fn commit_backend(&mut self) {
        if let Some(selection) = self.selection.take() {
            selection.commit(&self.shared.metrics);
        }
    }

    /// The client's identity as sent to backends that expect PROXY headers.
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

    pub(super) fn avoid(&mut self, methods: PortMethods) {
        if let Some(backend) = &self.dialled
            && backend.avoid(methods, Instant::now().into_std())
        {
            self.events
                .write(&SessionEvent::MethodsAvoided { backend, methods });
        }
    }
}

/// Writes down each backend that fails before a login stays with it.
fn report_unavailable(events: &EventSink, pool: &Pool) -> impl Fn(&Backend, &DialError) {
    |backend, error| {
        events.write(&SessionEvent::BackendUnavailable {
            site: pool.name(),
            backend,
            error,
        });
    }
}
