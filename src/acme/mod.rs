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
mod refusal;
mod retry_after;
mod schedule;
mod state;
mod status;
mod urls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

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
    reloaded: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Acme {
    /// Makes orders by `settings` from now on, once `former` has taken away what it shows. Its state is in `status`.
    pub fn start(
        settings: &AcmeSettings,
        former: Option<Self>,
        metrics: Arc<Metrics>,
        status: Arc<Status>,
    ) -> Self {
        let owned = settings.clone();
        let begins = match former {
            Some(_) => Start::NewSettings,
            None => Start::Process,
        };
        Self::spawn(settings, |reloaded, stopped| async move {
            if let Some(former) = former {
                former.stop().await;
            }
            let run = |begins| {
                let (metrics, status) = (Arc::clone(&metrics), Arc::clone(&status));
                let reloaded = Arc::clone(&reloaded);
                engine::run(
                    owned.clone(),
                    metrics,
                    status,
                    begins,
                    reloaded,
                    stopped.clone(),
                )
            };
            run_with_restart(&status, stopped.clone(), begins, run).await;
        })
    }

    /// Spawns the orders as `run`, which ends when it is stopped.
    fn spawn<R>(
        settings: &AcmeSettings,
        run: impl FnOnce(Arc<Notify>, watch::Receiver<bool>) -> R,
    ) -> Self
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let reloaded = Arc::new(Notify::new());
        Self {
            settings: settings.clone(),
            task: tokio::spawn(run(Arc::clone(&reloaded), stopped)),
            reloaded,
            stop,
        }
    }

    /// Whether the orders are by these settings.
    pub fn is_by(&self, settings: &AcmeSettings) -> bool {
        self.settings == *settings
    }

    /// Begins an order that waits after a failure at once, as far as the authority and the limit of an hour allow: the
    /// configuration was loaded again, and says nothing new of the orders.
    pub fn reloaded(&self) {
        self.reloaded.notify_one();
    }

    /// Orders nothing any more. An order under way is broken off, and what it shows taken away.
    pub async fn stop(self) {
        self.begin_to_stop();
        // It has ended.
        let _ = self.task.await;
    }

    fn begin_to_stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Orders of former configurations, which still take away what they have shown.
#[derive(Debug, Default)]
pub struct EndingOrders(Vec<Acme>);

impl EndingOrders {
    /// Stops `former` as well, in its own time.
    pub fn add(&mut self, former: Acme) {
        former.begin_to_stop();
        self.0.retain(|ending| !ending.task.is_finished());
        self.0.push(former);
    }

    /// Waits until all have ended, and no longer than this: challenges that are still shown then are left, and reported as such.
    pub async fn end_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for mut ending in self.0.drain(..) {
            if timeout_at(deadline, &mut ending.task).await.is_err() {
                ending.task.abort();
                let _ = ending.task.await;
            }
        }
    }
}

/// Runs until it ends by itself; after a panic it is run again after a pause, or the certificate would never be renewed.
async fn run_with_restart<R: Future<Output = ()>>(
    status: &Status,
    mut stopped: watch::Receiver<bool>,
    mut begins: Start,
    run: impl Fn(Start) -> R,
) {
    while unless_it_panics(run(begins)).await.is_none() {
        tracing::error!(
            pause = ?PAUSE_AFTER_PANIC,
            "ACME task panicked, restarting after a pause"
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

/// The problems that would keep orders from succeeding, as far as this machine can tell. Changes nothing, and contacts no server.
/// Blocks on the file system.
pub fn problems(settings: &AcmeSettings) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = state::check_directory(&settings.state) {
        problems.push(format!(
            "the directory tls.acme.state can't be used: {error}"
        ));
    }
    if let AcmeChallenge::Dns(program) = &settings.challenge
        && let Err(error) = challenge::check_hook(program)
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
    use std::path::Path;

    use tokio::sync::mpsc;

    use super::*;
    use crate::config;

    /// Takes this long to take away what it has shown, and sends the number then.
    fn slow(clean_up: Duration, number: u32, ended: mpsc::UnboundedSender<u32>) -> Acme {
        let text = "listeners: [{address: 127.0.0.1:21, tls: explicit}]\n\
             tls: {acme: {directory_url: https://ca.test, names: [ftp.test], state: /nowhere, challenge: {tls_alpn: 0.0.0.0:443}}}\n\
             sites: [{name: ftp, default: true, backends: [{address: 10.0.0.10}]}]\n";
        let settings = config::parse(text, Path::new("p.yaml")).expect("good");
        let settings = settings.tls.acme.expect("orders");
        Acme::spawn(&settings, |_, mut stopped| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(clean_up).await;
            let _ = ended.send(number);
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_clean_up_of_all_former_orders_is_waited_for_and_no_longer_than_the_limit() {
        let (sender, mut ended) = mpsc::unbounded_channel();
        let mut ending = EndingOrders::default();
        for (number, seconds) in [(1, 3), (2, 1), (3, 60), (4, 60)] {
            let clean_up = Duration::from_secs(seconds);
            ending.add(slow(clean_up, number, sender.clone()));
        }
        let began = Instant::now();
        ending.end_within(Duration::from_secs(5)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        drop(sender);
        let mut numbers = Vec::new();
        ended.recv_many(&mut numbers, 4).await;
        assert_eq!(numbers, [2, 1]);
        assert_eq!(ended.recv().await, None, "the others are cut short");
    }

    #[tokio::test(start_paused = true)]
    async fn orders_that_panic_begin_anew_after_a_pause() {
        let (_stop, stopped) = watch::channel(false);
        let began = tokio::time::Instant::now();
        let runs = RefCell::new(Vec::new());
        run_with_restart(&Status::default(), stopped, Start::NewSettings, |start| {
            let count = runs.borrow().len();
            runs.borrow_mut().push((start, began.elapsed()));
            async move { assert!(count > 0, "the first one panics") }
        })
        .await;
        let expected = [
            (Start::NewSettings, Duration::ZERO),
            (Start::Process, PAUSE_AFTER_PANIC),
        ];
        assert_eq!(*runs.borrow(), expected);
    }
}
