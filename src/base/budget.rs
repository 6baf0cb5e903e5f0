//! A time limit for several steps or attempts together.

use std::time::Duration;

use tokio::time::Instant;

/// The time that everything together may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    by: Instant,
}

impl Budget {
    /// A budget of this time from now on.
    pub fn new(time: Duration) -> Self {
        Self::until(Instant::now() + time)
    }

    /// A budget until this moment.
    pub fn until(by: Instant) -> Self {
        Self { by }
    }

    /// The time left.
    pub fn left(self) -> Duration {
        self.by.saturating_duration_since(Instant::now())
    }

    /// No more than this of it.
    pub fn at_most(self, time: Duration) -> Self {
        Self::new(self.left().min(time))
    }

    /// The first of `untried` attempts may take its share of what is left, so that one that leads nowhere doesn't use up
    /// the time of those after it.
    pub fn share(self, untried: usize) -> Self {
        let untried = u32::try_from(untried).unwrap_or(u32::MAX);
        Self::new(self.left() / untried.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_an_attempt_leaves_is_shared_by_those_after_it() {
        let seconds = Duration::from_secs;
        let budget = Budget::new(seconds(12));
        assert_eq!(budget.share(3).left(), seconds(4));
        tokio::time::advance(seconds(2)).await;
        assert_eq!(budget.share(2).left(), seconds(5));
        assert_eq!(budget.share(1).left(), seconds(10));
        tokio::time::advance(seconds(20)).await;
        assert_eq!(budget.share(1).left(), Duration::ZERO);
    }
}
