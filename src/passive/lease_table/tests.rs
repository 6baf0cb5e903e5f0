//! Rules of the lease table, one by one. Every order of everything is in `tests/models`.

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

#[test]
fn leases_that_nothing_but_the_address_tells_apart_take_turns_for_whole_transfers() {
    for (first, second) in [
        (Identity::Address, Identity::Address),
        (Identity::Address, unproven(2)),
        (unproven(1), unproven(2)),
    ] {
        let mut bench = Bench::with_ports(1);
        assert!(bench.request(1, first).is_some());
        assert_eq!(bench.request(2, second), None);
        let effects = bench.says(PeekResult::NoSession);
        assert_eq!(
            granted(&effects, 2),
            None,
            "not when its connection has arrived"
        );
        let effects = bench.end(1, LeaseEnd::Complete);
        assert!(granted(&effects, 2).is_some());
    }
}

#[test]
fn named_leases_share_a_port_with_each_other_and_with_one_that_is_not() {
    for last in [Identity::Address, unproven(4), named(4)] {
        let mut bench = Bench::with_ports(1);
        for session in 1..4 {
            assert!(bench.ask_of(session, named(session), 7).is_some());
        }
        assert!(bench.request(4, last).is_some(), "{last:?}");
    }
}

#[test]
fn clients_of_one_account_that_came_at_once_wait_for_each_others_names() {
    let mut bench = Bench::with_ports(1);
    assert!(bench.ask_of(1, Identity::Named(at_once(1)), 7).is_some());
    assert_eq!(bench.ask_of(2, Identity::Named(at_once(2)), 7), None);
    assert!(bench.ask_of(3, Identity::Named(at_once(3)), 8).is_some());
    let (connection, _) = bench.arrives();
    let whose = TicketOwner {
        session: SessionId(1),
        account: Some(LoginId::of(Some(SiteId(0)), &7u64.to_be_bytes())),
        cache: at_once(1),
    };
    let result = PeekResult::Session(whose);
    let effects = bench.table.on_peeked(connection, CLIENT, result, bench.now);
    assert_eq!(handed_to(&effects), Some(1));
    let effects = bench.proven(1);
    assert!(
        granted(&effects, 2).is_some(),
        "the transfers run side by side"
    );
}

#[test]
fn a_connection_goes_to_the_session_that_it_names() {
    let mut bench = Bench::with_ports(1);
    for session in 1..=3 {
        bench.request(session, named(session));
    }
    for session in [2, 3, 1] {
        assert_eq!(handed_to(&bench.says(name_of(session))), Some(session));
    }
}

#[test]
fn a_connection_that_names_a_live_session_is_no_other_ones() {
    for other in [unproven(2), named(2)] {
        let mut bench = Bench::with_ports(1);
        bench.request(2, other);
        let effects = bench.says(name_of(1));
        assert!(is_reset(&effects));
        assert_eq!(handed_to(&effects), None, "{other:?}");
        assert_eq!(ambiguous(&effects), None, "it can't have been this one's");
        assert_eq!(handed_to(&bench.says(name_of(2))), Some(2));
    }
}

#[test]
fn who_has_to_resume_and_has_yet_to_is_let_in_beside_no_transfer_that_its_connection_could_spoil() {
    let mut bench = Bench::with_ports(1);
    let required = |session| Identity::Required(separate(session));
    assert!(bench.request(1, required(1)).is_some());
    // Those that name their sessions, or have to, spoil nothing of each other's.
    assert!(bench.request(2, required(2)).is_some());
    assert!(bench.request(3, named(3)).is_some());
    assert_eq!(bench.request(4, unproven(4)), None);
    for lease in 1..=3 {
        bench.end(lease, LeaseEnd::Complete);
    }
    // The one that waited has the port now.
    assert_eq!(bench.request(5, required(5)), None);
    assert!(bench.request(6, named(6)).is_some());
}

#[test]
fn a_lease_whose_client_has_resumed_takes_nothing_unnamed() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    let effects = bench.says(PeekResult::NoSession);
    assert!(is_reset(&effects));
    assert!(effects.contains(&Effect::Refused(LeaseId(1), None)));
}

