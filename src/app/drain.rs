//! The end of the process, without ending transfers, as far as time allows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::App;
use crate::admin::Readiness;
use crate::base::text::rounded;
use crate::command::{ReloadAnswer, shutdown_requested};
use crate::session::{Drain, Shared};

/// How often the progress of the drain is logged.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// How long sessions may take to say goodbye when the drain is over.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

impl App {
    /// Lets the running transfers finish, begins no other, and returns when the last session has ended or time is over.
    pub(super) async fn drain(mut self) {
        let timeouts = self.snapshot.load().runtime.settings.timeouts;
        self.readiness.send_replace(Readiness::LameDuck);
        self.supervision.stopping(|| self.status_sources());
        self.serve_on(timeouts.lame_duck).await;
        self.readiness.send_replace(Readiness::Draining);
        let time_limit = timeouts.drain;
        tracing::info!(sessions = self.shared.limiter.open(), patience = ?time_limit, "draining");
        // Once this has returned, no session can start that would miss the drain.
        self.sockets.listeners.close().await;
        self.drain.send_replace(Drain::Begun);
        // Each session holds a receiver, and so does each download that its client has not got in full, so the channel is closed
        // when the last one has ended.
        let cut_short = tokio::select! {
            ended = timeout(time_limit, self.drain.closed()) => ended.err().map(|_| "drain timeout reached"),
            () = shutdown_requested(&mut self.commands, refuse) => Some("shutdown requested again"),
            never = log_progress(&self.shared, time_limit) => match never {},
        };
        if let Some(why) = cut_short {
            tracing::warn!(
                sessions = self.shared.limiter.open(),
                undelivered = self.shared.deliveries.waiting(),
                "{why}, terminating the remaining sessions"
            );
            self.drain.send_replace(Drain::Over);
            let _ = timeout(GOODBYE_TIMEOUT, self.drain.closed()).await;
        }
        // A program that is to remove a record may hang.
        self.stop_orders(GOODBYE_TIMEOUT).await;
        self.sockets.admin.close().await;
        self.sockets.close_socket_but(None);
        let logs = Arc::clone(&self.shared.transfer_logs);
        // A writer that hangs is waited for no longer than a moment.
        let _ = spawn_blocking(move || logs.flush()).await;
        tracing::info!("stopped");
    }

    /// Serves new clients for this time, in which load balancers find out that it is no longer ready; asked again to end, it
    /// doesn't.
    async fn serve_on(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        tracing::info!(lame_duck = ?time, "shutdown requested: not ready (/readyz is 503), still accepting connections");
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                () = shutdown_requested(&mut self.commands, refuse) => return,
                // New clients are to be judged by a revocation list of today, too.
                change = self.watchers.changed() => self.apply_change(change),
            }
        }
    }
}

/// Says every now and then for what the drain waits. Never resolves.
async fn log_progress(shared: &Shared, time_limit: Duration) -> Infallible {
    let began = Instant::now();
    let mut ticks = interval_at(began + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    loop {
        ticks.tick().await;
        tracing::info!(
            sessions = shared.limiter.open(),
            transfers = shared.metrics.transfers_running(),
            undelivered = shared.deliveries.waiting(),
            left = rounded(&time_limit.saturating_sub(began.elapsed())),
            "still draining"
        );
    }
}

/// Refuses a reload: its answer is dropped.
fn refuse(_: ReloadAnswer) {
    tracing::warn!("reload ignored, the process is shutting down");
}
