//! Whose a connection is, and where that is in doubt.

use super::*;

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
