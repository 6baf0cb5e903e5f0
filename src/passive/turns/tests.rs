//! Leases in every order, and that nothing leads two together that nothing tells apart.

use super::*;
use proptest::prelude::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

const HELLO: Duration = Duration::from_secs(10);

/// Of an account that no other session has, for a connection that may be anybody's.
fn tenant(mark: Mark) -> Tenant {
    Tenant {
        client: CLIENT,
        account: account(mark.session().map_or(u64::MAX, |session| session.0)),
        mark,
        demand: Demand::Nothing,
        hello: HELLO,
    }
}

fn account(number: u64) -> Account {
    Account::of("site", number.to_string().as_bytes())
}

/// What a connection shows that names a TLS session of this FTP session.
fn name_of(session: u64) -> Option<Whose> {
    Some(Whose {
        session: SessionId(session),
        account: Some(account(session)),
    })
}

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

/// Asks for the only port with leases 0, 1, … of these marks, and tells which got it at once.
fn ask(turns: &mut Turns, marks: &[Mark]) -> Vec<bool> {
    marks
        .iter()
        .zip(0..)
        .map(|(mark, id)| turns.ask(LeaseId(id), tenant(*mark), &ports(1)).is_some())
        .collect()
}

#[test]
fn leases_that_only_the_address_tells_share_no_port() {
    for second in [Mark::Address, unproven(2), named(2)] {
        let mut turns = Turns::default();
        let got = ask(&mut turns, &[Mark::Address, second]);
        assert_eq!(got, [true, false], "{second:?}");
        let mut turns = Turns::default();
        let got = ask(&mut turns, &[second, Mark::Address]);
        assert_eq!(got, [true, false], "{second:?}");
    }
}

#[test]
fn any_number_of_named_leases_and_one_unproven_share_a_port() {
    let mut turns = Turns::default();
    let got = ask(
        &mut turns,
        &[named(1), named(2), unproven(3), named(4), unproven(5)],
    );
    assert_eq!(got, [true, true, true, true, false]);
}

/// Sessions of this account.
fn of(user: u64, mark: Mark) -> Tenant {
    Tenant {
        account: account(user),
        ..tenant(mark)
    }
}

#[test]
fn leases_of_one_account_take_turns_at_a_port() {
    for marks in [
        [named(1), named(2)],
        [named(1), unproven(2)],
        [unproven(1), named(2)],
    ] {
        let mut turns = Turns::default();
        let first = turns.ask(LeaseId(1), of(7, marks[0]), &ports(1));
        let second = turns.ask(LeaseId(2), of(7, marks[1]), &ports(1));
        assert_eq!((first, second), (Some(port(0)), None), "{marks:?}");
        let granted = turns.end(CLIENT, LeaseId(1));
        assert_eq!(granted.len(), 1, "{marks:?}");
    }
}

#[test]
fn a_named_lease_waits_behind_those_of_its_account_and_of_no_other() {
    let mut turns = Turns::default();
    turns.ask(LeaseId(1), of(7, named(1)), &ports(1));
    assert_eq!(turns.ask(LeaseId(2), of(7, named(2)), &ports(1)), None);
    assert!(turns.ask(LeaseId(3), of(8, named(3)), &ports(1)).is_some());
    assert_eq!(turns.end(CLIENT, LeaseId(1))[0].lease, LeaseId(2));
    assert_eq!(turns.ask(LeaseId(4), of(7, named(4)), &ports(1)), None);
}

#[test]
fn the_name_of_another_session_of_an_account_is_as_good_as_that_of_the_lease() {
    for mark in [named(1), unproven(1)] {
        let mut turns = Turns::default();
        turns.ask(LeaseId(1), of(7, mark), &ports(1));
        turns.ask(LeaseId(2), of(8, named(2)), &ports(1));
        let other_session = Whose {
            session: SessionId(3),
            account: Some(account(7)),
        };
        let decision = turns.decide(CLIENT, port(0), Some(other_session));
        assert_eq!(decision, Decision::Of(LeaseId(1)), "{mark:?}");
    }
}

#[test]
fn a_connection_that_names_an_account_without_a_lease_is_nobodys() {
    let mut turns = Turns::default();
    turns.ask(LeaseId(1), of(7, unproven(1)), &ports(1));
    turns.ask(LeaseId(2), of(8, named(2)), &ports(1));
    for account in [Some(account(9)), None] {
        let stranger = Whose {
            session: SessionId(3),
            account,
        };
        let decision = turns.decide(CLIENT, port(0), Some(stranger));
        assert_eq!(decision, Decision::Nobody, "{account:?}");
    }
}

