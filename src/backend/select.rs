//! Connecting a login to one of its site's backends: which are tried, for how long each, and what a failure says of it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::control::{BackendConnection, ReplyError};
use super::dial::{self, DialBudget, DialError};
use super::pool::{Backend, BackendSlot, Pool};
use crate::base::budget::Budget;
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
        login_key: u64,
        resolver: &Arc<Resolver>,
        budget: DialBudget<'_>,
        metrics: &Arc<Metrics>,
        on_failure: impl Fn(&Backend, &DialError),
    ) -> Result<BackendConnection, NoBackend> {
        let queue = budget.total.at_most(self.site.queue);
        let mut untried = self.candidates(login_key, Instant::now().into_std());
        let several = untried.len() > 1;
        let mut left_behind = None;
        while !untried.is_empty() {
            let slot = self.slot(&mut untried, queue, metrics).await;
            let (backend, slot) = slot.ok_or(NoBackend::Full)?;
            let began = Instant::now();
            let attempt = match several {
                true => budget.attempt(untried.len() + 1),
                false => budget,
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
        Err(NoBackend::Unavailable)
    }

    /// Takes a slot at the first backend of these that has one, which is then not in the list any more; waits in the queue
    /// while all of them are full. `None` if the time in the queue is over.
    async fn slot(
        &self,
        untried: &mut Vec<Arc<Backend>>,
        queue: Budget,
        metrics: &Arc<Metrics>,
    ) -> Option<(Arc<Backend>, BackendSlot)> {
        if queue.left().is_zero() {
            return take_slot(untried, metrics);
        }
        // Only where no login waits, which would be overtaken.
        if let Some(_turn) = self.queue().try_enter()
            && let Some(taken) = take_slot(untried, metrics)
        {
            return Some(taken);
        }
        let _counted = metrics.waiting_for_backend(self.name());
        let waiting = async {
            let _turn = self.queue().enter().await;
            loop {
                let freed = pin!(self.freed());
                if let Some(taken) = take_slot(untried, metrics) {
                    return taken;
                }
                freed.await;
            }
        };
        timeout(queue.left(), waiting).await.ok()
    }
}

fn take_slot(
    untried: &mut Vec<Arc<Backend>>,
    metrics: &Arc<Metrics>,
) -> Option<(Arc<Backend>, BackendSlot)> {
    let mut backends = untried.iter().enumerate();
    let (place, slot) =
        backends.find_map(|(place, backend)| Some((place, backend.acquire(metrics)?)))?;
    Some((untried.remove(place), slot))
}

impl DialBudget<'_> {
    /// For one of so many backends that are left, where there are several. One that accepts connections and then says
    /// nothing must not use up the time of those after it, and all of them together not the patience of the client, which
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
    use crate::config::Timeouts;

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
