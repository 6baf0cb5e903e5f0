//! The process: start-up in order, reload, certificate swaps, drain.
//!
//! [`App::start`] opens everything or nothing, so that a process that runs is one that serves. [`App::run`] then waits
//! for commands, signals among them, and for new certificate files. What is live is held in one [`ArcSwap`] and replaced whole.

mod accept;
mod acme;
mod backend_client_certificates;
mod certificate;
mod client_certificates;
mod configuration;
mod drain;
mod error;
mod fd_limit;
mod file_work;
mod lookup;
pub mod names;
pub mod notes;
mod refused;
mod reload;
mod serving;
mod signals;
mod sockets;
mod supervision;
mod warnings;
mod watcher;
mod watchers;

use std::ops::ControlFlow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at};

use crate::acme::{Acme, EndingOrders, Status as AcmeStatus};
use crate::admin::{Readiness, Started};
use crate::backend::Registry;
use crate::backend::monitor::Monitors;
use crate::base::text::escape_path;
use crate::command::{Command, shutdown_requested};
use crate::config;
use crate::net::listen::Opener;
use crate::observe::log::LogFilter;
use crate::observe::metrics::Metrics;
use crate::observe::reloads::{Refusal, ReloadLog};
use crate::outcome::ReloadSubject;
use crate::passive::PassiveListeners;
use crate::policy::{CredentialFiles, UserFiles};
use crate::session::{Drain, Shared};
use crate::snapshot::Snapshot;
use crate::tls::BackendClientCertificates;
use crate::tls::fips;

use configuration::{Former, prepare};
pub use error::StartError;
use file_work::FileWork;
use notes::Note;
use signals::Signals;
use sockets::Sockets;
use supervision::{Sources, Supervision};
use warnings::{HOUR, Reminders};
use watchers::Watchers;

pub use crate::net::inherited::InheritedSockets;

/// Commands that may wait. Further ones wait with their senders.
const COMMAND_QUEUE: usize = 8;

/// A running process.
#[derive(Debug)]
pub struct App {
    config: config::Source,
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// The state of the sites and backends of every configuration so far.
    backends: Arc<Registry>,
    files: FileWork,
    sockets: Sockets,
    watchers: Watchers,
    /// The monitors of the configuration in use.
    monitors: Monitors,
    /// The orders of the configuration in use, if it has any.
    acme: Option<Acme>,
    /// The orders of former configurations.
    acme_ending: EndingOrders,
    /// The state of orders, for the live view.
    acme_status: Arc<AcmeStatus>,
    /// The last reloads, for the live view.
    reloads: Arc<ReloadLog>,
    started: Started,
    /// The filter of the log, for operators who change it.
    log: LogFilter,
    /// The sender of operators' commands, beside those of signals.
    command_sender: mpsc::Sender<Command>,
    readiness: watch::Sender<Readiness>,
    drain: watch::Sender<Drain>,
    commands: mpsc::Receiver<Command>,
    supervision: Supervision,
    /// The reminders of certificates that expire soon.
    reminders: Reminders,
    /// On the files of the configuration in force. Found while it was read: a file system that hangs must not hold this loop up.
    permission_notes: Vec<Note>,
}

impl App {
    /// Opens all that the configuration names and begins to accept; what a service manager holds already is taken from it. Breaks
    /// off if the process is to end meanwhile: name servers and network file systems may take their time.
    ///
    /// # Errors
    /// If anything is wrong or can't be opened; nothing is left open then.
    pub async fn start(
        config: config::Source,
        metrics: Arc<Metrics>,
        log: LogFilter,
        inherited: InheritedSockets,
    ) -> Result<ControlFlow<(), Self>, StartError> {
        let started = Started::now();
        // First of all: a signal that arrives before its handler is installed ends the process.
        let signals = Signals::new()?;
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let (command_sender, mut commands) = mpsc::channel(COMMAND_QUEUE);
        let logs = Arc::clone(&shared.transfer_logs);
        tokio::spawn(signals.send_to(command_sender.clone(), logs));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %escape_path(&config.file),
            start = %shared.sessions.instance(),
            "starting"
        );
        fips::check()?;
        fd_limit::raise_limit();
        let sessions = Arc::clone(&shared.tls_sessions);
        let backends = Arc::<Registry>::default();
        let supervision = Supervision::from_environment();
        let opener = Arc::new(Opener::new(inherited, supervision.liveness()));
        let passive = PassiveListeners::new(sessions, Arc::clone(&metrics));
        let mut sockets = Sockets::new(passive.opened_by(Arc::clone(&opener)), opener);
        let (known, users) = (Arc::clone(&backends), UserFiles::default());
        let former = Former {
            users,
            credentials: CredentialFiles::default(),
            certificates: None,
            backend_client_certificates: BackendClientCertificates::default(),
        };
        let files = FileWork::default();
        let mut reloads_asked_for = Vec::new();
        let prepared = tokio::select! {
            prepared = prepare(config.clone(), known, former, &shared, &files, &mut sockets) => prepared?,
            () = shutdown_requested(&mut commands, |answer| reloads_asked_for.push(answer)) => {
                tracing::info!("shutdown requested during the start");
                tracing::info!("stopped");
                return Ok(ControlFlow::Break(()));
            }
        };

