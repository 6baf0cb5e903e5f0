//! A configuration, at start as on SIGHUP: prepared as a whole, then put in force.
//!
//! Everything that can fail fails while it is prepared: read, checked, looked up and opened, but not active yet. At start
//! that ends the process; at a reload everything stays as it is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::drain::shutdown_requested;
use super::refused::RefusedConfiguration;
use super::sockets::{BoundListener, NewListeners, OpenedSockets, Sockets};
use super::watcher::Watcher;
use super::{App, StartError, accept, certificate, fd_limit, names, users};
use crate::admin::{self, Admin};
use crate::announce::Announcements;
use crate::backend::monitor::{MonitorContext, Monitors};
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings, TlsMode};
use crate::net::listen::Acceptor;
use crate::net::unix::SocketName;
use crate::observe::transfer_log::OpenLogs;
use crate::outcome::ReloadSubject;
use crate::passive::PassivePorts;
use crate::policy::UserFiles;
use crate::policy::users::LoadedUsers;
use crate::session::Shared;
use crate::snapshot::{Runtime, Snapshot};
use crate::tls::CertificateSet;

/// Time limit for reading the files of a configuration. A network file system can block without end, and SIGTERM would
/// have to wait.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// All that a configuration takes.
pub(super) struct PreparedConfig {
    loaded: LoadedFiles,
    announcements: Announcements,
    sockets: OpenedSockets,
    transfer_logs: OpenLogs,
}

/// The content of a configuration's files, with nothing looked up or opened yet.
struct LoadedFiles {
    settings: Settings,
    certificates: CertificateSet,
    pools: Pools,
    users: LoadedUsers,
}

/// Listeners that have begun to accept, at their real addresses.
#[must_use = "the operator wants to know"]
pub(super) struct StartedListeners(Vec<(SocketAddr, TlsMode)>);

impl StartedListeners {
    pub fn log(self) {
        for (address, tls) in self.0 {
            tracing::info!(%address, tls = tls.as_str(), "listening");
        }
    }
}

/// Prepares the configuration in the file `config`, with the sockets that are not open already, and with the files of users
/// that are in use.
///
/// # Errors
/// The first thing that is wrong or can't be had; what was opened until then is closed again.
pub(super) async fn prepare(
    config: PathBuf,
    backends: Arc<Registry>,
    former_users: UserFiles,
    shared: &Shared,
    sockets: &mut Sockets,
) -> Result<PreparedConfig, StartError> {
    let known = Arc::clone(&backends);
    let reading = spawn_blocking(move || read(&config, &known, &former_users));
    let loaded = timeout(READ_TIMEOUT, reading)
        .await
        .map_err(|_| StartError::FilesTimedOut)?
        .map_err(io::Error::other)??;
    let settings = &loaded.settings;
    fd_limit::warn_if_low(settings);
    loaded
        .pools
        .discover(&settings.dns_servers, &backends)
        .await;
    let announcements = names::announcements(&settings.passive).await?;
    let transfer_logs = open_transfer_logs(settings, shared).await?;
    let sockets = sockets.open(settings).await?;
    Ok(PreparedConfig {
        loaded,
        announcements,
        sockets,
        transfer_logs,
    })
}

async fn open_transfer_logs(settings: &Settings, shared: &Shared) -> Result<OpenLogs, StartError> {
    let (logs, metrics) = (
        Arc::clone(&shared.transfer_logs),
        Arc::clone(&shared.metrics),
    );
    let configured = settings.transfer_logs.clone();
    let opening = spawn_blocking(move || logs.open(&configured, &metrics));
    let opened = timeout(READ_TIMEOUT, opening)
        .await
        .map_err(|_| StartError::FilesTimedOut)?
        .map_err(io::Error::other)?;
    Ok(opened?)
}

