//! Whose turn it is at which data port, and whose a connection is: what is decided about leases, without sockets.
//!
//! Leases of different client addresses never meet. Leases of one address meet on the same port if there are more of
//! them than ports, and how they are told apart there is a lease's [`Mark`]:
//!
//! | | a connection is its own if | and on its port may be |
//! |---|---|---|
//! | [`Mark::Address`] | it comes from the address | no other lease of the address |
//! | [`Mark::Unproven`] | it names no other lease's FTP session | leases that are named |
//! | [`Mark::Named`] | it resumes a TLS session of the FTP session | leases that are named, and one unproven |
//!
//! So a client that never resumes waits until no other such client of its address holds the port, and clients that do
//! resume wait for nobody. Where a port without any other lease is to be had it's taken, whatever the mark.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::tls::SessionId;

/// A lease's number; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LeaseId(pub u64);

/// How a session's data connection is told from those of other sessions of the same address.
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

/// What an arriving connection is, as far as its address tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nobody waits for it.
    Stranger,
    /// The only lease there is for it.
    Of(LeaseId),
    /// Its ClientHello has to say whose it is.
    Undecided,
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

#[derive(Debug, Default)]
struct Client {
    held: Vec<Held>,
    queue: VecDeque<Queued>,
}

#[derive(Debug)]
struct Held {
    lease: LeaseId,
    port: SocketAddr,
    mark: Mark,
    demand: Demand,
}

#[derive(Debug)]
struct Queued {
    lease: LeaseId,
    ports: Arc<[SocketAddr]>,
    mark: Mark,
    demand: Demand,
}

impl Mark {
    fn session(self) -> Option<SessionId> {
        match self {
            Self::Address => None,
            Self::Unproven(session) | Self::Named(session) => Some(session),
        }
    }

    /// Whether both can be leases of one address on one port.
    fn goes_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Address, _) | (_, Self::Address) => false,
            (Self::Unproven(_), Self::Unproven(_)) => false,
            (Self::Named(one), Self::Named(other)) => one != other,
            (Self::Unproven(_), Self::Named(_)) | (Self::Named(_), Self::Unproven(_)) => true,
        }
    }
}

impl Turns {
    /// Asks for one of `ports`: gives the port, or queues the lease until [`Turns::end`] grants it one.
    pub fn ask(
        &mut self,
        client: IpAddr,
        lease: LeaseId,
        ports: &Arc<[SocketAddr]>,
        mark: Mark,
        demand: Demand,
    ) -> Option<SocketAddr> {
        let client = self.clients.entry(client).or_default();
        // Whoever needs a port for itself alone would wait for ever if others went on coming in between.
        let must_wait = match mark {
            Mark::Named(_) => client
                .queue
                .iter()
                .any(|queued| queued.mark == Mark::Address),
            Mark::Address | Mark::Unproven(_) => !client.queue.is_empty(),
        };
        let port = if must_wait {
            None
        } else {
            client.free_port(lease, ports, mark)
        };
        match port {
            Some(port) => {
                client.held.push(Held {
                    lease,
                    port,
                    mark,
                    demand,
                });
                self.held += 1;
            }
            None => client.queue.push_back(Queued {
                lease,
                ports: Arc::clone(ports),
                mark,
                demand,
            }),
        }
        port
    }

    /// Puts a lease whose connection turned out to be a stranger's back on its port, for those only who name its session.
    /// False if others that are there now don't allow it.
    pub fn again(
        &mut self,
        client: IpAddr,
        lease: LeaseId,
        port: SocketAddr,
        session: SessionId,
    ) -> bool {
        let mark = Mark::Named(session);
        let client = self.clients.entry(client).or_default();
        let fits = client.fits(port, mark);
        if fits {
            client.held.push(Held {
                lease,
                port,
                mark,
                demand: Demand::Name,
            });
            self.held += 1;
        }
        fits
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
        let leases = client.at(port).count();
        if let Some(held) = client.at(port).next()
            && leases == 1
            && held.demand == Demand::Nothing
        {
            return Arrival::Of(held.lease);
        }
        if leases == 0 {
            Arrival::Stranger
        } else {
            Arrival::Undecided
        }
    }

