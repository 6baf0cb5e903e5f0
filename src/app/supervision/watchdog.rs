//! Signs of life for the service manager's watchdog.
//!
//! Alive is a process in which every task that accepts control or data connections comes back to accepting, and a runtime that
//! gets round to asking them. A timer alone would go on while no client is served.

use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::notifier::Notifier;
use crate::net::liveness::Liveness;

/// How often the tasks are asked while the manager waits once: a task that is late once or twice under load does no harm.
const CALLS: u32 = 4;

/// Anything less is a mistake, and would keep a core busy.
const SHORTEST: Duration = Duration::from_millis(1);

/// How long the manager waits for a sign of life of this process, if it does.
pub(super) fn asked_for() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    wanted(
        variable("WATCHDOG_USEC"),
        variable("WATCHDOG_PID"),
        std::process::id(),
    )
}

/// The interval that these variables ask of the process `own`; `None` if they ask nothing of it.
fn wanted(microseconds: Option<String>, process: Option<String>, own: u32) -> Option<Duration> {
    // Another process may have been asked, and have started this one.
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|time| *time > 0)?;
    Some(Duration::from_micros(microseconds))
}

/// Sends signs of life as long as all accepting tasks answer. Never ends.
pub(super) async fn feed(notifier: Arc<Notifier>, liveness: Arc<Liveness>, time: Duration) {
    let mut ticks = interval((time / CALLS).max(SHORTEST));
    // Catching up would probe again before a task could answer.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut were_silent = Vec::new();
    loop {
        ticks.tick().await;
        let silent = liveness.probe();
        if silent.is_empty() {
            notifier.feed_watchdog();
        }
        log_changes(&were_silent, &silent);
        were_silent = silent;
    }
}

/// Logs once that a task doesn't answer, and that all do again.
fn log_changes(before: &[SocketAddr], now: &[SocketAddr]) {
    match (before, now) {
        ([], [first, ..]) => tracing::error!(
            address = %first,
            count = now.len(),
            "listener not accepting connections, watchdog notifications suspended"
        ),
        ([_, ..], []) => tracing::info!("every listener accepts again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_runtime_that_is_blocked_gives_no_signs_of_life() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        // No test machine is that slow; and nothing is waited for but what must not come.
        let set = |time| manager.set_read_timeout(Some(time)).expect("not zero");
        let lives = || manager.recv(&mut [0; 100]).is_ok();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread");
        let notifier = Arc::new(Notifier::to(path.as_os_str()));
        runtime.spawn(feed(notifier, Arc::default(), Duration::from_millis(20)));
        set(Duration::from_secs(20));
        assert!(lives() && lives());
        let ((begin, begun), (release, held)) = (channel(), channel::<()>());
        runtime.spawn(async move {
            begin.send(()).expect("the test waits");
            let _ = held.recv();
        });
        begun.recv().expect("it is blocked");
        manager.set_nonblocking(true).expect("set");
        while lives() {}
        manager.set_nonblocking(false).expect("set");
        set(Duration::from_millis(200));
        assert!(!lives());
        drop(release);
        set(Duration::from_secs(20));
        assert!(lives());
    }

    #[test]
    fn only_the_process_that_is_meant_gives_signs_of_life() {
        let asked = |time: &str, process: Option<&str>| {
            wanted(Some(time.to_owned()), process.map(str::to_owned), 42)
        };
        let half_a_minute = Some(Duration::from_secs(30));
        assert_eq!(asked("30000000", None), half_a_minute);
        assert_eq!(asked("30000000", Some("42")), half_a_minute);
        assert_eq!(asked("30000000", Some("41")), None);
        assert_eq!(asked("30000000", Some("")), None);
        for nothing in ["0", "", "-1", "30s"] {
            assert_eq!(asked(nothing, None), None, "{nothing}");
        }
        assert_eq!(wanted(None, None, 42), None);
    }
}
