//! Protection against password guessing: the replies to a client's failed logins are delayed progressively, then the
//! client is blocked.
//!
//! Backends can't do this: they see the proxy's address in place of their clients', so they would block all clients at
//! once, or none. Failures are counted by client and site, never by user name: guessing a user's password from
//! elsewhere can't lock that user out.
//!
//! The count is a leaky bucket. Each failure adds one drop, and one drop leaks every `window / failures`: occasional
//! mistyping never has an effect, and every count returns to zero. The same user with the same password again is not a
//! new guess and adds no drop, so that a script with an old password doesn't block the office that it runs in.
//!
//! A guess is pending from the password to the backend's reply. At most as many are pending at once as the client has
//! failures left, and further ones wait: a hundred sessions that send their passwords in the same moment get no more
//! guesses than one.
//!
//! The rules are passed in with each call, so that a reload changes them and keeps the counts. Memory is bounded by
//! [`CAPACITY`]. When it is full, the record that would expire first is evicted: a flood of addresses with one failure
//! each replaces itself, and not the records of clients with many failures or of blocked ones. Until there is room
//! again, the reply to the first failure of an unknown client gets the longest delay.

use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::bucket::LeakyBucket;
use crate::base::expiring::{Expires, ExpiringMap};
use crate::base::{ClientKey, SiteId};
use crate::config::{GuardRules, is_in_any};

/// How many clients are remembered, each for each site: 22 MB when all are in use.
pub const CAPACITY: usize = 65_536;

/// Number of failures that are answered at once: people mistype.
const FREE_FAILURES: u32 = 3;

/// How many guesses of a client are remembered, to know them again.
const REMEMBERED: usize = 4;

/// Counts the failed logins of all clients.
#[derive(Debug)]
pub struct Guard {
    state: Mutex<GuardState>,
    /// Random for each process, so that an [`AttemptFingerprint`] can't be foreseen, nor be compared outside of it.
    keys: RandomState,
}

#[derive(Debug)]
struct GuardState {
    records: ExpiringMap<GuardKey, FailureRecord>,
    /// The attempts that backends are checking. Only clients with at least one.
    pending: HashMap<GuardKey, Vec<FingerprintValue>>,
}

/// Whether a password may be sent to the backend.
#[derive(Debug)]
pub enum AttemptDecision {
    /// Yes; it is pending until this is dropped.
    Allowed(PendingAttempt),
    /// When other guesses of the client have been decided.
    Wait,
    /// The client has failed too often.
    Blocked,
}

/// An attempt that a backend is checking.
#[derive(Debug)]
#[must_use = "dropping it ends the attempt"]
pub struct PendingAttempt {
    guard: Arc<Guard>,
    key: GuardKey,
    fingerprint: FingerprintValue,
}

impl Drop for PendingAttempt {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        if let Some(attempts) = state.pending.get_mut(&self.key) {
            if let Some(at) = attempts.iter().position(|one| *one == self.fingerprint) {
                attempts.swap_remove(at);
            }
            if attempts.is_empty() {
                state.pending.remove(&self.key);
            }
        }
    }
}

/// The consequences of a failed login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalty {
    /// How long the reply to the login is held back.
    pub delay: Duration,
    /// Whether the client may go on.
    pub status: Status,
    /// The client was unknown and the table full: another client's record was evicted.
    pub evicted: bool,
}

/// Whether a client may try to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The client may try.
    Admitted,
    /// The client may not try from now on.
    NewlyBlocked,
    /// The client may not try, and has been told so before.
    Blocked,
}

/// A keyed hash of the user and the secrets of one login attempt.
#[derive(Debug, Clone)]
pub struct AttemptFingerprint(DefaultHasher);

impl AttemptFingerprint {
    /// A password or an account (RFC 959 §4.1.1).
    pub fn secret(&mut self, secret: &[u8]) {
        self.0.write(secret);
        // Apart from what follows: `ab`, `c` isn't `a`, `bc`.
        self.0.write_usize(secret.len());
    }

