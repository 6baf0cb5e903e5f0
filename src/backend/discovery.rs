//! Asks name servers for the backends of [`discovered`](super::discovered) entries: when a configuration is loaded, and again
//! whenever an answer holds no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::discovered::{Changes, Discovered, RETRY};
use super::pool::Pool;
use super::pools::Pools;
use super::registry::Registry;
use crate::net::dns::DnsError;

/// How long a configuration waits for the first answers before it is used without them.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// An entry without servers, since its name servers had no answer when they were first asked.
#[derive(Debug)]
pub struct FailedDiscovery {
    entry: Arc<Discovered>,
    error: DnsError,
}

impl FailedDiscovery {
    /// Warns of it, once the configuration is in force.
    pub fn log(&self) {
        warn_of_failure(&self.entry, &self.error);
    }
}

impl Pools {
    /// Asks for the servers of entries that have no answer yet, and waits a while for the answers. Without one the configuration
    /// is used all the same, and it is asked for again.
    pub async fn discover(
        &self,
        dns: &[SocketAddr],
        registry: &Arc<Registry>,
    ) -> Vec<FailedDiscovery> {
        let mut asking = JoinSet::new();
        for (pool, entry) in self.discovered() {
            if entry.due().is_some() {
                continue;
            }
            let (pool, entry) = (Arc::clone(pool), Arc::clone(entry));
            let (dns, registry) = (dns.to_vec(), Arc::clone(registry));
            asking.spawn(async move {
                let late = |_| Err(DnsError::TimedOut(FIRST_ANSWERS));
                let asked = timeout(FIRST_ANSWERS, entry.ask(&dns)).await;
                match asked.unwrap_or_else(late) {
                    Ok(_) => {
                        pool.apply_answer(&entry, &registry);
                        None
                    }
                    Err(error) => Some(FailedDiscovery { entry, error }),
                }
            });
        }
        let mut failed = Vec::new();
        while let Some(asked) = asking.join_next().await {
            failed.extend(asked.ok().flatten());
        }
        failed
    }
}

impl Pool {
    /// Applies the last DNS answer for an entry.
    pub(super) fn apply_answer(&self, entry: &Discovered, registry: &Registry) -> Changes {
        let changes = entry.apply_answer(registry);
        // An answer that changes nothing must not begin the turns of the backends anew, each time.
        if !changes.is_empty() {
            self.renew_members();
        }
        changes
    }
}

/// Asks for the servers of an entry whenever the last answer holds no more, until the configuration is not in use any more;
/// `changed` takes up which came and went.
pub(super) async fn follow(
    pool: Arc<Pool>,
    entry: Arc<Discovered>,
    dns: Vec<SocketAddr>,
    registry: Arc<Registry>,
    mut changed: impl FnMut(&Discovered, &Changes),
) {
    let known = entry.due();
    let mut due = known.unwrap_or_else(|| Instant::now() + RETRY);
    let mut fails = known.is_none();
    let mut apply = || {
        let changes = pool.apply_answer(&entry, &registry);
        if !changes.is_empty() {
            changed(&entry, &changes);
        }
        changes
    };
    // The answer may be newer than the backends: the configuration before this one has asked until now.
    apply();
    loop {
        sleep_until(due).await;
        match entry.ask(&dns).await {
            Ok(until) => {
                let changes = apply();
                if std::mem::take(&mut fails) {
                    let backend = &entry.template.settings;
                    tracing::info!(site = pool.name(), %backend, "name servers answer again");
                }
                changes.log(pool.name());
                due = until;
            }
            Err(error) => {
                if !std::mem::replace(&mut fails, true) {
                    warn_of_failure(&entry, &error);
                }
                due = Instant::now() + RETRY;
            }
        }
    }
}

fn warn_of_failure(entry: &Discovered, error: &DnsError) {
    let (site, backend) = (&entry.template.site.name, &entry.template.settings);
    match entry.found().len() {
        0 => tracing::warn!(site, %backend, %error, "no server found"),
        count => tracing::warn!(
            site,
            %backend,
            %error,
            count,
            "DNS lookup failed, keeping the last known servers"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::backend::servers::at_each;
    use crate::config;

    #[test]
    fn an_answer_that_changes_nothing_does_not_begin_the_turns_anew() {
        let registry = Registry::default();
        let text = "listeners: [{address: 127.0.0.1:0, tls: explicit}]\n\
             tls: {certificate: tls.crt, private_key: tls.key}\n\
             sites:\n\
             - name: a\n  default: true\n  balance: round_robin\n  backends:\n\
             \x20 - {address: pool.test, expand: true}\n";
        let settings = config::parse(text, Path::new("p.yaml")).expect("a configuration");
        let pools = Pools::load(&settings.sites, &registry).expect("pools");
        let (pool, entry) = pools.discovered().next().expect("an entry");
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|it| it.parse().unwrap());
        let servers = at_each(addresses.to_vec(), 21);
        let first_after_an_answer = || {
            let now = Instant::now();
            entry.answer.set(servers.clone(), now + RETRY);
            pool.apply_answer(entry, &registry);
            pool.candidates(0, now.into_std())[0].server.clone()
        };
        assert_ne!(first_after_an_answer(), first_after_an_answer());
    }
}
