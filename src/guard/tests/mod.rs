//! The cost of guessing for the guesser and for other clients, and the bound on memory.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

mod pending;

const FTPA: SiteId = SiteId(0);
const FTPB: SiteId = SiteId(1);
const SECOND: Duration = Duration::from_secs(1);

/// Seven in a row, or one every 10 s, are tolerated.
fn rules() -> GuardRules {
    GuardRules {
        failures: 8,
        window: 80 * SECOND,
        delay: SECOND,
        max_delay: 5 * SECOND,
        block: 60 * SECOND,
        allow: vec!["192.0.2.0/24".parse().expect("a network")],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn attacker(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

/// A guard, a clock that is advanced by hand, and guesses that all differ.
struct Scene {
    guard: Guard,
    rules: GuardRules,
    now: Instant,
    attempts: u64,
}

impl Scene {
    fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> Self {
        Self {
            guard: Guard {
                state: Mutex::new(GuardState {
                    records: ExpiringMap::new(capacity),
                    pending: HashMap::new(),
                }),
                keys: RandomState::new(),
            },
            rules: rules(),
            now: Instant::now(),
            attempts: 0,
        }
    }

    fn fails(&mut self, client: IpAddr) -> Penalty {
        self.fails_at(client, Some(FTPA))
    }

    fn fails_at(&mut self, client: IpAddr, site: Option<SiteId>) -> Penalty {
        self.attempts += 1;
        let attempt = self.attempts.to_string();
        self.fails_with(client, site, &attempt)
    }

    fn fails_with(&self, client: IpAddr, site: Option<SiteId>, password: &str) -> Penalty {
        let mut fingerprint = self.guard.fingerprint(b"alice");
        fingerprint.secret(password.as_bytes());
        self.guard
            .failed(client, site, &fingerprint, &self.rules, self.now)
    }

    fn admits(&self, client: IpAddr) -> bool {
        self.guard.admits(client, FTPA, &self.rules, self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Fails until the client is blocked, and says how often that was.
    fn block(&mut self, client: IpAddr) -> usize {
        (1..)
            .find(|_| self.fails(client).status == Status::NewlyBlocked)
            .expect("an end")
    }

    fn remembered(&self) -> usize {
        self.guard.state().records.by_expiry().len()
    }
}

#[test]
fn the_first_slips_are_answered_at_once_and_then_each_later() {
    let mut scene = Scene::new();
    let delays: Vec<u64> = (1..=8)
        .map(|_| scene.fails(attacker(1)).delay.as_secs())
        .collect();
    assert_eq!(delays, [0, 0, 0, 1, 2, 4, 5, 5]);
}

#[test]
fn too_many_failures_in_a_row_block_the_client_for_a_time() {
    let mut scene = Scene::new();
    assert_eq!(scene.block(attacker(1)), 8);
    assert!(!scene.admits(attacker(1)));
    scene.pass(59 * SECOND);
    assert!(!scene.admits(attacker(1)));
    scene.pass(SECOND);
    assert!(scene.admits(attacker(1)));
}

#[test]
fn sessions_that_are_still_open_when_the_block_begins_are_told_of_it() {
    let mut scene = Scene::new();
    scene.block(attacker(1));
    assert_eq!(scene.fails(attacker(1)).status, Status::Blocked);
}

#[test]
fn after_a_block_little_is_tolerated_until_the_window_is_over() {
    let mut scene = Scene::new();
    scene.block(attacker(1));
    scene.pass(60 * SECOND);
    assert_eq!(scene.block(attacker(1)), 6, "two were not forgotten");
    scene.pass(80 * SECOND);
    assert_eq!(scene.block(attacker(1)), 8);
}

#[test]
fn somebody_who_mistypes_now_and_then_is_never_noticed() {
    let mut scene = Scene::new();
    for _ in 0..1000 {
        let consequence = scene.fails(attacker(1));
        assert_eq!(consequence.delay, Duration::ZERO);
        assert_eq!(consequence.status, Status::Admitted);
        scene.pass(10 * SECOND);
    }
}

#[test]
fn one_robot_with_an_old_password_does_not_shut_its_office_out() {
    let mut scene = Scene::new();
    for _ in 0..1000 {
        let consequence = scene.fails_with(attacker(1), Some(FTPA), "of last year");
        assert_eq!(consequence.status, Status::Admitted);
        assert_eq!(consequence.delay, Duration::ZERO);
        scene.pass(SECOND);
    }
    assert!(scene.admits(attacker(1)));
}

#[test]
fn the_owner_logs_in_from_elsewhere_and_at_other_sites() {
    let mut scene = Scene::new();
    scene.block(attacker(1));
    assert!(scene.admits(attacker(2)));
    let other_site = scene
        .guard
        .admits(attacker(1), FTPB, &scene.rules, scene.now);
    assert!(other_site);
}

#[test]
fn logins_that_lead_nowhere_are_counted_apart() {
    let mut scene = Scene::new();
    let standings: Vec<Status> = (1..=9)
        .map(|_| scene.fails_at(attacker(1), None).status)
        .collect();
    assert_eq!(standings[7..], [Status::NewlyBlocked, Status::Blocked]);
    assert!(scene.admits(attacker(1)));
    assert_eq!(scene.fails(attacker(1)).delay, Duration::ZERO);
}

#[test]
fn other_spellings_and_neighbours_in_a_64_are_the_same_client() {
    let mut scene = Scene::new();
    scene.block(ip("10.0.0.1"));
    assert!(!scene.admits(ip("::ffff:10.0.0.1")));
    scene.block(ip("2001:db8:0:1::1"));
    assert!(!scene.admits(ip("2001:db8:0:1:ffff::2")));
    assert!(scene.admits(ip("2001:db8:0:2::1")));
}

#[test]
fn who_is_allowed_is_never_counted_however_its_address_is_written() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        let consequence = scene.fails(ip("::ffff:192.0.2.7"));
        assert_eq!(consequence.delay, Duration::ZERO);
        assert_eq!(consequence.status, Status::Admitted);
    }
    assert_eq!(scene.remembered(), 0);
}

#[test]
fn a_reload_that_allows_a_blocked_client_lets_it_in_at_once() {
    let mut scene = Scene::new();
    scene.block(attacker(1));
    scene
        .rules
        .allow
        .push("10.0.0.0/8".parse().expect("a network"));
    assert!(scene.admits(attacker(1)));
}

#[test]
fn new_rules_hold_for_what_was_counted_under_the_old_ones() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        scene.fails(attacker(1));
    }
    scene.rules.failures = 4;
    scene.rules.window = 40 * SECOND;
    assert_eq!(scene.fails(attacker(1)).status, Status::NewlyBlocked);
}

#[test]
fn ten_thousand_wrong_logins_from_one_address_are_one_entry_and_few_guesses() {
    let mut scene = Scene::new();
    let mut let_through = 0;
    for _ in 0..10_000 {
        if scene.admits(attacker(1)) {
            scene.fails(attacker(1));
            let_through += 1;
        }
        scene.pass(SECOND / 10);
    }
    assert_eq!(scene.remembered(), 1);
    // 1,000 s hold 16 blocks of 60 s; 8 guesses come before the first one and 6 before each other.
    assert_eq!(let_through, 8 + 16 * 6);
    assert!(scene.admits(attacker(2)));
}

#[test]
fn everything_is_forgotten_in_the_end() {
    let mut scene = Scene::new();
    for number in 0..1000 {
        scene.fails(attacker(number));
    }
    scene.block(attacker(0));
    scene.pass(81 * SECOND);
    scene.fails(attacker(2000));
    assert_eq!(scene.remembered(), 1);
}

#[test]
fn a_flood_of_addresses_does_not_set_a_blocked_one_free() {
    let mut scene = Scene::with_capacity(100);
    scene.block(attacker(0));
    for number in 1..10_000 {
        scene.fails(attacker(number));
        assert!(scene.remembered() <= 100);
        assert!(!scene.admits(attacker(0)), "after {number} others");
    }
}

#[test]
fn with_no_room_left_a_stranger_is_answered_late_and_counted_all_the_same() {
    let mut scene = Scene::with_capacity(3);
    for number in 0..3 {
        scene.block(attacker(number));
    }
    let first = scene.fails(attacker(7));
    assert!(first.evicted);
    assert_eq!(first.delay, scene.rules.max_delay);
    let second = scene.fails(attacker(7));
    assert_eq!(second.delay, Duration::ZERO, "it has its place now");
    assert_eq!(scene.block(attacker(7)), 6);
    assert!(!scene.admits(attacker(7)));
}

#[test]
fn a_panic_elsewhere_lets_nobody_in() {
    let mut scene = Scene::new();
    scene.block(attacker(1));
    let guard = Arc::new(scene.guard);
    let poisoner = Arc::clone(&guard);
    let panicked = std::thread::spawn(move || {
        let _held = poisoner.state.lock();
        panic!("with the lock held");
    })
    .join();
    assert!(panicked.is_err() && guard.state.is_poisoned());
    assert!(!guard.admits(attacker(1), FTPA, &scene.rules, scene.now));
}

#[test]
fn the_same_guess_has_another_number_in_each_process() {
    let number = |guard: &Guard| guard.fingerprint(b"alice").value();
    let guard = Guard::new();
    assert_eq!(number(&guard), number(&guard));
    assert_ne!(number(&guard), number(&Guard::new()));
    let parts = |first: &[u8], second: &[u8]| {
        let mut fingerprint = guard.fingerprint(first);
        fingerprint.secret(second);
        fingerprint.value()
    };
    assert_ne!(parts(b"ab", b"c"), parts(b"a", b"bc"));
}

fn any_rules() -> impl Strategy<Value = GuardRules> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    (
        1_u32..50,
        millis(1..100_000),
        millis(1..5_000),
        millis(1..30_000),
        millis(1..100_000),
    )
        .prop_map(|(failures, window, delay, max_delay, block)| GuardRules {
            failures,
            window,
            delay: delay.min(max_delay),
            max_delay,
            block,
            allow: Vec::new(),
        })
}