        let reloads = Arc::new(ReloadLog::new(metrics));
        let permission_notes = prepared.permission_notes();
        let (snapshot, new) = prepared.activate(&shared, &reloads);
        let watchers = Watchers::new(&snapshot, &reloads);
        let mut app = Self {
            config,
            shared,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            backends,
            files,
            sockets,
            watchers,
            monitors: Monitors::default(),
            acme: None,
            acme_ending: EndingOrders::default(),
            acme_status: Arc::default(),
            reloads,
            started,
            command_sender,
            log,
            readiness: watch::channel(Readiness::Starting).0,
            drain: watch::channel(Drain::No).0,
            commands,
            supervision,
            reminders: Reminders::default(),
            permission_notes,
        };
        app.start_admin(new.admin);
        app.start_socket(new.socket);
        app.announce_ports();
        app.announce_certificates();
        app.announce_backend_client_certificates();
        app.announce_client_trust();
        app.settle_refusals();
        app.log_refused_certificates();
        app.warn_of_descriptors();
        app.warn();
        app.monitor_backends();
        app.order_certificates();
        let started = app.start_listeners(new.listeners);
        // Before the log line, because operators and scripts wait for that line.
        app.readiness.send_replace(Readiness::Ready);
        started.log();
        app.supervision.ready(app.status_sources());
        for answer in reloads_asked_for {
            // There is room: the one source of them, SIGHUP, waits for the answer.
            let _ = app.command_sender.try_send(Command::Reload(answer));
        }
        Ok(ControlFlow::Continue(app))
    }

    /// Serves until SIGTERM or SIGINT, and then until the last session has ended or `timeouts.drain` is over.
    pub async fn run(mut self) {
        let mut hours = interval_at(Instant::now() + HOUR, HOUR);
        loop {
            tokio::select! {
                Some(command) = self.commands.recv() => match command {
                    Command::Reload(answer) => {
                        if self.reload_for(answer).await.is_break() {
                            break;
                        }
                    }
                    Command::Shutdown => break,
                },
                change = self.watchers.changed() => self.apply_change(change),
                _ = hours.tick() => {
                    self.warn_if_expiring();
                    self.warn_of_ended_lists();
                }
            }
        }
        self.drain().await;
    }

    /// The sources of the status that the service manager is sent.
    pub(in crate::app) fn status_sources(&self) -> Sources {
        Sources {
            shared: Arc::clone(&self.shared),
            reloads: Arc::clone(&self.reloads),
            readiness: self.readiness.subscribe(),
            snapshot: Arc::clone(&self.snapshot),
        }
    }

    /// Counts a reload that has ended, and keeps it for the live view.
    fn note_reload(&self, subject: ReloadSubject, refusal: Option<Refusal>) {
        self.reloads.record(subject, None, refusal);
    }

    /// As [`note_reload`](Self::note_reload), for one of several subjects of a kind, which has this name.
    fn note_reload_of(&self, subject: ReloadSubject, name: Arc<str>, refusal: Option<Refusal>) {
        self.reloads.record(subject, Some(name), refusal);
    }

    fn announce_ports(&self) {
        let ports = self.snapshot.load().runtime.passive.addresses();
        if let (Some(first), Some(last)) = (ports.first(), ports.last()) {
            let announced = self.config.overrides.announced_ports.as_ref();
            let announced = announced.map(|ports| *ports.start());
            tracing::info!(first = %first, last = %last, count = ports.len(), announced_first = announced, "passive ports open");
        }
    }

    fn announce_backend_client_certificates(&self) {
        let snapshot = self.snapshot.load();
        let certificates = snapshot.runtime.pools.backend_client_certificates();
        certificates
            .all()
            .for_each(|certificate| backend_client_certificates::announce(certificate));
    }
}
