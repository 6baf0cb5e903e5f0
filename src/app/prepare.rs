//! From a configuration file to everything that it needs: read, checked, looked up and opened, but not active yet.
//!
//! Everything that can fail fails here. At start that ends the process; at a reload everything stays as it is.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::sockets::{NewListeners, OpenedSockets, Sockets};
use super::{StartError, fd_limit, names};
use crate::announce::Announcements;
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings};
use crate::observe::metrics::Metrics;
use crate::passive::PassivePorts;
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
}

/// The content of a configuration's files, with nothing looked up or opened yet.
struct LoadedFiles {
    settings: Settings,
    certificates: CertificateSet,
    pools: Pools,
}

/// Prepares the configuration in the file `config`, with the sockets that are not open already.
///
/// # Errors
/// The first thing that is wrong or can't be had; what was opened until then is closed again.
pub(super) async fn prepare(
    config: PathBuf,
    backends: Arc<Registry>,
    sockets: &mut Sockets,
) -> Result<PreparedConfig, StartError> {
    let known = Arc::clone(&backends);
    let reading = spawn_blocking(move || read(&config, &known));
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
    let sockets = sockets.open(settings).await?;
    Ok(PreparedConfig {
        loaded,
        announcements,
        sockets,
    })
}

fn read(config: &Path, backends: &Registry) -> Result<LoadedFiles, StartError> {
    let settings = config::load(config)?;
    let certificates = CertificateSet::load(&settings.tls, SystemTime::now())?;
    let pools = Pools::load(&settings.sites, backends)?;
    Ok(LoadedFiles {
        settings,
        certificates,
        pools,
    })
}

impl PreparedConfig {
    /// Activates it; returns the snapshot for new sessions and the listeners to accept from.
    pub fn activate(self, metrics: &Arc<Metrics>) -> (Snapshot, NewListeners) {
        let LoadedFiles {
            settings,
            certificates,
            pools,
        } = self.loaded;
        names::start_refreshing(&self.announcements, metrics);
        let OpenedSockets { passive, new } = self.sockets;
        set_trusted_proxies(&settings, &passive);
        for site in &settings.sites {
            metrics.declare_site(&site.name);
        }
        pools.report(metrics);
        metrics.certificate_not_after(certificates.default_pair().not_after);
        metrics.configuration_loaded();
        let runtime = Runtime::new(settings, pools, passive, self.announcements);
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
