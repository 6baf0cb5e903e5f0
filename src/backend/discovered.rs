//! Backends discovered by DNS: every address of a name, or the servers that SRV records list.
//!
//! An answer holds as long as its TTL, within bounds, and the last one for as long as there is no other: neither a name server
//! that fails nor one that knows no record takes backends away. A server that an answer doesn't list any more gets no new logins
//! and keeps its sessions.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::registry::Registry;
use super::servers::{LastAnswer, Server, at_each, by_priority};
use super::site_backend::Backend;
use super::statuses::Statuses;
use super::template::Template;
use crate::config::{Endpoint, ServerNames};
use crate::net::dns::{DnsClient, DnsError};
use crate::observe::metrics::Metrics;
use crate::outcome::BackendStatus;

/// Answers are believed for no shorter and no longer than this, whatever their TTL.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// The time until the next query after a failure.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// How long the name of one server of several may take: the others must not wait for it.
const ONE_SERVER: Duration = Duration::from_secs(3);

/// An entry of a site's `backends` that stands for servers discovered by DNS.
#[derive(Debug)]
pub(super) struct Discovered {
    names: ServerNames,
    pub template: Template,
    /// The entry as configured, for metrics.
    pub label: String,
    pub statuses: Arc<Statuses>,
    pub answer: Arc<LastAnswer>,
    /// Servers whose names had no answer the last time, which has been reported.
    unknown: Mutex<HashSet<Endpoint>>,
    /// As the last answer has them, in its order.
    found: Mutex<Vec<Arc<Backend>>>,
}

/// The servers that a DNS answer has added and removed.
#[derive(Debug)]
pub(super) struct Changes {
    pub found: Vec<Arc<Backend>>,
    pub vanished: Vec<Arc<Backend>>,
}

impl Changes {
    /// Says which servers came and went; one whose share or priority has changed did neither.
    pub fn log(&self, site: &str) {
        let is_in = |all: &[Arc<Backend>], one: &Backend| all.iter().any(|it| it.id == one.id);
        for backend in self.found.iter().filter(|it| !is_in(&self.vanished, it)) {
            tracing::info!(site, %backend, "backend found");
        }
        for backend in self.vanished.iter().filter(|it| !is_in(&self.found, it)) {
            tracing::info!(site, %backend, "backend not listed any more; its sessions stay");
        }
    }

    pub fn is_empty(&self) -> bool {
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
        self.answer.until()
    }

    /// Asks the name servers, and keeps their answer; returns when they are to be asked again.
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
        self.answer.set(servers, until);
        Ok(until)
    }

    /// The servers that have addresses, and the least TTL of the answers. Their names are looked up at the name servers that
    /// named them, which may be the only ones that know them. A server whose name has no answer now keeps its addresses of the
    /// last time, and is asked for again soon.
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
            let last = self.answer.servers();
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

    /// Makes backends of the servers that were found.
    pub fn apply_answer(&self, registry: &Registry) -> Changes {
        let mut found = lock(&self.found);
        let mut before = std::mem::take(&mut *found);
        let mut changes = Changes {
            found: Vec::new(),
            vanished: Vec::new(),
        };
        for server in self.answer.servers() {
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
        self.statuses
            .keep_only(found.iter().map(|backend| &backend.id));
        changes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
