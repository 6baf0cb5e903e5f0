//! Queries to name servers whose answers have a TTL: for the backends of a name.
//!
//! getaddrinfo(3), which [`resolve`](super::resolve) asks for the names of single backends, tells no TTL and knows no SRV
//! records (RFC 2782).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::time::{Instant, timeout};

use crate::base::text::rounded;

/// How long a query may take with all its repetitions.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Limit of the records of a name, more than one for servers has; further ones are ignored.
const MAX_RECORDS: usize = 256;

/// Looks names up at name servers.
#[derive(Clone)]
pub struct DnsClient(TokioResolver);

/// The records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsRecords<T> {
    /// The records, at least one.
    pub records: Vec<T>,
    /// For how long the records are valid.
    pub ttl: Duration,
}

/// A server of a service (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    /// The server's name.
    pub target: String,
    /// The server's port.
    pub port: u16,
    /// The server's priority: those with the lowest value are tried before all others.
    pub priority: u16,
    /// The server's share among those of one priority.
    pub weight: u16,
}

/// Errors of looking up a name.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The name servers report that there is no such name, or no such record of it.
    #[error("the name has no {0} records")]
    NoRecords(&'static str),
    /// The name servers to ask can't be determined.
    #[error("no name servers to ask: {0}")]
    Unusable(#[source] NetError),
    /// The name servers returned an error, or no answer.
    #[error("no answer from the name servers: {0}")]
    Failed(#[source] NetError),
    /// The name servers did not answer in time.
    #[error("no answer from the name servers after {}", rounded(.0))]
    TimedOut(Duration),
}

impl DnsClient {
    /// A client that asks these servers, or those of `/etc/resolv.conf` if there are none.
    ///
    /// # Errors
    /// [`DnsError::Unusable`] if that file can't be read, or names no server.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()
        } else {
            let servers = servers.iter().map(|server| {
                let mut transports = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                for transport in &mut transports {
                    transport.port = server.port();
                }
                NameServerConfig::new(server.ip(), true, transports.into())
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            Ok(TokioResolver::builder_with_config(
                config,
                TokioRuntimeProvider::default(),
            ))
        }
        .map_err(DnsError::Unusable)?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Each query is made because the answer before it holds no more.
        options.cache_size = 0;
        builder.build().map(Self).map_err(DnsError::Unusable)
    }

    /// The addresses of a host, of both families.
    ///
    /// # Errors
    /// See [`DnsError`].
    pub async fn addresses(&self, name: &str) -> Result<DnsRecords<IpAddr>, DnsError> {
        let found = timeout(TIME_LIMIT, self.0.lookup_ip(name)).await;
        let found = found.map_err(|_| DnsError::TimedOut(TIME_LIMIT))?;
        let found = found.map_err(|error| failure(error, "address"))?;
        let answer = answer(found.as_lookup(), |data| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        });
        answer.ok_or(DnsError::NoRecords("address"))
    }

    /// The servers of a service such as `_ftp._tcp.example.com`.
    ///
    /// # Errors
    /// See [`DnsError`]. A service that is declared not to be offered, by the target `.`, has no records.
    pub async fn services(&self, name: &str) -> Result<DnsRecords<ServiceRecord>, DnsError> {
        let found = timeout(TIME_LIMIT, self.0.srv_lookup(name)).await;
        let found = found.map_err(|_| DnsError::TimedOut(TIME_LIMIT))?;
        let found = found.map_err(|error| failure(error, "SRV"))?;
        let answer = answer(&found, |data| match data {
            RData::SRV(record) if !record.target.is_root() => Some(ServiceRecord {
                target: record.target.to_ascii().trim_end_matches('.').to_owned(),
                port: record.port,
                priority: record.priority,
                weight: record.weight,
            }),
            _ => None,
        });
        answer.ok_or(DnsError::NoRecords("SRV"))
    }
}

impl std::fmt::Debug for DnsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsClient").finish_non_exhaustive()
    }
}

fn failure(error: NetError, records: &'static str) -> DnsError {
    match error.is_no_records_found() || error.is_nx_domain() {
        true => DnsError::NoRecords(records),
        false => DnsError::Failed(error),
    }
}

/// The records of the wanted kind, each once; `None` if there is none.
fn answer<T: PartialEq>(
    found: &Lookup,
    wanted: impl Fn(&RData) -> Option<T>,
) -> Option<DnsRecords<T>> {
    let mut records = Vec::new();
    for record in found.answers().iter().take(MAX_RECORDS) {
        if let Some(record) = wanted(&record.data)
            && !records.contains(&record)
        {
            records.push(record);
        }
    }
    let ttl = found
        .valid_until()
        .saturating_duration_since(Instant::now().into_std());
    (!records.is_empty()).then_some(DnsRecords { records, ttl })
}
