//! The state that all sessions of the process share.

use std::sync::Arc;

use tokio::sync::Notify;

use super::dialogue::ShownDialogue;
use super::registry::SessionRegistry;
use crate::base::secret::Secret;
use crate::ftp::command::Command;
use crate::guard::Guard;
use crate::limit::Limiter;
use crate::net::delivery::Deliveries;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;
use crate::observe::transfer_log::TransferLogs;
use crate::tls::SessionStore;

/// The state that all sessions of the process share and no reload changes.
#[derive(Debug)]
pub struct Shared {
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// Admission limits.
    pub limiter: Arc<Limiter>,
    /// Protection against password guessing.
    pub guard: Arc<Guard>,
    /// Notified when an attempt has been decided.
    pub attempt_finished: Notify,
    /// The TLS sessions that data connections may resume.
    pub tls_sessions: Arc<SessionStore>,
    /// Resolves the host names of backends.
    pub resolver: Arc<Resolver>,
    /// What the drain waits for behind the sessions.
    pub deliveries: Arc<Deliveries>,
    /// The live sessions.
    pub sessions: Arc<SessionRegistry>,
    /// The transfer logs, which have a line for each transfer.
    pub transfer_logs: Arc<TransferLogs>,
    /// The clients whose dialogue is logged.
    pub dialogue: ShownDialogue,
    /// The password that backends are sent for users who are to be refused. No account has it, and no client learns it.
    decoy_password: Secret,
}

impl Shared {
    /// The state of a process without sessions yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            limiter: Arc::new(Limiter::new()),
            guard: Arc::new(Guard::new()),
            attempt_finished: Notify::new(),
            tls_sessions: Arc::new(SessionStore::new()),
            resolver: Arc::default(),
            deliveries: Arc::default(),
            sessions: Arc::default(),
            transfer_logs: Arc::default(),
            dialogue: ShownDialogue::default(),
            decoy_password: Secret::random(),
        }
    }

    /// This PASS or ACCT with the decoy password in place of the client's, and as long: servers refuse long lines with other
    /// words, and at once.
    pub(super) fn decoy(&self, command: &Command) -> Vec<u8> {
        let decoy = self.decoy_password.expose();
        let length = command.argument().len().max(decoy.len());
        let verb = command.verb_text().bytes().chain([b' ']);
        verb.chain(decoy.iter().copied().cycle().take(length))
            .collect()
    }
}
