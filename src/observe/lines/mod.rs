//! Lines on their way to a place that may be slow or full: a bounded queue, the thread that writes, and a count of what is
//! lost. The task that has a line to write never waits.

mod whole;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

pub(super) use self::whole::{Unwritten, WholeLines};
use super::metrics::DroppedLines;

/// Lines that wait for their place before further ones are dropped.
pub(super) const QUEUED_LINES: usize = 4096;

/// How long the end of the program waits for the last lines to be taken.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The destination of a queue's lines. Its methods run on the queue's thread, and may block.
pub(super) trait Output: Send + 'static {
    /// How often [`Output::maintain`] has to be called; without it, behind each line.
    const INTERVAL: Option<Duration>;

    /// Takes one line, with its ending.
    fn write_line(&mut self, line: &[u8]);

    /// Called behind each line, and at least at the interval.
    fn maintain(&mut self) {}

    /// Called when no line follows any more.
    fn close(&mut self);
}

/// A message to the writing thread.
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
    /// The output has something to maintain.
    Wake,
}

/// The lines of one log that are lost.
#[derive(Debug, Clone)]
pub(super) struct Losses {
    total: DroppedLines,
    /// The losses that have not been logged.
    unreported: Arc<AtomicU64>,
}

/// The end of a queue where lines go in.
#[derive(Debug, Clone)]
pub(super) struct LineQueue {
    messages: SyncSender<Message>,
    losses: Losses,
}

impl Losses {
    pub fn new(total: DroppedLines) -> Self {
        Self {
            total,
            unreported: Arc::default(),
        }
    }

    /// Counts another lost line.
    pub fn count(&self) {
        self.total.count();
        self.unreported.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of losses since the last call.
    pub fn take_unreported(&self) -> u64 {
        self.unreported.swap(0, Ordering::Relaxed)
    }
}

impl LineQueue {
    /// Starts the thread of this name that writes to `output`. It ends when the last clone of the queue has been dropped and
    /// all lines are written.
    pub fn start(name: &str, output: impl Output, losses: Losses) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUED_LINES);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || write_lines(&messages, output))?;
        Ok(Self {
            messages: queue,
            losses,
        })
    }

    /// Adds a line, with its ending, or drops and counts it where too many wait already.
    pub fn push(&self, line: Vec<u8>) {
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.losses.count();
        }
    }

    /// Makes the output be maintained soon.
    pub fn wake(&self) {
        // A full queue has it maintained behind the next line.
        let _ = self.messages.try_send(Message::Wake);
    }

    /// Waits until the lines so far are written, but only a moment where none are taken.
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        let mut message = Message::Flush(done);
        let step = FLUSH_TIMEOUT / 20;
        for _ in 0..20 {
            match self.messages.try_send(message) {
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

fn write_lines<O: Output>(messages: &Receiver<Message>, mut output: O) {
    loop {
        let message = match O::INTERVAL {
            Some(interval) => messages.recv_timeout(interval),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match message {
            Ok(Message::Line(line)) => output.write_line(&line),
            Ok(Message::Flush(done)) => {
                let _ = done.try_send(());
            }
            Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        output.maintain();
    }
    output.close();
}