#[test]
fn a_lease_that_is_alone_takes_an_unnamed_connection_of_a_client_that_has_resumed_before() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Resuming(separate(1)));
    bench.request(2, Identity::Resuming(separate(2)));
    assert_eq!(
        handed_to(&bench.says(PeekResult::NoSession)),
        None,
        "whose is it?"
    );
    assert_eq!(handed_to(&bench.says(name_of(2))), Some(2));
    assert_eq!(handed_to(&bench.proven(2)), Some(1));
}

#[test]
fn a_second_connection_makes_a_transfer_that_was_alone_ambiguous() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    assert_eq!(handed_to(&bench.arrives().1), Some(1));
    let (_, effects) = bench.arrives();
    assert!(is_reset(&effects));
    assert_eq!(ambiguous(&effects), Some((1, Ambiguity::AnotherConnection)));
}

#[test]
fn nothing_that_comes_to_the_port_of_a_proven_transfer_makes_it_ambiguous() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, unproven(1));
    assert_eq!(handed_to(&bench.says(name_of(1))), Some(1));
    bench.proven(1);
    let (_, effects) = bench.arrives();
    assert!(is_reset(&effects));
    assert_eq!(ambiguous(&effects), None);
}

#[test]
fn an_unnamed_connection_waits_until_the_named_ones_that_it_could_be_are_there() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    bench.request(2, unproven(2));
    assert_eq!(handed_to(&bench.says(PeekResult::NoSession)), None);
    assert_eq!(handed_to(&bench.says(name_of(1))), Some(1));
    assert_eq!(handed_to(&bench.proven(1)), Some(2));
}

#[test]
fn an_unnamed_connection_is_in_doubt_if_the_named_one_never_comes() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    bench.request(2, unproven(2));
    bench.says(PeekResult::NoSession);
    let effects = bench.end(1, LeaseEnd::Incomplete);
    let refused = Effect::Refused(LeaseId(2), Some(Ambiguity::LateConnection));
    assert!(effects.contains(&refused));
    assert!(is_reset(&effects));
    assert_eq!(
        handed_to(&bench.says(name_of(2))),
        Some(2),
        "its name tells"
    );
}

#[test]
fn a_verdict_waits_for_a_connection_that_may_be_another_named_ones() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.request(2, named(2));
    let (connection, effects) = bench.arrives();
    assert!(effects.contains(&Effect::Attribution(LeaseId(1), Attribution::Unsettled)));
    let effects = bench
        .table
        .on_peeked(connection, CLIENT, name_of(2), bench.now);
    assert!(effects.contains(&Effect::Attribution(LeaseId(1), Attribution::Certain)));
}

#[test]
fn a_port_cools_down_for_the_address_after_a_lease_whose_connection_may_still_come() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.end(1, LeaseEnd::Incomplete);
    assert_eq!(bench.request(2, unproven(2)), None);
    assert!(
        bench.request(3, named(3)).is_some(),
        "it can't take it for its own"
    );
    assert_eq!(
        granted(&bench.after(DELAY - Duration::from_millis(1)), 2),
        None
    );
    assert!(granted(&bench.after(Duration::from_millis(1)), 2).is_some());
}

#[test]
fn a_port_does_not_cool_down_for_a_session_when_the_connection_of_its_refused_transfer_has_named_it()
 {
    for identity in [named(1), unproven(1)] {
        let mut bench = Bench::with_ports(1);
        bench.request(1, identity);
        assert_eq!(handed_to(&bench.says(name_of(1))), Some(1));
        bench.end(1, LeaseEnd::Refused);
        assert!(bench.ask_of(2, identity, 1).is_some());
        // It has not come yet.
        bench.end(2, LeaseEnd::Refused);
        assert_eq!(bench.ask_of(3, identity, 1), None);
    }
}

#[test]
fn a_port_does_not_cool_down_for_a_session_when_the_connection_of_its_refused_transfer_was_alone() {
    for among_others in [false, true] {
        let mut bench = Bench::with_ports(1);
        if among_others {
            bench.request(1, named(1));
        }
        bench.request(2, unproven(2));
        let mut effects = bench.says(PeekResult::NoSession);
        if among_others {
            assert_eq!(handed_to(&effects), None);
            bench.says(name_of(1));
            effects = bench.proven(1);
        }
        assert_eq!(handed_to(&effects), Some(2));
        let none = UnassignedConnections::default();
        assert!(effects.contains(&Effect::Unassigned(LeaseId(2), none)));
        bench.end(2, LeaseEnd::Refused);
        assert!(bench.ask_of(3, unproven(2), 2).is_some(), "{among_others}");
    }
}

