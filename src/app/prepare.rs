//! From a configuration file to all that it takes: read, checked, looked up and opened, but not in force yet.
//!
//! Everything that can fail fails here. At start that ends the process; at a reload everything stays as it is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{StartError, descriptors, names, open};
use crate::announce::Announcements;
use crate::backend::{Pools, Registry};
use crate::config::{self, Settings, TlsMode};
use crate::live::{Live, Policy};
use crate::observe::metrics::Metrics;
use crate::passive::{PassiveListeners, PassivePorts};
use crate::tls::CertificatePair;

/// All that a configuration takes.
pub(super) struct Prepared {
    checked: Checked,
    announcements: Announcements,
    passive: PassivePorts,
    /// Those that were not open before.
    pub listeners: Vec<Listening>,
}

/// A listener that is open and accepts nothing yet.
pub(super) struct Listening {
    /// As configured.
    pub address: SocketAddr,
    pub tls: TlsMode,
    pub socket: TcpListener,
}

/// What a configuration's files say, with nothing looked up or opened yet.
struct Checked {
    settings: Settings,
    certificate: CertificatePair,
    pools: Pools,
}

/// Prepares the configuration in the file `config`, with the listeners that are not open already.
///
/// # Errors
/// The first thing that is wrong or can't be had; what was opened until then is closed again.
pub(super) async fn prepare(
    config: PathBuf,
    backends: Arc<Registry>,
    passive: &mut PassiveListeners,
    is_open: impl Fn(SocketAddr) -> bool,
) -> Result<Prepared, StartError> {
    let reading = spawn_blocking(move || read(&config, &backends));
    let checked = timeout(READ_PATIENCE, reading)
        .await
        .map_err(|_| StartError::FilesSilent)?
        .map_err(io::Error::other)??;
    let settings = &checked.settings;
    descriptors::judge(settings);
    let announcements = names::announcements(&settings.passive).await?;
    let addresses = settings.listeners.iter().map(|one| one.address.ip());
    let passive = passive.open(addresses, &settings.passive.ports).await?;
    let mut listeners = Vec::new();
    for listener in &settings.listeners {
        if !is_open(listener.address) {
            listeners.push(Listening {
                address: listener.address,
                tls: listener.tls,
                socket: open("listener", listener.address)?,
            });
        }
    }
    Ok(Prepared {
        checked,
        announcements,
        passive,
        listeners,
    })
}

fn read(config: &Path, backends: &Registry) -> Result<Checked, StartError> {
    let settings = config::load(config)?;
    let certificate = CertificatePair::load(
        &settings.tls.certificate,
        &settings.tls.private_key,
        SystemTime::now(),
    )?;
    let pools = Pools::load(&settings.sites, backends)?;
    Ok(Checked {
        settings,
        certificate,
        pools,
    })
}

impl Prepared {
    pub fn settings(&self) -> &Settings {
        &self.checked.settings
    }

    /// Activates it; returns the snapshot for new sessions and the listeners to accept from.
    pub fn put_in_force(self, metrics: &Arc<Metrics>) -> (Live, Vec<Listening>) {
        let Checked {
            settings,
            certificate,
            pools,
        } = self.checked;
        names::follow(&self.announcements, metrics);
        put_behind_balancers(&settings, &self.passive);
        for site in &settings.sites {
            metrics.declare_site(&site.name);
        }
        metrics.certificate_not_after(certificate.not_after);
        metrics.configuration_loaded();
        let policy = Policy::new(settings, pools, self.passive, self.announcements);
        let live = Live::new(Arc::new(policy), Arc::new(certificate));
        (live, self.listeners)
    }
}

/// Listeners on one address, or beside a wildcard, share passive ports, so those are behind the balancers of all of them.
fn put_behind_balancers(settings: &Settings, ports: &PassivePorts) {
    let mut by_place: HashMap<IpAddr, (IpAddr, Vec<IpNet>)> = HashMap::new();
    for listener in &settings.listeners {
        let local = listener.address.ip();
        let (_, balancers) = by_place
            .entry(ports.place(local))
            .or_insert_with(|| (local, Vec::new()));
        balancers.extend(
            listener
                .proxy_protocol
                .iter()
                .flat_map(|trusted| trusted.iter()),
        );
    }
    for (local, balancers) in by_place.into_values() {
        ports.put_behind(local, balancers);
    }
}

/// Time limit for reading the files of a configuration. A network file system can block without end, and SIGTERM would
/// have to wait.
const READ_PATIENCE: Duration = Duration::from_secs(30);
