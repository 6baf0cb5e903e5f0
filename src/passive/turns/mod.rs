//! Whose turn it is at which data port, and whose a connection is: what is decided about leases, without sockets.
//!
//! Leases of different client addresses never meet. Leases of one address meet on the same port if there are more of
//! them than ports. Those of one account take turns there: their connections may be those of one program that keeps the
//! TLS sessions of all its control connections in one place and presents any of them (`curl --parallel`, rclone), so that
//! nothing tells them apart. How leases of different accounts are told apart is a lease's [`Mark`]:
//!
//! | | a connection is its own if | and on its port may be |
//! |---|---|---|
//! | [`Mark::Address`] | it comes from the address | no other lease of the address |
//! | [`Mark::Unproven`] | it names no TLS session that is known | leases that are named |
//! | [`Mark::Named`] | it names a TLS session of the account | leases that are named, and one unproven |
//!
//! So a client that never resumes waits until no other such client of its address holds the port, and clients that do
//! resume wait for nobody else's. Where a port without any other lease is to be had it's taken, whatever the mark.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::tls::{Account, SessionId, Whose};

/// A lease's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LeaseId(pub u64);

/// How a session's data connection is told from those of other accounts' sessions of the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// By nothing else: it carries no TLS.
    Address,
    /// Perhaps by its TLS session, but the client has yet to show that it resumes.
    Unproven(SessionId),
    /// By its TLS session: the client has shown that it resumes this FTP session's and no other's.
    Named(SessionId),
}

/// What a data connection has to show before the lease's session gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// That it comes from the right address.
    Nothing,
    /// That it names the FTP session. Whoever doesn't is turned away at the door, and the lease goes on.
    Name,
}

/// Who a lease is for.
#[derive(Debug, Clone, Copy)]
pub struct Tenant {
    /// The client's address, in canonical form.
    pub client: IpAddr,
    /// Who has logged in.
    pub account: Account,
    /// How its connection is told from those of other accounts' sessions of the address.
    pub mark: Mark,
    /// What its connection has to show.
    pub demand: Demand,
    /// How long after its connection its ClientHello may come.
    pub hello: Duration,
}

/// What an arriving connection is, as far as its address tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nobody waits for it.
    Stranger,
    /// The only lease there is for it.
    Of(LeaseId),
    /// Its ClientHello has to say whose it is, and may take this long.
    Undecided(Duration),
}

/// Whose an undecided connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// This lease's.
    Of(LeaseId),
    /// Nobody's, for this lease has no other that it could be meant for and demands a name. Its session is to know.
    TurnedAway(LeaseId),
    /// Nobody's.
    Nobody,
}

/// A lease that was queued and has got its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub lease: LeaseId,
    pub port: SocketAddr,
}

/// The leases of all clients.
#[derive(Debug, Default)]
pub(super) struct Turns {
    clients: HashMap<IpAddr, Client>,
    held: usize,
}

/// The leases of one address.
#[derive(Debug, Default)]
struct Client {
    held: Vec<Held>,
    /// Those that wait for a port, the first of them in front.
    queue: VecDeque<Queued>,
}

#[derive(Debug)]
struct Held {
    lease: LeaseId,
    tenant: Tenant,
    port: SocketAddr,
}

#[derive(Debug)]
struct Queued {
    lease: LeaseId,
    tenant: Tenant,
    /// Any of them will do.
    ports: Arc<[SocketAddr]>,
}

impl Mark {
    fn session(self) -> Option<SessionId> {
        match self {
            Self::Address => None,
            Self::Unproven(session) | Self::Named(session) => Some(session),
        }
    }
}

impl Tenant {
    /// Whether both can have leases of one address on one port.
    fn goes_with(&self, other: &Self) -> bool {
        let told_apart = match (self.mark, other.mark) {
            (Mark::Address, _) | (_, Mark::Address) => false,
            (Mark::Unproven(_), Mark::Unproven(_)) => false,
            (Mark::Named(_), _) | (_, Mark::Named(_)) => true,
        };
        told_apart && self.account != other.account
    }
}

