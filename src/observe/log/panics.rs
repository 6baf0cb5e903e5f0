//! Panics as lines of the log. A panic is a bug; it ends its task, and with it a session at most.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};

use crate::base::text::escape;

/// From now on panics are logged, where they would have been written to stderr between the lines. With `RUST_BACKTRACE=1`
/// the log has their backtraces.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let has_backtrace = backtrace.status() == BacktraceStatus::Captured;
        tracing::error!(
            location = panic.location().map(tracing::field::display),
            cause = escape(message(panic).as_bytes()),
            backtrace = has_backtrace.then(|| tracing::field::display(backtrace)),
            "a task has panicked, which is a bug in Portcullis: please report it"
        );
    }));
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    let text = payload.downcast_ref::<&str>().copied().or_else(owned);
    text.unwrap_or("no message")
}