/// lftp says nothing before the 150, and closes when the transfer is refused.
#[test]
fn a_port_cools_down_for_others_alone_when_the_silent_connection_of_a_refused_transfer_has_come() {
    for closes_first in [true, false] {
        let mut bench = Bench::with_ports(1);
        bench.ask_of(1, named(1), 1);
        let (connection, _) = bench.arrives();
        if closes_first {
            let now = bench.now;
            let closed = PeekResult::Closed;
            bench.table.on_peeked(connection, CLIENT, closed, now);
        }
        bench.end(1, LeaseEnd::Refused);
        // To one in clear text a connection that the client has closed would be an empty file.
        assert_eq!(bench.ask_of(2, Identity::Address, 2), None);
        assert!(bench.ask_of(3, named(1), 1).is_some(), "{closes_first}");
    }
}

#[test]
fn two_leases_of_one_session_conflict_whatever_its_account_was() {
    let mut bench = Bench::with_ports(1);
    bench.ask_of(1, named(1), 1);
    bench.end(1, LeaseEnd::Incomplete);
    assert_eq!(bench.ask_of(2, named(1), 2), None, "behind REIN");
}

#[test]
fn a_port_cools_down_when_the_connection_of_a_refused_transfer_has_named_nothing() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.end(1, LeaseEnd::Refused);
    assert_eq!(bench.request(2, Identity::Address), None);
}

#[test]
fn a_port_cools_down_for_a_session_after_its_own_transfer_was_refused() {
    let mut bench = Bench::with_ports(2);
    let first = bench.request(1, named(1));
    bench.end(1, LeaseEnd::Incomplete);
    let second = bench.ask_of(2, named(1), 1);
    assert!(second.is_some() && second != first, "another port");
    bench.end(2, LeaseEnd::Incomplete);
    assert_eq!(bench.ask_of(3, named(1), 1), None, "no port is left");
    assert!(granted(&bench.after(DELAY), 3).is_some());
}

#[test]
fn a_port_does_not_cool_down_after_a_transfer_whose_connection_was_certain() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.end(1, LeaseEnd::Complete);
    assert!(bench.request(2, unproven(2)).is_some());
    bench.says(name_of(2));
    bench.proven(2);
    bench.end(2, LeaseEnd::Incomplete);
    assert!(bench.request(3, Identity::Address).is_some());
}

#[test]
fn the_port_whose_last_use_is_longest_ago_comes_first() {
    let mut bench = Bench::with_ports(4);
    let mut used = Vec::new();
    for lease in 1..=12 {
        used.extend(bench.request(lease, Identity::Address));
        let (port, connection) = (used[used.len() - 1], ConnectionId(100 + lease));
        bench
            .table
            .on_connection(connection, CLIENT, port, bench.now);
        bench.end(lease, LeaseEnd::Complete);
    }
    for (before, after) in used.iter().zip(&used[4..]) {
        assert_eq!(before, after);
    }
    for four in used.windows(4) {
        let distinct: std::collections::HashSet<_> = four.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}

#[test]
fn programs_that_share_a_cache_take_turns_and_may_name_any_session_of_theirs() {
    let shared = |session| {
        let mut cache = separate(session);
        cache.mark_shared();
        cache
    };
    let mut bench = Bench::with_ports(1);
    assert!(bench.request(1, Identity::Unproven(shared(1))).is_some());
    assert_eq!(bench.request(2, Identity::Unproven(shared(2))), None);
    let result = PeekResult::Session(TicketOwner {
        session: SessionId(2),
        account: Some(LoginId::of(Some(SiteId(0)), &2u64.to_be_bytes())),
        cache: shared(2),
    });
    assert_eq!(handed_to(&bench.says(result)), Some(1));
    assert_eq!(
        granted(&bench.proven(1), 2),
        None,
        "the name proves nothing"
    );
    assert!(granted(&bench.end(1, LeaseEnd::Complete), 2).is_some());
}

#[test]
fn a_name_of_the_same_account_shows_that_clients_which_came_at_once_share_a_cache() {
    let mut bench = Bench::with_ports(1);
    bench.ask_of(1, Identity::Unproven(at_once(1)), 2);
    let result = PeekResult::Session(TicketOwner {
        session: SessionId(2),
        account: Some(LoginId::of(Some(SiteId(0)), &2u64.to_be_bytes())),
        cache: at_once(2),
    });
    let effects = bench.says(result);
    assert_eq!(handed_to(&effects), Some(1));
    let (one, other) = (SessionId(1), SessionId(2));
    assert!(effects.contains(&Effect::SharedCache { one, other }));
}

#[test]
fn a_wrong_connection_with_the_right_name_does_not_keep_the_right_one_out() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    assert_eq!(handed_to(&bench.says(name_of(1))), Some(1));
    assert_eq!(handed_to(&bench.says(name_of(1))), None, "it waits");
    let effects = bench.table.reopen(CLIENT, LeaseId(1), bench.now);
    assert_eq!(handed_to(&effects), Some(1));
}