    /// Says whose an undecided connection is, now that it has named `named`, or nothing that is known here.
    pub fn decide(&self, address: IpAddr, port: SocketAddr, named: Option<SessionId>) -> Decision {
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

    fn fits(&self, port: SocketAddr, mark: Mark) -> bool {
        self.at(port).all(|held| held.mark.goes_with(mark))
    }

    /// A port without any other lease, or else one where `mark` tells the lease from the others.
    fn free_port(&self, lease: LeaseId, ports: &[SocketAddr], mark: Mark) -> Option<SocketAddr> {
        // Each time from another port on, so that a late connection for an old lease rarely meets a new one.
        let first = usize::try_from(lease.0).unwrap_or_default() % ports.len().max(1);
        let turned = || ports.iter().cycle().skip(first).take(ports.len()).copied();
        turned()
            .find(|port| self.at(*port).next().is_none())
            .or_else(|| turned().find(|port| self.fits(*port, mark)))
    }

    fn grant(&mut self) -> Vec<Granted> {
        let mut granted = Vec::new();
        // First come, first served; whoever can't be served yet keeps those behind it waiting.
        while let Some(first) = self.queue.front()
            && let Some(port) = self.free_port(first.lease, &first.ports, first.mark)
            && let Some(Queued {
                lease,
                mark,
                demand,
                ..
            }) = self.queue.pop_front()
        {
            self.held.push(Held {
                lease,
                port,
                mark,
                demand,
            });
            granted.push(Granted { lease, port });
        }
        granted
    }

    fn decide(&self, port: SocketAddr, named: Option<SessionId>) -> Decision {
        if let Some(session) = named
            && let Some(held) = self
                .at(port)
                .find(|held| held.mark.session() == Some(session))
        {
            return Decision::Of(held.lease);
        }
        // A name that no lease here has may be an old one, or that of another session of the same program.
        let unproven = self
            .at(port)
            .find(|held| matches!(held.mark, Mark::Unproven(_)));
        let meant = unproven.or_else(|| {
            // While it was being read all others may have got theirs; then the address decides, as it would have then.
            let mut leases = self.at(port);
            leases
                .next()
                .filter(|_| leases.next().is_none() && named.is_none())
        });
        match meant {
            None => Decision::Nobody,
            Some(held) if held.demand == Demand::Name => Decision::TurnedAway(held.lease),
            Some(held) => Decision::Of(held.lease),
        }
    }
}

/// See [`Turns::undecided_at_most`].
const SPARE_UNDECIDED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn ports(count: u16) -> Arc<[SocketAddr]> {
        (0..count).map(port).collect()
    }

