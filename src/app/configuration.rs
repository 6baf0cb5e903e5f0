//! A configuration, at start as on SIGHUP: prepared as a whole, then put in force.
//!
//! Everything that can fail fails while it is prepared: read, checked, looked up and opened, but not active yet. At start
//! that ends the process; at a reload everything stays as it is.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::refused::RefusedConfiguration;
use super::sockets::{NewListeners, OpenedSockets, Sockets};
use super::watcher::Watcher;
use super::watchers::Watchers;
use super::{App, StartError, certificate, client_certificates, names};
use crate::announce::Announcements;
use crate::backend::{Pools, Registry};
use crate::base::text::escape_path;
use crate::command::{ReloadAnswer, shutdown_requested};
use crate::config::{self, Settings};
use crate::observe::reloads::{Refusal, ReloadLog};
use crate::observe::transfer_log::OpenLogs;
use crate::outcome::ReloadSubject;
use crate::passive::PassivePorts;
use crate::policy::credentials::LoadedCredentials;
use crate::policy::users::LoadedUsers;
use crate::policy::{CredentialFiles, UserFiles};
use crate::session::Shared;
use crate::snapshot::{Runtime, Snapshot};
use crate::tls::{CertificateSet, ClientTrust, ClientTrustError, Inventory, OwnCertificates};

/// Time limit for reading the files of a configuration. A network file system can block without end, and SIGTERM would
/// have to wait.
pub(super) const FILES_TIMEOUT: Duration = Duration::from_secs(30);

/// All that a configuration takes.
pub(super) struct PreparedConfig {
    loaded: LoadedFiles,
    announcements: Announcements,
    sockets: OpenedSockets,
    transfer_logs: OpenLogs,
}

/// What is in use of files that are read again.
pub(super) struct Former {
    pub users: UserFiles,
    pub credentials: CredentialFiles,
    /// None at start.
    pub certificates: Option<Arc<CertificateSet>>,
    pub own_certificates: OwnCertificates,
}

/// Reads what `config` and its files hold at the moment, for nothing but the verdict.
fn try_files(config: &config::Source, former: &Former) -> Result<(), Refusal> {
    let read = read(config, &Registry::default(), former);
    read.map(drop).map_err(|error| error.refusal())
}

/// The content of a configuration's files, with nothing looked up or opened yet.
struct LoadedFiles {
    settings: Settings,
    certificates: CertificateSet,
    clients: ClientTrust,
    pools: Pools,
    users: LoadedUsers,
    credentials: LoadedCredentials,
}

/// Prepares the configuration `config`, with the sockets that are not open already, and with what is
/// in use of files that are read again.
///
/// # Errors
/// The first thing that is wrong or can't be had; what was opened until then is closed again.
pub(super) async fn prepare(
    config: config::Source,
    backends: Arc<Registry>,
    former: Former,
    shared: &Shared,
    sockets: &mut Sockets,
) -> Result<PreparedConfig, StartError> {
    let known = Arc::clone(&backends);
    let reading = spawn_blocking(move || read(&config, &known, &former));
    let loaded = timeout(FILES_TIMEOUT, reading)
        .await
        .map_err(|_| StartError::FilesTimedOut)?
        .map_err(io::Error::other)??;
    let settings = &loaded.settings;
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
    let opened = timeout(FILES_TIMEOUT, opening)
        .await
        .map_err(|_| StartError::TransferLogsTimedOut)?
        .map_err(io::Error::other)?;
    Ok(opened?)
}

fn read(
    config: &config::Source,
    backends: &Registry,
    former: &Former,
) -> Result<LoadedFiles, StartError> {
    let settings = config.load()?;
    let certificates = former.certificates.as_deref();
    let now = SystemTime::now();
    let certificates = Inventory::load(&settings.tls, certificates, now).into_set()?;
    let own = &former.own_certificates;
    let pools = Pools::reload(&settings.sites, backends, own, now)?;
    let clients = client_trust(&settings)?;
    let users = UserFiles::load(settings.users_files(), &former.users)?;
    let credentials = CredentialFiles::load(settings.credential_files(), &former.credentials)?;
    Ok(LoadedFiles {
        settings,
        certificates,
        clients,
        pools,
        users,
        credentials,
    })
}

