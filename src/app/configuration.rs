//! A configuration, at start as on SIGHUP: prepared as a whole, then put in force.
//!
//! Everything that can fail fails while it is prepared: read, checked, looked up and opened, but not active yet. At start
//! that ends the process; at a reload everything stays as it is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;

use super::file_work::FileWork;
use super::notes::{Note, on_permissions};
use super::sockets::{NewListeners, OpenedSockets, Sockets};
use super::{StartError, certificate, client_certificates, names};
use crate::announce::Announcements;
use crate::backend::{FailedDiscovery, Pools, Registry};
use crate::config::{self, Settings};
use crate::observe::reloads::ReloadLog;
use crate::observe::transfer_log::OpenLogs;
use crate::passive::PassivePorts;
use crate::policy::credentials::LoadedCredentials;
use crate::policy::users::LoadedUsers;
use crate::policy::{CredentialFiles, UserFiles};
use crate::session::Shared;
use crate::snapshot::{Runtime, Snapshot};
use crate::tls::{BackendClientCertificates, CertificateSet, ClientTrust, Inventory};

/// All that a configuration takes.
pub(super) struct PreparedConfig {
    loaded: LoadedFiles,
    without_servers: Vec<FailedDiscovery>,
    announcements: Announcements,
    sockets: OpenedSockets,
    transfer_logs: OpenLogs,
}

/// The content in use of files that are read again.
pub(super) struct Former {
    pub users: UserFiles,
    pub credentials: CredentialFiles,
    /// The certificates in use; `None` at start.
    pub certificates: Option<Arc<CertificateSet>>,
    pub backend_client_certificates: BackendClientCertificates,
}

/// The content of a configuration's files, with nothing looked up or opened yet.
pub(super) struct LoadedFiles {
    settings: Settings,
    certificates: CertificateSet,
    clients: ClientTrust,
    pools: Pools,
    users: LoadedUsers,
    credentials: LoadedCredentials,
    permissions: Vec<Note>,
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
    files: &FileWork,
    sockets: &mut Sockets,
) -> Result<PreparedConfig, StartError> {
    let known = Arc::clone(&backends);
    let loaded = files
        .run(move || read(&config, &known, &former))
        .await
        .map_err(|_| StartError::FilesTimedOut)???;
    let settings = &loaded.settings;
    let without_servers = loaded
        .pools
        .discover(&settings.dns_servers, &backends)
        .await;
    let announcements = names::announcements(&settings.passive).await?;
    let transfer_logs = open_transfer_logs(settings, shared, files).await?;
    let sockets = sockets.open(settings).await?;
    Ok(PreparedConfig {
        loaded,
        without_servers,
        announcements,
        sockets,
        transfer_logs,
    })
}

async fn open_transfer_logs(
    settings: &Settings,
    shared: &Shared,
    files: &FileWork,
) -> Result<OpenLogs, StartError> {
    let (logs, metrics) = (
        Arc::clone(&shared.transfer_logs),
        Arc::clone(&shared.metrics),
    );
    let configured = settings.transfer_logs.clone();
    let opened = files
        .run(move || logs.open(&configured, &metrics))
        .await
        .map_err(|_| StartError::TransferLogsTimedOut)??;
    Ok(opened?)
}

/// Reads the configuration and all files that it names. Blocks on the file system.
pub(super) fn read(
    config: &config::Source,
    backends: &Registry,
    former: &Former,
) -> Result<LoadedFiles, StartError> {
    let settings = config.load()?;
    let certificates = former.certificates.as_deref();
    let now = SystemTime::now();
    let certificates = Inventory::load(&settings.tls, certificates, now).into_set()?;
    let own = &former.backend_client_certificates;
    let pools = Pools::reload(&settings.sites, backends, own, now)?;
    let clients = ClientTrust::configured(&settings)?;
    let users = UserFiles::load(settings.users_files(), &former.users)?;
    let credentials = CredentialFiles::load(settings.credential_files(), &former.credentials)?;
    let permissions = on_permissions(&settings);
    Ok(LoadedFiles {
        permissions,
        settings,
        certificates,
        clients,
        pools,
        users,
        credentials,
    })
}

impl PreparedConfig {
    /// The notes on the permissions of its files.
    pub fn permission_notes(&self) -> Vec<Note> {
        self.loaded.permissions.clone()
    }

    /// Activates it; returns the snapshot for new sessions and the listeners to accept from.
    pub fn activate(self, shared: &Shared, reloads: &Arc<ReloadLog>) -> (Snapshot, NewListeners) {
        let metrics = &shared.metrics;
        self.without_servers.iter().for_each(FailedDiscovery::log);
        shared.transfer_logs.replace(self.transfer_logs, metrics);
        let LoadedFiles {
            settings,
            certificates,
            clients,
            pools,
            users,
            credentials,
            permissions: _,
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
