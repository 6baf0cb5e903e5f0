//! When a certificate is ordered: decisions alone, with the time passed in.
//!
//! A certificate is renewed at a moment of its own: within the window that the authority suggests (RFC 9773), or else after two
//! thirds of its lifetime, and in any case while a twentieth of it is left. That lifetime begins when the certificate was
//! obtained: an authority whose own certificate ends soon issues what is due as soon as it is there, and so does one by whose
//! clock it is much earlier. After failures orders wait for longer and longer,
//! as certmagic's do, and never are there more than four in an hour: Let's Encrypt refuses an account whose validations
//! fail five times an hour.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The waits between orders that fail in a row, as minutes and the number of times: certmagic's steps.
const LADDER: [(u64, u32); 10] = [
    (1, 1),
    (2, 2),
    (5, 1),
    (10, 3),
    (20, 4),
    (30, 6),
    (60, 3),
    (120, 2),
    (180, 2),
    (360, u32::MAX),
];

/// How many orders there may be within an hour.
pub(super) const ORDERS_AN_HOUR: usize = 4;

/// Below this lifetime certificates are renewed after half of it.
const SHORT_LIFETIME: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// How often the authority is asked for its window, unless it says otherwise.
pub(super) const ASK_EVERY: Duration = Duration::from_secs(6 * 60 * 60);

/// The shortest interval that the authority may ask for.
const ASK_AT_LEAST: Duration = Duration::from_secs(10 * 60);

/// The longest time that an authority can put off an order by Retry-After.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The certificate that there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// When the certificate became valid.
    pub not_before: SystemTime,
    /// When the certificate expires.
    pub not_after: SystemTime,
    /// From 0 to 1, evenly distributed over certificates: where in a span of time this one's turn is. It is the certificate's
    /// own and not drawn each time, so that every look at the same certificate finds the same moment.
    pub spread: f64,
}

/// When the authority would like a certificate to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The beginning of the window.
    #[serde(with = "seconds")]
    pub start: SystemTime,
    /// The end of the window.
    #[serde(with = "seconds")]
    pub end: SystemTime,
}

/// The authority's answer about the renewal of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Identifier of the certificate that it is about (RFC 9773 §4.1).
    pub certificate: String,
    /// The suggested window, if any.
    pub window: Option<Window>,
    /// The time to ask the authority again.
    #[serde(with = "seconds")]
    pub ask_at: SystemTime,
}

/// The recent orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// How many have failed in a row. An order counts as failed from its beginning until it has succeeded, so that a process
    /// that ends in the middle of each doesn't begin one after the other.
    pub failures: u32,
    /// When the last ones began, the oldest first; no more than [`ORDERS_AN_HOUR`].
    #[serde(with = "seconds::list")]
    begun: Vec<SystemTime>,
    /// The end of the last order, or its beginning if it has not ended.
    #[serde(with = "seconds::option")]
    last: Option<SystemTime>,
    /// The earliest time for another order, as the authority has asked.
    #[serde(with = "seconds::option")]
    retry_after: Option<SystemTime>,
    /// Whether the last one has not ended yet: it is under way, or its process has ended in it. The lock tells which.
    #[serde(default)]
    is_begun: bool,
    /// When the last one succeeded. Records of earlier versions don't have this.
    #[serde(default, with = "seconds::option")]
    obtained: Option<SystemTime>,
}

impl Attempts {
    /// Records that an order begins.
    pub fn begin(&mut self, now: SystemTime) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
        self.is_begun = true;
        self.retry_after = None;
        self.begun.retain(|begun| !is_ahead(*begun, now));
        self.begun.push(now);
        let surplus = self.begun.len().saturating_sub(ORDERS_AN_HOUR);
        self.begun.drain(..surplus);
    }

    /// Records that the order has failed; the authority may have asked to try again later. It can't put that off by more than
    /// half of what is left of the certificate that is there until `end`, so that it is asked a few times more before that.
    pub fn failed(
        &mut self,
        now: SystemTime,
        retry_after: Option<SystemTime>,
        end: Option<SystemTime>,
    ) {
        let left = end.and_then(|end| end.duration_since(now).ok());
        let longest = left.map_or(MAX_RETRY_AFTER, |left| (left / 2).min(MAX_RETRY_AFTER));
        self.last = Some(now);
        self.is_begun = false;
        self.retry_after = retry_after.map(|at| at.min(now + longest));
    }

    /// When the last one began, if it has not ended yet.
    pub fn begun(&self) -> Option<SystemTime> {
        self.last.filter(|_| self.is_begun)
    }

    /// The record as if the last order had not begun.
    pub fn before_last(mut self) -> Self {
        self.failures = self.failures.saturating_sub(1);
        self
    }

    /// Records that the order has succeeded.
    pub fn succeeded(&mut self, now: SystemTime) {
        self.forgive();
        self.obtained = Some(now);
    }

    /// Records that the order was broken off by the operator, which predicts nothing about the next one. The limit of an hour
    /// stays.
    pub fn broken_off(&mut self) {
        self.failures = self.failures.saturating_sub(1);
        self.is_begun = false;
        self.retry_after = None;
    }

    /// Forgets failures, since another certificate is ordered now, which may well succeed. The limit of an hour stays.
    pub fn forgive(&mut self) {
        self.failures = 0;
        self.last = None;
        self.is_begun = false;
        self.retry_after = None;
    }

    /// The operator may have mended what the last ones failed of. The limit of an hour stays, and what the authority asked for.
    pub fn retry(&mut self) {
        let retry_after = self.retry_after;
        self.forgive();
        self.retry_after = retry_after;
    }

    /// Before when no order may begin; `None` if one may at once.
    pub fn next(&self, now: SystemTime) -> Option<SystemTime> {
        let past = |at: &SystemTime| !is_ahead(*at, now);
        let mut begun = self.begun.iter().copied().filter(past);
        let first_of_hour = begun.clone().rev().nth(ORDERS_AN_HOUR - 1);
        let last = self.last.filter(past).or(begun.next_back());
        let step = match self.failures {
            0 => None,
            failures => last.map(|last| last + delay_after(failures)),
        };
        let hour = first_of_hour.map(|first| first + HOUR);
        // Later than it may be only by what it was rounded up, unless the clock has been set back.
        let latest = now + MAX_RETRY_AFTER + MINUTE;
        let retry_after = self.retry_after.filter(|at| *at <= latest);
        step.max(hour).max(retry_after)
    }
}

