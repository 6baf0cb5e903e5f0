//! Rules of the lease table, one by one. Every order of everything is in `tests/models`.

mod connections;
mod cooling;
mod waiting;

use std::net::Ipv4Addr;

use super::*;
use crate::base::SiteId;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const DELAY: Duration = Duration::from_secs(2);

/// A table with leases and connections that are known by their numbers.
struct Bench {
    table: LeaseTable,
    now: Instant,
    ports: Arc<[SocketAddr]>,
    next_connection: u64,
}

impl Bench {
    fn with_ports(count: u16) -> Self {
        Self {
            table: LeaseTable::default(),
            now: Instant::now(),
            ports: (0..count).map(port).collect(),
            next_connection: 0,
        }
    }

    fn request(&mut self, lease: u64, identity: Identity) -> Option<SocketAddr> {
        granted(&self.effects_of(lease, identity), lease)
    }

    fn effects_of(&mut self, lease: u64, identity: Identity) -> Vec<Effect> {
        self.effects_of_account(lease, identity, lease)
    }

    fn ask_of(&mut self, lease: u64, identity: Identity, account: u64) -> Option<SocketAddr> {
        granted(&self.effects_of_account(lease, identity, account), lease)
    }

    fn effects_of_account(&mut self, lease: u64, identity: Identity, account: u64) -> Vec<Effect> {
        let request = LeaseRequest {
            client: CLIENT,
            account: LoginId::of(Some(SiteId(0)), &account.to_be_bytes()),
            identity,
            reuse_delay: DELAY,
        };
        let ports = Arc::clone(&self.ports);
        self.table
            .request(LeaseId(lease), request, &ports, self.now)
    }

    fn arrives(&mut self) -> (ConnectionId, Vec<Effect>) {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let effects = self
            .table
            .on_connection(connection, CLIENT, self.ports[0], self.now);
        (connection, effects)
    }

    /// A connection that says this at once.
    fn says(&mut self, result: PeekResult) -> Vec<Effect> {
        let (connection, _) = self.arrives();
        self.table.on_peeked(connection, CLIENT, result, self.now)
    }

    fn end(&mut self, lease: u64, end: LeaseEnd) -> Vec<Effect> {
        self.table.end(CLIENT, LeaseId(lease), end, self.now)
    }

    fn proven(&mut self, lease: u64) -> Vec<Effect> {
        self.table.proven(CLIENT, LeaseId(lease), self.now)
    }

    fn after(&mut self, time: Duration) -> Vec<Effect> {
        self.now += time;
        self.table.wake(CLIENT, self.now)
    }
}

fn port(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 30_000 + number))
}

/// A client that has resumed its own session when all others had long read their newer tickets.
fn separate(session: u64) -> ClientCache {
    let mut cache = ClientCache::new(SessionId(session));
    cache.on_issued(session);
    cache.on_received(100 + session);
    cache.on_own_chosen(session, 1_000);
    cache
}

/// Clients that came at once.
fn at_once(session: u64) -> ClientCache {
    let mut cache = ClientCache::new(SessionId(session));
    cache.on_issued(session);
    cache.on_received(100 + session);
    cache
}

fn named(session: u64) -> Identity {
    Identity::Named(separate(session))
}

fn unproven(session: u64) -> Identity {
    Identity::Unproven(separate(session))
}

fn name_of(session: u64) -> PeekResult {
    PeekResult::Session(TicketOwner {
        session: SessionId(session),
        account: Some(LoginId::of(Some(SiteId(0)), &session.to_be_bytes())),
        cache: separate(session),
    })
}

fn granted(effects: &[Effect], lease: u64) -> Option<SocketAddr> {
    effects.iter().find_map(|effect| match effect {
        Effect::Granted {
            lease: id, port, ..
        } if *id == LeaseId(lease) => Some(*port),
        _ => None,
    })
}

fn handed_to(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| match effect {
        Effect::Assign { lease, .. } => Some(lease.0),
        _ => None,
    })
}

fn is_reset(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::Reset(..)))
}

fn ambiguous(effects: &[Effect]) -> Option<(u64, Ambiguity)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Attribution(lease, Attribution::Ambiguous(ambiguity)) => {
            Some((lease.0, *ambiguity))
        }
        _ => None,
    })
}
