//! A session's part in the [guard](crate::guard): its passwords wait for those that are being checked, and the reply to a failed
//! login is delayed.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::events::SessionEvent;
use super::interrupt::interrupted;
use super::machine::Event;
use super::{Session, Shared};
use crate::base::SiteId;
use crate::config::NO_SITE;
use crate::ftp::command::{Command, Verb};
use crate::guard::{AttemptDecision, PendingAttempt, Status};
use crate::route::Route;

/// An attempt of this session that its backend is checking. Dropping it wakes the attempts that wait for it.
#[derive(Debug)]
pub(super) struct RunningAttempt {
    attempt: Option<PendingAttempt>,
    shared: Arc<Shared>,
}

impl RunningAttempt {
    fn of(attempt: PendingAttempt, shared: &Arc<Shared>) -> Self {
        Self {
            attempt: Some(attempt),
            shared: Arc::clone(shared),
        }
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        self.attempt = None;
        self.shared.attempt_finished.notify_waiters();
    }
}

impl Session {
    /// A USER or HOST has been taken up.
    pub(super) fn begin_login(&mut self, command: &Command, route: Option<&Route>) {
        if command.verb() == Verb::User {
            self.login_began = Instant::now();
            self.info.set_user_argument(command.argument());
        }
        if let Some(route) = route {
            self.info.set_route(route);
        }
        self.fingerprint = self.shared.guard.fingerprint(command.argument());
    }

    /// Whether the client may try to log in at this site: it has not failed too often.
    pub(super) fn may_log_in(&self, site: SiteId) -> bool {
        let rules = &self.snapshot.runtime.settings.guard;
        let (client, now) = (self.info.client.ip(), Instant::now().into_std());
        self.shared.guard.admits(client, site, rules, now)
    }

    /// Sends the backend this line, if the guard allows the password or account that the client has sent in `command`.
    pub(super) async fn authenticate(&mut self, site: SiteId, command: &Command, line: &[u8]) {
        match self.begin_attempt(site, command).await {
            Ok(()) => self.send(&[line, b"\r\n"].concat()).await,
            Err(refused) => self.pending_events.push_back(refused),
        }
    }

    /// Whether this password may be sent to the backend now. Waits while as many of the client's as may fail are being
    /// checked.
    async fn begin_attempt(&mut self, site: SiteId, command: &Command) -> Result<(), Event> {
        self.fingerprint.secret(command.argument());
        let (guard, rules) = (&self.shared.guard, &self.snapshot.runtime.settings.guard);
        let client = self.info.client.ip();
        let attempting = async {
            loop {
                // From here on, or a notification could be missed.
                let attempt_finished = self.shared.attempt_finished.notified();
                let now = Instant::now().into_std();
                match guard.begin_attempt(client, site, &self.fingerprint, rules, now) {
                    AttemptDecision::Allowed(attempt) => {
                        return Some(RunningAttempt::of(attempt, &self.shared));
                    }
                    AttemptDecision::Blocked => return None,
                    AttemptDecision::Wait => attempt_finished.await,
                }
            }
        };
        // If the wait took that long, other guesses of the client are running.
        let attempt = tokio::select! {
            biased;
            attempt = timeout_at(self.login_deadline(), attempting) => attempt.ok().flatten(),
            event = interrupted(&mut self.client, &mut self.registration, &self.drain) => return Err(event),
        };
        self.attempt = Some(attempt.ok_or(Event::Blocked)?);
        Ok(())
    }

    /// A login has failed: delays what follows for as long as the guard requires, but not for a client that disconnects, and not
    /// beyond the time limit for the login. Only this session waits.
    pub(super) async fn delay_after_failure(&mut self, site: Option<SiteId>) {
        let now = Instant::now();
        let rules = &self.snapshot.runtime.settings.guard;
        let client = self.info.client.ip();
        let consequence =
            self.shared
                .guard
                .failed(client, site, &self.fingerprint, rules, now.into_std());
        self.attempt = None;

        let site = site.map_or(NO_SITE, |site| self.snapshot.runtime.pools.site_name(site));
        if consequence.evicted {
            self.events.write(&SessionEvent::FailuresEvicted { site });
        }
        if !consequence.delay.is_zero() {
            self.events.write(&SessionEvent::ReplyDelayed { site });
        }
        if consequence.status == Status::NewlyBlocked {
            self.events.write(&SessionEvent::ClientBlocked {
                site,
                time: rules.block,
            });
        }

        let until = now + consequence.delay;
        let login_is_over = !self.machine.has_been_logged_in() && self.login_expires_at <= until;
        let until = if login_is_over {
            self.login_expires_at
        } else {
            until
        };
        if now < until {
            tokio::select! {
                () = sleep_until(until) => {}
                event = interrupted(&mut self.client, &mut self.registration, &self.drain) => {
                    return self.pending_events.push_back(event);
                }
            }
        }
        match consequence.status {
            Status::NewlyBlocked | Status::Blocked => self.pending_events.push_back(Event::Blocked),
            // Here, since commands that have arrived meanwhile come before the session's clock.
            Status::Admitted if login_is_over => self.pending_events.push_back(Event::Expired),
            Status::Admitted => {}
        }
    }
}
