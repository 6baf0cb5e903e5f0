//! The context that the tasks watching backends are given.

use std::net::SocketAddr;
use std::sync::Arc;

use super::registry::Registry;
use crate::config::Timeouts;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;

/// The parts of the process and of the configuration in use that every monitor needs.
#[derive(Debug, Clone)]
pub struct MonitorContext {
    /// Time limits of each step.
    pub timeouts: Timeouts,
    /// The configured name servers.
    pub dns_servers: Vec<SocketAddr>,
    /// Resolves the host names of backends.
    pub resolver: Arc<Resolver>,
    /// Holds the states of backends.
    pub registry: Arc<Registry>,
    /// The metrics that show these states.
    pub metrics: Arc<Metrics>,
}