    fn port(number: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 50_000 + number))
    }

    fn unproven(session: u64) -> Mark {
        Mark::Unproven(SessionId(session))
    }

    fn named(session: u64) -> Mark {
        Mark::Named(SessionId(session))
    }

    /// Asks for leases 0, 1, … with these marks and tells which got a port at once.
    fn ask(turns: &mut Turns, ports: &Arc<[SocketAddr]>, marks: &[Mark]) -> Vec<bool> {
        marks
            .iter()
            .zip(0..)
            .map(|(mark, id)| {
                turns
                    .ask(CLIENT, LeaseId(id), ports, *mark, Demand::Nothing)
                    .is_some()
            })
            .collect()
    }

    #[test]
    fn leases_that_only_the_address_tells_share_no_port() {
        for second in [Mark::Address, unproven(2), named(2)] {
            let mut turns = Turns::default();
            let got = ask(&mut turns, &ports(1), &[Mark::Address, second]);
            assert_eq!(got, [true, false], "{second:?}");
            let mut turns = Turns::default();
            let got = ask(&mut turns, &ports(1), &[second, Mark::Address]);
            assert_eq!(got, [true, false], "{second:?}");
        }
    }

    #[test]
    fn any_number_of_named_leases_and_one_unproven_share_a_port() {
        let mut turns = Turns::default();
        let got = ask(
            &mut turns,
            &ports(1),
            &[named(1), named(2), unproven(3), named(4), unproven(5)],
        );
        assert_eq!(got, [true, true, true, true, false]);
    }

    #[test]
    fn a_lease_takes_a_port_of_its_own_where_there_is_one() {
        let mut turns = Turns::default();
        let ports = ports(3);
        let mut taken: Vec<_> = (0..3)
            .map(|id| {
                turns
                    .ask(CLIENT, LeaseId(id), &ports, named(id), Demand::Nothing)
                    .unwrap()
            })
            .collect();
        taken.sort();
        assert_eq!(taken, *ports);
    }

    #[test]
    fn addresses_do_not_wait_for_each_other() {
        let mut turns = Turns::default();
        let ports = ports(1);
        for last in 1..=250 {
            let client = IpAddr::from([192, 0, 2, last]);
            let lease = LeaseId(last.into());
            assert!(
                turns
                    .ask(client, lease, &ports, Mark::Address, Demand::Nothing)
                    .is_some()
            );
            assert_eq!(turns.arrive(client, port(0)), Arrival::Of(lease));
        }
    }

    #[test]
    fn those_who_wait_are_served_in_the_order_in_which_they_came() {
        let mut turns = Turns::default();
        let got = ask(
            &mut turns,
            &ports(1),
            &[unproven(0), unproven(1), Mark::Address, unproven(3)],
        );
        assert_eq!(got, [true, false, false, false]);
        for (ended, next) in [(0, 1), (1, 2), (2, 3)] {
            let granted = turns.end(CLIENT, LeaseId(ended));
            assert_eq!(
                granted,
                [Granted {
                    lease: LeaseId(next),
                    port: port(0)
                }]
            );
        }
    }

    #[test]
    fn named_leases_do_not_keep_one_that_needs_the_port_alone_waiting_for_ever() {
        let mut turns = Turns::default();
        let got = ask(
            &mut turns,
            &ports(1),
            &[named(0), Mark::Address, named(2), named(3)],
        );
        assert_eq!(got, [true, false, false, false]);
        assert_eq!(turns.end(CLIENT, LeaseId(0)).len(), 1);
        let after = turns.end(CLIENT, LeaseId(1));
        assert_eq!(after.len(), 2, "both named ones at once");
    }

    #[test]
    fn whoever_gives_up_waiting_is_passed_over() {
        let mut turns = Turns::default();
        ask(
            &mut turns,
            &ports(1),
            &[unproven(0), unproven(1), unproven(2)],
        );
        assert!(turns.end(CLIENT, LeaseId(1)).is_empty());
        assert_eq!(turns.end(CLIENT, LeaseId(0))[0].lease, LeaseId(2));
    }

    #[test]
    fn a_connection_belongs_to_the_only_lease_there_is_whatever_it_will_say() {
        for mark in [Mark::Address, unproven(0), named(0)] {
            let mut turns = Turns::default();
            assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Stranger);
            ask(&mut turns, &ports(1), &[mark]);
            assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Of(LeaseId(0)));
            assert_eq!(turns.arrive(CLIENT, port(1)), Arrival::Stranger);
            turns.end(CLIENT, LeaseId(0));
            assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Stranger);
        }
    }

    #[test]
    fn among_several_leases_the_name_decides() {
        let mut turns = Turns::default();
        ask(&mut turns, &ports(1), &[named(10), named(11), unproven(12)]);
        let whose = |name: Option<u64>| {
            assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Undecided);
            turns.decide(CLIENT, port(0), name.map(SessionId))
        };
        assert_eq!(whose(Some(10)), Decision::Of(LeaseId(0)));
        assert_eq!(whose(Some(11)), Decision::Of(LeaseId(1)));
        assert_eq!(whose(Some(12)), Decision::Of(LeaseId(2)));
        // No name, or one that nobody here has: not one of those who are sure to be named.
        assert_eq!(whose(None), Decision::Of(LeaseId(2)));
        assert_eq!(whose(Some(99)), Decision::Of(LeaseId(2)));
    }

    #[test]
    fn a_connection_without_a_name_is_nobodys_among_named_leases() {
        let mut turns = Turns::default();
        ask(&mut turns, &ports(1), &[named(0), named(1)]);
        turns.arrive(CLIENT, port(0));
        turns.arrive(CLIENT, port(0));
        assert_eq!(turns.decide(CLIENT, port(0), None), Decision::Nobody);
        turns.end(CLIENT, LeaseId(0));
        assert_eq!(
            turns.decide(CLIENT, port(0), None),
            Decision::Of(LeaseId(1)),
            "the only one left"
        );
    }

    #[test]
    fn who_does_not_name_the_session_is_turned_away_where_a_name_is_demanded() {
        for mark in [unproven(0), named(0)] {
            let mut turns = Turns::default();
            turns.ask(CLIENT, LeaseId(0), &ports(1), mark, Demand::Name);
            for _ in 0..3 {
                assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Undecided);
                let turned_away = Decision::TurnedAway(LeaseId(0));
                assert_eq!(turns.decide(CLIENT, port(0), None), turned_away);
            }
            turns.arrive(CLIENT, port(0));
            let own = turns.decide(CLIENT, port(0), Some(SessionId(0)));
            assert_eq!(own, Decision::Of(LeaseId(0)));
        }
    }

    #[test]
    fn a_lease_that_met_a_stranger_goes_on_under_its_name() {
        let mut turns = Turns::default();
        ask(&mut turns, &ports(1), &[unproven(0), unproven(1)]);
        turns.end(CLIENT, LeaseId(0));
        assert!(turns.again(CLIENT, LeaseId(0), port(0), SessionId(0)));
        turns.arrive(CLIENT, port(0));
        assert_eq!(
            turns.decide(CLIENT, port(0), Some(SessionId(0))),
            Decision::Of(LeaseId(0))
        );
        turns.end(CLIENT, LeaseId(0));
        turns.end(CLIENT, LeaseId(1));
        turns.ask(
            CLIENT,
            LeaseId(2),
            &ports(1),
            Mark::Address,
            Demand::Nothing,
        );
        assert!(!turns.again(CLIENT, LeaseId(0), port(0), SessionId(0)));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Ask(u8, u64),
        End(u64),
        Arrive(u16),
        Decide(u16, Option<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3u8, 0..6u64).prop_map(|(mark, session)| Step::Ask(mark, session)),
            (0..40u64).prop_map(Step::End),
            (0..3u16).prop_map(Step::Arrive),
            (0..3u16, proptest::option::of(0..6u64))
                .prop_map(|(port, name)| Step::Decide(port, name)),
        ]
    }

    proptest! {
        #[test]
        fn no_two_leases_ever_meet_that_nothing_tells_apart(
            count in 1..3u16,
            steps in proptest::collection::vec(step(), 0..80),
        ) {
            let mut turns = Turns::default();
            let ports = ports(count);
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Ask(mark, session) => {
                        let mark = match mark {
                            0 => Mark::Address,
                            1 => unproven(session),
                            _ => named(session),
                        };
                        turns.ask(CLIENT, LeaseId(next), &ports, mark, Demand::Nothing);
                        next += 1;
                    }
                    Step::End(lease) => {
                        turns.end(CLIENT, LeaseId(lease));
                    }
                    Step::Arrive(at) => {
                        turns.arrive(CLIENT, port(at));
                    }
                    Step::Decide(at, name) => {
                        let decision = turns.decide(CLIENT, port(at), name.map(SessionId));
                        // A name that a lease here has is that lease's, and nobody else's.
                        if let (Some(name), Some(client)) = (name, turns.clients.get(&CLIENT))
                            && let Some(its) = client
                                .at(port(at))
                                .find(|held| held.mark.session() == Some(SessionId(name)))
                        {
                            prop_assert_eq!(decision, Decision::Of(its.lease));
                        }
                    }
                }
                let Some(client) = turns.clients.get(&CLIENT) else { continue };
                for (index, one) in client.held.iter().enumerate() {
                    for other in &client.held[..index] {
                        prop_assert!(
                            one.port != other.port || one.mark.goes_with(other.mark),
                            "{:?} {:?}", one, other
                        );
                    }
                }
            }
            for lease in 0..next {
                turns.end(CLIENT, LeaseId(lease));
            }
            prop_assert_eq!(turns.held(), 0);
        }
    }
}
