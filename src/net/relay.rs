//! The byte pump: from one data connection to the other until the source ends, and how it ended.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until};

use super::source::{Source, SourceEnd, Supply};
use super::stream::Stream;

/// Why a relay broke off.
#[derive(Debug)]
pub enum Broken {
    /// The source's connection failed.
    Source(io::Error),
    /// The source sent nothing for too long.
    SourceIdle,
    /// The sink's connection failed.
    Sink(io::Error),
    /// The sink took nothing for too long.
    SinkIdle,
}

/// Copies from `source` to `sink` until the source ends; then every byte is with the sink's kernel. Nothing is closed.
///
/// `idle` bounds each step on either side, and `moved` counts the bytes as they go.
///
/// # Errors
/// If either side fails or stands still.
pub async fn relay(
    source: &mut Source,
    sink: &mut Stream,
    idle: Duration,
    moved: &AtomicU64,
) -> Result<SourceEnd, Broken> {
    let mut deadline = StepDeadline::new(idle);
    loop {
        let supply = deadline
            .bound(poll_fn(|context| source.poll_supply(context)))
            .await
            .ok_or(Broken::SourceIdle)?
            .map_err(Broken::Source)?;
        if let Supply::End(end) = supply {
            return Ok(end);
        }
        let mut rest = source.bytes();
        while !rest.is_empty() {
            let writing = poll_fn(|context| Pin::new(&mut *sink).poll_write(context, rest));
            let taken = deadline
                .bound(writing)
                .await
                .ok_or(Broken::SinkIdle)?
                .map_err(Broken::Sink)?;
            moved.fetch_add(taken as u64, Ordering::Relaxed);
            rest = &rest[taken..];
        }
        // rustls keeps what the socket did not take at once. "With the sink" means with its kernel.
        deadline
            .bound(sink.flush())
            .await
            .ok_or(Broken::SinkIdle)?
            .map_err(Broken::Sink)?;
        source.taken();
    }
}

/// A bound on each of many steps, for which one timer is set: most steps are over before it matters, and setting a timer
/// for each of them would cost more than the step.
struct StepDeadline {
    idle: Duration,
    timer: Pin<Box<Sleep>>,
}

impl StepDeadline {
    fn new(idle: Duration) -> Self {
        Self {
            idle,
            timer: Box::pin(sleep_until(Instant::now() + idle)),
        }
    }

    /// `None` if the step took too long.
    async fn bound<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let mut step = pin!(step);
        let mut began = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = step.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let began = *began.get_or_insert_with(Instant::now);
            self.poll_timer(began, context).map(|()| None)
        })
        .await
    }

    fn poll_timer(&mut self, began: Instant, context: &mut Context<'_>) -> Poll<()> {
        let by = began + self.idle;
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= by {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(by);
        }
        Poll::Pending
    }
}