#[test]
fn an_idle_client_that_has_connected_loses_its_port_to_one_that_waits() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.request(2, Identity::Address);
    let effects = bench.after(Duration::from_secs(2));
    assert_eq!(ambiguous(&effects), Some((1, Ambiguity::Withdrawn)));
    assert!(granted(&bench.after(DELAY), 2).is_some());
}

#[test]
fn a_client_in_a_transfer_keeps_its_port_from_those_that_wait() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.table.begin(CLIENT, LeaseId(1));
    bench.request(2, Identity::Address);
    assert_eq!(ambiguous(&bench.after(Duration::from_secs(3600))), None);
}

#[test]
fn named_leases_pass_those_that_wait_and_are_in_nobodys_way() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    assert_eq!(bench.request(2, Identity::Address), None);
    assert!(bench.request(3, named(3)).is_some());
    assert_eq!(
        bench.request(4, unproven(4)),
        None,
        "after the one before it"
    );
}

#[test]
fn a_flood_at_one_lease_takes_no_place_from_the_first_connection_of_another() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    let mut refused = 0;
    for _ in 0..1000 {
        refused += usize::from(is_reset(&bench.arrives().1));
    }
    assert_eq!(refused, 1000 - 66);
    bench.request(2, named(2));
    let (own, effects) = bench.arrives();
    assert!(!effects.contains(&Effect::Reset(own, ResetReason::TooMany)));
    for _ in 0..1000 {
        let (_, effects) = bench.arrives();
        assert!(!effects.contains(&Effect::Reset(own, ResetReason::TooMany)));
    }
    let effects = bench.table.on_peeked(own, CLIENT, name_of(2), bench.now);
    assert_eq!(handed_to(&effects), Some(2));
}

#[test]
fn leases_of_other_addresses_are_in_nobodys_way() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    let request = LeaseRequest {
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        account: LoginId::of(Some(SiteId(0)), b"user"),
        identity: Identity::Address,
        reuse_delay: DELAY,
    };
    let ports = Arc::clone(&bench.ports);
    let effects = bench.table.request(LeaseId(2), request, &ports, bench.now);
    assert!(granted(&effects, 2).is_some());
}

#[test]
fn the_ports_of_only_so_many_clients_are_remembered() {
    let mut table = LeaseTable::default();
    let ports: Arc<[SocketAddr]> = [port(0)].into();
    let now = Instant::now();
    for number in 0..2 * REMEMBERED_CLIENTS as u32 {
        let client = IpAddr::V4(Ipv4Addr::from(number));
        let request = LeaseRequest {
            client,
            account: LoginId::of(Some(SiteId(0)), b"user"),
            identity: Identity::Address,
            reuse_delay: DELAY,
        };
        let lease = LeaseId(number.into());
        table.request(lease, request, &ports, now);
        table.on_connection(ConnectionId(number.into()), client, port(0), now);
        table.end(client, lease, LeaseEnd::Complete, now);
    }
    assert_eq!(table.clients.len(), REMEMBERED_CLIENTS);
    assert_eq!(table.quiet.len(), REMEMBERED_CLIENTS);
    assert_eq!(table.pending(), 0);
}

