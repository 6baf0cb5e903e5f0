//! The process: start-up in order, reload, certificate swaps, drain.
//!
//! [`App::start`] opens everything or nothing, so that a process that runs is one that serves. [`App::run`] then waits
//! for commands, signals among them, and for new certificate files. What is live is held in one [`ArcSwap`] and replaced whole.

mod accept;
mod certificate;
mod configuration;
mod drain;
mod fd_limit;
pub mod names;
pub mod notes;
mod refused;
mod signals;
mod sockets;
mod users;
mod watcher;

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at};

use crate::admin::{Readiness, Started};
use crate::announce::LookupError;
use crate::backend::monitor::Monitors;
use crate::backend::{BackendError, Registry};
use crate::command::Command;
use crate::config;
use crate::net::listen;
use crate::net::unix::SocketError;
use crate::observe::log::LogFilter;
use crate::observe::metrics::Metrics;
use crate::observe::reloads::{Refusal, ReloadLog};
use crate::observe::transfer_log::TransferLogError;
use crate::outcome::{ReloadResult, ReloadSubject};
use crate::passive::{PassiveListeners, PortError};
use crate::policy::UserFiles;
use crate::policy::user_watch::UserWatch;
use crate::policy::users::UserFileError;
use crate::session::{Drain, Shared};
use crate::snapshot::Snapshot;
use crate::tls::{self, CertificateError, Fingerprint};

use configuration::prepare;
use notes::Severity;
use refused::RefusedConfiguration;
use signals::Signals;
use sockets::Sockets;
use watcher::Watcher;

/// How many notes are worth a line each: there may be a thousand sites.
const MAX_WARNINGS: usize = 10;

/// How often a certificate is warned of that expires soon.
const DAY: Duration = Duration::from_secs(86_400);

/// Commands that may wait. Further ones wait with their senders.
const COMMAND_QUEUE: usize = 8;

