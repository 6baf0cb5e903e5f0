//! The queue in front of stderr, and the thread that writes.
//!
//! What doesn't fit is dropped and counted, and the log says how many lines are missing. A closed stderr isn't an error:
//! the proxy goes on without a log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for stderr before further ones are dropped.
const QUEUED_LINES: usize = 4096;

/// How long the end of the program waits for stderr to take the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the writing thread gets.
enum LogMessage {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The end of the queue where lines go in.
#[derive(Clone)]
pub(super) struct Sink {
    queue: SyncSender<LogMessage>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Starts the thread that writes to `output`.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
        let (queue, messages) = sync_channel(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        thread::Builder::new().name("log".to_owned()).spawn({
            let dropped = Arc::clone(&dropped);
            move || write_lines(&messages, output, &dropped)
        })?;
        let guard = LogGuard(queue.clone());
        Ok((Self { queue, dropped }, guard))
    }
}

fn write_lines(messages: &Receiver<LogMessage>, mut output: impl Write, dropped: &AtomicU64) {
    for message in messages {
        match message {
            // There is nowhere to report that the log can't be written.
            LogMessage::Line(line) => drop(output.write_all(&line)),
            LogMessage::Flush(done) => {
                drop(output.flush());
                let _ = done.try_send(());
            }
        }
        let lines = dropped.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "log lines were dropped: stderr did not take them");
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
        if self
            .queue
            .try_send(LogMessage::Line(line.to_vec()))
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines that still wait when it is dropped, but waits only a moment for a stderr that takes none.
#[must_use = "the last log lines are written when this is dropped"]
#[derive(Debug)]
pub struct LogGuard(SyncSender<LogMessage>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        let mut message = LogMessage::Flush(done);
        let step = FLUSH_TIMEOUT / 20;
        for _ in 0..20 {
            match self.0.try_send(message) {
                Ok(()) => {
                    let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
                    return;
                }
                Err(TrySendError::Full(unsent)) => message = unsent,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Captured;
    use super::*;

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
        let (mut sink, guard) = Sink::start(Closed).expect("a thread");
        sink.write_all(b"lost\n").expect("no error");
        drop(guard);
        assert!(
            sink.queue.try_send(LogMessage::Line(Vec::new())).is_ok(),
            "the writer lives on"
        );
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
        let (mut sink, guard) = Sink::start(Stuck(stuck)).expect("a thread");
        for _ in 0..QUEUED_LINES + 10 {
            sink.write_all(b"line\n").expect("no error");
        }
        let dropped = sink.dropped.load(Ordering::Relaxed);
        assert!((9..=10).contains(&dropped), "{dropped}");
        drop(unstick);
        drop(guard);
    }

    #[test]
    fn the_last_lines_are_written_at_the_end() {
        let output = Captured::default();
        let (mut sink, guard) = Sink::start(output.clone()).expect("a thread");
        for _ in 0..100 {
            sink.write_all(b"line\n").expect("no error");
        }
        drop(guard);
        assert_eq!(output.text(), "line\n".repeat(100));
    }
}
