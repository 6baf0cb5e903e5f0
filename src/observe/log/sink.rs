//! The way of the log's lines to stderr: through a [queue](crate::observe::lines), one event a line.
//!
//! Lines that don't fit, or that stderr doesn't take, are lost and counted, and the log says how many are missing. A closed
//! stderr isn't an error: the proxy goes on without a log.

use std::io::{self, Write};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::observe::lines::{LineQueue, Losses, Output, Unwritten, WholeLines};
use crate::observe::metrics::DroppedLines;

/// The end of the queue where lines go in.
#[derive(Clone)]
pub(super) struct Sink(LineQueue);

/// Stderr, behind the queue.
struct LogOutput<W> {
    lines: WholeLines<W>,
    losses: Losses,
}

impl Sink {
    /// Starts the thread that writes to `output`.
    pub fn start(
        output: impl Write + Send + 'static,
        dropped: DroppedLines,
    ) -> io::Result<(Self, LogGuard)> {
        let losses = Losses::new(dropped);
        let output = LogOutput {
            lines: WholeLines::new(output),
            losses: losses.clone(),
        };
        let queue = LineQueue::start("log", output, losses)?;
        let guard = LogGuard(queue.clone());
        Ok((Self(queue), guard))
    }
}

impl<W: Write + Send + 'static> Output for LogOutput<W> {
    const INTERVAL: Option<Duration> = None;

    fn write_line(&mut self, line: &[u8]) {
        match self.lines.write(line) {
            // It takes lines again, so that it can be said.
            Ok(()) => {
                let lines = self.losses.take_unreported();
                if lines > 0 {
                    tracing::warn!(lines, "log lines were dropped: stderr did not take them");
                }
            }
            Err(Unwritten::Lost(_)) => self.losses.count(),
            Err(Unwritten::InPart(_)) => {}
        }
    }

    fn close(&mut self) {
        if self.lines.complete().is_err() {
            self.losses.count();
        }
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Sink {
    /// Takes one whole line: tracing writes an event in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines that still wait when it is dropped, but waits only a moment for a stderr that takes none.
#[must_use = "the last log lines are written when this is dropped"]
#[derive(Debug)]
pub struct LogGuard(LineQueue);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::super::tests::Captured;
    use super::*;
    use crate::observe::lines::QUEUED_LINES;
    use crate::observe::metrics::{Metrics, STDERR_LOG};

    fn dropped() -> DroppedLines {
        Metrics::new().dropped_lines(STDERR_LOG)
    }

    #[test]
    fn a_closed_stderr_is_no_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let dropped = dropped();
        let (mut sink, guard) = Sink::start(Closed, dropped.clone()).expect("a thread");
        sink.write_all(b"lost\n").expect("no error");
        drop(guard);
        assert_eq!(dropped.total(), 1);
        sink.write_all(b"lost, too\n").expect("the writer lives on");
        sink.0.flush();
        assert_eq!(dropped.total(), 2);
    }

    #[test]
    fn a_stderr_that_nobody_reads_stops_nobody() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (unstick, stuck) = sync_channel(0);
        let dropped = dropped();
        let (mut sink, guard) = Sink::start(Stuck(stuck), dropped.clone()).expect("a thread");
        for _ in 0..QUEUED_LINES + 10 {
            sink.write_all(b"line\n").expect("no error");
        }
        assert!((9..=10).contains(&dropped.total()), "{}", dropped.total());
        drop(unstick);
        drop(guard);
    }

    #[test]
    fn the_last_lines_are_written_at_the_end() {
        let output = Captured::default();
        let (mut sink, guard) = Sink::start(output.clone(), dropped()).expect("a thread");
        for _ in 0..100 {
            sink.write_all(b"line\n").expect("no error");
        }
        drop(guard);
        assert_eq!(output.text(), "line\n".repeat(100));
    }
}