#[test]
fn named_leases_that_are_refused_again_and_again_keep_no_unproven_one_from_a_port_for_ever() {
    let mut bench = Bench::with_ports(1);
    let step = DELAY / 8;
    bench.request(1, named(1));
    bench.end(1, LeaseEnd::Incomplete);
    assert_eq!(
        bench.request(100, unproven(100)),
        None,
        "the port cools down"
    );
    let mut waited = Duration::ZERO;
    let mut next = 2;
    // Each is refused at once, and its connection may still be on its way.
    while bench.request(next, named(next)).is_some() {
        assert!(waited < DELAY, "{waited:?}");
        bench.end(next, LeaseEnd::Incomplete);
        next += 1;
        waited += step;
        assert_eq!(
            granted(&bench.after(step), 100),
            None,
            "the port cools down"
        );
    }
    assert_eq!(
        waited, DELAY,
        "they pass it for as long as a port cools down"
    );
    let effects = bench.after(DELAY);
    assert!(granted(&effects, 100).is_some());
    assert!(
        granted(&effects, next).is_some(),
        "the first that waited behind it"
    );
}

#[test]
fn a_lease_that_took_an_unnamed_connection_still_has_to_be_alone_when_prot_changes() {
    for identity in [named(1), Identity::Resuming(separate(1))] {
        let mut bench = Bench::with_ports(1);
        bench.request(1, Identity::Address);
        assert_eq!(handed_to(&bench.arrives().1), Some(1));
        bench
            .table
            .identify(CLIENT, LeaseId(1), identity, bench.now);
        bench.table.unproven(CLIENT, LeaseId(1), bench.now);
        let (_, effects) = bench.arrives();
        assert_eq!(
            ambiguous(&effects),
            Some((1, Ambiguity::AnotherConnection)),
            "{identity:?}"
        );
    }
}

#[test]
fn a_resumption_proves_a_connection_that_was_taken_before_prot_changed() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    assert_eq!(handed_to(&bench.arrives().1), Some(1));
    let identity = Identity::Resuming(separate(1));
    bench
        .table
        .identify(CLIENT, LeaseId(1), identity, bench.now);
    bench.proven(1);
    assert_eq!(ambiguous(&bench.arrives().1), None);
}

#[test]
fn a_port_that_has_just_been_opened_cools_down_for_every_address() {
    let mut bench = Bench::with_ports(2);
    for number in 0..2 {
        bench.table.open(port(number), bench.now);
    }
    assert_eq!(bench.request(1, Identity::Address), None);
    assert_eq!(bench.request(2, unproven(2)), None);
    assert!(bench.request(3, named(3)).is_some());
    bench.proven(3);
    let effects = bench.after(DELAY);
    assert!(granted(&effects, 1).is_some() && granted(&effects, 2).is_some());
    assert!(bench.request(4, named(4)).is_some());
}

#[test]
fn a_session_without_a_login_says_nothing_of_the_client_at_whose_port_it_is_named() {
    let nobody = PeekResult::Session(TicketOwner {
        session: SessionId(9),
        account: None,
        cache: at_once(9),
    });
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Unproven(at_once(1)));
    let effects = bench.says(nobody);
    let marks = |effect: &Effect| matches!(effect, Effect::SharedCache { .. });
    assert!(!effects.iter().any(marks), "{effects:?}");
    assert_eq!(handed_to(&effects), Some(1), "as one that names nothing");
}

#[test]
fn named_leases_whose_connections_come_never_wait_for_those_that_name_nothing() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    assert_eq!(handed_to(&bench.arrives().1), Some(1));
    assert_eq!(bench.request(2, Identity::Address), None);
    bench.after(DELAY * 5);
    for lease in 3..20 {
        assert!(bench.ask_of(lease, named(3), 3).is_some(), "{lease}");
        bench.says(name_of(3));
        bench.proven(lease);
        bench.end(lease, LeaseEnd::Complete);
        bench.after(DELAY);
    }
}

