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

use crate::base::expiring::{Expires, ExpiringMap};
use crate::base::{ClientKey, SiteId};
use crate::config::{GuardRules, is_in_any};

/// Counts the failed logins of all clients.
#[derive(Debug)]
pub struct Guard {
    state: Mutex<State>,
    /// Random for each process, so that a [`Trial`] can't be foreseen, nor be compared outside of it.
    keys: RandomState,
}

#[derive(Debug)]
struct State {
    book: ExpiringMap<Key, Entry>,
    /// The guesses that backends are judging. Only clients that have any.
    under_way: HashMap<Key, Vec<Number>>,
}

/// Whether a guess may go to the backend.
#[derive(Debug)]
pub enum MayGuess {
    /// Yes, and it is under way until this is dropped.
    Yes(Guess),
    /// When other guesses of the client have been decided.
    Later,
    /// The client has failed too often.
    No,
}

/// A guess that a backend is judging.
#[derive(Debug)]
#[must_use = "dropping it says that it has been judged"]
pub struct Guess {
    guard: Arc<Guard>,
    key: Key,
    trial: Number,
}

impl Drop for Guess {
    fn drop(&mut self) {
        let mut state = self.guard.state();
        if let Some(guesses) = state.under_way.get_mut(&self.key) {
            if let Some(at) = guesses.iter().position(|one| *one == self.trial) {
                guesses.swap_remove(at);
            }
            if guesses.is_empty() {
                state.under_way.remove(&self.key);
            }
        }
    }
}

/// What a failed login leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequence {
    /// How long its reply is held back.
    pub delay: Duration,
    /// What becomes of the client.
    pub standing: Standing,
    /// The client was unknown and the table full: another client's record was evicted.
    pub crowded: bool,
}

/// Whether a client may try to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Admitted,
    /// It may not from now on.
    NewlyBlocked,
    /// It may not, and has been told so before.
    Blocked,
}

/// What a login tries, as a number that doesn't lead back to it.
#[derive(Debug, Clone)]
pub struct Trial(DefaultHasher);

impl Trial {
    /// A password or an account (RFC 959 §4.1.1).
    pub fn secret(&mut self, secret: &[u8]) {
        self.0.write(secret);
        // Apart from what follows: `ab`, `c` isn't `a`, `bc`.
        self.0.write_usize(secret.len());
    }

    /// Two guesses in four thousand million have the same, and then the second isn't counted.
    fn number(&self) -> Number {
        let [a, b, c, d, ..] = self.0.finish().to_ne_bytes();
        Number::new(u32::from_ne_bytes([a, b, c, d])).unwrap_or(Number::MIN)
    }
}

type Number = NonZeroU32;

