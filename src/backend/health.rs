//! Whether a backend is ejected, from what connecting to it came to.
//!
//! Failures in a row eject it, for longer each time. Its way back is an attempt of our own when that time is over, and
//! not a client's login. While no backend of a site is up, logins try them all the same: what the proxy thinks of its
//! backends must never be the outage.

use std::time::{Duration, Instant};

/// Number of failures in a row that eject a backend.
pub const FAILURES: u32 = 3;

/// Duration of a backend's first outage; each further one lasts twice as long.
const FIRST_OUTAGE: Duration = Duration::from_secs(10);

/// The longest outage. A backend that has stayed in for as long begins with the shortest again.
const LONGEST_OUTAGE: Duration = Duration::from_secs(5 * 60);

/// The health of one backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Health {
    /// The failures since the last success.
    failures: u32,
    /// The number of outages since the backend last stayed in for long.
    outages: u32,
    outage: Option<Outage>,
    restored_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Instant,
    retry_at: Instant,
}

/// A change in a backend's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthChange {
    /// The backend was ejected after this number of failures.
    Ejected {
        /// The number of failures in a row.
        failures: u32,
    },
    /// The backend takes logins again.
    Restored {
        /// For how long the backend was ejected.
        after: Duration,
    },
}

impl Health {
    /// Connecting to it has failed, by its own fault.
    pub fn failed(&mut self, now: Instant) -> Option<HealthChange> {
        self.failures = self.failures.saturating_add(1);
        if let Some(outage) = &mut self.outage {
            // Only an attempt that was due counts as one more outage: logins may try it meanwhile.
            if outage.retry_at <= now {
                self.outages = self.outages.saturating_add(1);
                outage.retry_at = now + outage_length(self.outages);
            }
            return None;
        }
        if self.failures < FAILURES {
            return None;
        }
        if self
            .restored_at
            .is_some_and(|since| since + LONGEST_OUTAGE <= now)
        {
            self.outages = 0;
        }
        self.outages = self.outages.saturating_add(1);
        self.outage = Some(Outage {
            since: now,
            retry_at: now + outage_length(self.outages),
        });
        let failures = self.failures;
        Some(HealthChange::Ejected { failures })
    }

    /// Records that connecting to the backend has failed in a way that proves nothing about it: an attempt that was due is made
    /// again soon.
    pub fn not_known(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage
            && outage.retry_at <= now
        {
            outage.retry_at = now + FIRST_OUTAGE;
        }
    }

    /// Records that the backend has become ready for a login.
    pub fn succeeded(&mut self, now: Instant) -> Option<HealthChange> {
        self.failures = 0;
        let outage = self.outage.take()?;
        self.restored_at = Some(now);
        let after = now.saturating_duration_since(outage.since);
        Some(HealthChange::Restored { after })
    }

    /// Since when the backend has been ejected.
    pub fn ejected_since(&self) -> Option<Instant> {
        self.outage.map(|outage| outage.since)
    }

    /// When the backend is to be tried again, if it is ejected.
    pub fn retry_at(&self) -> Option<Instant> {
        self.outage.map(|outage| outage.retry_at)
    }
}

/// How long the outage of this number lasts.
fn outage_length(number: u32) -> Duration {
    let doublings = number.saturating_sub(1).min(16);
    (FIRST_OUTAGE * (1 << doublings)).min(LONGEST_OUTAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eject(health: &mut Health, now: Instant) {
        for _ in 0..FAILURES {
            health.failed(now);
        }
        assert!(health.ejected_since().is_some());
    }

    #[test]
    fn three_failures_in_a_row_eject_it_and_a_success_between_them_does_not_count() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.failed(now);
        health.failed(now);
        assert_eq!(health.succeeded(now), None);
        health.failed(now);
        health.failed(now);
        assert_eq!(health.ejected_since(), None);
        assert_eq!(
            health.failed(now),
            Some(HealthChange::Ejected { failures: 3 })
        );
        assert_eq!(health.ejected_since(), Some(now));
    }

    #[test]
    fn it_is_ejected_for_longer_each_time_and_never_for_longer_than_five_minutes() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        eject(&mut health, now);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let retry_at = health.retry_at().expect("it is ejected");
            waits.push((retry_at - now).as_secs());
            now = retry_at;
            assert_eq!(health.failed(now), None, "it was already");
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        let restored = health.succeeded(now);
        assert!(matches!(restored, Some(HealthChange::Restored { .. })));
    }

    #[test]
    fn attempts_that_say_nothing_of_it_are_made_again_soon_and_do_not_make_its_outage_longer() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        health.not_known(now);
        assert_eq!(health.retry_at(), None);
        eject(&mut health, now);
        let due = health.retry_at();
        health.not_known(now);
        assert_eq!(health.retry_at(), due, "a login's attempt wasn't due");
        for _ in 0..5 {
            now = health.retry_at().expect("it is ejected");
            health.not_known(now);
            assert_eq!(health.retry_at(), Some(now + FIRST_OUTAGE));
        }
        now += FIRST_OUTAGE;
        health.failed(now);
        assert_eq!(health.retry_at(), Some(now + FIRST_OUTAGE * 2));
    }

    #[test]
    fn logins_that_fail_meanwhile_do_not_make_it_longer() {
        let (mut health, now) = (Health::default(), Instant::now());
        eject(&mut health, now);
        let retry_at = health.retry_at();
        for _ in 0..100 {
            health.failed(now + Duration::from_secs(1));
        }
        assert_eq!(health.retry_at(), retry_at);
    }

    #[test]
    fn a_backend_that_has_stayed_in_for_long_begins_with_the_shortest_outage_again() {
        let (mut health, now) = (Health::default(), Instant::now());
        eject(&mut health, now);
        let soon = now + Duration::from_secs(10);
        health.succeeded(soon);
        eject(&mut health, soon);
        assert_eq!(health.retry_at(), Some(soon + Duration::from_secs(20)));
        health.succeeded(soon);
        let late = soon + LONGEST_OUTAGE;
        eject(&mut health, late);
        assert_eq!(health.retry_at(), Some(late + Duration::from_secs(10)));
    }
}