    /// The fingerprint's value, of 32 bits: with a probability of 2⁻³² two guesses collide, and the second is not counted.
    fn value(&self) -> FingerprintValue {
        let [a, b, c, d, ..] = self.0.finish().to_ne_bytes();
        FingerprintValue::new(u32::from_ne_bytes([a, b, c, d])).unwrap_or(FingerprintValue::MIN)
    }
}

type FingerprintValue = NonZeroU32;

impl Guard {
    /// A guard without failures.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(GuardState {
                records: ExpiringMap::new(CAPACITY),
                pending: HashMap::new(),
            }),
            keys: RandomState::new(),
        }
    }

    /// A login that begins with this argument of USER.
    pub fn fingerprint(&self, user: &[u8]) -> AttemptFingerprint {
        let mut fingerprint = AttemptFingerprint(self.keys.build_hasher());
        fingerprint.secret(user);
        fingerprint
    }

    /// Whether `client` may try to log in at `site`.
    pub fn admits(&self, client: IpAddr, site: SiteId, rules: &GuardRules, now: Instant) -> bool {
        if is_in_any(client, &rules.allow) {
            return true;
        }
        let key = GuardKey::of(client, Some(site));
        let state = self.state();
        let record = state.records.get(&key);
        record.is_none_or(|record| record.blocked_until <= now)
    }

    /// Whether `client` may try this at `site` now. The same user with the same password again does not count as a
    /// further guess.
    pub fn begin_attempt(
        self: &Arc<Self>,
        client: IpAddr,
        site: SiteId,
        fingerprint: &AttemptFingerprint,
        rules: &GuardRules,
        now: Instant,
    ) -> AttemptDecision {
        let (key, fingerprint) = (GuardKey::of(client, Some(site)), fingerprint.value());
        let mut state = self.state();
        let GuardState { records, pending } = &mut *state;
        let record = records.get(&key);
        let allowed = is_in_any(client, &rules.allow);
        if !allowed && record.is_some_and(|record| now < record.blocked_until) {
            return AttemptDecision::Blocked;
        }
        let attempts = pending.entry(key).or_default();
        let is_known = attempts.contains(&fingerprint)
            || record.is_some_and(|it| it.counted.contains(&Some(fingerprint)));
        if !allowed && !is_known && !attempts.is_empty() {
            let failures = record.map_or(0, |record| record.failures(rules, now));
            let mut others = attempts.clone();
            others.sort_unstable();
            others.dedup();
            let left = rules.failures.saturating_sub(failures);
            if others.len() >= usize::try_from(left).unwrap_or(usize::MAX) {
                return AttemptDecision::Wait;
            }
        }
        attempts.push(fingerprint);
        AttemptDecision::Allowed(PendingAttempt {
            guard: Arc::clone(self),
            key,
            fingerprint,
        })
    }

    /// A login has failed at `site`, or at no site at all. Says what follows.
    pub fn failed(
        &self,
        client: IpAddr,
        site: Option<SiteId>,
        fingerprint: &AttemptFingerprint,
        rules: &GuardRules,
        now: Instant,
    ) -> Penalty {
        if is_in_any(client, &rules.allow) {
            return Penalty {
                delay: Duration::ZERO,
                status: Status::Admitted,
                evicted: false,
            };
        }
        let key = GuardKey::of(client, site);
        let mut state = self.state();
        let records = &mut state.records;
        records.expire(now);
        let mut record = records.remove(&key).unwrap_or(FailureRecord::new(now));
        record.count(fingerprint.value(), rules, now);
        let failures = record.failures(rules, now);
        let status = record.update_status(failures, rules, now);
        let evicted = records.insert(key, record);
        Penalty {
            delay: if evicted {
                rules.max_delay
            } else {
                rules.delay_of(failures)
            },
            status,
            evicted,
        }
    }

    /// The clients with failures that count at the moment, or that are blocked.
    pub fn records(&self, rules: &GuardRules, now: Instant) -> Vec<ClientFailures> {
        let state = self.state();
        let records = state.records.iter();
        let counted = records.filter_map(|(key, record)| {
            let failures = record.failures(rules, now);
            let blocked_for = record.blocked_until.saturating_duration_since(now);
            (failures > 0 || !blocked_for.is_zero()).then_some(ClientFailures {
                client: key.client,
                site: key.site,
                failures,
                blocked_for,
            })
        });
        counted.collect()
    }

    /// Forgets the failures of a client, at one site or at all; returns how many records there were.
    pub fn forget(&self, client: IpAddr, site: Option<SiteId>) -> usize {
        let client = ClientKey::of(client);
        let records = &mut self.state().records;
        let keys = records.iter().map(|(key, _)| *key);
        let found: Vec<GuardKey> = keys
            .filter(|key| key.client == client && (site.is_none() || key.site == site))
            .collect();
        for key in &found {
            records.remove(key);
        }
        found.len()
    }

    /// A panic elsewhere can't have left it half written: nothing here panics between two changes.
    fn state(&self) -> MutexGuard<'_, GuardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

