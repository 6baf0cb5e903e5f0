//! Backends that name servers tell of: every address of a name, or the servers that SRV records list.
//!
//! An answer holds as long as its TTL says, within bounds, and the last one for as long as there is no other: neither a
//! name server that fails nor one that knows no record takes backends away. A server that an answer doesn't list any more
//! gets no new logins and keeps its sessions.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::entry::Template;
use super::pool::Pool;
use super::pools::Pools;
use super::registry::Registry;
use super::servers::{Server, at_each, by_priority};
use super::site_backend::Backend;
use crate::base::BackendId;
use crate::config::{Endpoint, ServerNames};
use crate::net::dns::{DnsClient, DnsError};
use crate::observe::metrics::Metrics;
use crate::outcome::BackendStatus;

/// Answers are believed for no shorter and no longer than this, whatever their TTL.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// How long the name of one server of several may take: the others must not wait for it.
const ONE_SERVER: Duration = Duration::from_secs(3);

/// How long a configuration waits for the first answers before it is used without them.
const FIRST_ANSWERS: Duration = Duration::from_secs(5);

/// An entry of a site's `backends` that stands for servers which name servers tell of.
#[derive(Debug)]
pub(super) struct Discovered {
    names: ServerNames,
    pub template: Template,
    /// As configured, for metrics.
    pub label: String,
    pub statuses: Arc<Statuses>,
    answer: Arc<LastAnswer>,
    /// Servers whose names had no answer the last time, which has been reported.
    unknown: Mutex<HashSet<Endpoint>>,
    /// As the last answer has them, in its order.
    found: Mutex<Vec<Arc<Backend>>>,
}

/// What name servers have last said of an entry, which outlives reloads.
#[derive(Debug, Default)]
pub(super) struct LastAnswer(Mutex<Option<(Vec<Server>, Instant)>>);

/// The states of the servers of one entry, of which log and metrics show the best: their labels are those of the
/// configuration, or every address that a name ever had would be a series.
#[derive(Debug, Default)]
pub(super) struct Statuses(Mutex<BTreeMap<BackendId, BackendStatus>>);

/// Which servers an answer has added and removed.
#[derive(Debug)]
pub(super) struct Changes {
    pub found: Vec<Arc<Backend>>,
    pub vanished: Vec<Arc<Backend>>,
}

impl Changes {
    /// Says which servers came and went; one whose share or priority has changed did neither.
    fn log(&self, site: &str) {
        let is_in = |all: &[Arc<Backend>], one: &Backend| all.iter().any(|it| it.id == one.id);
        for backend in self.found.iter().filter(|it| !is_in(&self.vanished, it)) {
            tracing::info!(site, %backend, "backend found");
        }
        for backend in self.vanished.iter().filter(|it| !is_in(&self.found, it)) {
            tracing::info!(site, %backend, "backend not listed any more; its sessions stay");
        }
    }

    fn is_empty(&self) -> bool {
        self.found.is_empty() && self.vanished.is_empty()
    }
}

impl Discovered {
    pub fn new(names: ServerNames, template: Template, registry: &Registry) -> Self {
        let discovered = Self {
            answer: registry.last_answer(&names),
            names,
            label: template.settings.to_string(),
            template,
            statuses: Arc::default(),
            unknown: Mutex::default(),
            found: Mutex::default(),
        };
        discovered.apply_answer(registry);
        discovered
    }

    pub fn found(&self) -> Vec<Arc<Backend>> {
        lock(&self.found).clone()
    }

    /// When name servers are to be asked again.
    pub fn due(&self) -> Option<Instant> {
        lock(&self.answer.0).as_ref().map(|(_, until)| *until)
    }

    /// Asks them, and keeps what they say; returns when they are to be asked again.
    pub async fn ask(&self, dns: &[SocketAddr]) -> Result<Instant, DnsError> {
        let client = DnsClient::new(dns)?;
        let (servers, ttl) = match &self.names {
            ServerNames::EachAddress(endpoint) => {
                let answer = client.addresses(&endpoint.host).await?;
                (at_each(answer.records, endpoint.port), answer.ttl)
            }
            ServerNames::Service(name) => {
                let answer = client.services(name).await?;
                self.with_addresses(by_priority(answer.records), answer.ttl, &client)
                    .await?
            }
        };
        let until = Instant::now() + ttl.clamp(*TTL.start(), *TTL.end());
        *lock(&self.answer.0) = Some((servers, until));
        Ok(until)
    }