#[test]
fn a_lease_takes_a_port_of_its_own_where_there_is_one() {
    let mut turns = Turns::default();
    let ports = ports(3);
    let mut taken: Vec<_> = (0..3)
        .map(|id| turns.ask(LeaseId(id), tenant(named(id)), &ports).unwrap())
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
        let tenant = Tenant {
            client,
            ..tenant(Mark::Address)
        };
        assert!(turns.ask(lease, tenant, &ports).is_some());
        assert_eq!(turns.arrive(client, port(0)), Arrival::Of(lease));
    }
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let mut turns = Turns::default();
    let got = ask(
        &mut turns,
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
    let got = ask(&mut turns, &[named(0), Mark::Address, named(2), named(3)]);
    assert_eq!(got, [true, false, false, false]);
    assert_eq!(turns.end(CLIENT, LeaseId(0)).len(), 1);
    let after = turns.end(CLIENT, LeaseId(1));
    assert_eq!(after.len(), 2, "both named ones at once");
}

#[test]
fn whoever_gives_up_waiting_is_passed_over() {
    let mut turns = Turns::default();
    ask(&mut turns, &[unproven(0), unproven(1), unproven(2)]);
    assert!(turns.end(CLIENT, LeaseId(1)).is_empty());
    assert_eq!(turns.end(CLIENT, LeaseId(0))[0].lease, LeaseId(2));
}

#[test]
fn a_connection_belongs_to_the_only_lease_there_is_whatever_it_will_say() {
    for mark in [Mark::Address, unproven(0), named(0)] {
        let mut turns = Turns::default();
        assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Stranger);
        ask(&mut turns, &[mark]);
        assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Of(LeaseId(0)));
        assert_eq!(turns.arrive(CLIENT, port(1)), Arrival::Stranger);
        turns.end(CLIENT, LeaseId(0));
        assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Stranger);
    }
}

#[test]
fn among_several_leases_the_name_decides() {
    let mut turns = Turns::default();
    ask(&mut turns, &[named(10), named(11), unproven(12)]);
    let whose = |name: Option<u64>| {
        assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Undecided(HELLO));
        turns.decide(CLIENT, port(0), name.and_then(name_of))
    };
    assert_eq!(whose(Some(10)), Decision::Of(LeaseId(0)));
    assert_eq!(whose(Some(11)), Decision::Of(LeaseId(1)));
    assert_eq!(whose(Some(12)), Decision::Of(LeaseId(2)));
    // No name: not one of those who are sure to be named.
    assert_eq!(whose(None), Decision::Of(LeaseId(2)));
}

#[test]
fn a_connection_without_a_name_is_nobodys_among_named_leases() {
    let mut turns = Turns::default();
    ask(&mut turns, &[named(0), named(1)]);
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
        let tenant = Tenant {
            demand: Demand::Name,
            ..tenant(mark)
        };
        turns.ask(LeaseId(0), tenant, &ports(1));
        for _ in 0..3 {
            assert_eq!(turns.arrive(CLIENT, port(0)), Arrival::Undecided(HELLO));
            let turned_away = Decision::TurnedAway(LeaseId(0));
            assert_eq!(turns.decide(CLIENT, port(0), None), turned_away);
        }
        turns.arrive(CLIENT, port(0));
        let own = turns.decide(CLIENT, port(0), name_of(0));
        assert_eq!(own, Decision::Of(LeaseId(0)));
    }
}

#[test]
fn a_lease_that_met_a_stranger_goes_on_under_its_name() {
    let mut turns = Turns::default();
    ask(&mut turns, &[unproven(0), unproven(1)]);
    turns.end(CLIENT, LeaseId(0));
    assert!(turns.again(tenant(unproven(0)), LeaseId(0), port(0), SessionId(0)));
    turns.arrive(CLIENT, port(0));
    assert_eq!(
        turns.decide(CLIENT, port(0), name_of(0)),
        Decision::Of(LeaseId(0))
    );
    turns.end(CLIENT, LeaseId(0));
    turns.end(CLIENT, LeaseId(1));
    turns.ask(LeaseId(2), tenant(Mark::Address), &ports(1));
    assert!(!turns.again(tenant(unproven(0)), LeaseId(0), port(0), SessionId(0)));
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
        (0..3u16, proptest::option::of(0..6u64)).prop_map(|(port, name)| Step::Decide(port, name)),
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
                    let tenant = Tenant { account: account(session % 4), ..tenant(mark) };
                    turns.ask(LeaseId(next), tenant, &ports);
                    next += 1;
                }
                Step::End(lease) => {
                    turns.end(CLIENT, LeaseId(lease));
                }
                Step::Arrive(at) => {
                    turns.arrive(CLIENT, port(at));
                }
                Step::Decide(at, name) => {
                    let decision = turns.decide(CLIENT, port(at), name.and_then(name_of));
                    // A name that a lease here has is that lease's, and nobody else's.
                    if let (Some(name), Some(client)) = (name, turns.clients.get(&CLIENT))
                        && let Some(its) = client
                            .at(port(at))
                            .find(|held| held.tenant.mark.session() == Some(SessionId(name)))
                    {
                        prop_assert_eq!(decision, Decision::Of(its.lease));
                    }
                }
            }
            let Some(client) = turns.clients.get(&CLIENT) else { continue };
            for (index, one) in client.held.iter().enumerate() {
                for other in &client.held[..index] {
                    prop_assert!(
                        one.port != other.port || one.tenant.goes_with(&other.tenant),
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
