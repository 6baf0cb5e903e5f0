//! Orders the certificate that clients are shown from an authority (RFC 8555), and renews it in time.
//!
//! The result is a pair of files, which the watch over certificates finds and checks like any other: nothing here touches what
//! is served. `schedule` decides when; `engine` waits for it, one instance at a time by the lock of `state`, and runs an
//! `order`, which shows the authority by a `challenge` that the names are ours. `http` is all that goes over the wire.

mod challenge;
mod engine;
mod failure;
mod http;
mod order;
mod schedule;
mod state;
mod status;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::base::task::unless_it_panics;
use crate::config::{AcmeChallenge, AcmeSettings};
use crate::observe::metrics::Metrics;

use engine::Start;
use order::unless;

pub use challenge::HookError;
pub use state::StateError;
pub use status::{Activity, Report, Status};

/// How long nothing is ordered after a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(60);

/// How long the authority may take to look at a name, and to issue.
const PATIENCE_TIME: Duration = Duration::from_secs(15 * 60);

/// Orders by one configuration, until it is dropped or stopped.
#[derive(Debug)]
pub struct Acme {
    settings: AcmeSettings,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Acme {
    /// Orders as `settings` say from now on, once `former` has taken away what it shows. Its state is in `status`.
    pub fn start(
        settings: &AcmeSettings,
        former: Option<Self>,
        metrics: Arc<Metrics>,
        status: Arc<Status>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let owned = settings.clone();
        let begins = match former {
            Some(_) => Start::Reload,
            None => Start::Process,
        };
        let task = tokio::spawn(async move {
            if let Some(former) = former {
                former.stop().await;
            }
            let run = |begins| {
                let (metrics, status) = (Arc::clone(&metrics), Arc::clone(&status));
                engine::run(owned.clone(), metrics, status, begins, stopped.clone())
            };
            keep_up(&status, stopped.clone(), begins, run).await;
        });
        Self {
            settings: settings.clone(),
            stop,
            task,
        }
    }

    /// Whether it orders by these settings.
    pub fn is_by(&self, settings: &AcmeSettings) -> bool {
        self.settings == *settings
    }

    /// Orders nothing any more. An order under way is broken off, and what it shows taken away.
    pub async fn stop(self) {
        self.begin_to_stop();
        // It has ended.
        let _ = self.task.await;
    }

    /// The same, without waiting for it.
    pub fn begin_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits no longer than this for it: what is still shown then is left, and said to be.
    pub async fn stop_within(mut self, limit: Duration) {
        self.begin_to_stop();
        if timeout(limit, &mut self.task).await.is_err() {
            self.task.abort();
            let _ = self.task.await;
        }
    }
}

/// Runs until it ends by itself; after a panic it is run again after a pause, or the certificate would never be renewed.
async fn keep_up<R: Future<Output = ()>>(
    status: &Status,
    mut stopped: watch::Receiver<bool>,
    mut begins: Start,
    run: impl Fn(Start) -> R,
) {
    while unless_it_panics(run(begins)).await.is_none() {
        tracing::error!(
            pause = ?PAUSE_AFTER_PANIC,
            "the orders of certificates panicked: they begin anew after a pause"
        );
        if *stopped.borrow() {
            return;
        }
        if let Some(report) = status.report() {
            status.set(Report {
                activity: Activity::Unusable,
                trouble: Some("the orders panicked".to_owned()),
                ..report
            });
        }
        begins = Start::Process;
        if unless(&mut stopped, sleep(PAUSE_AFTER_PANIC))
            .await
            .is_err()
        {
            return;
        }
    }
}

/// What would keep orders from succeeding, as far as this machine can tell. Changes nothing, and contacts no server. Blocks on the
/// file system.
pub fn look_at(settings: &AcmeSettings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = state::look_at(&settings.state) {
        problems.push(format!(
            "the directory tls.acme.state can't be used: {error}"
        ));
    }
    if let AcmeChallenge::Dns(program) = &settings.challenge
        && let Err(error) = challenge::look_at_hook(program)
    {
        problems.push(error.to_string());
    }
    if let Err(error) = http::Client::new(settings.ca.as_deref()) {
        problems.push(format!(
            "the authority's server can't be verified (tls.acme.ca): {error}"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn orders_that_panic_begin_anew_after_a_pause() {
        let (_stop, stopped) = watch::channel(false);
        let began = tokio::time::Instant::now();
        let runs = RefCell::new(Vec::new());
        keep_up(&Status::default(), stopped, Start::Reload, |start| {
            let count = runs.borrow().len();
            runs.borrow_mut().push((start, began.elapsed()));
            async move { assert!(count > 0, "the first one panics") }
        })
        .await;
        let expected = [
            (Start::Reload, Duration::ZERO),
            (Start::Process, PAUSE_AFTER_PANIC),
        ];
        assert_eq!(*runs.borrow(), expected);
    }
}