fn read(
    config: &Path,
    backends: &Registry,
    former_users: &UserFiles,
) -> Result<LoadedFiles, StartError> {
    let settings = config::load(config)?;
    let certificates = CertificateSet::load(&settings.tls, SystemTime::now())?;
    let pools = Pools::load(&settings.sites, backends)?;
    let users = UserFiles::load(settings.users_files(), former_users)?;
    Ok(LoadedFiles {
        settings,
        certificates,
        pools,
        users,
    })
}

impl PreparedConfig {
    /// Activates it; returns the snapshot for new sessions and the listeners to accept from.
    pub fn activate(self, shared: &Shared) -> (Snapshot, NewListeners) {
        let metrics = &shared.metrics;
        shared.transfer_logs.replace(self.transfer_logs, metrics);
        let LoadedFiles {
            settings,
            certificates,
            pools,
            users,
        } = self.loaded;
        names::start_refreshing(&self.announcements, metrics);
        let OpenedSockets { passive, new } = self.sockets;
        set_trusted_proxies(&settings, &passive);
        for site in &settings.sites {
            metrics.declare_site(&site.name);
        }
        pools.report(metrics);
        certificate::show(&certificates, metrics);
        metrics.configuration_loaded();
        metrics.is_refused(ReloadSubject::Users, false);
        let user_files = users.apply();
        let runtime = Runtime::new(settings, pools, passive, self.announcements, user_files);
        let snapshot = Snapshot::new(Arc::new(runtime), Arc::new(certificates));
        (snapshot, new)
    }
}

/// Listeners on one address, or beside a wildcard, share passive ports, so those are behind the balancers of all of them.
fn set_trusted_proxies(settings: &Settings, ports: &PassivePorts) {
    let mut by_address: HashMap<IpAddr, (IpAddr, Vec<IpNet>)> = HashMap::new();
    for listener in &settings.listeners {
        let local = listener.address.ip();
        let (_, balancers) = by_address
            .entry(ports.bound_address(local))
            .or_insert_with(|| (local, Vec::new()));
        balancers.extend(
            listener
                .proxy_protocol
                .iter()
                .flat_map(|trusted| trusted.iter()),
        );
    }
    for (local, balancers) in by_address.into_values() {
        ports.set_trusted_proxies(local, balancers);
    }
}

impl App {
    /// Puts the whole configuration in force for new sessions, or changes nothing and returns why. Breaks off if the
    /// process is to end meanwhile: name servers and network file systems may take their time.
    pub(super) async fn reload(&mut self) -> ControlFlow<(), Result<(), String>> {
        let former_ports = self.snapshot.load().runtime.passive.addresses();
        let backends = Arc::clone(&self.backends);
        let users = self.snapshot.load().runtime.user_files.clone();
        let shared = Arc::clone(&self.shared);
        let config = self.config.clone();
        let prepared = tokio::select! {
            prepared = prepare(config, backends, users, &shared, &mut self.sockets) => prepared,
            () = shutdown_requested(&mut self.commands) => return ControlFlow::Break(()),
        };
        match prepared {
            Ok(prepared) => {
                self.apply(prepared).await;
                self.note_reload(ReloadSubject::Configuration, None);
                tracing::info!(config = %self.config.display(), "configuration reloaded");
                if self.snapshot.load().runtime.passive.addresses() != former_ports {
                    self.announce_ports();
                }
                self.announce_certificates();
                self.warn();
            }
            Err(error) => {
                self.note_reload(ReloadSubject::Configuration, Some(error.refusal()));
                tracing::error!(config = %self.config.display(), %error, "reload refused, keeping the current configuration");
                let refusal = error.to_string();
                self.watch_refused(&error);
                return ControlFlow::Continue(Err(refusal));
            }
        }
        ControlFlow::Continue(Ok(()))
    }

    /// Watches whether what was refused is mended, or replaced.
    fn watch_refused(&mut self, error: &StartError) {
        let config = self.config.clone();
        let users = self.snapshot.load().runtime.user_files.clone();
        // None of what it makes is for use.
        let is_unusable = move || read(&config, &Registry::default(), &users).is_err();
        let watch = RefusedConfiguration::new(self.config.clone(), error, is_unusable);
        self.refused_watcher = Watcher::new(Some(watch));
    }

