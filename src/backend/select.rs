//! Connecting a login to one of its site's backends: which are tried, for how long each, and the consequences of a failure for
//! it.
//!
//! A [`Selection`] lives until the client has been sent a reply to USER. Until then the next backend may take over without
//! the client noticing; after that never, since the password is for the one that asked for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::control::{BackendConnection, ReplyError};
use super::dial::{self, DialBudget, DialError};
use super::pool::Pool;
use super::site_backend::{Backend, BackendSlot};
use super::waiting_heads::Arrival;
use crate::base::budget::Budget;
use crate::config::Timeouts;
use crate::ftp::server::NoUserReply;
use crate::net::proxy_header::Origin;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;
use crate::outcome::DialStage;

/// The least that an attempt may take where other backends are left.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// No backend has become ready for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// No backend could be connected to.
    Unavailable,
    /// The backends that could be connected to have reached their limits of sessions.
    Full,
    /// An operator has taken the site out of service, be it while the login waited.
    Maintenance,
}

/// The backends among which a login's is chosen, until the client has been sent a reply to USER.
#[derive(Debug)]
pub struct Selection {
    pool: Arc<Pool>,
    /// In the order in which they are to be tried.
    untried: Vec<Arc<Backend>>,
    /// The backends tried so far.
    tried: Vec<Arc<Backend>>,
    /// See [`Pool::login_key`].
    login_key: u64,
    /// The time limit of the whole login.
    total: Budget,
    /// The time in the queue, of all attempts together.
    queue: Budget,
    /// The one whose connection is ready for USER.
    current: Option<Attempt>,
    /// The last one that failed, and where.
    failed_over_from: Option<(Arc<Backend>, DialStage)>,
}

/// The backend whose turn it is.
#[derive(Debug)]
struct Attempt {
    backend: Arc<Backend>,
    /// The time that it may take.
    time: Duration,
    /// The login is nearly over, which is its client's doing: what the backend doesn't do in so short a time proves nothing of
    /// it.
    is_cut_short: bool,
}

/// A connection that is ready for USER.
#[derive(Debug)]
pub struct Selected {
    /// The connection.
    pub connection: BackendConnection,
    /// How long the backend's reply to USER may take before the next backend's turn; `None` if there is no other.
    pub failover_timeout: Option<Duration>,
}

impl Selection {
    /// Among the backends of a pool, in the order that its `balance` has for this login, which ends at `total`.
    pub fn new(pool: Arc<Pool>, login_key: u64, total: Budget) -> Self {
        let untried = pool.candidates(login_key, Instant::now().into_std());
        Self {
            queue: total.at_most(pool.site.queue),
            untried,
            tried: Vec::new(),
            login_key,
            total,
            current: None,
            failed_over_from: None,
            pool,
        }
    }

