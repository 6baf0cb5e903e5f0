//! Deadlines for what comes over the network, which what has arrived in time meets.
//!
//! A process that was suspended (a virtual machine's pause, a frozen cgroup, SIGSTOP) finds all its timers expired
//! before tokio has polled its sockets. So an expired deadline waits for one turn of the reactor: the next timer fires
//! after the sockets have been polled.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

/// Time is over, and what was waited for hasn't arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

impl From<Late> for io::Error {
    fn from(_: Late) -> Self {
        io::ErrorKind::TimedOut.into()
    }
}

/// What `future` comes to.
///
/// # Errors
/// If it takes longer than `patience`.
pub async fn timeout<T>(patience: Duration, future: impl Future<Output = T>) -> Result<T, Late> {
    let mut future = pin!(future);
    tokio::select! {
        biased;
        done = &mut future => Ok(done),
        () = late(patience) => Err(Late),
    }
}

/// Resolves when `patience` is over, and what arrived before that has been seen.
pub async fn late(patience: Duration) {
    sleep(patience).await;
    sleep(REACTOR_TURN).await;
}

/// Lets `future` do what can be done without waiting.
pub async fn at_once(future: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = future => {}
        () = std::future::ready(()) => {}
    }
}

/// How long a deadline that is over waits for the reactor: the shortest time that there is for tokio.
pub const REACTOR_TURN: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_there_at_the_last_moment_counts_and_what_comes_later_does_not() {
        let second = Duration::from_secs(1);
        assert_eq!(timeout(second, sleep(second)).await, Ok(()));
        let later = sleep(second + REACTOR_TURN * 3);
        assert_eq!(timeout(second, later).await, Err(Late));
    }
}
