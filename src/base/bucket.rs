//! A leaky bucket: counts events, and forgets them at a steady rate.

use std::time::{Duration, Instant};

use super::expiring::Expires;

/// The drops of one client. How fast they leak is passed in with each call, so that other rules hold at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeakyBucket {
    /// When the last drop will have leaked.
    empty_at: Instant,
}

impl Expires for LeakyBucket {
    fn expires_at(&self) -> Instant {
        self.empty_at
    }
}

impl LeakyBucket {
    /// An empty bucket.
    pub fn empty(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// The bucket with one drop more, where each takes `interval` to leak.
    pub fn with_drop(self, interval: Duration, now: Instant) -> Self {
        Self {
            empty_at: self.empty_at.max(now) + interval,
        }
    }

    /// No more drops than leak in `window`.
    pub fn limited_to(self, window: Duration, now: Instant) -> Self {
        Self {
            empty_at: self.empty_at.min(now + window),
        }
    }

    /// How long it takes until the bucket holds no more drops than leak in `window`.
    pub fn excess(self, window: Duration, now: Instant) -> Duration {
        self.empty_at.saturating_duration_since(now + window)
    }

    /// How many drops there are; one that has begun to leak counts.
    pub fn drops(self, interval: Duration, now: Instant) -> u32 {
        let left = self.empty_at.saturating_duration_since(now).as_nanos();
        u32::try_from(left.div_ceil(interval.as_nanos())).unwrap_or(u32::MAX)
    }
}