    /// Shows whether the configuration that lies there is refused.
    pub(super) fn report_refused(&self, refused: bool) {
        let metrics = &self.shared.metrics;
        metrics.is_refused(ReloadSubject::Configuration, refused);
        self.reloads
            .set_mended(ReloadSubject::Configuration, !refused);
        if !refused {
            let config = self.config.display();
            tracing::info!(%config, "the refused configuration is mended or replaced; SIGHUP loads it");
        }
    }

    /// Puts a configuration in force, which can't fail.
    async fn apply(&mut self, prepared: PreparedConfig) {
        let (snapshot, new) = prepared.activate(&self.shared);
        self.refused_watcher = Watcher::new(None);
        self.certificate_watcher = certificate::watcher(&snapshot);
        self.user_watcher = users::watcher(&snapshot);
        self.snapshot.store(Arc::new(snapshot));
        self.monitor_backends();
        self.start_admin(new.admin);
        self.start_socket(new.socket);
        self.close_removed_listeners().await;
        self.start_listeners(new.listeners).log();
    }

    /// Closes the listeners that the configuration in force has no more.
    async fn close_removed_listeners(&mut self) {
        let snapshot = self.snapshot.load_full();
        let settings = &snapshot.runtime.settings;
        let admin = &mut self.sockets.admin;
        admin
            .close_all_but(|address| Some(address) == settings.admin.address)
            .await;
        let socket = settings.admin.socket.as_deref();
        self.sockets.close_socket_but(socket);
        let is_kept = |address| settings.listeners.iter().any(|one| one.address == address);
        for address in self.sockets.listeners.close_all_but(is_kept).await {
            tracing::info!(%address, "no longer listening");
        }
    }

    /// Watches the backends of the configuration in use, and no others.
    pub(super) fn monitor_backends(&mut self) {
        let runtime = &self.snapshot.load().runtime;
        let context = MonitorContext {
            timeouts: runtime.settings.timeouts,
            dns_servers: runtime.settings.dns_servers.clone(),
            resolver: Arc::clone(&self.shared.resolver),
            registry: Arc::clone(&self.backends),
            metrics: Arc::clone(&self.shared.metrics),
        };
        self.monitors = Monitors::start(&runtime.pools, &context);
    }

    /// Begins to serve the admin endpoint, if it is not where it was.
    pub(super) fn start_admin(&mut self, listener: Option<(SocketAddr, TcpListener)>) {
        let Some((configured, socket)) = listener else {
            return;
        };
        if let Ok(address) = socket.local_addr() {
            tracing::info!(%address, "admin endpoint open");
        }
        let task = admin::serve(Acceptor::new(socket), self.admin());
        self.sockets.admin.start(configured, task);
    }

    /// Begins to take operators' actions, if the socket is not there already.
    pub(super) fn start_socket(&mut self, socket: Option<(UnixListener, SocketName)>) {
        let Some((listener, name)) = socket else {
            return;
        };
        tracing::info!(path = %name.path().display(), "admin socket open");
        let admin = self.admin();
        let serve = |stopped| admin::serve_socket(listener, admin, stopped);
        self.sockets.start_socket(name, serve);
    }

    fn admin(&self) -> Arc<Admin> {
        Arc::new(Admin {
            readiness: self.readiness.subscribe(),
            shared: Arc::clone(&self.shared),
            snapshot: Arc::clone(&self.snapshot),
            reloads: Arc::clone(&self.reloads),
            commands: self.command_sender.clone(),
            log: self.log.clone(),
            config: self.config.clone(),
            started: self.started,
        })
    }

    /// Begins to accept.
    pub(super) fn start_listeners(&mut self, opened: Vec<BoundListener>) -> StartedListeners {
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
            self.sockets.listeners.start(address, task);
        }
        started
    }
}