/// Why the process can't start, or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Reading the configuration and the files that it names did not finish in time.
    #[error("timed out after 30 s reading the configuration or a file that it names")]
    FilesTimedOut,
    /// The certificate can't be served.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A backend's TLS can't be set up.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A file of users can't be used.
    #[error(transparent)]
    Users(#[from] UserFileError),
    /// A passive address can't be looked up.
    #[error(transparent)]
    PassiveAddress(#[from] LookupError),
    /// A passive port can't be opened.
    #[error(transparent)]
    Passive(#[from] PortError),
    /// A transfer log can't be opened.
    #[error(transparent)]
    TransferLog(#[from] TransferLogError),
    /// A listener can't be opened.
    #[error("the {what} {address} can't be opened: {source}{}", listen::bind_error_hint(*address, source))]
    Listen {
        /// `listener` or `admin endpoint`.
        what: &'static str,
        /// As configured.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The socket for actions can't be opened.
    #[error("the socket {} (admin.socket) can't be opened: {source}", path.display())]
    Socket {
        /// As configured.
        path: PathBuf,
        /// What is wrong.
        source: SocketError,
    },
    /// The operating system refuses something that every process has.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// What it says of a reload.
    fn refusal(&self) -> Refusal {
        let text = self.to_string();
        let summary = match self {
            Self::Config(error) => error.summary(),
            _ => text.clone(),
        };
        Refusal { text, summary }
    }

    /// Whether it is what the configuration and the files that it names hold, and nothing else.
    fn is_in_files(&self) -> bool {
        match self {
            Self::Config(_) | Self::Certificate(_) | Self::Backend(_) | Self::Users(_) => true,
            Self::FilesTimedOut
            | Self::PassiveAddress(_)
            | Self::Passive(_)
            | Self::Listen { .. }
            | Self::TransferLog(_)
            | Self::Socket { .. }
            | Self::System(_) => false,
        }
    }
}

/// A running process.
#[derive(Debug)]
pub struct App {
    config: PathBuf,
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is known of the sites and backends of every configuration so far.
    backends: Arc<Registry>,
    sockets: Sockets,
    certificate_watcher: Watcher<tls::Watch>,
    user_watcher: Watcher<UserWatch>,
    /// Off, unless the last reload was refused.
    refused_watcher: Watcher<RefusedConfiguration>,
    /// Those of the configuration in use.
    monitors: Monitors,
    /// For the live view.
    reloads: Arc<ReloadLog>,
    started: Started,
    /// What is logged, for operators who change it.
    log: LogFilter,
    /// For operators' commands, beside those of signals.
    command_sender: mpsc::Sender<Command>,
    readiness: watch::Sender<Readiness>,
    drain: watch::Sender<Drain>,
    commands: mpsc::Receiver<Command>,
}

impl App {
    /// Opens all that the configuration names and begins to accept.
    ///
    /// # Errors
    /// If anything is wrong or can't be opened; nothing is left open then.
    pub async fn start(
        config: PathBuf,
        metrics: Arc<Metrics>,
        log: LogFilter,
    ) -> Result<Self, StartError> {
        let started = Started::now();
        // First of all: a signal that arrives before its handler is installed ends the process.
        let signals = Signals::new()?;
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let (command_sender, commands) = mpsc::channel(COMMAND_QUEUE);
        let logs = Arc::clone(&shared.transfer_logs);
        tokio::spawn(signals.send_to(command_sender.clone(), logs));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %config.display(),
            start = %shared.sessions.instance(),
            "starting"
        );
        fd_limit::raise_limit();
        let sessions = Arc::clone(&shared.tls_sessions);
        let backends = Arc::<Registry>::default();
        let passive = PassiveListeners::new(sessions, Arc::clone(&metrics));
        let mut sockets = Sockets::new(passive);
        let (known, users) = (Arc::clone(&backends), UserFiles::default());
        let prepared = prepare(config.clone(), known, users, &shared, &mut sockets).await?;

        let (snapshot, new) = prepared.activate(&shared);
        let certificate_watcher = certificate::watcher(&snapshot);
        let user_watcher = users::watcher(&snapshot);
        let mut app = Self {
            config,
            shared,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            backends,
            sockets,
            certificate_watcher,
            user_watcher,
            refused_watcher: Watcher::new(None),
            monitors: Monitors::default(),
            reloads: Arc::default(),
            started,
            command_sender,
            log,
            readiness: watch::channel(Readiness::Starting).0,
            drain: watch::channel(Drain::No).0,
            commands,
        };
        app.start_admin(new.admin);
        app.start_socket(new.socket);
        app.announce_ports();
        app.announce_certificates();
        app.warn();
        app.monitor_backends();
        let started = app.start_listeners(new.listeners);
        // Before the log line, because operators and scripts wait for that line.
        app.readiness.send_replace(Readiness::Ready);
        started.log();
        Ok(app)
    }

    /// Serves until SIGTERM or SIGINT, and then until the last session has ended or `timeouts.drain` is over.
    pub async fn run(mut self) {
        let mut days = interval_at(Instant::now() + DAY, DAY);
        loop {
            tokio::select! {
                Some(command) = self.commands.recv() => match command {
                    Command::Reload(answer) => match self.reload().await {
                        // A signal waits for this only to send no other meanwhile.
                        ControlFlow::Continue(result) => drop(answer.send(result)),
                        ControlFlow::Break(()) => break,
                    },
                    Command::Shutdown => break,
                },
                new = self.certificate_watcher.changed() => self.apply_certificates(new),
                found = self.user_watcher.changed() => self.report_users(&found),
                refused = self.refused_watcher.changed() => self.report_refused(refused),
                _ = days.tick() => self.warn_if_expiring(),
            }
        }
        self.drain().await;
    }

    /// Counts a reload that has ended, and keeps it for the live view.
    fn note_reload(&self, subject: ReloadSubject, refusal: Option<Refusal>) {
        let result = match refusal {
            None => ReloadResult::Ok,
            Some(_) => ReloadResult::Refused,
        };
        self.shared.metrics.reload(subject, result);
        self.reloads.record(subject, refusal);
    }

    fn announce_ports(&self) {
        let ports = self.snapshot.load().runtime.passive.addresses();
        if let (Some(first), Some(last)) = (ports.first(), ports.last()) {
            tracing::info!(first = %first, last = %last, count = ports.len(), "passive ports open");
        }
    }

    fn announce_certificates(&self) {
        for certificate in self.snapshot.load().certificates.pairs() {
            tracing::info!(
                subject = certificate.subject,
                names = certificate.names_and_addresses(),
                expires_in_days = days_until(certificate.not_after),
                fingerprint = %Fingerprint(&certificate.fingerprint),
                "certificate in use"
            );
        }
    }

    /// Warns of what `check` notes.
    fn warn(&self) {
        let snapshot = self.snapshot.load();
        let notes = notes::notes(
            &snapshot.runtime.settings,
            &snapshot.certificates,
            SystemTime::now(),
        );
        for note in notes.iter().take(MAX_WARNINGS) {
            match note.severity {
                Severity::Warning => tracing::warn!("{note}"),
                Severity::Hint => tracing::info!("{note}"),
            }
        }
        if notes.len() > MAX_WARNINGS {
            let more = notes.len() - MAX_WARNINGS;
            tracing::warn!(
                more,
                "further warnings omitted, `portcullis check` shows all of them"
            );
        }
    }

    /// The certificate may have been valid for long enough when it was loaded.
    fn warn_if_expiring(&self) {
        let now = SystemTime::now();
        let snapshot = self.snapshot.load();
        let mut certificates = snapshot.certificates.pairs();
        if certificates.any(|pair| notes::expires_soon(pair, now)) {
            tracing::warn!("{}", notes::EXPIRES_SOON);
        }
    }
}

fn days_until(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs() / 86_400)
}