impl Turns {
    /// Asks for one of `ports`: gives the port, or queues the lease until [`Turns::end`] grants it one.
    pub fn ask(
        &mut self,
        lease: LeaseId,
        tenant: Tenant,
        ports: &Arc<[SocketAddr]>,
    ) -> Option<SocketAddr> {
        let client = self.clients.entry(tenant.client).or_default();
        let port = if client.must_wait(&tenant) {
            None
        } else {
            client.free_port(lease, ports, &tenant)
        };
        match port {
            Some(port) => self.hold(lease, tenant, port),
            None => client.queue.push_back(Queued {
                lease,
                tenant,
                ports: Arc::clone(ports),
            }),
        }
        port
    }

    /// Puts a lease whose connection turned out to be a stranger's back on its port, for those only who name its session.
    /// False if others that are there now don't allow it.
    pub fn again(
        &mut self,
        former: Tenant,
        lease: LeaseId,
        port: SocketAddr,
        session: SessionId,
    ) -> bool {
        let tenant = Tenant {
            mark: Mark::Named(session),
            demand: Demand::Name,
            ..former
        };
        let fits = self
            .clients
            .get(&tenant.client)
            .is_none_or(|client| client.fits(port, &tenant));
        if fits {
            self.hold(lease, tenant, port);
        }
        fits
    }

    fn hold(&mut self, lease: LeaseId, tenant: Tenant, port: SocketAddr) {
        let client = self.clients.entry(tenant.client).or_default();
        client.held.push(Held {
            lease,
            tenant,
            port,
        });
        self.held += 1;
    }

    /// Ends a lease, held or queued; gives those that have got a port by it.
    pub fn end(&mut self, address: IpAddr, lease: LeaseId) -> Vec<Granted> {
        let Some(client) = self.clients.get_mut(&address) else {
            return Vec::new();
        };
        let before = client.held.len();
        client.held.retain(|held| held.lease != lease);
        client.queue.retain(|queued| queued.lease != lease);
        let ended = before - client.held.len();
        let granted = client.grant();
        self.held = self.held + granted.len() - ended;
        self.forget(address);
        granted
    }

    /// Judges a connection by where it comes from and where it arrived.
    pub fn arrive(&self, address: IpAddr, port: SocketAddr) -> Arrival {
        let Some(client) = self.clients.get(&address) else {
            return Arrival::Stranger;
        };
        let mut leases = client.at(port);
        match (leases.next(), leases.next()) {
            (None, _) => Arrival::Stranger,
            (Some(only), None) if only.tenant.demand == Demand::Nothing => Arrival::Of(only.lease),
            (Some(_), _) => {
                let hellos = client.at(port).map(|held| held.tenant.hello);
                Arrival::Undecided(hellos.max().unwrap_or_default())
            }
        }
    }

    /// Says whose an undecided connection is, now that it has named `named`, or nothing that is known here.
    pub fn decide(&self, address: IpAddr, port: SocketAddr, named: Option<Whose>) -> Decision {
        self.clients
            .get(&address)
            .map_or(Decision::Nobody, |client| client.decide(port, named))
    }

    /// How many connections of one address may leave it open whose they are: each lease's own, and as many strangers.
    pub fn undecided_at_most(&self, address: IpAddr) -> usize {
        self.clients
            .get(&address)
            .map_or(0, |client| 2 * client.held.len() + SPARE_UNDECIDED)
    }

    /// The leases of one address that have this port.
    pub fn leases_at(&self, address: IpAddr, port: SocketAddr) -> impl Iterator<Item = LeaseId> {
        let client = self.clients.get(&address);
        client
            .into_iter()
            .flat_map(move |client| client.at(port))
            .map(|held| held.lease)
    }

    /// The leases of one address that have a port.
    pub fn leases_of(&self, address: IpAddr) -> impl Iterator<Item = LeaseId> {
        let client = self.clients.get(&address);
        client
            .into_iter()
            .flat_map(|client| &client.held)
            .map(|held| held.lease)
    }

