//! The program's log, line by line, while it is written.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::ChildStderr;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::DEADLINE;

/// A line of the program's log. What the log looks like is known here and nowhere else in the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// As it was printed.
    pub text: String,
}

impl LogLine {
    /// A field of an event, such as `site` or `message`.
    pub fn field(&self, name: &str) -> Option<String> {
        // JSON is YAML too, so this needs no other library.
        let line: serde_yaml::Value = serde_yaml::from_str(&self.text).ok()?;
        let value = line
            .get("fields")
            .and_then(|fields| fields.get(name))
            .or_else(|| line.get(name))?;
        match value {
            serde_yaml::Value::String(text) => Some(text.clone()),
            other => serde_yaml::to_string(other)
                .ok()
                .map(|text| text.trim().to_owned()),
        }
    }

    /// What the event says.
    pub fn message(&self) -> String {
        self.field("message").unwrap_or_default()
    }

    /// The address of a listener, if the line says that one accepts.
    pub(super) fn listening(&self) -> Option<SocketAddr> {
        if self.message() != "listening" {
            return None;
        }
        self.field("address")?.parse().ok()
    }
}

#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct LogState {
    pub lines: Vec<LogLine>,
    ended: bool,
}

impl Log {
    pub fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().expect("no holder panics")
    }

    /// Takes in lines until the program has ended.
    pub fn follow(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { break };
            let text = String::from_utf8_lossy(&line).into_owned();
            self.state().lines.push(LogLine { text });
            self.changed.notify_all();
        }
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Waits until the program, and whatever it has started, has closed its end of the log: no line is missing then.
    ///
    /// # Panics
    /// If it doesn't in time.
    pub fn wait_for_end(&self) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), DEADLINE, |state| !state.ended)
            .expect("no holder panics");
        assert!(!waited.1.timed_out(), "the program's log has no end");
    }

    /// Waits until `look` finds something in the lines so far.
    ///
    /// # Panics
    /// If it doesn't in time, or the program exits first.
    pub fn wait<T>(&self, what: &str, look: impl Fn(&[LogLine]) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state.lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let ended = state.ended;
                // The log is shown when the proxy is dropped, which needs the lock.
                drop(state);
                panic!(
                    "portcullis {} before: {what}",
                    if ended { "exited" } else { "took too long" }
                );
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .expect("no holder panics")
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_json_log_puts_them() {
        let text = r#"{"level":"INFO","fields":{"message":"listening","tls":"explicit","address":"127.0.0.1:2121"}}"#;
        let line = LogLine {
            text: text.to_owned(),
        };
        assert_eq!(line.field("message").as_deref(), Some("listening"));
        assert_eq!(line.field("level").as_deref(), Some("INFO"));
        assert_eq!(line.field("site"), None);
        assert_eq!(line.listening(), Some(([127, 0, 0, 1], 2121).into()));
    }
}
