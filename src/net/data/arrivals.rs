//! When the bytes of a source arrived, and its end, where they are read later than that.
//!
//! A standstill in front of the end tells a load balancer's FIN from a client's. Where a source is read as it arrives, the
//! relay waits meanwhile and knows. Where the rate is limited, it is still busy with what has arrived before.

use std::time::Duration;

use tokio::time::Instant;

use super::source::Source;

/// The bytes that have arrived, as of the last look.
pub(super) struct Arrivals {
    /// The number of bytes in all.
    bytes: u64,
    /// When a look last found more bytes than the one before.
    last: Instant,
    /// The time of the last look.
    looked: Instant,
    /// How long after `last` the end came at the earliest, if it has: a sink that stood still may have delayed the look at it.
    ended_after: Option<Duration>,
}

impl Arrivals {
    /// The arrivals of a source that begins.
    pub fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            last: now,
            looked: now,
            ended_after: None,
        }
    }

    /// Looks at the source, of which `read` bytes have been read by now.
    pub fn look(&mut self, source: &Source, read: u64, now: Instant) {
        self.update(source, read, now);
    }

    /// Looks again right after reading, by which the bytes that have arrived become a little fewer: they are decrypted.
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
                self.ended_after = Some(self.looked.saturating_duration_since(self.last));
            }
        }
        self.looked = now;
        bytes
    }

    /// Since when a source that has been read to its end would have stood still if its end had come at this moment; `waited` says
    /// whether it did.
    pub fn stalled_since(&self, waited: bool, now: Instant) -> Instant {
        let seen = if waited { now } else { self.looked };
        let stalled = self
            .ended_after
            .unwrap_or(seen.saturating_duration_since(self.last));
        now.checked_sub(stalled).unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A source, and its peer.
    async fn connected() -> (Source, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (socket, _) = listener.accept().await.unwrap();
        (Source::plain(socket, Vec::new()), peer.unwrap())
    }

    /// Waits for a state of the source's unread bytes; makes the reactor look, too.
    async fn until(source: &Source, wanted: impl Fn(u64, bool) -> bool) {
        loop {
            let unread = source.unread();
            if wanted(unread.bytes, unread.has_ended) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_end_behind_unread_bytes_is_seen_and_how_long_it_was_after_them() {
        let (source, mut peer) = connected().await;
        let begun = Instant::now();
        let mut arrivals = Arrivals::new(begun);
        peer.write_all(b"content").await.unwrap();
        until(&source, |bytes, _| bytes == 7).await;
        for seconds in 1..=4 {
            arrivals.look(&source, 0, begun + SECOND * seconds);
        }
        peer.shutdown().await.unwrap();
        until(&source, |bytes, has_ended| bytes == 7 && has_ended).await;
        arrivals.look(&source, 0, begun + SECOND * 5);
        // However late it is read: the bytes were there after one second, and the end wasn't after four.
        let late = begun + SECOND * 60;
        assert_eq!(late - arrivals.stalled_since(false, late), SECOND * 3);
    }

    #[tokio::test]
    async fn an_end_that_may_have_come_with_the_bytes_is_behind_no_standstill() {
        let (source, mut peer) = connected().await;
        let begun = Instant::now();
        let mut arrivals = Arrivals::new(begun);
        peer.write_all(b"content").await.unwrap();
        until(&source, |bytes, _| bytes == 7).await;
        arrivals.look(&source, 0, begun + SECOND);
        peer.shutdown().await.unwrap();
        until(&source, |_, has_ended| has_ended).await;
        // The sink has stood still meanwhile.
        arrivals.look(&source, 0, begun + SECOND * 30);
        let late = begun + SECOND * 60;
        assert_eq!(arrivals.stalled_since(false, late), late);
    }

    #[tokio::test]
    async fn a_source_that_was_waited_for_has_stood_still_until_then() {
        let (source, _peer) = connected().await;
        let begun = Instant::now();
        let mut arrivals = Arrivals::new(begun);
        arrivals.look(&source, 7, begun + SECOND);
        let end = begun + SECOND * 10;
        assert_eq!(arrivals.stalled_since(true, end), begun + SECOND);
        assert_eq!(arrivals.stalled_since(false, end), end);
    }
}