    /// The pool of these backends.
    pub fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool)
    }

    /// Connects to the next backend that becomes ready for USER; reports each failure before that.
    ///
    /// # Errors
    /// If there is none, be it that a place was waited for in vain.
    pub async fn next(
        &mut self,
        resolver: &Arc<Resolver>,
        origin: Origin<'_>,
        timeouts: &Timeouts,
        metrics: &Arc<Metrics>,
        on_failure: impl Fn(&Backend, &DialError),
    ) -> Result<Selected, NoBackend> {
        loop {
            // Each attempt takes its time, in which an operator may act.
            if self.pool.is_in_maintenance() {
                return Err(NoBackend::Maintenance);
            }
            self.untried.retain(|backend| backend.takes_logins());
            if self.untried.is_empty() {
                return Err(NoBackend::Unavailable);
            }
            let pool = Arc::clone(&self.pool);
            let (backend, slot) = self.slot(metrics).await?;
            self.tried.push(Arc::clone(&backend));
            let began = Instant::now();
            let budget = DialBudget {
                timeouts,
                total: self.total,
            };
            let attempt = match self.tried.len() + self.untried.len() {
                1 => budget,
                _ => budget.attempt(self.untried.len() + 1),
            };
            let due = timeouts.backend_attempt.unwrap_or(SHORTEST_ATTEMPT);
            let current = Attempt {
                backend: Arc::clone(&backend),
                time: attempt.total.left(),
                is_cut_short: self.total.left() < due.min(SHORTEST_ATTEMPT),
            };
            match dial::dial(&backend, resolver, origin, attempt).await {
                Ok(mut connection) => {
                    self.current = Some(current);
                    backend.learn_certificate(&connection, metrics);
                    metrics.backend_dialled(pool.name(), began.elapsed());
                    connection.hold(slot);
                    let has_next = !self.untried.is_empty();
                    return Ok(Selected {
                        connection,
                        failover_timeout: has_next.then(|| attempt.total.left()),
                    });
                }
                Err(error) => self.failed(current, &error, metrics, &on_failure),
            }
        }
    }

    /// Takes a slot at the first backend that has one, which is then not untried any more; waits in the queue while all of
    /// them are full.
    async fn slot(
        &mut self,
        metrics: &Arc<Metrics>,
    ) -> Result<(Arc<Backend>, BackendSlot), NoBackend> {
        let time = self.queue.left();
        // A login that a backend has failed waits for fewer of them than the others do: neither does it wait for their
        // turns, nor they for its.
        let waits_in_turn = self.tried.is_empty();
        let pool = Arc::clone(&self.pool);
        let arrival = waits_in_turn.then(|| pool.waiting_heads().arrive());
        if time.is_zero() {
            return self.take_slot(arrival, metrics).ok_or(NoBackend::Full);
        }
        {
            // Only where no login waits, which would be overtaken.
            let turn = pool.queue().try_enter();
            if (turn.is_some() || !waits_in_turn)
                && let Some(taken) = self.take_slot(arrival, metrics)
            {
                return Ok(taken);
            }
        }
        let _counted = metrics.waiting_for_backend(pool.name());
        let ends_at = Instant::now() + time;
        let Some(arrival) = arrival else {
            return self.wait_for_slot(None, ends_at, metrics).await;
        };
        let turn = timeout_at(ends_at, pool.queue().enter()).await;
        let _turn = turn.map_err(|_| NoBackend::Full)?;
        let head = WaitingHead {
            pool: &pool,
            arrival,
        };
        self.wait_for_slot(Some(&head), ends_at, metrics).await
    }

    /// Looks for a slot whenever one may have become free, and once more when the time is over: a login is not refused beside a
    /// backend that has room.
    async fn wait_for_slot(
        &mut self,
        head: Option<&WaitingHead<'_>>,
        ends_at: Instant,
        metrics: &Arc<Metrics>,
    ) -> Result<(Arc<Backend>, BackendSlot), NoBackend> {
        let pool = Arc::clone(&self.pool);
        let mut is_over = false;
        loop {
            let changed = pin!(pool.next_change());
            if pool.is_in_maintenance() {
                return Err(NoBackend::Maintenance);
            }
            self.renew_untried();
            if self.untried.is_empty() {
                return Err(NoBackend::Unavailable);
            }
            // Said before the look: what becomes free from now on is kept for it.
            if let Some(head) = head {
                head.want(&self.untried);
            }
            if let Some(taken) = self.take_slot(head.map(|head| head.arrival), metrics) {
                return Ok(taken);
            }
            if is_over {
                return Err(NoBackend::Full);
            }
            is_over = timeout_at(ends_at, changed).await.is_err();
        }
    }

    /// Takes a slot at the first backend that has one, and for which no login waits that came before `arrival`.
    fn take_slot(
        &mut self,
        arrival: Option<Arrival>,
        metrics: &Arc<Metrics>,
    ) -> Option<(Arc<Backend>, BackendSlot)> {
        let heads = self.pool.waiting_heads();
        let is_kept = |id| arrival.is_some_and(|arrival| heads.is_wanted_before(arrival, id));
        let mut backends = self.untried.iter().enumerate();
        let (position, slot) = backends.find_map(|(position, backend)| {
            let slot = (!is_kept(&backend.id)).then(|| backend.acquire(metrics))?;
            Some((position, slot?))
        })?;
        Some((self.untried.remove(position), slot))
    }

    /// Since the login began, name servers may have announced others, or one may have gone down.
    fn renew_untried(&mut self) {
        let now = Instant::now().into_std();
        self.untried = self.pool.candidates(self.login_key, now);
        let tried = &self.tried;
        self.untried
            .retain(|backend| !tried.iter().any(|it| it.id == backend.id));
    }

    /// The backend whose turn it was has failed after it was ready for USER.
    pub fn fail_current(
        &mut self,
        why: NoUserReply,
        metrics: &Metrics,
        on_failure: impl Fn(&Backend, &DialError),
    ) {
        let Some(current) = self.take_current() else {
            return;
        };
        let error = match why {
            NoUserReply::Busy(reply) => ReplyError::Rejected(reply),
            NoUserReply::Silent => ReplyError::TimedOut(current.time),
            NoUserReply::Lost => {
                let error = DialError::User(ReplyError::Closed);
                return self.failed(current, &error, metrics, |_, _| {});
            }
        };
        self.failed(current, &DialError::User(error), metrics, on_failure);
    }

    /// The client is sent the backend's reply to USER: the login stays with it.
    pub fn commit(mut self, metrics: &Metrics) {
        let Some(Attempt { backend, .. }) = self.take_current() else {
            return;
        };
        backend.succeeded(metrics, Instant::now().into_std());
        if let Some((from, stage)) = self.failed_over_from {
            let site = self.pool.name();
            metrics.backend_failover(site);
            tracing::info!(site, %from, to = %backend, stage = stage.as_str(), "failover");
        }
    }

    /// The attempt that has led to a connection. Without one there is nothing that could fail or be kept: a fault of ours.
    fn take_current(&mut self) -> Option<Attempt> {
        let current = self.current.take();
        debug_assert!(current.is_some(), "no backend is ready for USER");
        if current.is_none() {
            let site = self.pool.name();
            tracing::error!(site, "internal error: no backend was ready for USER");
        }
        current
    }

    fn failed(
        &mut self,
        attempt: Attempt,
        error: &DialError,
        metrics: &Metrics,
        on_failure: impl Fn(&Backend, &DialError),
    ) {
        let backend = attempt.backend;
        let pool = &self.pool;
        metrics.backend_dial_failed(pool.name(), error.stage());
        on_failure(&backend, error);
        if !attempt.is_cut_short
            && backend.failed(error, metrics, Instant::now().into_std())
            && pool.is_out()
        {
            pool.warn_of_last_resort();
        }
        self.failed_over_from = Some((backend, error.stage()));
    }
}

