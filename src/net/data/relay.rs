//! Copies bytes from one data connection to the other until the source ends, and how it ended.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::sink::Sink;
use super::source::{Fill, PlainSource, Source, SourceEnd};
use crate::net::deadline::REACTOR_TURN;

/// The failure of a relay.
#[derive(Debug)]
pub enum RelayError {
    /// The source's connection failed.
    Source(io::Error),
    /// The source sent nothing for too long.
    SourceIdle,
    /// The sink's connection failed.
    Sink(io::Error),
    /// The sink took nothing for too long.
    SinkIdle,
}

/// The time limit of a step without progress, on either side.
pub trait StepTimeout {
    /// The deadline of a step that began at this moment, as known now. It may move later or earlier, but not to
    /// less than [`StepTimeout::shortest`] from now.
    fn deadline(&self, began: Instant) -> Instant;

    /// The shortest distance of any deadline from now.
    fn shortest(&self) -> Duration;
}

impl StepTimeout for Duration {
    fn deadline(&self, began: Instant) -> Instant {
        began + *self
    }

    fn shortest(&self) -> Duration {
        *self
    }
}

/// Takes note of the bytes as they are relayed.
pub trait Progress {
    /// The sink has taken these.
    fn moved(&self, bytes: &[u8]);
}

/// Counts the bytes.
impl Progress for AtomicU64 {
    fn moved(&self, bytes: &[u8]) {
        self.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

/// A source that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayEnd {
    /// How the source has ended.
    pub end: SourceEnd,
    /// Since when the source had stalled before its end, if it had.
    pub stalled_since: Option<Instant>,
}

/// Copies from `source` to `sink` until the source ends; then every byte is with the sink's kernel. Nothing is closed.
///
/// `step_timeout` bounds each step on either side.
///
/// # Errors
/// If either side fails or stalls.
pub async fn relay(
    source: &mut Source,
    sink: &mut Sink,
    step_timeout: &impl StepTimeout,
    progress: &impl Progress,
) -> Result<RelayEnd, RelayError> {
    let mut deadline = StepDeadline::new(step_timeout);
    loop {
        let fill = deadline
            .bound(poll_fn(|context| source.poll_fill(context)))
            .await
            .ok_or(RelayError::SourceIdle)?
            .map_err(RelayError::Source)?;
        if let Fill::End(end) = fill {
            let stalled_since = deadline.began;
            return Ok(RelayEnd { end, stalled_since });
        }
        let mut rest = source.buffer();
        while !rest.is_empty() {
            let writing = poll_fn(|context| sink.poll_write(context, rest));
            let written = deadline
                .bound(writing)
                .await
                .ok_or(RelayError::SinkIdle)?
                .map_err(RelayError::Sink)?;
            progress.moved(&rest[..written]);
            rest = &rest[written..];
        }
        // "With the sink" means with its kernel.
        deadline
            .bound(sink.flush())
            .await
            .ok_or(RelayError::SinkIdle)?
            .map_err(RelayError::Sink)?;
        source.consume();
    }
}

/// Waits for the first bytes of a source until they are `enough`, or all that there are. They stay in its buffer.
/// Returns since when it had stalled before its end, if it has ended.
///
/// # Errors
/// If it fails or stalls.
pub async fn first_bytes(
    source: &mut PlainSource,
    enough: impl Fn(&[u8]) -> bool,
    step_timeout: &impl StepTimeout,
) -> Result<Option<Instant>, RelayError> {
    let mut deadline = StepDeadline::new(step_timeout);
    while !enough(source.buffer()) {
        let more = deadline
            .bound(poll_fn(|context| source.poll_more(context)))
            .await
            .ok_or(RelayError::SourceIdle)?
            .map_err(RelayError::Source)?;
        if !more {
            return Ok(deadline.began);
        }
    }
    Ok(None)
}

/// A bound on each of many steps, for which one timer is set: most steps are over before it matters, and setting a timer
/// for each of them would cost more than the step.
pub(super) struct StepDeadline<'a, P> {
    step_timeout: &'a P,
    timer: Pin<Box<Sleep>>,
    /// When the last step began, if it had to wait.
    began: Option<Instant>,
}

impl<'a, P: StepTimeout> StepDeadline<'a, P> {
    pub fn new(step_timeout: &'a P) -> Self {
        Self {
            timer: Box::pin(sleep_until(Instant::now() + step_timeout.shortest())),
            step_timeout,
            began: None,
        }
    }

    /// Whether the last step had to wait.
    pub fn has_waited(&self) -> bool {
        self.began.is_some()
    }

    /// `None` if the step took too long.
    pub async fn bound<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let mut step = pin!(step);
        let mut check = TimerCheck::First;
        self.began = None;
        poll_fn(|context| {
            if let Poll::Ready(done) = step.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let began = *self.began.get_or_insert_with(Instant::now);
            self.poll_timer(began, &mut check, context).map(|()| None)
        })
        .await
    }

    fn poll_timer(
        &mut self,
        began: Instant,
        check: &mut TimerCheck,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let deadline = self.step_timeout.deadline(began);
            let next = match check {
                _ if now < deadline => deadline.min(now + self.step_timeout.shortest()),
                TimerCheck::First => {
                    *check = TimerCheck::Second;
                    now + REACTOR_TURN
                }
                TimerCheck::Second => return Poll::Ready(()),
            };
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

/// How often an expired step has been checked for completion.
enum TimerCheck {
    First,
    /// The reactor has been asked since.
    Second,
}
