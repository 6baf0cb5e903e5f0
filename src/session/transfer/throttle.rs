//! Holds a transfer back to its site's and its session's rate, and measures for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::limit::{SessionBandwidth, SiteBandwidth, TransferBandwidth};
use crate::net::data::limited::Throttle;
use crate::net::options;
use crate::observe::metrics::Metrics;
use crate::outcome::Direction;
use crate::policy::Rates;

/// The most that a socket may buffer ahead, as the time in which the rate moves that.
const AHEAD: Duration = Duration::from_millis(500);

/// The least that a socket's buffer may hold: the kernel's own size for a new connection.
const SMALLEST_BUFFER: usize = 64 * 1024;

/// The largest size of a socket's buffer that can be asked for (net.core.rmem_max). Beyond it the kernel finds the size.
const LARGEST_BUFFER: usize = 200 * 1024;

/// The limits of a transfer that has them.
#[derive(Debug, Clone)]
pub struct TransferLimits {
    /// The rates, as the session's configuration has them.
    pub rates: Rates,
    /// The bandwidth that the sessions of the site share.
    pub site: Arc<SiteBandwidth>,
    /// The bandwidth that all transfers of the session share.
    pub session: Arc<SessionBandwidth>,
    /// For how long this transfer has been held back.
    pub throttled: ThrottledTime,
}

/// A duration that grows.
#[derive(Debug, Clone, Default)]
pub struct ThrottledTime(Arc<AtomicU64>);

impl ThrottledTime {
    /// The time held back so far.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl TransferLimits {
    /// Makes the kernel buffer less than it would, where the rate is low: the peer would be done long before the bytes are on the
    /// other side. A backend's 226 would be followed by minutes in which its control connection is idle, and a client would wait
    /// as long for the reply to its upload.
    pub fn set_buffer(&self, socket: &TcpStream) {
        let Some(rate) = self.rates.lowest() else {
            return;
        };
        let ahead = usize::try_from(rate.bytes_in(AHEAD)).unwrap_or(usize::MAX);
        if ahead <= LARGEST_BUFFER {
            // If the peer is gone, the handshake or the first byte shows it.
            let _ = options::set_receive_buffer(socket, ahead.max(SMALLEST_BUFFER));
        }
    }
}

/// Holds back one transfer that runs.
pub(super) struct TransferThrottle<'a> {
    bandwidth: TransferBandwidth,
    throttled: &'a ThrottledTime,
    metrics: &'a Metrics,
    site: &'a str,
    direction: Direction,
}

impl<'a> TransferThrottle<'a> {
    /// The throttle of a transfer whose bytes begin to flow.
    pub fn new(
        limits: &'a TransferLimits,
        metrics: &'a Metrics,
        site: &'a str,
        direction: Direction,
    ) -> Self {
        let (shared, own) = (Arc::clone(&limits.site), Arc::clone(&limits.session));
        Self {
            bandwidth: TransferBandwidth::new(limits.rates, direction, shared, own),
            throttled: &limits.throttled,
            metrics,
            site,
            direction,
        }
    }
}

impl Throttle for TransferThrottle<'_> {
    fn piece(&self) -> usize {
        self.bandwidth.piece()
    }

    async fn admit(&self, bytes: usize) {
        let now = Instant::now();
        let wait = self.bandwidth.enter(bytes, now.into_std());
        if !wait.is_zero() {
            let _measured = Holding {
                throttle: self,
                since: now,
            };
            sleep(wait).await;
        }
    }
}

/// A wait that counts also if it is broken off.
struct Holding<'a> {
    throttle: &'a TransferThrottle<'a>,
    since: Instant,
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let TransferThrottle {
            throttled,
            metrics,
            site,
            direction,
            ..
        } = self.throttle;
        let time = self.since.elapsed();
        throttled.add(time);
        metrics.held_back(site, *direction, time);
    }
}
