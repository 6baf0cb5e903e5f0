//! Connecting a login to one of its site's backends: which are tried, for how long each, and what a failure says of it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::balance::LoginKey;
use super::control::{BackendConnection, ReplyError};
use super::dial::{self, DialBudget, DialError};
use super::pool::{Backend, Pool};
use crate::ftp::reply::Class;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;

/// The least that an attempt may take where other backends are left.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(2);

/// No backend has become ready for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoBackend {
    /// None could be connected to.
    Unavailable,
    /// Those that could be have as many sessions as they may.
    Full,
}

/// What an attempt that failed says of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// It doesn't work.
    Backend,
    /// It has enough to do: a greeting of 421 or another 4yz.
    Busy,
    /// Nothing: this machine has no descriptor or port left, or the name server doesn't answer.
    Ourselves,
}

impl Pool {
    /// Connects to the first backend that becomes ready for USER, in the order that `balance` has for this login; reports
    /// each failure before that.
    ///
    /// # Errors
    /// If there is none, be it that a place was waited for in vain.
    pub async fn connect(
        &self,
        login: LoginKey,
        resolver: &Arc<Resolver>,
        budget: DialBudget<'_>,
        metrics: &Arc<Metrics>,
        on_failure: impl Fn(&Backend, &DialError),
    ) -> Result<BackendConnection, NoBackend> {
        let queue = budget.total.at_most(self.site.queue);
        let mut waiting = None;
        let mut candidates = self.candidates(login, Instant::now().into_std());
        loop {
            let freed = pin!(self.freed());
            let tried = self
                .try_each(&mut candidates, resolver, budget, metrics, &on_failure)
                .await;
            if tried.as_ref().err() != Some(&NoBackend::Full) {
                return tried;
            }
            waiting.get_or_insert_with(|| metrics.waiting_for_backend(self.name()));
            if timeout(queue.left(), freed).await.is_err() {
                return Err(NoBackend::Full);
            }
        }
    }

    /// Tries each of the candidates, and keeps those that are full.
    async fn try_each(
        &self,
        candidates: &mut Vec<Arc<Backend>>,
        resolver: &Arc<Resolver>,
        budget: DialBudget<'_>,
        metrics: &Arc<Metrics>,
        on_failure: impl Fn(&Backend, &DialError),
    ) -> Result<BackendConnection, NoBackend> {
        let mut untried = u32::try_from(candidates.len()).unwrap_or(u32::MAX);
        let mut left_behind = None;
        let mut full = Vec::new();
        for backend in candidates.drain(..) {
            let began = Instant::now();
            let attempt = budget.attempt(untried);
            untried = untried.saturating_sub(1);
            let Some(slot) = backend.acquire(metrics) else {
                full.push(backend);
                continue;
            };
            match dial::dial(&backend, resolver, attempt).await {
                Ok(mut connection) => {
                    metrics.backend_dialled(self.name(), began.elapsed());
                    backend.succeeded(metrics, Instant::now().into_std());
                    if let Some((from, stage)) = left_behind {
                        metrics.backend_failover(self.name());
                        tracing::info!(site = self.name(), %from, to = %backend, stage, "failover");
                    }
                    connection.hold(slot);
                    return Ok(connection);
                }
                Err(error) => {
                    metrics.backend_dial_failed(self.name(), error.stage());
                    on_failure(&backend, &error);
                    if blame(&error) == Blame::Backend
                        && backend.failed(&error, metrics, Instant::now().into_std())
                        && self.is_out()
                    {
                        tracing::warn!(
                            site = self.name(),
                            "every backend is out; logins try them all the same"
                        );
                    }
                    left_behind = Some((backend, error.stage().as_str()));
                }
            }
        }
        *candidates = full;
        Err(match candidates.is_empty() {
            true => NoBackend::Unavailable,
            false => NoBackend::Full,
        })
    }
}

impl DialBudget<'_> {
    /// For one of so many backends that are left. One that accepts connections and then says nothing must not use up the
    /// time of those after it, nor the patience of the client, which is some 20 seconds (FileZilla).
    fn attempt(self, untried: u32) -> Self {
        let total = match (self.timeouts.backend_attempt, untried) {
            (Some(attempt), _) => self.total.at_most(attempt),
            (None, 0 | 1) => self.total,
            (None, _) => {
                let share = self.timeouts.backend_connect / untried;
                let fair = self
                    .total
                    .share(usize::try_from(untried).unwrap_or(usize::MAX));
                fair.at_most(share.max(SHORTEST_ATTEMPT))
            }
        };
        Self { total, ..self }
    }
}

fn blame(error: &DialError) -> Blame {
    match error {
        DialError::Dns(_) => Blame::Ourselves,
        DialError::Connect(error) if is_our_own(error) => Blame::Ourselves,
        DialError::Greeting(ReplyError::Rejected(reply))
            if reply.class() == Class::TransientFailure =>
        {
            Blame::Busy
        }
        _ => Blame::Backend,
    }
}

/// Whether this machine has nothing left to connect with.
fn is_our_own(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    let raw = error.raw_os_error();
    raw.is_some_and(|raw| ours.iter().any(|errno| errno.raw_os_error() == raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::budget::Budget;
    use crate::config::Timeouts;

    fn attempt(timeouts: &Timeouts, untried: u32) -> Duration {
        let budget = DialBudget {
            timeouts,
            total: Budget::new(timeouts.login),
        };
        budget.attempt(untried).total.left()
    }

    #[tokio::test(start_paused = true)]
    async fn three_dead_backends_do_not_outlast_a_clients_patience() {
        let timeouts = Timeouts::default();
        let before_the_last = attempt(&timeouts, 3) + attempt(&timeouts, 2);
        let all = before_the_last + timeouts.backend_connect;
        assert!(all < Duration::from_secs(20), "{all:?}");
        assert_eq!(attempt(&timeouts, 1), timeouts.login, "as without others");
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

    #[test]
    fn only_faults_of_the_backend_count_against_it() {
        let connect = |errno: rustix::io::Errno| DialError::Connect(errno.into());
        assert_eq!(
            blame(&connect(rustix::io::Errno::CONNREFUSED)),
            Blame::Backend
        );
        assert_eq!(blame(&connect(rustix::io::Errno::MFILE)), Blame::Ourselves);
        let dns = DialError::Dns(io::ErrorKind::TimedOut.into());
        assert_eq!(blame(&dns), Blame::Ourselves);
    }
}