    /// Those of the servers that have addresses, and for how long they do. The names may be known to these name servers
    /// alone. One whose name has no answer now has those of the last time, and is asked for again soon.
    async fn with_addresses(
        &self,
        mut servers: Vec<Server>,
        mut ttl: Duration,
        client: &DnsClient,
    ) -> Result<(Vec<Server>, Duration), DnsError> {
        let mut asking = JoinSet::new();
        for (position, server) in servers.iter().enumerate() {
            let (client, name) = (client.clone(), server.endpoint.host.clone());
            asking.spawn(async move {
                let late = |_| Err(DnsError::TimedOut(ONE_SERVER));
                let asked = timeout(ONE_SERVER, client.addresses(&name)).await;
                (position, asked.unwrap_or_else(late))
            });
        }
        let mut failure = None;
        let mut unknown = HashSet::new();
        while let Some(asked) = asking.join_next().await {
            // A query that panics is one without an answer.
            let Ok((position, answer)) = asked else {
                continue;
            };
            match answer {
                Ok(answer) => {
                    ttl = ttl.min(answer.ttl);
                    let addresses = &mut servers[position].addresses;
                    *addresses = answer.records;
                    addresses.sort_unstable();
                }
                Err(error) => {
                    let (site, backend) = (&self.template.site.name, &self.template.settings);
                    let server = &servers[position].endpoint;
                    if !lock(&self.unknown).contains(server) {
                        tracing::warn!(site, %backend, %server, %error, "server can't be looked up");
                    }
                    unknown.insert(server.clone());
                    failure = Some(error);
                }
            }
        }
        *lock(&self.unknown) = unknown;
        if let Some(failure) = failure {
            let last = lock(&self.answer.0);
            let last = last.as_ref().map_or(&[][..], |(servers, _)| servers);
            for server in servers.iter_mut().filter(|it| it.addresses.is_empty()) {
                let known = last.iter().find(|it| it.endpoint == server.endpoint);
                server.addresses = known.map_or_else(Vec::new, |it| it.addresses.clone());
            }
            servers.retain(|server| !server.addresses.is_empty());
            ttl = RETRY;
            if servers.is_empty() {
                return Err(failure);
            }
        }
        Ok((servers, ttl))
    }

    /// An entry without servers has no server to show its state.
    pub fn report_if_empty(&self, metrics: &Metrics) {
        if lock(&self.found).is_empty() {
            let status = match self.template.settings.takes_logins() {
                true => BackendStatus::Down,
                false => BackendStatus::Drain,
            };
            metrics.backend_status(&self.template.site.name, &self.label, status);
        }
    }

    /// Makes backends of what name servers have said.
    fn apply_answer(&self, registry: &Registry) -> Changes {
        let servers = lock(&self.answer.0)
            .as_ref()
            .map_or_else(Vec::new, |(servers, _)| servers.clone());
        let mut found = lock(&self.found);
        let mut before = std::mem::take(&mut *found);
        let mut changes = Changes {
            found: Vec::new(),
            vanished: Vec::new(),
        };
        for server in servers {
            let known = before.iter().position(|backend| backend.server == server);
            found.push(match known {
                Some(position) => before.swap_remove(position),
                None => {
                    let statuses = Some(Arc::clone(&self.statuses));
                    let backend = match self.template.backend(server, statuses, registry) {
                        Ok(backend) => Arc::new(backend),
                        Err(error) => {
                            let site = &self.template.site.name;
                            let backend = &self.template.settings;
                            tracing::warn!(site, %backend, %error, "server can't be used");
                            continue;
                        }
                    };
                    changes.found.push(Arc::clone(&backend));
                    backend
                }
            });
        }
        changes.vanished = before;
        self.statuses.keep_only(&found);
        changes
    }
}

impl Statuses {
    /// Notes the state of a server, and returns the best of all; `None` if it is none of them any more.
    pub fn note(&self, id: &BackendId, status: BackendStatus) -> Option<BackendStatus> {
        let mut all = lock(&self.0);
        *all.get_mut(id)? = status;
        all.values().copied().min_by_key(rank)
    }

    fn keep_only(&self, backends: &[Arc<Backend>]) {
        let mut all = lock(&self.0);
        let before = std::mem::take(&mut *all);
        for backend in backends {
            let status = before.get(&backend.id).copied();
            all.insert(backend.id.clone(), status.unwrap_or(BackendStatus::Up));
        }
    }
}

fn rank(status: &BackendStatus) -> u8 {
    match status {
        BackendStatus::Up => 0,
        BackendStatus::Full => 1,
        BackendStatus::Ejected => 2,
        BackendStatus::Down => 3,
        BackendStatus::Drain => 4,
    }
}

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
    /// Asks for the servers that nothing is known of yet, and waits a while for the answers. Without one the configuration is used
    /// all the same, and it is asked for again.
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
    /// Takes up what name servers have said of an entry.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
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
            *lock(&entry.answer.0) = Some((servers.clone(), now + RETRY));
            pool.apply_answer(entry, &registry);
            pool.candidates(0, now.into_std())[0].server.clone()
        };
        assert_ne!(first_after_an_answer(), first_after_an_answer());
    }
}