proptest! {
    /// Each further failure at the same moment is answered no earlier than the one before, none later than allowed, and
    /// the last one tolerated is the one that the rules name.
    #[test]
    fn delays_never_shrink_within_a_burst(rules in any_rules()) {
        let mut scene = Scene::new();
        scene.rules = rules;
        let mut former = Duration::ZERO;
        for number in 1..=scene.rules.failures + 5 {
            let Penalty { delay, status, .. } = scene.fails(attacker(1));
            prop_assert!(former <= delay && delay <= scene.rules.max_delay);
            former = delay;
            let expected = match number.cmp(&scene.rules.failures) {
                std::cmp::Ordering::Less => Status::Admitted,
                std::cmp::Ordering::Equal => Status::NewlyBlocked,
                std::cmp::Ordering::Greater => Status::Blocked,
            };
            prop_assert_eq!(status, expected);
        }
    }

    /// For any sequence of failures: the number of remembered clients is bounded, and the one evicted early is the one
    /// that would have expired next.
    #[test]
    fn memory_is_bounded_and_who_is_forgotten_first_makes_room(
        rules in any_rules(),
        capacity in 1_usize..20,
        failures in proptest::collection::vec((0_u128..40, any::<bool>(), 0_u64..2_000), 1..200),
    ) {
        let mut scene = Scene::with_capacity(capacity);
        scene.rules = rules;
        for (number, ipv6, pause) in failures {
            let client = if ipv6 {
                Ipv6Addr::from(number << 64).into()
            } else {
                attacker(u32::try_from(number).expect("small"))
            };
            scene.pass(Duration::from_millis(pause));
            let before = scene.guard.state().records.by_expiry();
            let evicted = scene.fails(client).evicted;
            prop_assert!(scene.remembered() <= capacity);
            let alive = before.iter().filter(|(end, _)| scene.now < *end);
            let records = &scene.guard.state().records;
            let gone: Vec<_> = alive
                .clone()
                .filter(|(_, key)| records.get(key).is_none())
                .collect();
            let expected: Vec<_> = alive.take(usize::from(evicted)).collect();
            prop_assert_eq!(gone, expected);
        }
    }
}
