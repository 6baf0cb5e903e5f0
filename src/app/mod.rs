//! The process: start-up in order, reload, certificate swaps, drain.
//!
//! [`App::start`] opens everything or nothing, so that a process that runs is one that serves. [`App::run`] then waits
//! for signals and for new certificate files. What is live is held in one [`ArcSwap`] and replaced whole.

mod accept;
mod descriptors;
pub mod names;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::announce::{Announcements, LookUpError};
use crate::config::{self, ListenerTls, Settings};
use crate::live::{self, BackendError, Live, Policy};
use crate::net::listen::{self, Acceptor};
use crate::observe::http::{self, Admin, Readiness};
use crate::observe::metrics::{Metrics, ReloadResult, ReloadSubject};
use crate::passive::{PassiveListeners, PassivePorts, PortError};
use crate::session::{Drain, Shared};
use crate::tls::{CertificateError, CertificatePair, Watch};

/// Why the process can't start, or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The certificate can't be served.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A backend's TLS can't be set up.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A passive address can't be looked up.
    #[error(transparent)]
    PassiveAddress(#[from] LookUpError),
    /// A passive port can't be opened.
    #[error(transparent)]
    Passive(#[from] PortError),
    /// A listener can't be opened.
    #[error("the {what} {address} can't be opened: {source}")]
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

/// Everything that a configuration's files say, read and checked, with nothing opened yet.
#[derive(Debug)]
pub struct Checked {
    settings: Settings,
    /// The certificate pair.
    pub certificate: CertificatePair,
    backend_tls: HashMap<String, Vec<Option<crate::tls::BackendTlsClient>>>,
}

/// Reads and checks a configuration and every file that it names. Blocks on the file system.
///
/// # Errors
/// The first thing found wrong.
pub fn load(path: &Path) -> Result<Checked, StartError> {
    let settings = config::load(path)?;
    let certificate = CertificatePair::load(
        &settings.tls.certificate,
        &settings.tls.private_key,
        SystemTime::now(),
    )?;
    let backend_tls = live::backend_tls(&settings)?;
    Ok(Checked {
        settings,
        certificate,
        backend_tls,
    })
}

/// A running process.
#[derive(Debug)]
pub struct App {
    config: PathBuf,
    shared: Arc<Shared>,
    live: Arc<ArcSwap<Live>>,
    passive: PassiveListeners,
    listeners: HashMap<SocketAddr, JoinHandle<()>>,
    admin: (SocketAddr, JoinHandle<()>),
    watch: Option<Watch>,
    readiness: watch::Sender<Readiness>,
    drain: watch::Sender<Drain>,
    signals: Signals,
}

#[derive(Debug)]
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl App {
    /// Opens all that the configuration names and begins to accept.
    ///
    /// # Errors
    /// If anything is wrong or can't be opened; nothing is left open then.
    pub async fn start(config: PathBuf) -> Result<Self, StartError> {
        // First of all, since a signal before its handler is there ends the process.
        let signals = Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        descriptors::claim();
        let checked = load(&config)?;
        descriptors::judge(&checked.settings);
        let announcements = names::announcements(&checked.settings.passive).await?;
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let mut passive = PassiveListeners::new(Arc::clone(&shared.tls_sessions), metrics);
        let ports = passive
            .open(
                listener_addresses(&checked.settings),
                &checked.settings.passive.ports,
            )
            .await?;
        let opened = open_listeners(&checked.settings, |_| false)?;
        let admin_address = checked.settings.admin;
        let admin = open("admin endpoint", admin_address)?;

        let (readiness, ready) = watch::channel(Readiness::Starting);
        let admin = serve_admin(admin, Arc::clone(&shared.metrics), ready);
        let live = put_live(checked, ports, announcements, &shared.metrics);
        let watch = watch_certificate(&live);
        let mut app = Self {
            config,
            shared,
            live: Arc::new(ArcSwap::from_pointee(live)),
            passive,
            listeners: HashMap::new(),
            admin: (admin_address, admin),
            watch: Some(watch),
            readiness,
            drain: watch::channel(Drain::No).0,
            signals,
        };
        app.announce();
        let accepting = app.accept_from(opened);
        // Before the log says so, for whoever waits for the log.
        app.readiness.send_replace(Readiness::Ready);
        log_listeners(&accepting);
        Ok(app)
    }

    /// Serves until SIGTERM or SIGINT, and then until the last session has ended or `timeouts.drain` is over.
    pub async fn run(mut self) {
        let mut look = interval(WATCH_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = self.signals.hangup.recv() => self.reload().await,
                Some(()) = self.signals.terminate.recv() => break,
                Some(()) = self.signals.interrupt.recv() => break,
                _ = look.tick() => self.look_at_certificate().await,
            }
        }
        self.drain().await;
    }

    fn announce(&self) {
        let live = self.live.load();
        let ports = live.policy.passive.addresses();
        if let (Some(first), Some(last)) = (ports.first(), ports.last()) {
            tracing::info!(first = %first, last = %last, count = ports.len(), "passive ports open");
        }
        let certificate = &live.certificate;
        tracing::info!(
            subject = certificate.subject,
            names = certificate.names.join(" "),
            expires_in_days = days_until(certificate.not_after),
            "certificate in use"
        );
    }

    /// Begins to accept; gives the addresses as they really are.
    fn accept_from(
        &mut self,
        opened: Vec<(SocketAddr, ListenerTls, TcpListener)>,
    ) -> Vec<(SocketAddr, ListenerTls)> {
        let mut accepting = Vec::new();
        for (configured, tls, listener) in opened {
            accepting.push((listener.local_addr().unwrap_or(configured), tls));
            let task = accept::accept(
                Acceptor::new(listener),
                configured,
                Arc::clone(&self.live),
                Arc::clone(&self.shared),
                self.drain.subscribe(),
            );
            self.listeners.insert(configured, tokio::spawn(task));
        }
        accepting
    }

    /// SIGHUP: puts the whole configuration in force for new sessions, or changes nothing and says why.
    async fn reload(&mut self) {
        match self.try_reload().await {
            Ok(()) => {
                self.shared
                    .metrics
                    .reload(ReloadSubject::Configuration, ReloadResult::Ok);
                tracing::info!(config = %self.config.display(), "configuration reloaded");
                self.announce();
            }
            Err(error) => {
                self.shared
                    .metrics
                    .reload(ReloadSubject::Configuration, ReloadResult::Refused);
                tracing::error!(config = %self.config.display(), %error, "reload refused, the configuration in force stays");
            }
        }
    }

    async fn try_reload(&mut self) -> Result<(), StartError> {
        let path = self.config.clone();
        let checked = spawn_blocking(move || load(&path))
            .await
            .map_err(io::Error::other)??;
        let settings = &checked.settings;
        let announcements = names::announcements(&settings.passive).await?;
        let ports = self
            .passive
            .open(listener_addresses(settings), &settings.passive.ports)
            .await?;
        let opened = open_listeners(settings, |address| self.listeners.contains_key(&address))?;
        if settings.admin != self.admin.0 {
            let listener = open("admin endpoint", settings.admin)?;
            close(&mut self.admin.1).await;
            let admin = serve_admin(
                listener,
                Arc::clone(&self.shared.metrics),
                self.readiness.subscribe(),
            );
            self.admin = (settings.admin, admin);
        }

        // From here on nothing can fail.
        descriptors::judge(&checked.settings);
        let live = put_live(checked, ports, announcements, &self.shared.metrics);
        self.watch = Some(watch_certificate(&live));
        let kept: Vec<SocketAddr> = live
            .policy
            .settings
            .listeners
            .iter()
            .map(|listener| listener.address)
            .collect();
        self.live.store(Arc::new(live));
        let gone = self
            .listeners
            .extract_if(|address, _| !kept.contains(address));
        for (address, mut accepting) in gone {
            close(&mut accepting).await;
            tracing::info!(%address, "no longer listening");
        }
        log_listeners(&self.accept_from(opened));
        Ok(())
    }

    /// Puts a new certificate in use, if its files have changed and are good.
    async fn look_at_certificate(&mut self) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        let looked = spawn_blocking(move || {
            let found = watch.poll(SystemTime::now());
            (watch, found)
        });
        let Ok((watch, found)) = looked.await else {
            tracing::error!(
                "the certificate watch panicked, certificates are no longer swapped before a SIGHUP"
            );
            return;
        };
        self.watch = Some(watch);
        let metrics = &self.shared.metrics;
        match found {
            None => {}
            Some(Ok(pair)) => {
                let former = self.live.load_full();
                let live = Live::new(Arc::clone(&former.policy), Arc::new(pair));
                metrics.certificate_not_after(unix_time(live.certificate.not_after));
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Ok);
                self.live.store(Arc::new(live));
                self.announce();
            }
            Some(Err(error)) => {
                metrics.reload(ReloadSubject::Certificate, ReloadResult::Refused);
                tracing::error!(%error, "new certificate refused, the one in use stays");
            }
        }
    }

    /// Ends the process without ending transfers, as far as time allows.
    async fn drain(mut self) {
        let patience = self.live.load().policy.settings.timeouts.drain;
        tracing::info!(sessions = self.shared.limiter.open(), patience = ?patience, "draining");
        self.readiness.send_replace(Readiness::Draining);
        for accepting in self.listeners.into_values() {
            accepting.abort();
            // Once it is over, no session can begin that doesn't hear of the drain.
            let _ = accepting.await;
        }
        self.drain.send_replace(Drain::Begun);
        let hastened = async {
            tokio::select! {
                Some(()) = self.signals.terminate.recv() => {}
                Some(()) = self.signals.interrupt.recv() => {}
            }
        };
        // Each session holds a receiver, so the channel is closed when the last one has ended.
        let in_time = tokio::select! {
            ended = timeout(patience, self.drain.closed()) => ended.is_ok(),
            () = hastened => false,
        };
        if !in_time {
            tracing::warn!(
                sessions = self.shared.limiter.open(),
                "drain is over, ending what still runs"
            );
            self.drain.send_replace(Drain::Over);
            let _ = timeout(LAST_WORDS, self.drain.closed()).await;
        }
        self.admin.1.abort();
        tracing::info!("stopped");
    }
}

