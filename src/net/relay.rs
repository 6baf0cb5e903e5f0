//! The byte pump: from one data connection to the other until the source ends, and how it ended.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until};

use super::deadline::REACTOR_TURN;
use super::source::{PlainSource, Source, SourceEnd, Supply};
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

/// How long either side may stand still.
pub trait Patience {
    /// When a step is over that began at this moment, as far as is known now. It may become later or earlier, but no
    /// earlier than this far from now.
    fn over(&self, began: Instant) -> Instant;

    /// How far from now.
    fn least(&self) -> Duration;
}

impl Patience for Duration {
    fn over(&self, began: Instant) -> Instant {
        began + *self
    }

    fn least(&self) -> Duration {
        *self
    }
}

/// A source that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub end: SourceEnd,
    /// Since when it had stood still before, if it had.
    pub still_since: Option<Instant>,
}

/// Copies from `source` to `sink` until the source ends; then every byte is with the sink's kernel. Nothing is closed.
///
/// `patience` bounds each step on either side, and `moved` counts the bytes as they go.
///
/// # Errors
/// If either side fails or stands still.
pub async fn relay(
    source: &mut Source,
    sink: &mut Stream,
    patience: &impl Patience,
    moved: &AtomicU64,
) -> Result<Ended, Broken> {
    let mut deadline = StepDeadline::new(patience);
    loop {
        let supply = deadline
            .bound(poll_fn(|context| source.poll_supply(context)))
            .await
            .ok_or(Broken::SourceIdle)?
            .map_err(Broken::Source)?;
        if let Supply::End(end) = supply {
            let still_since = deadline.began;
            return Ok(Ended { end, still_since });
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

/// Waits for the first bytes of a source until they are `enough`, or all that there are. They stay with the source. Gives
/// since when it had stood still before its end, if it has ended.
///
/// # Errors
/// If it fails or stands still.
pub async fn first_bytes(
    source: &mut PlainSource,
    enough: impl Fn(&[u8]) -> bool,
    patience: &impl Patience,
) -> Result<Option<Instant>, Broken> {
    let mut deadline = StepDeadline::new(patience);
    while !enough(source.bytes()) {
        let more = deadline
            .bound(poll_fn(|context| source.poll_more(context)))
            .await
            .ok_or(Broken::SourceIdle)?
            .map_err(Broken::Source)?;
        if !more {
            return Ok(deadline.began);
        }
    }
    Ok(None)
}

/// A bound on each of many steps, for which one timer is set: most steps are over before it matters, and setting a timer
/// for each of them would cost more than the step.
struct StepDeadline<'a, P> {
    patience: &'a P,
    timer: Pin<Box<Sleep>>,
    /// When the last step began, if it had to wait.
    began: Option<Instant>,
}

impl<'a, P: Patience> StepDeadline<'a, P> {
    fn new(patience: &'a P) -> Self {
        Self {
            timer: Box::pin(sleep_until(Instant::now() + patience.least())),
            patience,
            began: None,
        }
    }

    /// `None` if the step took too long.
    async fn bound<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let mut step = pin!(step);
        let mut look = Look::First;
        self.began = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = step.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let began = *self.began.get_or_insert_with(Instant::now);
            self.poll_timer(began, &mut look, context).map(|()| None)
        })
        .await
    }

    fn poll_timer(
        &mut self,
        began: Instant,
        look: &mut Look,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let over = self.patience.over(began);
            let next = match look {
                _ if now < over => over.min(now + self.patience.least()),
                Look::First => {
                    *look = Look::Second;
                    now + REACTOR_TURN
                }
                Look::Second => return Poll::Ready(()),
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

/// How often an expired step has been checked for completion.
enum Look {
    First,
    /// The reactor has been asked since.
    Second,
}
