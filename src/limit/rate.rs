//! How often a client may begin a session, or dial a backend anew in one: a bucket that leaks.
//!
//! Each session is one drop. As many drops as a client may begin sessions in a minute leak in a minute: it may begin so
//! many at once, and one more whenever a drop has leaked. Refused attempts don't count; clients with an empty bucket
//! are dropped.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::base::ClientKey;
use crate::base::bucket::LeakyBucket;
use crate::base::expiring::ExpiringMap;

const MINUTE: Duration = Duration::from_secs(60);

/// How many clients are remembered. A flood of more replaces itself: the bucket that empties first is evicted first.
const CAPACITY: usize = 65_536;

/// The drops of all clients that have any.
#[derive(Debug)]
pub(super) struct RateLimiter {
    buckets: ExpiringMap<ClientKey, LeakyBucket>,
}

impl RateLimiter {
    /// A limiter that has counted no sessions yet.
    pub fn new() -> Self {
        Self {
            buckets: ExpiringMap::new(CAPACITY),
        }
    }

    /// `client` may begin a session now, which is counted; or has to wait so long.
    pub fn admit(
        &mut self,
        client: ClientKey,
        per_minute: NonZeroU32,
        now: Instant,
    ) -> Result<(), Duration> {
        self.buckets.expire(now);
        let former = self.buckets.get(&client).copied();
        let bucket = former.unwrap_or(LeakyBucket::empty(now));
        let bucket = bucket.with_drop(MINUTE / per_minute.get(), now);
        match bucket.excess(MINUTE, now) {
            Duration::ZERO => {
                self.buckets.insert(client, bucket);
                Ok(())
            }
            wait => Err(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    /// A clock that is advanced by hand.
    struct Scene {
        rate: RateLimiter,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                rate: RateLimiter::new(),
                now: Instant::now(),
            }
        }

        fn admits(&mut self, client: u32, per_minute: u32) -> bool {
            let per_minute = NonZeroU32::new(per_minute).expect("not zero");
            let address = IpAddr::from(Ipv4Addr::from(0x0a00_0000 + client));
            let client = ClientKey::of(address);
            self.rate.admit(client, per_minute, self.now).is_ok()
        }

        /// How many of a thousand are let in at once.
        fn burst(&mut self, client: u32, per_minute: u32) -> usize {
            (0..1_000)
                .filter(|_| self.admits(client, per_minute))
                .count()
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }

        fn remembered(&self) -> usize {
            self.rate.buckets.by_expiry().len()
        }
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_whenever_a_drop_runs_out() {
        let mut scene = Scene::new();
        for per_minute in [1, 7, 30, 999] {
            let client = per_minute;
            assert_eq!(scene.burst(client, per_minute), per_minute as usize);
        }
        assert!(!scene.admits(30, 30));
        scene.pass(2);
        assert_eq!(scene.burst(30, 30), 1);
        scene.pass(20);
        assert_eq!(scene.burst(30, 30), 10);
    }

    #[test]
    fn who_is_refused_again_and_again_waits_no_longer_for_it() {
        let mut scene = Scene::new();
        scene.burst(1, 60);
        for _ in 0..10 {
            scene.pass(1);
            assert_eq!(scene.burst(1, 60), 1);
        }
    }

    #[test]
    fn who_comes_no_faster_than_that_is_never_refused_and_soon_forgotten() {
        let mut scene = Scene::new();
        for _ in 0..1_000 {
            assert!(scene.admits(1, 60));
            scene.pass(1);
        }
        assert!(scene.admits(2, 60));
        assert_eq!(scene.remembered(), 1, "the first has no drop left");
    }

    #[test]
    fn clients_do_not_wait_for_each_other() {
        let mut scene = Scene::new();
        assert_eq!(scene.burst(1, 5), 5);
        assert_eq!(scene.burst(2, 5), 5);
    }

    #[test]
    fn another_pace_after_a_reload_holds_at_once() {
        let mut scene = Scene::new();
        assert_eq!(scene.burst(1, 10), 10);
        assert_eq!(scene.burst(1, 20), 0, "the minute is used up");
        scene.pass(30);
        assert_eq!(scene.burst(1, 20), 10);
        scene.pass(30);
        assert_eq!(scene.burst(1, 2), 1);
    }

    #[test]
    fn memory_is_bounded_and_who_has_come_often_is_not_forgotten_for_others() {
        let mut scene = Scene::new();
        assert_eq!(scene.burst(0, 10), 10);
        for client in 1..=100_000 {
            assert!(scene.admits(client, 10));
        }
        assert_eq!(scene.remembered(), CAPACITY);
        assert!(!scene.admits(0, 10));
    }
}
