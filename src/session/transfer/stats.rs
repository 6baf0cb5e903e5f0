//! Measurements of a transfer while it runs, for its records: its handshake with the client and, where a transfer log includes
//! them, when its first byte came and the hash of its content.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use tokio::time::Instant;

use crate::net::data::relay::Progress;
use crate::observe::transfer_log::ToldOfContent;
use crate::observe::transfer_log::record::Sha256;
use crate::outcome::DataHandshake;

/// The measurements of one transfer.
#[derive(Debug, Clone)]
pub struct TransferStats(Arc<Measurements>);

struct Measurements {
    began: Instant,
    told: ToldOfContent,
    /// The handshake of the client's data connection that came last.
    handshake: Mutex<Option<DataHandshake>>,
    first_byte: OnceLock<Duration>,
    /// The hash of the bytes so far.
    hash: Option<Mutex<digest::Context>>,
}

/// The state of a hash cannot be shown.
impl fmt::Debug for Measurements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measurements").finish_non_exhaustive()
    }
}

impl TransferStats {
    /// The measurements of a transfer that begins now.
    pub fn new(told: ToldOfContent) -> Self {
        let hash = (told == ToldOfContent::Hash)
            .then(|| Mutex::new(digest::Context::new(&digest::SHA256)));
        Self(Arc::new(Measurements {
            began: Instant::now(),
            told,
            handshake: Mutex::default(),
            first_byte: OnceLock::new(),
            hash,
        }))
    }

    /// Whether the bytes have to be looked at.
    pub(super) fn is_of_content(&self) -> bool {
        self.0.told > ToldOfContent::Nothing
    }

    /// The handshake with the client has ended like this.
    pub(super) fn note_handshake(&self, result: DataHandshake) {
        *lock(&self.0.handshake) = Some(result);
    }

    /// How the handshake with the client ended, if there was one.
    pub fn handshake(&self) -> Option<DataHandshake> {
        *lock(&self.0.handshake)
    }

    /// The time from the beginning to the first byte.
    pub fn first_byte(&self) -> Option<Duration> {
        self.0.first_byte.get().copied()
    }

    /// The hash of the bytes so far.
    pub fn sha256(&self) -> Option<Sha256> {
        let context = lock(self.0.hash.as_ref()?).clone();
        context.finish().as_ref().try_into().ok()
    }
}

/// Counts the bytes of a transfer, and measures their content.
pub(super) struct StatsRecorder<'a> {
    pub moved: &'a AtomicU64,
    pub stats: &'a TransferStats,
}

impl Progress for StatsRecorder<'_> {
    fn moved(&self, bytes: &[u8]) {
        self.moved.moved(bytes);
        let Measurements {
            began,
            first_byte,
            hash,
            ..
        } = &*self.stats.0;
        first_byte.get_or_init(|| began.elapsed());
        if let Some(hash) = hash {
            lock(hash).update(bytes);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_counted_timed_and_hashed() {
        let stats = TransferStats::new(ToldOfContent::Hash);
        let moved = AtomicU64::new(0);
        tokio::time::advance(Duration::from_millis(30)).await;
        let recorder = StatsRecorder {
            moved: &moved,
            stats: &stats,
        };
        for piece in [&b"a"[..], b"b", b"c"] {
            recorder.moved(piece);
            tokio::time::advance(Duration::from_millis(30)).await;
        }
        assert_eq!(moved.into_inner(), 3);
        assert_eq!(stats.first_byte(), Some(Duration::from_millis(30)));
        let expected = digest::digest(&digest::SHA256, b"abc");
        assert_eq!(
            stats.sha256().as_ref().map(|it| &it[..]),
            Some(expected.as_ref())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_hashed_that_nobody_asks_for() {
        for told in [ToldOfContent::Nothing, ToldOfContent::FirstByte] {
            let stats = TransferStats::new(told);
            assert_eq!(stats.sha256(), None);
            assert_eq!(stats.is_of_content(), told != ToldOfContent::Nothing);
        }
    }
}