    /// Whether leases of one address wait for a port.
    pub fn has_queue(&self, address: IpAddr) -> bool {
        let client = self.clients.get(&address);
        client.is_some_and(|client| !client.queue.is_empty())
    }

    /// How many leases have a port, of all clients.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Clients that hold nothing and wait for nothing take no memory.
    fn forget(&mut self, address: IpAddr) {
        if self
            .clients
            .get(&address)
            .is_some_and(|client| client.held.is_empty() && client.queue.is_empty())
        {
            self.clients.remove(&address);
        }
    }
}

impl Client {
    fn at(&self, port: SocketAddr) -> impl Iterator<Item = &Held> {
        self.held.iter().filter(move |held| held.port == port)
    }

    fn fits(&self, port: SocketAddr, tenant: &Tenant) -> bool {
        self.at(port).all(|held| held.tenant.goes_with(tenant))
    }

    /// Whether others have to be served first. Whoever needs a port without certain others would wait for ever if those
    /// went on coming in between.
    fn must_wait(&self, tenant: &Tenant) -> bool {
        match tenant.mark {
            Mark::Named(_) => self.queue.iter().any(|queued| {
                queued.tenant.mark == Mark::Address || queued.tenant.account == tenant.account
            }),
            Mark::Address | Mark::Unproven(_) => !self.queue.is_empty(),
        }
    }

    /// A port without any other lease, or else one where `tenant` is told from the others.
    fn free_port(
        &self,
        lease: LeaseId,
        ports: &[SocketAddr],
        tenant: &Tenant,
    ) -> Option<SocketAddr> {
        // Each time from another port on, so that a late connection for an old lease rarely meets a new one.
        let first = usize::try_from(lease.0).unwrap_or_default() % ports.len().max(1);
        let turned = || ports.iter().cycle().skip(first).take(ports.len()).copied();
        turned()
            .find(|port| self.at(*port).next().is_none())
            .or_else(|| turned().find(|port| self.fits(*port, tenant)))
    }

    fn grant(&mut self) -> Vec<Granted> {
        let mut granted = Vec::new();
        // First come, first served; whoever can't be served yet keeps those behind it waiting.
        while let Some(first) = self.queue.front()
            && let Some(port) = self.free_port(first.lease, &first.ports, &first.tenant)
            && let Some(Queued { lease, tenant, .. }) = self.queue.pop_front()
        {
            self.held.push(Held {
                lease,
                tenant,
                port,
            });
            granted.push(Granted { lease, port });
        }
        granted
    }

    fn decide(&self, port: SocketAddr, named: Option<Whose>) -> Decision {
        let of_session = |held: &&Held| {
            named.is_some_and(|whose| held.tenant.mark.session() == Some(whose.session))
        };
        if let Some(held) = self.at(port).find(of_session) {
            return Decision::Of(held.lease);
        }
        // The name of another session of the same program. There is one lease of the account at most.
        let of_account =
            |held: &&Held| named.is_some_and(|whose| whose.account == Some(held.tenant.account));
        let unproven = |held: &&Held| matches!(held.tenant.mark, Mark::Unproven(_));
        let mut leases = self.at(port);
        let only = leases.next().filter(|_| leases.next().is_none());
        let meant = self.at(port).find(of_account).or_else(|| match named {
            // While it was being read all others may have got theirs; then the address decides, as it would have then.
            None => self.at(port).find(unproven).or(only),
            // Of somebody who has no lease here: an old one, if not of a program with several accounts. Where others
            // wait, too, it's nobody's.
            Some(_) => only.filter(unproven),
        });
        match meant {
            None => Decision::Nobody,
            Some(held) if held.tenant.demand == Demand::Name => Decision::TurnedAway(held.lease),
            Some(held) => Decision::Of(held.lease),
        }
    }
}

/// See [`Turns::undecided_at_most`].
const SPARE_UNDECIDED: usize = 8;

#[cfg(test)]
mod tests;
