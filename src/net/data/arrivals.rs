//! When the bytes of a source arrived, and its end, where they are read later than that.
//!
//! A standstill in front of the end tells a load balancer's FIN from a client's. Where a source is read as it arrives, the
//! relay waits meanwhile and knows. Where the rate is limited, it is still busy with what has arrived before.

use std::time::Duration;

use tokio::time::Instant;

use super::source::Source;

/// What has arrived, as of the last look.
pub(super) struct Arrivals {
    /// How many bytes in all.
    bytes: u64,
    /// When there were more at a look for the last time.
    last: Instant,
    /// How long after that the end came, if it has.
    ended_after: Option<Duration>,
}

impl Arrivals {
    /// Of a source that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            last: now,
            ended_after: None,
        }
    }

    /// Looks at the source, of which so many bytes have been read by now.
    pub fn look(&mut self, source: &Source, read: u64, now: Instant) {
        self.update(source, read, now);
    }

    /// The same right after reading, with which what has arrived becomes a little less: it is decrypted.
    pub fn look_after_reading(&mut self, source: &Source, read: u64, now: Instant) {
        if source.hides_arrivals() {
            self.last = now;
        }
        self.bytes = self.update(source, read, now);
    }

    fn update(&mut self, source: &Source, read: u64, now: Instant) -> u64 {
        let unread = source.unread();
        let bytes = read.saturating_add(unread.bytes);
        if self.ended_after.is_none() {
            if bytes > self.bytes {
                self.bytes = bytes;
                self.last = now;
            }
            if unread.has_ended {
                self.ended_after = Some(now - self.last);
            }
        }
        bytes
    }

    /// Since when it stood still, as if its end had just come; for a source that has been read to that.
    pub fn stalled_since(&self, now: Instant) -> Instant {
        match self.ended_after {
            Some(stalled) => now.checked_sub(stalled).unwrap_or(self.last),
            None => self.last,
        }
    }
}
