//! Deadlines for network input: input that has arrived in time counts, even if it is read later.
//!
//! A process that was suspended (a virtual machine's pause, a frozen cgroup, SIGSTOP) finds all its timers expired
//! before tokio has polled its sockets. So an expired deadline waits for one turn of the reactor: the next timer fires
//! after the sockets have been polled.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::sleep;

/// How long a deadline that is over waits for the reactor: the shortest time that there is for tokio.
pub const REACTOR_TURN: Duration = Duration::from_millis(1);

/// The time limit is over, and the awaited future is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> Self {
        io::ErrorKind::TimedOut.into()
    }
}

/// The output of `future`.
///
/// # Errors
/// If it takes longer than `time_limit`.
pub async fn input_timeout<T>(
    time_limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    tokio::select! {
        biased;
        done = &mut future => Ok(done),
        () = elapsed(time_limit) => Err(Elapsed),
    }
}

/// Resolves when `time_limit` is over, and input that arrived before that has been polled. Also in a task whose budget is used up:
/// a peer that sends without end can't postpone it.
pub async fn elapsed(time_limit: Duration) {
    unconstrained(async {
        sleep(time_limit).await;
        sleep(REACTOR_TURN).await;
    })
    .await;
}

/// Polls `future` once.
pub async fn poll_once(future: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = future => {}
        () = std::future::ready(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::coop::consume_budget;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_there_at_the_last_moment_counts_and_what_comes_later_does_not() {
        let second = Duration::from_secs(1);
        assert_eq!(input_timeout(second, sleep(second)).await, Ok(()));
        let later = sleep(second + REACTOR_TURN * 3);
        assert_eq!(input_timeout(second, later).await, Err(Elapsed));
    }
    #[tokio::test]
    async fn work_that_uses_up_its_budget_does_not_postpone_the_deadline() {
        let work = async {
            loop {
                consume_budget().await;
            }
        };
        let ended = tokio::time::timeout(
            Duration::from_secs(20),
            input_timeout::<()>(REACTOR_TURN, work),
        );
        assert_eq!(ended.await, Ok(Err(Elapsed)));
    }
}
