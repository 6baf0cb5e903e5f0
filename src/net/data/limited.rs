//! The relay of a transfer whose rate is limited: what [`relay`](super::relay) does, in pieces, each of which is admitted
//! before it goes to the sink.
//!
//! It stands apart so that the relay of all others has nothing to ask. A wait for admission is no standstill of either side,
//! so it is bound by no deadline of theirs, and dropping the relay ends it at once. In clear text no more than a piece
//! is read at a time: a source that has been read far ahead would stand still while that is moved, and load balancers cut
//! what stands still. A source that has stood still all the same in front of its end is recognised by when its bytes arrived.

use std::future::poll_fn;

use tokio::time::Instant;

use super::arrivals::Arrivals;
use super::relay::{Progress, RelayEnd, RelayError, StepDeadline, StepTimeout};
use super::sink::Sink;
use super::source::{Fill, Source};

/// Limits the speed of a relay.
pub trait Throttle {
    /// How many bytes may be moved at a time, at least one.
    fn piece(&self) -> usize;

    /// Waits until this many bytes, at most a piece, may be moved.
    fn admit(&self, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// As [`relay`](super::relay::relay), at the rate that `throttle` admits.
///
/// # Errors
/// As there.
pub async fn limited_relay(
    source: &mut Source,
    sink: &mut Sink,
    step_timeout: &impl StepTimeout,
    progress: &impl Progress,
    throttle: &impl Throttle,
) -> Result<RelayEnd, RelayError> {
    let mut deadline = StepDeadline::new(step_timeout);
    let mut arrivals = Arrivals::new(Instant::now());
    let mut read = 0;
    loop {
        let most = throttle.piece();
        let fill = deadline
            .bound(poll_fn(|context| source.poll_fill_at_most(most, context)))
            .await
            .ok_or(RelayError::SourceIdle)?
            .map_err(RelayError::Source)?;
        if let Fill::End(end) = fill {
            let now = Instant::now();
            let stalled_since = Some(arrivals.stalled_since(deadline.has_waited(), now));
            return Ok(RelayEnd { end, stalled_since });
        }
        let mut rest = source.buffer();
        read += rest.len() as u64;
        arrivals.look_after_reading(source, read, Instant::now());
        while !rest.is_empty() {
            let (mut piece, behind) = rest.split_at(rest.len().min(throttle.piece()));
            throttle.admit(piece.len()).await;
            arrivals.look(source, read, Instant::now());
            while !piece.is_empty() {
                let written = deadline
                    .bound(poll_fn(|context| sink.poll_write(context, piece)))
                    .await
                    .ok_or(RelayError::SinkIdle)?
                    .map_err(RelayError::Sink)?;
                progress.moved(&piece[..written]);
                piece = &piece[written..];
            }
            deadline
                .bound(sink.flush())
                .await
                .ok_or(RelayError::SinkIdle)?
                .map_err(RelayError::Sink)?;
            rest = behind;
        }
        source.consume();
    }
}
