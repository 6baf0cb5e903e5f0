//! Dials backends that are out until they are back, so that no client's login is the one that finds out; and checks those
//! that are to be checked.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::checker;
use super::dial::{self, DialBudget};
use super::pool::{Backend, Pools};
use crate::base::budget::Budget;
use crate::base::task::Task;
use crate::config::Timeouts;
use crate::net::proxy_header::Origin;
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;

/// How long an attempt may take in all. Slower than that, a backend is of no use to a client.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The tasks that watch the backends of the configuration in use; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Monitors {
    _tasks: Vec<Task<()>>,
}

impl Monitors {
    /// One for each backend of these sites that takes logins, and another one for each of them that is checked.
    pub fn start(
        pools: &Pools,
        timeouts: Timeouts,
        resolver: &Arc<Resolver>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let backends = pools.backends();
        let watched = backends.filter(|backend| backend.settings.takes_logins());
        let tasks = watched.map(|backend| {
            let (resolver, metrics) = (Arc::clone(resolver), Arc::clone(metrics));
            Task::spawn(watch(Arc::clone(backend), timeouts, resolver, metrics))
        });
        let mut tasks: Vec<_> = tasks.collect();
        tasks.extend(checker::start(pools, timeouts, resolver, metrics));
        Self { _tasks: tasks }
    }
}

async fn watch(
    backend: Arc<Backend>,
    timeouts: Timeouts,
    resolver: Arc<Resolver>,
    metrics: Arc<Metrics>,
) {
    loop {
        let went_out = backend.state.went_out.woken();
        let Some(retry_at) = backend.state.health().retry_at() else {
            went_out.await;
            continue;
        };
        sleep_until(retry_at.into()).await;
        let budget = DialBudget {
            timeouts: &timeouts,
            total: Budget::new(ATTEMPT),
        };
        match dial::dial(&backend, &resolver, Origin::Proxy, budget).await {
            Ok(mut connection) => {
                backend.learn_certificate(&connection, &metrics);
                backend.succeeded(&metrics, Instant::now().into_std());
                // Whether it hears that or not, the connection ends.
                let _ = connection.send(b"QUIT\r\n").await;
                connection.close().await;
            }
            Err(error) => {
                backend.failed(&error, &metrics, Instant::now().into_std());
                let (stage, hint) = (error.stage().as_str(), error.hint(&backend));
                tracing::debug!(%backend, stage, %error, hint, "backend still out");
            }
        }
    }
}