/// Whether something that has happened did so in the future: the clock has been set back since, by more than what is rounded.
/// Waiting for that time again could take years.
fn is_ahead(happened: SystemTime, now: SystemTime) -> bool {
    happened > now + MINUTE
}

/// The time that the next order waits after this number of failures.
fn delay_after(failures: u32) -> Duration {
    let mut left = failures.saturating_sub(1);
    for (minutes, times) in LADDER {
        if left < times {
            return MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX);
        }
        left -= times;
    }
    ASK_EVERY
}

/// The times of the next steps; a past one is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When the certificate is to be renewed, or ordered.
    pub due: SystemTime,
    /// The time of the next order: later than `due` if recent orders have failed.
    pub order: SystemTime,
    /// When the authority is asked for its window, if there is anything to ask about.
    pub ask: Option<SystemTime>,
}

/// The plan for the certificate `held`, if there is one that is wanted. `suggestion` is the one for it.
pub fn plan(
    now: SystemTime,
    held: Option<&Held>,
    suggestion: Option<&Suggestion>,
    attempts: &Attempts,
) -> Plan {
    let wanted = match held {
        None => now,
        Some(held) => {
            let obtained = attempts.obtained.filter(|at| !is_ahead(*at, now));
            let since = obtained.map_or(held.not_before, |at| held.not_before.max(at));
            renewal(held, since, suggestion.and_then(|it| it.window.as_ref()))
        }
    };
    let ask =
        held.map(|_| suggestion.map_or(now, |it| earlier(it.ask_at, now + DAY + MINUTE, now)));
    Plan {
        due: wanted,
        order: attempts.next(now).map_or(wanted, |next| next.max(wanted)),
        // An order that is due brings a certificate with a window of its own.
        ask: ask.filter(|_| wanted > now),
    }
}

/// `time`, or now if it is later than the clock could have meant, roundings included.
fn earlier(time: SystemTime, latest: SystemTime, now: SystemTime) -> SystemTime {
    if time > latest { now } else { time }
}

/// When a certificate is renewed that is used since then. A window that has always begun already would have each certificate
/// replaced as soon as it is there: one that is newer than a day, or a twentieth of its lifetime, stays.
fn renewal(held: &Held, since: SystemTime, window: Option<&Window>) -> SystemTime {
    let span = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
    let lifetime = span(since, held.not_after);
    let latest = held
        .not_after
        .checked_sub(lifetime / 20)
        .unwrap_or(held.not_after);
    let wanted = match window {
        Some(window) => {
            let suggested = window.start + span(window.start, window.end).mul_f64(held.spread);
            suggested.max(since + (lifetime / 20).min(DAY))
        }
        None => {
            let used = if lifetime < SHORT_LIFETIME {
                lifetime / 2
            } else {
                lifetime / 3 * 2
            };
            since + used + (lifetime / 30).mul_f64(held.spread)
        }
    };
    wanted.min(latest)
}

/// When the authority is asked again that has said after which time it may be.
pub fn ask_again(now: SystemTime, retry_after: Option<Duration>) -> SystemTime {
    now + retry_after.map_or(ASK_EVERY, |after| after.clamp(ASK_AT_LEAST, DAY))
}

/// Times as seconds since 1970.
mod seconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Rounded up: what waits for such a time never does so for too short.
    fn of(time: &SystemTime) -> u64 {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_secs() + u64::from(since.subsec_nanos() > 0)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(seconds.min(1 << 40)))
            .unwrap_or(UNIX_EPOCH)
    }

    pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        of(time).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        u64::deserialize(from).map(at)
    }

    pub mod option {
        use super::*;

        pub fn serialize<S: Serializer>(
            time: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            time.as_ref().map(of).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            Ok(Option::<u64>::deserialize(from)?.map(at))
        }
    }

    pub mod list {
        use super::*;

        pub fn serialize<S: Serializer>(
            times: &[SystemTime],
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            times
                .iter()
                .map(of)
                .collect::<Vec<_>>()
                .serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Vec<SystemTime>, D::Error> {
            let mut times: Vec<SystemTime> =
                Vec::<u64>::deserialize(from)?.into_iter().map(at).collect();
            times.truncate(crate::acme::schedule::ORDERS_AN_HOUR);
            Ok(times)
        }
    }
}

#[cfg(test)]
mod tests;