#[test]
fn a_lease_gets_a_port_at_once_that_none_before_it_waits_for() {
    let mut bench = Bench::with_ports(1);
    assert!(bench.request(1, Identity::Address).is_some());
    assert_eq!(bench.request(2, Identity::Address), None);
    bench.after(DELAY * 2);
    bench.ports = [port(1)].into();
    for identity in [Identity::Address, named(3)] {
        assert_eq!(bench.request(3, identity), Some(bench.ports[0]));
        bench.proven(3);
        bench.end(3, LeaseEnd::Refused);
        bench.ports = [port(2)].into();
    }
}

#[test]
fn a_lease_does_not_wait_for_one_that_waits_for_some_of_its_ports_and_takes_none_of_those() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    assert_eq!(bench.request(2, Identity::Address), None);
    // A reload has added one.
    bench.ports = [port(0), port(1)].into();
    assert_eq!(bench.request(3, Identity::Address), Some(port(1)));
    assert_eq!(bench.request(4, Identity::Address), None);
    let effects = bench.end(1, LeaseEnd::Complete);
    assert_eq!(
        granted(&effects, 2),
        Some(port(0)),
        "the first to wait for it"
    );
    assert_eq!(granted(&effects, 4), None);
}

#[test]
fn an_idle_client_keeps_its_port_from_those_that_have_another_one_or_wait_for_another() {
    let mut bench = Bench::with_ports(2);
    bench.ports = [port(1)].into();
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.after(Duration::from_secs(3));
    bench.ports = [port(0), port(1)].into();
    let effects = bench.effects_of(2, Identity::Address);
    assert_eq!(granted(&effects, 2), Some(port(0)));
    assert_eq!(ambiguous(&effects), None);
    bench.ports = [port(0)].into();
    assert_eq!(bench.request(3, Identity::Address), None);
    assert_eq!(ambiguous(&bench.after(Duration::from_secs(3))), None);
}

#[test]
fn an_idle_client_loses_its_port_to_one_that_waits_behind_another_for_other_ports() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.arrives();
    bench.table.begin(CLIENT, LeaseId(1));
    bench.request(2, Identity::Address);
    bench.ports = [port(1)].into();
    bench.request(3, Identity::Address);
    bench.arrives();
    bench.request(4, Identity::Address);
    let effects = bench.after(Duration::from_secs(2));
    assert_eq!(ambiguous(&effects), Some((3, Ambiguity::Withdrawn)));
    assert_eq!(granted(&bench.after(DELAY), 4), Some(port(1)));
}

#[test]
fn a_lease_hears_of_those_alone_that_wait_for_its_port() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, Identity::Address);
    bench.ports = [port(1)].into();
    bench.request(2, Identity::Address);
    let effects = bench.effects_of(3, Identity::Address);
    assert!(effects.contains(&Effect::Contended(LeaseId(2), true)));
    assert!(!effects.contains(&Effect::Contended(LeaseId(1), true)));
    assert_eq!(bench.table.exclusive_leases(CLIENT, &[port(0)]), 1);
    assert_eq!(bench.table.exclusive_leases(CLIENT, &bench.ports), 2);
}

#[test]
fn one_wake_is_asked_for_at_a_time_however_many_come_before_it() {
    let mut bench = Bench::with_ports(1);
    bench.request(1, named(1));
    bench.end(1, LeaseEnd::Incomplete);
    let cooled_down = bench.now + DELAY;
    assert_eq!(bench.request(2, unproven(2)), None);
    let step = DELAY / 16;
    let mut asked = Vec::new();
    for lease in 3..10u64 {
        let request = LeaseRequest {
            client: CLIENT,
            account: LoginId::of(Some(SiteId(0)), &lease.to_be_bytes()),
            identity: named(lease),
            reuse_delay: step,
        };
        let ports = Arc::clone(&bench.ports);
        bench
            .table
            .request(LeaseId(lease), request, &ports, bench.now);
        asked.extend(bench.end(lease, LeaseEnd::Incomplete));
        asked.extend(bench.after(step));
    }
    let sooner = |effect: &&Effect| matches!(effect, Effect::WakeAt(_, at) if *at < cooled_down);
    assert_eq!(asked.iter().filter(sooner).count(), 7);
    assert!(
        !asked.contains(&Effect::WakeAt(CLIENT, cooled_down)),
        "that was asked for before"
    );
    let left = cooled_down - bench.now;
    assert!(granted(&bench.after(left), 2).is_some());
}
