//! How long a port stays closed to an address behind a lease whose connection may still come.

use super::*;

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
