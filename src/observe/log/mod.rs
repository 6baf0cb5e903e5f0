//! Log lines: where they go and what they look like, and how to show what came from outside.
//!
//! Lines go to stderr through a short queue and a thread of their own, since a session must not stand still because
//! nobody reads the pipe. What doesn't fit is dropped and counted, and the log says how many lines are missing. A
//! closed stderr isn't an error: the proxy goes on without a log.
//!
//! Bytes from clients and backends are written by [`Shown`] only, so that no one can forge a line or colour a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::{Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use self::shown::Shown;

mod shown;

/// Lines that wait for stderr before further ones are dropped.
const QUEUED_LINES: usize = 4096;

/// How long the end of the program waits for stderr to take the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people: one line, coloured where stderr is a terminal.
    #[default]
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// Why logging couldn't be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter isn't one of tracing's directives.
    #[error("the log filter is not valid")]
    Filter(#[from] ParseError),
    /// The thread that writes couldn't be started.
    #[error("the log's writer cannot be started")]
    Writer(#[from] io::Error),
    /// Logging was set up before.
    #[error("logging is set up already")]
    Again(#[from] TryInitError),
}

/// Sends log lines of the whole process to stderr, with times in UTC as RFC 3339 has them. `filter` is in the form of
/// `RUST_LOG`: `info`, or `info,portcullis::tls=debug`. Lines of the `log` crate, which rustls uses, come along:
/// its warnings only if `filter` is more than a level.
///
/// Keep what it returns until the end of `main`: dropping it writes the last lines.
///
/// # Errors
/// If `filter` can't be parsed, or logging is set up already.
pub fn init(format: LogFormat, filter: &str) -> Result<LogGuard, LogError> {
    let filter = EnvFilter::try_new(directives(filter))?;
    let colours = io::stderr().is_terminal();
    let (sink, guard) = Sink::start(io::stderr())?;
    subscriber(format, colours, filter, sink).try_init()?;
    Ok(guard)
}

/// What a filter means. rustls warns of odd alerts and names that some client sends, without saying who: up to `info`, a
/// level alone leaves that out, since what comes of it is told in lines of ours. More than a level, or `debug`, means what
/// it says.
fn directives(filter: &str) -> String {
    match filter.trim().parse::<Level>() {
        Ok(level) if level <= Level::INFO => format!("{level},rustls=error"),
        _ => filter.to_owned(),
    }
}

fn subscriber<W>(
    format: LogFormat,
    colours: bool,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // By default tracing reports its own failures with eprintln, which panics when stderr is closed.
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        // Where in the program a line comes from says nothing to an operator.
        LogFormat::Human => Box::new(base.with_ansi(colours).with_target(false).finish()),
        LogFormat::Json => Box::new(
            base.json()
                .flatten_event(true)
                .with_span_list(false)
                .finish(),
        ),
    }
}

/// What the writing thread gets.
enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The end of the queue where lines go in.
#[derive(Clone)]
struct Sink {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    fn start(output: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
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

fn write_lines(messages: &Receiver<Message>, mut output: impl Write, dropped: &AtomicU64) {
    for message in messages {
        match message {
            // There is nowhere to report that the log can't be written.
            Message::Line(line) => drop(output.write_all(&line)),
            Message::Flush(done) => {
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
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
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
pub struct LogGuard(SyncSender<Message>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        let mut message = Message::Flush(done);
        let step = FLUSH_PATIENCE / 20;
        for _ in 0..20 {
            match self.0.try_send(message) {
                Ok(()) => {
                    let _ = flushed.recv_timeout(FLUSH_PATIENCE);
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
    use std::sync::Mutex;

    use super::shown::read_back;
    use super::*;

    const HOSTILE: [&[u8]; 8] = [
        b"bob\n2026-01-01T00:00:00Z INFO accepted user=root",
        b"bob\r\x1b[2K\x1b[31mred",
        b"a\"b\\c",
        "evil\u{202e}gnp.exe".as_bytes(),
        "zero\u{200b}width\u{feff}".as_bytes(),
        "line\u{2028}separator\u{85}".as_bytes(),
        b"\xff\xfe latin \xe4",
        b"bob peer=10.0.0.1 result=accepted",
    ];

    /// Everything that is logged while `log` runs.
    fn captured(format: LogFormat, log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Captured(Arc<Mutex<Vec<u8>>>);
        impl Write for Captured {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("no test panics here").write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let output = Captured::default();
        let writer = output.clone();
        let subscriber = subscriber(format, false, EnvFilter::new("trace"), move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, log);
        let bytes = output.0.lock().expect("no test panics here").clone();
        String::from_utf8(bytes).expect("log lines are UTF-8")
    }

    #[test]
    fn a_hostile_name_stays_in_its_field_of_its_line() {
        for name in HOSTILE {
            let lines = captured(LogFormat::Human, || {
                tracing::info!(user = %Shown(name), result = "rejected", "login");
            });
            assert_eq!(lines.matches('\n').count(), 1, "{lines}");
            assert!(!lines.contains('\x1b'), "{lines}");
            let (_, fields) = lines.split_once("user=").expect("the field is there");
            let (user, _) = fields
                .rsplit_once(" result=")
                .expect("the next field is there");
            assert_eq!(read_back(user), name);
            assert!(!user.contains(' ') || user.starts_with('"'), "{user}");
        }
    }

    #[test]
    fn a_hostile_name_survives_json() {
        for name in HOSTILE {
            let lines = captured(LogFormat::Json, || {
                tracing::info!(user = %Shown(name), result = "rejected", "login");
            });
            assert_eq!(lines.matches('\n').count(), 1, "{lines}");
            // JSON is YAML.
            let object: serde_yaml::Value = serde_yaml::from_str(&lines).expect("an object");
            assert_eq!(object["message"], "login");
            assert_eq!(object["result"], "rejected");
            assert_eq!(read_back(object["user"].as_str().expect("text")), name);
        }
    }

    #[test]
    fn times_are_utc_in_rfc_3339() {
        let line = captured(LogFormat::Human, || tracing::info!("hello"));
        let (time, _) = line.split_once(' ').expect("a time comes first");
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '9' } else { c })
            .collect();
        assert_eq!(shape, "9999-99-99T99:99:99.999999Z");
    }

    #[test]
    fn a_span_is_named_in_both_formats() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let line = captured(format, || {
                tracing::info_span!("session", id = 42).in_scope(|| tracing::info!("hello"));
            });
            assert!(line.contains("session") && line.contains("42"), "{line}");
        }
    }

    #[test]
    fn a_level_alone_leaves_out_the_warnings_of_rustls_and_all_else_is_as_written() {
        for (filter, meant) in [
            ("info", "INFO,rustls=error"),
            (" WARN ", "WARN,rustls=error"),
            ("error", "ERROR,rustls=error"),
            ("debug", "debug"),
            ("trace", "trace"),
            ("info,rustls=warn", "info,rustls=warn"),
            ("info,portcullis::tls=debug", "info,portcullis::tls=debug"),
            ("portcullis=info", "portcullis=info"),
            ("off", "off"),
        ] {
            assert_eq!(directives(filter), meant);
        }
    }

    #[test]
    fn a_bad_filter_is_an_error() {
        assert!(matches!(
            init(LogFormat::Human, "portcullis=loud"),
            Err(LogError::Filter(_))
        ));
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
        let (mut sink, guard) = Sink::start(Closed).expect("a thread");
        sink.write_all(b"lost\n").expect("no error");
        drop(guard);
        assert!(
            sink.queue.try_send(Message::Line(Vec::new())).is_ok(),
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
        let output = Arc::new(Mutex::new(Vec::new()));
        struct Shared(Arc<Mutex<Vec<u8>>>);
        impl Write for Shared {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("no test panics here").write(line)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut sink, guard) = Sink::start(Shared(Arc::clone(&output))).expect("a thread");
        for _ in 0..100 {
            sink.write_all(b"line\n").expect("no error");
        }
        drop(guard);
        assert_eq!(output.lock().expect("no test panics here").len(), 500);
    }
}
