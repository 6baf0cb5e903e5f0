//! The servers that DNS records stand for, in an order that the records alone decide: every instance has the same one. The last
//! answer that listed them.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::config::Endpoint;
use crate::net::dns::ServiceRecord;

/// A server that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub endpoint: Endpoint,
    /// The addresses of the host, where name servers have answered with them; else the host is looked up for each connection.
    pub addresses: Vec<IpAddr>,
    /// The server's share of the logins, if its record states one; else that of its entry applies.
    pub weight: Option<u32>,
    /// See [`Candidate::tier`](super::balance::Candidate::tier).
    pub tier: u32,
}

impl Server {
    /// The only one of its entry.
    pub fn one(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            addresses: Vec::new(),
            weight: None,
            tier: 0,
        }
    }
}

/// The last DNS answer for an entry, which outlives reloads.
#[derive(Debug, Default)]
pub(super) struct LastAnswer(Mutex<Option<Answer>>);

#[derive(Debug)]
struct Answer {
    servers: Vec<Server>,
    until: Instant,
}

impl LastAnswer {
    /// The servers that it lists; none before the first answer.
    pub fn servers(&self) -> Vec<Server> {
        let answer = self.lock();
        answer
            .as_ref()
            .map_or_else(Vec::new, |answer| answer.servers.clone())
    }

    /// Until when the answer holds, if there is one.
    pub fn until(&self) -> Option<Instant> {
        self.lock().as_ref().map(|answer| answer.until)
    }

    /// Takes the place of the one before.
    pub fn set(&self, servers: Vec<Server>, until: Instant) {
        *self.lock() = Some(Answer { servers, until });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One server for each address, in an order that depends on the addresses alone.
pub(super) fn at_each(mut addresses: Vec<IpAddr>, port: u16) -> Vec<Server> {
    addresses.sort_unstable();
    let server = |address: IpAddr| {
        let host = address.to_string();
        Server::one(Endpoint { host, port })
    };
    addresses.into_iter().map(server).collect()
}

/// The servers of SRV records: those of the lowest priority first, of each priority those with the most weight. The order
/// of equal ones depends on nothing but their names. One that has several records has its first place among these.
pub(super) fn by_priority(mut records: Vec<ServiceRecord>) -> Vec<Server> {
    records.sort_by(|one, other| {
        let key = |it: &ServiceRecord| (it.priority, u16::MAX - it.weight);
        (key(one), &one.target, one.port).cmp(&(key(other), &other.target, other.port))
    });
    let mut priorities: Vec<u16> = records.iter().map(|record| record.priority).collect();
    priorities.dedup();
    let tier = |record: &ServiceRecord| priorities.partition_point(|it| *it < record.priority);
    let server = |record: &ServiceRecord| Server {
        endpoint: Endpoint {
            host: record.target.clone(),
            port: record.port,
        },
        addresses: Vec::new(),
        // RFC 2782: those with weight 0 have "a very small chance".
        weight: Some(u32::from(record.weight.max(1))),
        tier: u32::try_from(tier(record)).unwrap_or(u32::MAX),
    };
    let mut seen = HashSet::new();
    let servers = records.iter().map(server);
    servers
        .filter(|server| seen.insert(server.endpoint.id()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(target: &str, priority: u16, weight: u16) -> ServiceRecord {
        ServiceRecord {
            target: target.to_owned(),
            port: 21,
            priority,
            weight,
        }
    }

    #[test]
    fn priorities_become_tiers_and_weights_weights() {
        let servers = by_priority(vec![
            record("c.test", 20, 0),
            record("b.test", 10, 30),
            record("a.test", 10, 70),
            record("d.test", 500, 1),
        ]);
        let shown: Vec<_> = servers
            .iter()
            .map(|it| (it.endpoint.host.as_str(), it.tier, it.weight.unwrap_or(0)))
            .collect();
        let expected = [
            ("a.test", 0, 70),
            ("b.test", 0, 30),
            ("c.test", 1, 1),
            ("d.test", 2, 1),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_server_with_several_records_is_one_backend_in_its_first_place() {
        let servers = by_priority(vec![
            record("a.test", 20, 5),
            record("A.test.", 10, 7),
            record("b.test", 10, 1),
        ]);
        let shown: Vec<_> = servers
            .iter()
            .map(|it| (it.endpoint.host.as_str(), it.tier))
            .collect();
        assert_eq!(shown, [("A.test.", 0), ("b.test", 0)]);
    }

    #[test]
    fn the_order_of_answers_changes_nothing() {
        let addresses = ["10.0.0.2", "fd00::1", "10.0.0.1"].map(|it| it.parse().unwrap());
        let mut reversed = addresses;
        reversed.reverse();
        let (one, other) = (
            at_each(addresses.to_vec(), 21),
            at_each(reversed.to_vec(), 21),
        );
        assert_eq!(one, other);
        let records = [record("a", 1, 1), record("b", 1, 1)];
        let mut reversed = records.clone();
        reversed.reverse();
        assert_eq!(
            by_priority(records.to_vec()),
            by_priority(reversed.to_vec())
        );
    }
}