/// By whom clients' certificates are vouched for. Blocks on the file system.
pub fn client_trust(settings: &Settings) -> Result<ClientTrust, ClientTrustError> {
    let pinned = settings.certificate_rules().flat_map(|rules| &rules.pinned);
    let pinned = pinned.flat_map(|(_, fingerprints)| fingerprints);
    ClientTrust::load(
        settings.tls.client_certificates.as_ref(),
        pinned.copied().collect(),
    )
}

impl PreparedConfig {
    /// Activates it; returns the snapshot for new sessions and the listeners to accept from.
    pub fn activate(self, shared: &Shared, reloads: &Arc<ReloadLog>) -> (Snapshot, NewListeners) {
        let metrics = &shared.metrics;
        shared.transfer_logs.replace(self.transfer_logs, metrics);
        let LoadedFiles {
            settings,
            certificates,
            clients,
            pools,
            users,
            credentials,
        } = self.loaded;
        names::start_refreshing(&self.announcements, reloads);
        let OpenedSockets { mut passive, new } = self.sockets;
        set_trusted_proxies(&settings, &mut passive);
        for site in &settings.sites {
            metrics.declare_site(&site.name);
        }
        pools.report(metrics);
        certificate::show(&certificates, metrics);
        client_certificates::show(&clients, metrics);
        metrics.configuration_loaded();
        let (users, credentials) = (users.apply(), credentials.apply());
        let runtime = Runtime::new(
            settings,
            pools,
            passive,
            self.announcements,
            users,
            credentials,
        );
        let (runtime, certificates) = (Arc::new(runtime), Arc::new(certificates));
        let snapshot = Snapshot::new(runtime, certificates, Arc::new(clients));
        (snapshot, new)
    }
}

