//! The backends to probe: as configured, and as discovered by DNS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::backend::check::{CheckError, LONGEST};
use crate::backend::check_state::ProbeLogins;
use crate::backend::pools::Pools;
use crate::backend::registry::Registry;
use crate::backend::site_backend::Backend;
use crate::config::{self, Site};

/// A backend of a site.
#[derive(Debug)]
pub struct Target {
    /// The site.
    pub site: Arc<Site>,
    /// The target's entry as configured.
    pub entry: String,
    pub(super) server: Server,
    /// Allows one login at a time at all backends of the site, and none after the password was refused: they may have one account
    /// database, which would lock the account.
    pub(super) logins: Arc<ProbeLogins>,
}

/// The server of a target.
#[derive(Debug)]
pub(super) enum Server {
    /// A server at a known address.
    Known(Arc<Backend>),
    /// No server has been discovered for the entry.
    Unknown(Box<Undiscovered>),
}

/// An entry without servers.
#[derive(Debug)]
pub(super) struct Undiscovered {
    pub settings: config::Backend,
    pub error: CheckError,
    pub took: Duration,
}

impl Target {
    /// The target's address, or that of its entry if no address is known.
    pub fn label(&self) -> String {
        match &self.server {
            Server::Known(backend) => backend.server.endpoint.to_string(),
            Server::Unknown(_) => self.entry.clone(),
        }
    }

    fn is(&self, backend: &Backend) -> bool {
        matches!(&self.server, Server::Known(known) if known.id == backend.id && known.label == backend.label)
    }
}

/// The backends of these sites, in the order of the configuration; those that aren't discovered come last in their site. Takes
/// [`LONGEST`] at most.
pub async fn targets(
    pools: &Pools,
    sites: &[Arc<Site>],
    dns: &[SocketAddr],
    registry: &Registry,
) -> Vec<Target> {
    let mut asking = JoinSet::new();
    for (pool, entry) in pools.discovered() {
        if !sites.iter().any(|site| site.name == pool.name()) {
            continue;
        }
        let (pool, entry, dns) = (Arc::clone(pool), Arc::clone(entry), dns.to_vec());
        asking.spawn(async move {
            let began = Instant::now();
            let asked = timeout(LONGEST, entry.ask(&dns)).await;
            (pool, entry, asked, began.elapsed())
        });
    }
    let mut undiscovered = Vec::new();
    while let Some(asked) = asking.join_next().await {
        // Its panic has been told.
        let Ok((pool, entry, asked, took)) = asked else {
            continue;
        };
        let error = match asked {
            Ok(Ok(_)) => {
                pool.apply_answer(&entry, registry);
                continue;
            }
            Ok(Err(error)) => CheckError::Discovery(error),
            Err(_) => CheckError::DiscoveryTimeout(LONGEST),
        };
        let settings = entry.template.settings.clone();
        let entry = Undiscovered {
            settings,
            error,
            took,
        };
        undiscovered.push((pool.name().to_owned(), Box::new(entry)));
    }
    let mut targets: Vec<Target> = Vec::new();
    for site in sites {
        let logins = Arc::<ProbeLogins>::default();
        let target = |entry, server| Target {
            site: Arc::clone(site),
            entry,
            server,
            logins: Arc::clone(&logins),
        };
        let pools = pools.all().filter(|pool| pool.name() == site.name);
        for backend in pools.flat_map(|pool| pool.backends()) {
            // Several groups may have it.
            let is_known = |other: &Target| other.site.name == site.name && other.is(&backend);
            if !targets.iter().any(is_known) {
                targets.push(target(backend.label.to_string(), Server::Known(backend)));
            }
        }
        let unknown = undiscovered.extract_if(.., |(name, _)| *name == site.name);
        targets.extend(
            unknown.map(|(_, entry)| target(entry.settings.to_string(), Server::Unknown(entry))),
        );
    }
    targets
}
