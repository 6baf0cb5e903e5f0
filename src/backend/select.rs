//! Which of a site's backends serves a login: in their order, the first that answers.

use std::sync::Arc;

use tokio::time::Instant;

use super::control::BackendConnection;
use super::dial::{self, DialBudget, DialError};
use super::pool::{Backend, Pool};
use crate::net::resolve::Resolver;
use crate::observe::metrics::Metrics;

impl Pool {
    /// Connects to the first backend that becomes ready for USER; reports each failure before that.
    ///
    /// A backend that accepts connections and then says nothing must not use up the time of those after it: each may take
    /// its share of what is left of the `budget` for all.
    pub async fn connect(
        &self,
        resolver: &Arc<Resolver>,
        budget: DialBudget<'_>,
        metrics: &Metrics,
        on_failure: impl Fn(&Backend, &DialError),
    ) -> Option<BackendConnection> {
        for (tried, backend) in self.backends.iter().enumerate() {
            let began = Instant::now();
            let budget = DialBudget {
                total: budget.total.share(self.backends.len() - tried),
                ..budget
            };
            match dial::dial(backend, resolver, budget).await {
                Ok(connection) => {
                    metrics.backend_dialled(self.name(), began.elapsed());
                    return Some(connection);
                }
                Err(error) => {
                    metrics.backend_dial_failed(self.name(), error.stage());
                    on_failure(backend, &error);
                }
            }
        }
        None
    }
}
