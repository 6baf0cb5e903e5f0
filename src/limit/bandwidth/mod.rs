//! How fast transfers may move bytes: a bucket for each site and one for each session, in each direction.
//!
//! A bucket is a schedule (the generic cell rate algorithm, ITU-T I.371): what is to be moved is entered behind what has been
//! entered before, and its place says how long it has to wait. All transfers of a site enter pieces of one size, and each
//! enters its next piece when it has moved the last one, so they take turns, and each gets the same share of the rate.
//! A transfer that moves less than its share leaves the rest to the others.
//!
//! No transfer waits longer for a piece than [`FLOOR`] allows. Where a site's rate is not enough for that, the rate is
//! exceeded: servers cut connections that are too slow for them (IIS below 240 bytes a second), and clients take them for dead.
//!
//! The rate is passed in with each call: it is that of the session's own configuration, also after a reload.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::Direction;
use crate::policy::{Rate, Rates};

/// Bytes a second that each transfer gets, however many there are.
const FLOOR: u64 = 2 * 1024;

/// The smallest piece: less costs more for its headers and system calls than for its bytes.
const SMALLEST_PIECE: u64 = 1024;

/// The largest piece, as much as a source reads at a time.
const LARGEST_PIECE: u64 = 64 * 1024;

/// The time that a round takes in which each transfer of a bucket moves a piece.
const ROUND: Duration = Duration::from_millis(125);

/// Time whose bytes, at its rate, a bucket that was not used may be used for at once. It makes up for timers, which are up to
/// some milliseconds late.
const BURST: Duration = Duration::from_millis(125);

/// How far ahead a schedule is filled: twice what the smallest piece takes at [`FLOOR`]. So it is full also after
/// the longest wait, and no transfer is luckier than the others.
const FURTHEST: Duration = Duration::from_millis(2 * SMALLEST_PIECE * 1000 / FLOOR);

/// The schedule of one direction.
#[derive(Debug, Default)]
struct Bucket {
    /// When all bytes that have been entered are moved; `None` if none have been.
    empty_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// Enters this many bytes; returns how long they have to wait.
    fn enter(&self, bytes: u64, rate: Rate, now: Instant) -> Duration {
        let mut empty_at = self.empty_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = empty_at.map_or(earliest, |empty_at| empty_at.max(earliest));
        let end = begin + rate.time_for(bytes);
        *empty_at = Some(end.min(now + FURTHEST));
        let longest = Duration::from_micros(bytes.saturating_mul(1_000_000) / FLOOR);
        begin.saturating_duration_since(now).min(longest)
    }
}

/// The bandwidth of a site: one bucket in each direction, and how many transfers use it. Lives as long as the process.
#[derive(Debug, Default)]
pub struct SiteBandwidth(BothWays<Shared>);

/// The bandwidth of a session: one bucket in each direction. Lives as long as the session, so that many small files are as slow
/// as a large one.
#[derive(Debug, Default)]
pub struct SessionBandwidth(BothWays<Bucket>);

#[derive(Debug, Default)]
struct Shared {
    bucket: Bucket,
    transfers: AtomicU64,
}

#[derive(Debug, Default)]
struct BothWays<T> {
    /// The direction from the clients.
    inwards: T,
    /// The direction to the clients.
    outwards: T,
}

impl<T> BothWays<T> {
    fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Upload => &self.inwards,
            Direction::Download | Direction::Listing => &self.outwards,
        }
    }
}

/// The limits of one transfer that runs. While this lives, the transfer counts among those that share its site's rate.
#[derive(Debug)]
pub struct TransferBandwidth {
    rates: Rates,
    direction: Direction,
    site: Arc<SiteBandwidth>,
    session: Arc<SessionBandwidth>,
}

impl TransferBandwidth {
    /// The bandwidth of a transfer that begins.
    pub fn new(
        rates: Rates,
        direction: Direction,
        site: Arc<SiteBandwidth>,
        session: Arc<SessionBandwidth>,
    ) -> Self {
        site.0
            .of(direction)
            .transfers
            .fetch_add(1, Ordering::Relaxed);
        Self {
            rates,
            direction,
            site,
            session,
        }
    }

    /// How many bytes it may move at a time: smaller pieces the more transfers there are, so that none waits long for its
    /// turn. At least one.
    pub fn piece(&self) -> usize {
        let in_a_round = |rate: Rate| rate.bytes_in(ROUND);
        let transfers = self.shared().transfers.load(Ordering::Relaxed).max(1);
        let site = self.rates.site.map(|rate| in_a_round(rate) / transfers);
        let session = self.rates.session.map(in_a_round);
        let piece = [site, session].into_iter().flatten().min();
        let piece = piece.map_or(LARGEST_PIECE, |piece| {
            piece.clamp(SMALLEST_PIECE, LARGEST_PIECE)
        });
        usize::try_from(piece).unwrap_or(usize::MAX)
    }

    /// Enters this many bytes, at most a piece, which are to be moved before anything else is entered; returns how long they have
    /// to wait.
    pub fn enter(&self, bytes: usize, now: Instant) -> Duration {
        let bytes = bytes as u64;
        let session = self.session.0.of(self.direction);
        let wait_in = |bucket: &Bucket, rate: Option<Rate>| {
            rate.map_or(Duration::ZERO, |rate| bucket.enter(bytes, rate, now))
        };
        let of_session = wait_in(session, self.rates.session);
        let of_site = wait_in(&self.shared().bucket, self.rates.site);
        of_session.max(of_site)
    }

    fn shared(&self) -> &Shared {
        self.site.0.of(self.direction)
    }
}

impl Drop for TransferBandwidth {
    fn drop(&mut self) {
        self.shared().transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
