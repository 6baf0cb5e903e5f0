//! Admission and refusal, and the state kept for either.

use std::num::NonZeroU32;
use std::time::Duration;

use super::*;

const LIMITS: Limits = Limits {
    sessions: 3,
    sessions_per_site: 2,
    sessions_per_client: 2,
    sessions_per_client_per_minute: NonZeroU32::MAX,
    allow: Vec::new(),
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn refused(result: Result<Permit, LimitExceeded>) -> Option<LimitExceeded> {
    result.err()
}

#[test]
fn a_client_gets_its_share_and_no_more() {
    let limiter = Arc::new(Limiter::new());
    let _held = [
        limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now()),
        limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now()),
    ];
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now())),
        Some(LimitExceeded::PerClient)
    );
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.2"), &LIMITS, Instant::now())),
        None
    );
    assert_eq!(
        limiter.open(),
        2,
        "the other client's permit was dropped at once"
    );
}

#[test]
fn the_total_is_for_everybody() {
    let limiter = Arc::new(Limiter::new());
    let _held: Vec<_> = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        .map(|client| limiter.admit(ip(client), &LIMITS, Instant::now()))
        .into();
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.4"), &LIMITS, Instant::now())),
        Some(LimitExceeded::Total)
    );
}

#[test]
fn who_is_not_known_yet_takes_a_place_among_all_and_no_clients() {
    let limiter = Arc::new(Limiter::new());
    let mut slots: Vec<_> = (0..3).flat_map(|_| limiter.reserve(&LIMITS)).collect();
    assert_eq!(slots.len(), 3);
    assert_eq!(
        limiter.reserve(&LIMITS).err(),
        Some(LimitExceeded::Total),
        "they are bounded, too"
    );
    assert!(limiter.lock().by_client.is_empty());

    let mut admit = || {
        slots
            .pop()
            .expect("one is left")
            .admit(ip("10.0.0.1"), &LIMITS, Instant::now())
    };
    let _held = [admit(), admit()];
    assert_eq!(refused(admit()), Some(LimitExceeded::PerClient));
    assert_eq!(limiter.open(), 2, "the place of the refused one is free");
}

#[test]
fn a_client_that_comes_too_often_is_refused_until_its_time_has_passed() {
    let limiter = Arc::new(Limiter::new());
    let limits = Limits {
        sessions_per_client_per_minute: NonZeroU32::new(2).expect("not zero"),
        ..LIMITS
    };
    let began = Instant::now();
    let come = |client, seconds| {
        let now = began + Duration::from_secs(seconds);
        refused(limiter.admit(ip(client), &limits, now))
    };
    assert_eq!(come("10.0.0.1", 0), None);
    assert_eq!(come("10.0.0.1", 0), None);
    assert_eq!(come("10.0.0.1", 29), Some(LimitExceeded::Rate));
    assert_eq!(limiter.open(), 0, "the place of the refused one is free");
    assert_eq!(come("10.0.0.2", 29), None);
    assert_eq!(come("10.0.0.1", 30), None);
}

#[test]
fn who_has_too_many_sessions_already_is_not_counted_as_beginning_one() {
    let limiter = Arc::new(Limiter::new());
    let limits = Limits {
        sessions_per_client: 1,
        sessions_per_client_per_minute: NonZeroU32::new(2).expect("not zero"),
        ..LIMITS
    };
    let come = || limiter.admit(ip("10.0.0.1"), &limits, Instant::now());
    let held = come();
    for _ in 0..10 {
        assert_eq!(refused(come()), Some(LimitExceeded::PerClient));
    }
    drop(held);
    assert_eq!(refused(come()), None);
}

#[test]
fn clients_that_are_allowed_come_as_often_as_they_like_and_count_among_all() {
    let limiter = Arc::new(Limiter::new());
    let limits = Limits {
        sessions_per_client: 1,
        sessions_per_client_per_minute: NonZeroU32::MIN,
        allow: vec!["10.0.0.0/24".parse().expect("a network")],
        ..LIMITS
    };
    let come = |client| limiter.admit(ip(client), &limits, Instant::now());
    let _held = [come("10.0.0.1"), come("::ffff:10.0.0.1"), come("10.0.0.1")]
        .map(|admitted| admitted.expect("a slot"));
    assert_eq!(refused(come("10.0.0.1")), Some(LimitExceeded::Total));
}

#[test]
fn a_dropped_permit_makes_room_and_leaves_nothing_behind() {
    let limiter = Arc::new(Limiter::new());
    for last in 0..=255 {
        let permits = [(); 2].map(|()| {
            limiter
                .admit(IpAddr::from([10, 0, 0, last]), &LIMITS, Instant::now())
                .expect("a slot")
        });
        assert_eq!(limiter.open(), 2);
        drop(permits);
    }
    assert_eq!(limiter.open(), 0);
    assert!(limiter.lock().by_client.is_empty());
}

#[test]
fn spellings_of_one_address_are_one_client() {
    let limiter = Arc::new(Limiter::new());
    let _held = [
        limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now()),
        limiter.admit(ip("::ffff:10.0.0.1"), &LIMITS, Instant::now()),
    ];
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now())),
        Some(LimitExceeded::PerClient)
    );
}

#[test]
fn an_ipv6_64_is_one_client() {
    let limiter = Arc::new(Limiter::new());
    let _held = [
        limiter.admit(ip("2001:db8:0:1::1"), &LIMITS, Instant::now()),
        limiter.admit(ip("2001:db8:0:1:ffff::2"), &LIMITS, Instant::now()),
    ];
    assert_eq!(
        refused(limiter.admit(ip("2001:db8:0:1::3"), &LIMITS, Instant::now())),
        Some(LimitExceeded::PerClient)
    );
    assert_eq!(
        refused(limiter.admit(ip("2001:db8:0:2::1"), &LIMITS, Instant::now())),
        None
    );
}

#[test]
fn lower_limits_after_a_reload_hold_for_new_sessions() {
    let limiter = Arc::new(Limiter::new());
    let held = [
        limiter.admit(ip("10.0.0.1"), &LIMITS, Instant::now()),
        limiter.admit(ip("10.0.0.2"), &LIMITS, Instant::now()),
    ];
    let lower = Limits {
        sessions: 1,
        sessions_per_client: 1,
        ..LIMITS
    };
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.3"), &lower, Instant::now())),
        Some(LimitExceeded::Total)
    );
    drop(held);
    assert_eq!(
        refused(limiter.admit(ip("10.0.0.3"), &lower, Instant::now())),
        None
    );
}

#[test]
fn a_panic_elsewhere_does_not_close_the_door() {
    let limiter = Arc::new(Limiter::new());
    let poisoner = Arc::clone(&limiter);
    let panicked = std::thread::spawn(move || {
        let _guard = poisoner.open.lock();
        panic!("with the lock held");
    })
    .join();
    assert!(panicked.is_err() && limiter.open.is_poisoned());
    assert!(
        limiter
            .admit(ip("10.0.0.1"), &LIMITS, Instant::now())
            .is_ok()
    );
    assert_eq!(limiter.open(), 0);
}
