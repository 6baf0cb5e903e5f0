//! Log lines: destination and format, without a way to forge one.
//!
//! Lines go to stderr through a queue (`sink`), so that a session never blocks on a pipe that is not read.
//!
//! Bytes from clients and backends are written by [`escape`](crate::base::text::escape) only, so that no peer can forge a
//! line or colour a terminal.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use self::filter::FilterError;
pub use self::sink::LogGuard;
use self::sink::Sink;
use super::metrics::DroppedLines;

mod filter;
mod panics;
mod sink;

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
    /// The filter is invalid.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The thread that writes couldn't be started.
    #[error("the log's writer cannot be started: {0}")]
    Writer(#[from] io::Error),
    /// A new filter couldn't be put in force.
    #[error("the filter can't be changed: {0}")]
    Reload(#[from] reload::Error),
    /// Logging was set up before.
    #[error("logging is set up already")]
    Again(#[from] TryInitError),
}

/// Sends log lines of the whole process, and its panics, to stderr, with times in UTC as RFC 3339 has them. `filter` is a
/// level, `info`, or directives that end with one, `info,portcullis::tls=debug`. Lines of the `log` crate, which rustls uses,
/// come along: its warnings only if `filter` is more than a level. `dropped` counts those that are lost.
///
/// Keep what it returns until the end of `main`: dropping it writes the last lines.
///
/// # Errors
/// If `filter` is wrong, or logging is set up already.
pub fn init(
    format: LogFormat,
    filter: &str,
    dropped: DroppedLines,
) -> Result<(LogGuard, LogFilter), LogError> {
    let filter = filter::parse(filter)?;
    let colours = io::stderr().is_terminal();
    let (sink, guard) = Sink::start(io::stderr(), dropped)?;
    let (subscriber, filter) = subscriber(format, colours, filter, sink);
    subscriber.try_init()?;
    panics::log_panics();
    Ok((guard, filter))
}

/// The choice of lines to log, which can be changed while the process runs.
#[derive(Clone)]
pub struct LogFilter(Arc<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl LogFilter {
    /// Logs by `filter` from now on.
    ///
    /// # Errors
    /// If it is wrong; the one before stays.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        Ok((self.0)(filter::parse(filter)?)?)
    }

    /// A filter that changes nothing.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Arc::new(|_| Ok(())))
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter(..)")
    }
}

fn subscriber<W>(
    format: LogFormat,
    colours: bool,
    filter: EnvFilter,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, LogFilter)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // By default tracing reports its own failures with eprintln, which panics when stderr is closed.
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(writer);
    match format {
        // The module of a line is of no use to an operator.
        LogFormat::Human => {
            let builder = base
                .with_ansi(colours)
                .with_target(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let filter = LogFilter(Arc::new(move |filter| handle.reload(filter)));
            (Box::new(builder.finish()), filter)
        }
        LogFormat::Json => {
            let builder = base
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_filter_reloading();
            let handle = builder.reload_handle();
            let filter = LogFilter(Arc::new(move |filter| handle.reload(filter)));
            (Box::new(builder.finish()), filter)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::base::text::{escape, read_back};

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

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn text(&self) -> String {
            let bytes = self.0.lock().expect("no test panics here").clone();
            String::from_utf8(bytes).expect("log lines are UTF-8")
        }
    }

    impl Write for Captured {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics here").write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Everything that is logged while `log` runs.
    fn captured(format: LogFormat, log: impl FnOnce()) -> String {
        let output = Captured::default();
        let writer = output.clone();
        let (subscriber, _) = subscriber(format, false, EnvFilter::new("trace"), move || {
            writer.clone()
        });
        tracing::subscriber::with_default(subscriber, log);
        output.text()
    }

    #[test]
    fn a_hostile_name_stays_in_its_field_of_its_line() {
        for name in HOSTILE {
            let lines = captured(LogFormat::Human, || {
                tracing::info!(user = escape(name), result = "rejected", "login");
            });
            assert_eq!(lines.matches('\n').count(), 1, "{lines}");
            assert!(!lines.contains('\x1b'), "{lines}");
            let (_, fields) = lines.split_once("user=").expect("the field is there");
            let (user, _) = fields
                .rsplit_once(" result=")
                .expect("the next field is there");
            // The escapes within the quotes are those of YAML, too.
            let user: String = serde_yaml::from_str(user).expect("one text in quotes");
            assert_eq!(read_back(&user), name);
        }
    }

    #[test]
    fn a_hostile_name_survives_json() {
        for name in HOSTILE {
            let lines = captured(LogFormat::Json, || {
                tracing::info!(user = escape(name), result = "rejected", "login");
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
    fn what_is_logged_can_be_changed_and_a_wrong_filter_changes_nothing() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let output = Captured::default();
            let writer = output.clone();
            let filter = EnvFilter::new("info");
            let (subscriber, filter) = subscriber(format, false, filter, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                tracing::debug!("before");
                filter.set("debug").expect("a level");
                tracing::debug!("between");
                filter.set("loud").expect_err("no level");
                tracing::debug!("still");
                filter.set("warn").expect("a level");
                tracing::info!("after");
            });
            let text = output.text();
            assert!(
                !text.contains("before") && !text.contains("after"),
                "{text}"
            );
            assert!(text.contains("between") && text.contains("still"), "{text}");
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
}
