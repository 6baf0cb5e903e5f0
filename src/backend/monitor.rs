//! Dials ejected backends until they are back, so that no client's login is the one that finds out; checks those that are to be
//! checked, and follows the DNS answers for those that are to be discovered.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::checker;
use super::dial::{self, DialBudget};
use super::discovered::{Changes, Discovered};
use super::discovery;
use super::monitor_context::MonitorContext;
use super::pool::Pool;
use super::pools::Pools;
use super::site_backend::Backend;
use super::site_backend_state::SiteBackendState;
use crate::base::BackendId;
use crate::base::budget::Budget;
use crate::base::fair_queue::Turn;
use crate::base::task::Task;
use crate::net::proxy_header::Origin;

/// How long an attempt may take in all. Slower than that, a backend is of no use to a client.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The tasks that watch the backends of the configuration in use; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Monitors {
    _tasks: Vec<Task<()>>,
}

impl Monitors {
    /// Starts one monitor for each backend of these sites that takes logins, and another one for each that is checked. Servers
    /// discovered by DNS are followed.
    pub fn start(pools: &Pools, context: &MonitorContext) -> Self {
        let configured = pools
            .all()
            .flat_map(|pool| pool.configured().map(move |backend| (pool, backend)));
        let tasks = monitor(configured, context);
        let mut tasks: Vec<_> = tasks.into_iter().map(|(_, task)| task).collect();
        for (pool, entry) in pools.discovered() {
            let mut monitored = Monitored {
                pool: Arc::clone(pool),
                tasks: Vec::new(),
                context: context.clone(),
            };
            monitored.add(&entry.found());
            tasks.push(Task::spawn(discovery::follow(
                Arc::clone(pool),
                Arc::clone(entry),
                context.dns_servers.clone(),
                Arc::clone(&context.registry),
                move |entry, changes| monitored.take_up(entry, changes),
            )));
        }
        Self { _tasks: tasks }
    }
}

/// The monitors of the servers of one entry, which come and go.
struct Monitored {
    pool: Arc<Pool>,
    tasks: Vec<(BackendId, Task<()>)>,
    context: MonitorContext,
}

impl Monitored {
    fn add(&mut self, backends: &[Arc<Backend>]) {
        let added = backends.iter().map(|backend| (&self.pool, backend));
        self.tasks.extend(monitor(added, &self.context));
    }

    fn take_up(&mut self, entry: &Discovered, changes: &Changes) {
        let metrics = &self.context.metrics;
        for backend in &changes.vanished {
            self.tasks.retain(|(id, _)| *id != backend.id);
        }
        for backend in &changes.found {
            backend.state.show_as(backend);
        }
        // The states of all: that of the best may have gone.
        for backend in entry.found() {
            backend.report(metrics);
        }
        entry.report_if_empty(metrics);
        self.add(&changes.found);
    }
}

/// The tasks that watch these backends, as far as they take logins, each with the one that it is for.
fn monitor<'a>(
    backends: impl Iterator<Item = (&'a Arc<Pool>, &'a Arc<Backend>)>,
    context: &MonitorContext,
) -> Vec<(BackendId, Task<()>)> {
    let open: Vec<_> = backends
        .filter(|(_, backend)| backend.settings.takes_logins())
        .collect();
    let tasks = open.iter().map(|(_, backend)| {
        let task = Task::spawn(watch(Arc::clone(backend), context.clone()));
        (backend.id.clone(), task)
    });
    let mut tasks: Vec<_> = tasks.collect();
    tasks.extend(checker::start(&open, context));
    tasks
}

async fn watch(backend: Arc<Backend>, context: MonitorContext) {
    let MonitorContext {
        timeouts,
        resolver,
        metrics,
        ..
    } = &context;
    loop {
        let _turn = due(&backend.at_site).await;
        let budget = DialBudget {
            timeouts,
            total: Budget::new(ATTEMPT),
        };
        match dial::dial(&backend, resolver, Origin::Proxy, budget).await {
            Ok(mut connection) => {
                backend.learn_certificate(&connection, metrics);
                backend.succeeded(metrics, Instant::now().into_std());
                // Whether it hears that or not, the connection ends.
                let _ = connection.send(b"QUIT\r\n").await;
                connection.close().await;
            }
            Err(error) => {
                backend.failed(&error, metrics, Instant::now().into_std());
                let (stage, hint) = (error.stage().as_str(), error.hint(&backend));
                tracing::debug!(%backend, stage, %error, hint, "backend still ejected");
            }
        }
    }
}

/// Waits until this backend is ejected and to be dialled. Several pools of a site may have it, and each has its monitor: one of
/// them dials it, and has the turn until what came of that is known.
async fn due(at_site: &SiteBackendState) -> Turn<'_> {
    loop {
        let ejected = at_site.ejected.notified();
        let Some(retry_at) = at_site.health().retry_at() else {
            ejected.await;
            continue;
        };
        sleep_until(retry_at.into()).await;
        let turn = at_site.redial.enter().await;
        // Every attempt that has come to an end meanwhile has moved it.
        if at_site.health().retry_at() == Some(retry_at) {
            return turn;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::health::FAILURES;

    #[tokio::test(start_paused = true)]
    async fn of_the_pools_of_a_site_that_have_a_backend_one_dials_it_while_it_is_out() {
        let state = Arc::new(SiteBackendState::default());
        let fail = |state: &SiteBackendState| {
            let now = Instant::now().into_std();
            state.record_health(|health| health.failed(now));
        };
        for _ in 0..FAILURES {
            fail(&state);
        }
        let began = Instant::now();
        let dialled = Arc::new(Mutex::new(Vec::new()));
        let monitors = [(); 3].map(|()| {
            let (state, dialled) = (Arc::clone(&state), Arc::clone(&dialled));
            Task::spawn(async move {
                loop {
                    let _turn = due(&state).await;
                    dialled
                        .lock()
                        .expect("not poisoned")
                        .push(began.elapsed().as_secs());
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    fail(&state);
                }
            })
        });
        tokio::time::sleep(Duration::from_secs(40)).await;
        drop(monitors);
        // Outages of 10 s and 20 s, the second of them from the end of the first attempt.
        assert_eq!(*dialled.lock().expect("not poisoned"), [10, 31]);
    }
}
