//! The end of the process, without ending transfers, as far as time allows.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::App;
use crate::admin::Readiness;
use crate::command::Command;
use crate::session::Drain;

/// How long sessions may take to say goodbye when the drain is over.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

impl App {
    /// Lets the running transfers finish, begins no other, and returns when the last session has ended or time is over.
    pub(super) async fn drain(mut self) {
        let timeouts = self.snapshot.load().runtime.settings.timeouts;
        self.readiness.send_replace(Readiness::Draining);
        self.serve_on(timeouts.lame_duck).await;
        let time_limit = timeouts.drain;
        tracing::info!(sessions = self.shared.limiter.open(), patience = ?time_limit, "draining");
        // Once this has returned, no session can start that would miss the drain.
        self.sockets.listeners.close().await;
        self.drain.send_replace(Drain::Begun);
        // Each session holds a receiver, so the channel is closed when the last one has ended.
        let in_time = tokio::select! {
            ended = timeout(time_limit, self.drain.closed()) => ended.is_ok(),
            // Asked again: now.
            () = shutdown_requested(&mut self.commands) => false,
        };
        if !in_time {
            tracing::warn!(
                sessions = self.shared.limiter.open(),
                "drain timeout reached, terminating the remaining sessions"
            );
            self.drain.send_replace(Drain::Over);
            let _ = timeout(GOODBYE_TIMEOUT, self.drain.closed()).await;
        }
        self.sockets.admin.close().await;
        self.sockets.close_socket_but(None);
        tracing::info!("stopped");
    }

    /// Serves new clients for this time, in which load balancers find out that it is no longer ready; asked again to end, it
    /// doesn't.
    async fn serve_on(&mut self, time: Duration) {
        if time.is_zero() {
            return;
        }
        tracing::info!(lame_duck = ?time, "not ready any more, serving on until load balancers know");
        // Over, or cut short.
        let _ = timeout(time, shutdown_requested(&mut self.commands)).await;
    }
}

/// Waits for a request to end. Others are refused.
pub(super) async fn shutdown_requested(commands: &mut mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Reload(_) => {}
            Command::Shutdown => return,
        }
    }
    // None can come any more.
    std::future::pending().await
}