impl Guard {
    /// A guard without failures.
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                book: ExpiringMap::new(CAPACITY),
                under_way: HashMap::new(),
            }),
            keys: RandomState::new(),
        }
    }

    /// A login that begins with this argument of USER.
    pub fn trial(&self, user: &[u8]) -> Trial {
        let mut trial = Trial(self.keys.build_hasher());
        trial.secret(user);
        trial
    }

    /// Whether `client` may try to log in at `site`.
    pub fn admits(&self, client: IpAddr, site: SiteId, rules: &GuardRules, now: Instant) -> bool {
        if is_in_any(client, &rules.allow) {
            return true;
        }
        let key = Key::of(client, Some(site));
        let state = self.state();
        let entry = state.book.get(&key);
        entry.is_none_or(|entry| entry.blocked_until <= now)
    }

    /// Whether `client` may try this at `site` now. The same user with the same password again does not count as a
    /// further guess.
    pub fn may_guess(
        self: &Arc<Self>,
        client: IpAddr,
        site: SiteId,
        trial: &Trial,
        rules: &GuardRules,
        now: Instant,
    ) -> MayGuess {
        let (key, trial) = (Key::of(client, Some(site)), trial.number());
        let mut state = self.state();
        let State { book, under_way } = &mut *state;
        let entry = book.get(&key);
        let allowed = is_in_any(client, &rules.allow);
        if !allowed && entry.is_some_and(|entry| now < entry.blocked_until) {
            return MayGuess::No;
        }
        let guesses = under_way.entry(key).or_default();
        let is_known =
            guesses.contains(&trial) || entry.is_some_and(|it| it.counted.contains(&Some(trial)));
        if !allowed && !is_known && !guesses.is_empty() {
            let failures = entry.map_or(0, |entry| entry.failures(rules, now));
            let mut others = guesses.clone();
            others.sort_unstable();
            others.dedup();
            let left = rules.failures.saturating_sub(failures);
            if others.len() >= usize::try_from(left).unwrap_or(usize::MAX) {
                return MayGuess::Later;
            }
        }
        guesses.push(trial);
        MayGuess::Yes(Guess {
            guard: Arc::clone(self),
            key,
            trial,
        })
    }

    /// A login has failed at `site`, or at no site at all. Says what follows.
    pub fn failed(
        &self,
        client: IpAddr,
        site: Option<SiteId>,
        trial: &Trial,
        rules: &GuardRules,
        now: Instant,
    ) -> Consequence {
        if is_in_any(client, &rules.allow) {
            return Consequence {
                delay: Duration::ZERO,
                standing: Standing::Admitted,
                crowded: false,
            };
        }
        let key = Key::of(client, site);
        let mut state = self.state();
        let book = &mut state.book;
        book.expire(now);
        let mut entry = book.remove(&key).unwrap_or(Entry::new(now));
        entry.count(trial.number(), rules, now);
        let failures = entry.failures(rules, now);
        let standing = entry.judge(failures, rules, now);
        let crowded = book.insert(key, entry);
        Consequence {
            delay: if crowded {
                rules.max_delay
            } else {
                rules.delay_of(failures)
            },
            standing,
            crowded,
        }
    }

    /// A panic elsewhere can't have left it half written: nothing here panics between two changes.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    client: ClientKey,
    /// None for logins that led to no site.
    site: Option<SiteId>,
}

impl Key {
    fn of(client: IpAddr, site: Option<SiteId>) -> Self {
        Self {
            client: ClientKey::of(client),
            site,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// When the last drop will have run out.
    empty_at: Instant,
    blocked_until: Instant,
    /// The last guesses that were counted, oldest first.
    counted: [Option<Number>; REMEMBERED],
}

impl Expires for Entry {
    fn expires_at(&self) -> Instant {
        self.empty_at.max(self.blocked_until)
    }
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self {
            empty_at: now,
            blocked_until: now,
            counted: [None; REMEMBERED],
        }
    }

    /// One drop more, unless this very guess has had its own.
    fn count(&mut self, trial: Number, rules: &GuardRules, now: Instant) {
        if self.counted.contains(&Some(trial)) {
            return;
        }
        self.counted.rotate_left(1);
        self.counted[REMEMBERED - 1] = Some(trial);
        // A longer window of earlier rules doesn't matter, nor do failures beyond the one that blocked.
        self.empty_at = (self.empty_at.max(now) + rules.drop()).min(now + rules.window);
    }

    /// What becomes of the client after so many failures.
    fn judge(&mut self, failures: u32, rules: &GuardRules, now: Instant) -> Standing {
        if now < self.blocked_until {
            Standing::Blocked
        } else if failures >= rules.failures {
            self.blocked_until = now + rules.block;
            Standing::NewlyBlocked
        } else {
            Standing::Admitted
        }
    }

    fn failures(&self, rules: &GuardRules, now: Instant) -> u32 {
        let left = self.empty_at.saturating_duration_since(now).as_nanos();
        u32::try_from(left.div_ceil(rules.drop().as_nanos())).unwrap_or(u32::MAX)
    }
}

impl GuardRules {
    /// The time in which one failure leaks from the count.
    fn drop(&self) -> Duration {
        (self.window / self.failures.max(1)).max(Duration::from_nanos(1))
    }

    /// Nothing for the first ones, then twice as long for each.
    fn delay_of(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(SLIPS + 1) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
        self.delay.saturating_mul(factor).min(self.max_delay)
    }
}

/// How many clients are remembered, each for each site: 22 MB when all are in use.
pub const CAPACITY: usize = 65_536;

/// How many failures are answered at once: people mistype.
const SLIPS: u32 = 3;

/// How many guesses of a client are remembered, to know them again.
const REMEMBERED: usize = 4;

#[cfg(test)]
mod tests;
