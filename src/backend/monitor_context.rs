//! What the tasks that watch backends are given.

use std::net::SocketAddr;
use std::sync::Arc;

use super::registry::Registry;
use crate::config::Timeouts;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;

/// What every monitor needs of the process and of the configuration in use.
#[derive(Debug, Clone)]
pub struct MonitorContext {
    /// For each step.
    pub timeouts: Timeouts,
    /// The configured name servers.
    pub dns_servers: Vec<SocketAddr>,
    /// Where the names of backends lead.
    pub resolver: Arc<Resolver>,
    /// Where the states of backends live.
    pub registry: Arc<Registry>,
    /// Where they are shown.
    pub metrics: Arc<Metrics>,
}