/// The failures of one client at one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientFailures {
    /// The client.
    pub client: ClientKey,
    /// The site of the logins; `None` if they led to no site.
    pub site: Option<SiteId>,
    /// The number of failures that count.
    pub failures: u32,
    /// For how long the client is blocked yet; zero if it isn't.
    pub blocked_for: Duration,
}

/// Key of the records: the failures of each client are counted separately for each site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GuardKey {
    client: ClientKey,
    /// The site of the logins; `None` if they led to no site.
    site: Option<SiteId>,
}

impl GuardKey {
    fn of(client: IpAddr, site: Option<SiteId>) -> Self {
        Self {
            client: ClientKey::of(client),
            site,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct FailureRecord {
    failures: LeakyBucket,
    blocked_until: Instant,
    /// The last guesses that were counted, oldest first.
    counted: [Option<FingerprintValue>; REMEMBERED],
}

impl Expires for FailureRecord {
    fn expires_at(&self) -> Instant {
        self.failures.expires_at().max(self.blocked_until)
    }
}

impl FailureRecord {
    fn new(now: Instant) -> Self {
        Self {
            failures: LeakyBucket::empty(now),
            blocked_until: now,
            counted: [None; REMEMBERED],
        }
    }

    /// Counts one failure more, unless this very guess has been counted.
    fn count(&mut self, fingerprint: FingerprintValue, rules: &GuardRules, now: Instant) {
        if self.counted.contains(&Some(fingerprint)) {
            return;
        }
        self.counted.rotate_left(1);
        self.counted[REMEMBERED - 1] = Some(fingerprint);
        // A longer window of earlier rules doesn't matter, nor do failures beyond the one that blocked.
        self.failures = self
            .failures
            .with_drop(rules.leak_interval(), now)
            .limited_to(rules.window, now);
    }

    /// Updates the client's status after this number of failures.
    fn update_status(&mut self, failures: u32, rules: &GuardRules, now: Instant) -> Status {
        if now < self.blocked_until {
            Status::Blocked
        } else if failures >= rules.failures {
            self.blocked_until = now + rules.block;
            Status::NewlyBlocked
        } else {
            Status::Admitted
        }
    }

    fn failures(&self, rules: &GuardRules, now: Instant) -> u32 {
        self.failures.drops(rules.leak_interval(), now)
    }
}

impl GuardRules {
    /// The time in which one failure leaks from the count.
    fn leak_interval(&self) -> Duration {
        (self.window / self.failures.max(1)).max(Duration::from_nanos(1))
    }

    /// The delay of the reply: none after the first failures, then twice as long for each.
    fn delay_of(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(FREE_FAILURES + 1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.delay.saturating_mul(factor).min(self.max_delay)
    }
}

#[cfg(test)]
mod tests;
