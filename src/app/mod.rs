//! The process: start-up in order, reload, certificate swaps, drain.
//!
//! [`App::start`] opens everything or nothing, so that a process that runs is one that serves. [`App::run`] then waits
//! for signals and for new certificate files. What is live is held in one [`ArcSwap`] and replaced whole.

mod accept;
mod admin;
mod certificate;
mod drain;
mod fd_limit;
pub mod names;
pub mod notes;
mod prepare;
mod reload;
mod signals;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use crate::announce::LookupError;
use crate::backend::monitor::Monitors;
use crate::backend::{BackendError, Registry};
use crate::config::{self, TlsMode};
use crate::net::listen::{self, Acceptor};
use crate::observe::http::Readiness;
use crate::observe::metrics::Metrics;
use crate::passive::{PassiveListeners, PortError};
use crate::session::{Drain, Shared};
use crate::snapshot::Snapshot;
use crate::tls::{CertificateError, Fingerprint};

use admin::AdminEndpoint;
use certificate::CertificateWatcher;
use notes::Note;
use prepare::{BoundListener, prepare};
use signals::{ProcessSignal, Signals};

/// How many notes are worth a line each: there may be a thousand sites.
const MAX_WARNINGS: usize = 10;

/// How often a certificate is warned of that expires soon.
const DAY: Duration = Duration::from_secs(86_400);

/// How often the certificate files are polled. A change counts when two polls see it, so a new certificate is in use
/// within a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

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
    /// A passive address can't be looked up.
    #[error(transparent)]
    PassiveAddress(#[from] LookupError),
    /// A passive port can't be opened.
    #[error(transparent)]
    Passive(#[from] PortError),
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
    /// The operating system refuses something that every process has.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// A running process.
#[derive(Debug)]
pub struct App {
    config: PathBuf,
    shared: Arc<Shared>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is known of the sites and backends of every configuration so far.
    backends: Arc<Registry>,
    /// Those of every configuration that a session still holds.
    passive: PassiveListeners,
    /// By configured address, the tasks that accept.
    listeners: HashMap<SocketAddr, JoinHandle<()>>,
    admin: AdminEndpoint,
    certificate_watcher: CertificateWatcher,
    /// Those of the configuration in use.
    monitors: Monitors,
    readiness: watch::Sender<Readiness>,
    drain: watch::Sender<Drain>,
    signals: Signals,
}

impl App {
    /// Opens all that the configuration names and begins to accept.
    ///
    /// # Errors
    /// If anything is wrong or can't be opened; nothing is left open then.
    pub async fn start(config: PathBuf) -> Result<Self, StartError> {
        // First of all: a signal that arrives before its handler is installed ends the process.
        let signals = Signals::new()?;
        fd_limit::raise_limit();
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let sessions = Arc::clone(&shared.tls_sessions);
        let backends = Arc::<Registry>::default();
        let mut passive = PassiveListeners::new(sessions, Arc::clone(&metrics));
        let prepared = prepare(config.clone(), Arc::clone(&backends), &mut passive, |_| {
            false
        })
        .await?;
        let (readiness, ready) = watch::channel(Readiness::Starting);
        let admin = AdminEndpoint::open(prepared.settings().admin, &metrics, ready)?;

        let (snapshot, opened) = prepared.activate(&metrics);
        let certificate_watcher = CertificateWatcher::new(&snapshot);
        let mut app = Self {
            config,
            shared,
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            backends,
            passive,
            listeners: HashMap::new(),
            admin,
            certificate_watcher,
            monitors: Monitors::default(),
            readiness,
            drain: watch::channel(Drain::No).0,
            signals,
        };
        app.announce_ports();
        app.announce_certificate();
        app.warn();
        app.monitor_backends();
        let started = app.start_listeners(opened);
        // Before the log line, because operators and scripts wait for that line.
        app.readiness.send_replace(Readiness::Ready);
        started.log();
        Ok(app)
    }

    /// Serves until SIGTERM or SIGINT, and then until the last session has ended or `timeouts.drain` is over.
    pub async fn run(mut self) {
        let mut poll = interval(WATCH_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut days = interval_at(Instant::now() + DAY, DAY);
        loop {
            tokio::select! {
                signal = self.signals.next() => match signal {
                    ProcessSignal::Reload => self.reload().await,
                    ProcessSignal::Shutdown => break,
                },
                _ = poll.tick() => self.certificate_watcher.start_poll(),
                _ = days.tick() => self.warn_if_expiring(),
                found = self.certificate_watcher.polled() => if let Some(new) = found {
                    self.apply_certificate(new);
                },
            }
        }
        self.drain().await;
    }

    /// Watches the backends of the configuration in use, and no others.
    fn monitor_backends(&mut self) {
        let runtime = &self.snapshot.load().runtime;
        let Shared {
            resolver, metrics, ..
        } = &*self.shared;
        self.monitors =
            Monitors::start(&runtime.pools, runtime.settings.timeouts, resolver, metrics);
    }

    fn announce_ports(&self) {
        let ports = self.snapshot.load().runtime.passive.addresses();
        if let (Some(first), Some(last)) = (ports.first(), ports.last()) {
            tracing::info!(first = %first, last = %last, count = ports.len(), "passive ports open");
        }
    }

    fn announce_certificate(&self) {
        let certificate = &self.snapshot.load().certificate;
        tracing::info!(
            subject = certificate.subject,
            names = certificate.names_and_addresses(),
            expires_in_days = days_until(certificate.not_after),
            fingerprint = %Fingerprint(&certificate.fingerprint),
            "certificate in use"
        );
    }

    /// Warns of what `check` notes.
    fn warn(&self) {
        let snapshot = self.snapshot.load();
        let notes = notes::notes(
            &snapshot.runtime.settings,
            &snapshot.certificate,
            SystemTime::now(),
        );
        for note in notes.iter().take(MAX_WARNINGS) {
            match note {
                Note::Warning(text) => tracing::warn!("{text}"),
                Note::Hint(text) => tracing::info!("{text}"),
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
        if notes::expires_soon(&self.snapshot.load().certificate, SystemTime::now()) {
            tracing::warn!("{}", notes::EXPIRES_SOON);
        }
    }

    /// Begins to accept.
    fn start_listeners(&mut self, opened: Vec<BoundListener>) -> StartedListeners {
        let mut started = StartedListeners(Vec::new());
        for BoundListener {
            address,
            tls,
            socket,
        } in opened
        {
            started
                .0
                .push((socket.local_addr().unwrap_or(address), tls));
            let task = accept::accept(
                Acceptor::new(socket),
                address,
                Arc::clone(&self.snapshot),
                Arc::clone(&self.shared),
                self.drain.subscribe(),
            );
            self.listeners.insert(address, tokio::spawn(task));
        }
        started
    }
}

/// Listeners that have begun to accept, at their real addresses.
#[must_use = "the operator wants to know"]
struct StartedListeners(Vec<(SocketAddr, TlsMode)>);

impl StartedListeners {
    fn log(self) {
        for (address, tls) in self.0 {
            tracing::info!(%address, tls = tls.as_str(), "listening");
        }
    }
}

fn open(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::bind(address).map_err(|source| StartError::Listen {
        what,
        address,
        source,
    })
}

/// Ends a task that owns a listener. When this returns the address is free, and the next reload may use it again.
async fn close(accepting: JoinHandle<()>) {
    accepting.abort();
    let _ = accepting.await;
}

fn days_until(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs() / 86_400)
}