/// Listeners on one address, or beside a wildcard, share passive ports, so those are behind the balancers of all of them.
fn set_trusted_proxies(settings: &Settings, ports: &mut PassivePorts) {
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
    /// Reloads the configuration and answers the request. What is asked for meanwhile is answered by one more reload, which
    /// reads what has been written by then. Breaks off if the process is to end.
    pub(super) async fn reload_for(&mut self, first: ReloadAnswer) -> ControlFlow<()> {
        let mut answers = vec![first];
        while !answers.is_empty() {
            let mut later = Vec::new();
            self.supervision.reloading();
            let result = self.reload(&mut later).await?;
            self.supervision.reloaded(|| self.status_sources());
            for answer in answers {
                // A signal waits for this only to send no other meanwhile.
                let _ = answer.send(result.clone());
            }
            answers = later;
        }
        ControlFlow::Continue(())
    }

    /// Puts the whole configuration in force for new sessions, or changes nothing and returns why. Breaks off if the
    /// process is to end meanwhile: name servers and network file systems may take their time. Other reloads that are asked
    /// for by then are added to `later`.
    async fn reload(
        &mut self,
        later: &mut Vec<ReloadAnswer>,
    ) -> ControlFlow<(), Result<(), String>> {
        let former_ports = self.snapshot.load().runtime.passive.addresses();
        let backends = Arc::clone(&self.backends);
        let former = self.in_use();
        let shared = Arc::clone(&self.shared);
        let config = self.config.clone();
        let prepared = tokio::select! {
            prepared = prepare(config, backends, former, &shared, &mut self.sockets) => prepared,
            () = shutdown_requested(&mut self.commands, |answer| later.push(answer)) => {
                return ControlFlow::Break(());
            }
        };
        match prepared {
            Ok(prepared) => {
                self.apply(prepared).await;
                // Before the log line, as all that it stands for.
                self.settle_refusals();
                self.note_reload(ReloadSubject::Configuration, None);
                tracing::info!(config = %escape_path(&self.config.file), "configuration reloaded");
                if self.snapshot.load().runtime.passive.addresses() != former_ports {
                    self.announce_ports();
                }
                self.announce_certificates();
                self.announce_own_certificates();
                self.announce_client_trust();
                self.log_refused_certificates();
                self.log_refused_own_certificates();
                self.warn_of_descriptors();
                self.warn();
            }
            Err(error) => {
                self.note_reload(ReloadSubject::Configuration, Some(error.refusal()));
                tracing::error!(config = %escape_path(&self.config.file), %error, "reload refused, keeping the current configuration");
                let refusal = error.to_string();
                self.watch_refused(&error);
                return ControlFlow::Continue(Err(refusal));
            }
        }
        ControlFlow::Continue(Ok(()))
    }

    fn in_use(&self) -> Former {
        let snapshot = self.snapshot.load();
        Former {
            users: snapshot.runtime.user_files.clone(),
            credentials: snapshot.runtime.credentials.clone(),
            certificates: Some(Arc::clone(&snapshot.certificates)),
            own_certificates: snapshot.runtime.pools.own_certificates().clone(),
        }
    }

    /// Watches whether what was refused is mended, or replaced.
    fn watch_refused(&mut self, error: &StartError) {
        let config = self.config.clone();
        let former = self.in_use();
        let try_files = move || try_files(&config, &former);
        let watch = RefusedConfiguration::new(self.config.file.clone(), error, try_files);
        self.watchers.refused =
            Watcher::new(ReloadSubject::Configuration, Some(watch), &self.reloads);
    }

    /// Shows whether the configuration that lies there is refused.
    pub(super) fn report_refused(&self, found: Result<(), Refusal>) {
        let subject = ReloadSubject::Configuration;
        match found {
            Ok(()) => {
                self.reloads.mend(subject, None);
                let config = escape_path(&self.config.file);
                tracing::info!(%config, "the refused configuration is mended or replaced; SIGHUP loads it");
            }
            Err(refusal) => self.reloads.refuse(subject, None, refusal),
        }
    }

    /// What stands refused once a configuration is in force: it has loaded whatever it names, but for certificates of which a
    /// former one is in use, or none; and of what it doesn't name any more nothing matters.
    pub(super) fn settle_refusals(&self) {
        for subject in [
            ReloadSubject::Users,
            ReloadSubject::Credentials,
            ReloadSubject::ClientCertificates,
            ReloadSubject::PassiveAddress,
        ] {
            self.reloads.mend_all_but(subject, |_| false);
        }
        self.settle_refused_certificates();
        self.settle_refused_own_certificates();
    }

    /// Puts a configuration in force, which can't fail.
    async fn apply(&mut self, prepared: PreparedConfig) {
        let (snapshot, new) = prepared.activate(&self.shared, &self.reloads);
        // Before the store: what they have accepted until then is served by the configuration that has them.
        self.close_removed_listeners(&snapshot.runtime.settings)
            .await;
        self.watchers = Watchers::new(&snapshot, &self.reloads);
        self.snapshot.store(Arc::new(snapshot));
        self.monitor_backends();
        self.order_certificates();
        self.start_admin(new.admin);
        self.start_socket(new.socket);
        self.start_listeners(new.listeners).log();
        self.warn_of_unused_sockets();
    }

    /// A socket of the service manager that no configuration names any more stays open, whatever this process does.
    fn warn_of_unused_sockets(&self) {
        let snapshot = self.snapshot.load();
        for socket in self.sockets.unused(&snapshot.runtime.settings) {
            tracing::warn!(
                %socket,
                "the service manager holds a socket that the configuration doesn't name any more: clients connect there and get no \
                 answer. Take it out of its .socket unit"
            );
        }
    }
}