/// Ends a task that owns a listener. When this returns the address is free, and the next reload may want it again.
async fn close(accepting: &mut JoinHandle<()>) {
    accepting.abort();
    let _ = accepting.await;
}

/// Listeners on one address share its passive ports, so those are behind the balancers of all of them.
fn put_behind_balancers(settings: &Settings, ports: &PassivePorts) {
    let mut by_address: HashMap<IpAddr, Vec<IpNet>> = HashMap::new();
    for listener in &settings.listeners {
        let balancers = by_address.entry(listener.address.ip()).or_default();
        balancers.extend(
            listener
                .proxy_protocol
                .iter()
                .flat_map(|trusted| trusted.iter()),
        );
    }
    for (address, balancers) in by_address {
        ports.put_behind(address, balancers);
    }
}

fn listener_addresses(settings: &Settings) -> impl Iterator<Item = IpAddr> {
    settings
        .listeners
        .iter()
        .map(|listener| listener.address.ip())
}

/// Opens the listeners that are not open already.
fn open_listeners(
    settings: &Settings,
    is_open: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<(SocketAddr, ListenerTls, TcpListener)>, StartError> {
    settings
        .listeners
        .iter()
        .filter(|listener| !is_open(listener.address))
        .map(|listener| {
            Ok((
                listener.address,
                listener.tls,
                open("listener", listener.address)?,
            ))
        })
        .collect()
}

fn open(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    listen::bind(address).map_err(|source| StartError::Listen {
        what,
        address,
        source,
    })
}

fn log_listeners(accepting: &[(SocketAddr, ListenerTls)]) {
    for (address, tls) in accepting {
        tracing::info!(%address, tls = tls.as_str(), "listening");
    }
}

fn put_live(
    checked: Checked,
    ports: PassivePorts,
    announcements: Announcements,
    metrics: &Arc<Metrics>,
) -> Live {
    names::follow(&announcements, metrics);
    put_behind_balancers(&checked.settings, &ports);
    for site in &checked.settings.sites {
        metrics.declare_site(&site.name);
    }
    metrics.certificate_not_after(unix_time(checked.certificate.not_after));
    metrics.configuration_loaded();
    let policy = Policy::new(checked.settings, checked.backend_tls, ports, announcements);
    Live::new(Arc::new(policy), Arc::new(checked.certificate))
}

fn watch_certificate(live: &Live) -> Watch {
    let tls = &live.policy.settings.tls;
    Watch::new(&tls.certificate, &tls.private_key, &live.certificate)
}

fn serve_admin(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: watch::Receiver<Readiness>,
) -> JoinHandle<()> {
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "admin endpoint open");
    }
    let admin = Arc::new(Admin { metrics, readiness });
    tokio::spawn(http::serve(listener, admin, std::future::pending::<()>()))
}

fn unix_time(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

fn days_until(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::now())
        .map_or(0, |left| left.as_secs() / 86_400)
}

/// How often the certificate files are looked at. A change counts when it is seen twice, so a new certificate is in use
/// within a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How long sessions may take to say goodbye when the drain is over.
const LAST_WORDS: Duration = Duration::from_secs(5);
