//! Which leases share a port, and which wait for one, for how long.

use super::*;

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
fn two_leases_of_one_session_conflict_whatever_its_account_was() {
    let mut bench = Bench::with_ports(1);
    bench.ask_of(1, named(1), 1);
    bench.end(1, LeaseEnd::Incomplete);
    assert_eq!(bench.ask_of(2, named(1), 2), None, "behind REIN");
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