/// The login that is the first of its configuration's queue.
struct WaitingHead<'a> {
    pool: &'a Pool,
    arrival: Arrival,
}

impl WaitingHead<'_> {
    /// It waits for these, and for no others.
    fn want(&self, backends: &[Arc<Backend>]) {
        let ids = backends.iter().map(|backend| backend.id.clone()).collect();
        if self.pool.waiting_heads().want(self.arrival, ids) {
            self.pool.candidates_changed();
        }
    }
}

impl Drop for WaitingHead<'_> {
    fn drop(&mut self) {
        if self.pool.waiting_heads().leave(self.arrival) {
            self.pool.candidates_changed();
        }
    }
}

impl DialBudget<'_> {
    /// The budget for one of `untried` backends that are left, where there are several. One that accepts connections and then
    /// sends nothing must not use up the time of those after it, and all of them together not the patience of the client, which
    /// is some 20 seconds (FileZilla).
    fn attempt(self, untried: usize) -> Self {
        let total = match self.timeouts.backend_attempt {
            Some(attempt) => self.total.at_most(attempt),
            None => {
                let divisor = u32::try_from(untried).unwrap_or(u32::MAX);
                let share = self.timeouts.backend_connect / divisor.max(1);
                self.total
                    .share(untried)
                    .at_most(share.max(SHORTEST_ATTEMPT))
            }
        };
        Self { total, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(timeouts: &Timeouts, untried: usize) -> Duration {
        let budget = DialBudget {
            timeouts,
            total: Budget::new(timeouts.login),
        };
        budget.attempt(untried).total.left()
    }

    #[tokio::test(start_paused = true)]
    async fn three_dead_backends_do_not_outlast_a_clients_patience() {
        let timeouts = Timeouts::default();
        let all = attempt(&timeouts, 3) + attempt(&timeouts, 2) + attempt(&timeouts, 1);
        assert!(all < Duration::from_secs(20), "{all:?}");
        assert_eq!(attempt(&timeouts, 20), SHORTEST_ATTEMPT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_backend_leaves_time_for_the_next_however_short_the_login_is() {
        let timeouts = Timeouts {
            login: Duration::from_secs(3),
            ..Timeouts::default()
        };
        assert_eq!(attempt(&timeouts, 3), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_configured_attempt_holds_for_each_backend() {
        let timeouts = Timeouts {
            backend_attempt: Some(Duration::from_secs(4)),
            ..Timeouts::default()
        };
        for untried in [3, 2, 1] {
            assert_eq!(attempt(&timeouts, untried), Duration::from_secs(4));
        }
    }
}
