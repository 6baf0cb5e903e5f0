//! The moments of orders, by a clock of the test.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn days(count: u32) -> Duration {
    DAY * count
}

fn held(lifetime: Duration, spread: f64) -> Held {
    Held {
        not_before: at(0),
        not_after: at(0) + lifetime,
        spread,
    }
}

fn order_at(now: SystemTime, held: &Held, suggestion: Option<&Suggestion>) -> SystemTime {
    plan(now, Some(held), suggestion, &Attempts::default()).order
}

fn suggestion(start: SystemTime, end: SystemTime) -> Suggestion {
    Suggestion {
        certificate: "a.b".to_owned(),
        window: Some(Window { start, end }),
        ask_at: at(0),
    }
}

#[test]
fn without_a_certificate_one_is_ordered_at_once() {
    let plan = plan(at(0), None, None, &Attempts::default());
    assert_eq!(
        plan,
        Plan {
            due: at(0),
            order: at(0),
            ask: None
        }
    );
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_and_a_short_one_after_half() {
    for (lifetime, earliest, latest) in [
        (days(90), days(60), days(63)),
        (days(10), days(10) / 3 * 2, days(7)),
        (days(6), days(3), days(3) + DAY / 5),
        (HOUR, HOUR / 2, HOUR / 2 + 2 * MINUTE),
    ] {
        let first = order_at(at(0), &held(lifetime, 0.0), None);
        let last = order_at(at(0), &held(lifetime, 1.0), None);
        assert_eq!(first, at(0) + earliest, "{lifetime:?}");
        assert_eq!(last, at(0) + latest, "{lifetime:?}");
    }
}

#[test]
fn a_suggested_window_has_a_moment_for_each_certificate() {
    let window = suggestion(at(0) + days(40), at(0) + days(42));
    let moment = |spread| order_at(at(0), &held(days(90), spread), Some(&window));
    assert_eq!(moment(0.0), at(0) + days(40));
    assert_eq!(moment(0.5), at(0) + days(41));
    assert_eq!(moment(1.0), at(0) + days(42));
}

#[test]
fn a_window_in_the_past_means_now() {
    let window = suggestion(at(0), at(3_600));
    let now = at(0) + days(5);
    let plan = plan(
        now,
        Some(&held(days(90), 0.3)),
        Some(&window),
        &Attempts::default(),
    );
    assert!(plan.order <= now);
    assert_eq!(plan.ask, None, "the order is due, nothing is to be asked");
}

#[test]
fn a_window_that_has_always_begun_does_not_replace_what_is_new() {
    let window = suggestion(at(0), at(0));
    assert_eq!(
        order_at(at(0), &held(days(90), 0.3), Some(&window)),
        at(0) + DAY
    );
    assert_eq!(
        order_at(at(0), &held(days(10), 0.3), Some(&window)),
        at(0) + DAY / 2
    );
}

#[test]
fn a_window_that_ends_before_it_begins_is_its_beginning() {
    let window = suggestion(at(0) + days(40), at(0) + days(30));
    assert_eq!(
        order_at(at(0), &held(days(90), 0.7), Some(&window)),
        at(0) + days(40)
    );
}

#[test]
fn the_last_twentieth_of_a_lifetime_is_no_longer_the_authoritys() {
    let late = suggestion(at(0) + days(95), at(0) + days(99));
    let moment = order_at(at(0), &held(days(100), 0.5), Some(&late));
    assert_eq!(moment, at(0) + days(95));
    let later = suggestion(at(0) + days(400), at(0) + days(500));
    assert_eq!(
        order_at(at(0), &held(days(100), 0.5), Some(&later)),
        at(0) + days(95)
    );
}

#[test]
fn the_authority_is_asked_when_it_says_within_reason() {
    let now = at(0);
    assert_eq!(ask_again(now, None), now + ASK_EVERY);
    assert_eq!(ask_again(now, Some(HOUR)), now + HOUR);
    assert_eq!(ask_again(now, Some(SECOND)), now + 10 * MINUTE);
    assert_eq!(ask_again(now, Some(days(365))), now + DAY);
}

#[test]
fn a_question_that_a_clock_once_put_years_off_is_asked() {
    let mut said = suggestion(at(0) + days(60), at(0) + days(61));
    said.ask_at = at(0) + days(3_000);
    let plan = plan(
        at(5),
        Some(&held(days(90), 0.0)),
        Some(&said),
        &Attempts::default(),
    );
    assert_eq!(plan.ask, Some(at(5)));
}

#[test]
fn a_question_that_is_put_off_for_as_long_as_may_be_is_not_asked_at_once() {
    let now = at(5) + Duration::from_millis(300);
    for after in [DAY, 7 * DAY] {
        let said = Suggestion {
            ask_at: ask_again(now, Some(after)),
            ..suggestion(at(0) + days(60), at(0) + days(61))
        };
        // As it is read back.
        let said: Suggestion =
            serde_json::from_str(&serde_json::to_string(&said).unwrap()).unwrap();
        let plan = plan(
            now,
            Some(&held(days(90), 0.0)),
            Some(&said),
            &Attempts::default(),
        );
        assert!(plan.ask >= Some(now + DAY), "{plan:?}");
    }
}

#[test]
fn the_steps_are_those_of_the_ladder() {
    let minutes: Vec<u64> = (1..=30)
        .map(|failures| delay_after(failures).as_secs() / 60)
        .collect();
    let expected = [
        1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120, 180,
        180, 360, 360, 360, 360, 360, 360,
    ];
    assert_eq!(minutes, expected);
    assert_eq!(delay_after(u32::MAX), 6 * HOUR);
}

/// The moments of the first `count` orders of an authority that is never there.
fn orders(count: usize) -> Vec<u64> {
    let mut attempts = Attempts::default();
    let mut now = at(0);
    let moments = (0..count).map(|_| {
        now = attempts.next(now).map_or(now, |next| next.max(now));
        attempts.begin(now);
        let began = now;
        now += SECOND;
        attempts.failed(now, None, None);
        began.duration_since(at(0)).unwrap().as_secs()
    });
    moments.collect()
}

#[test]
fn there_are_four_orders_in_the_first_hour() {
    let first_hour = orders(10).into_iter().filter(|&at| at < 3_600).count();
    assert_eq!(first_hour, ORDERS_AN_HOUR);
}

#[test]
fn an_order_that_was_begun_and_never_ended_counts_as_failed() {
    let mut attempts = Attempts::default();
    attempts.begin(at(0));
    assert_eq!(attempts.failures, 1);
    assert_eq!(attempts.next(at(1)), Some(at(60)));
}

#[test]
fn what_the_authority_says_of_later_counts_if_it_is_later() {
    let mut attempts = Attempts::default();
    attempts.begin(at(0));
    attempts.failed(at(1), Some(at(7_200)), None);
    assert_eq!(attempts.next(at(2)), Some(at(7_200)));
    attempts.failed(at(1), Some(at(10)), None);
    assert_eq!(attempts.next(at(2)), Some(at(61)));
    attempts.failed(at(1), Some(at(0) + days(1_000)), None);
    assert_eq!(attempts.next(at(2)), Some(at(1) + days(7)));
}

#[test]
fn the_authority_can_put_an_order_off_by_half_of_what_is_left_of_the_certificate() {
    let end = at(0) + 4 * HOUR;
    let week = |now| Some(now + days(7));
    let mut attempts = Attempts::default();
    attempts.begin(at(0));
    attempts.failed(at(0), week(at(0)), Some(end));
    assert_eq!(attempts.next(at(1)), Some(at(0) + 2 * HOUR));
    // Each refusal says it of what is left then.
    let second = at(0) + 2 * HOUR;
    attempts.begin(second);
    attempts.failed(second, week(second), Some(end));
    assert_eq!(attempts.next(second), Some(second + HOUR));
    // What is over can't be saved by haste.
    attempts.begin(end);
    attempts.failed(end + SECOND, week(end), Some(end));
    assert_eq!(attempts.next(end + SECOND), week(end));
    let far = Some(at(0) + days(30));
    attempts.failed(at(0), week(at(0)), far);
    assert_eq!(attempts.next(at(1)), week(at(0)));
}

#[test]
fn an_order_is_begun_until_it_has_ended() {
    let mut attempts = Attempts::default();
    assert_eq!(attempts.begun(), None);
    let ends: [fn(&mut Attempts); 4] = [
        |it| it.failed(at(6), None, None),
        |it| it.succeeded(at(6)),
        Attempts::broken_off,
        Attempts::forgive,
    ];
    for end in ends {
        attempts.begin(at(5));
        assert_eq!(attempts.begun(), Some(at(5)));
        end(&mut attempts);
        assert_eq!(attempts.begun(), None);
    }
}

#[test]
fn success_is_followed_by_no_wait_of_its_own() {
    let mut attempts = Attempts::default();
    for _ in 0..3 {
        attempts.begin(at(0));
        attempts.failed(at(1), None, None);
    }
    attempts.begin(at(1_000));
    attempts.succeeded(at(1_001));
    assert_eq!(attempts.failures, 0);
    // Four in an hour are four in an hour.
    assert_eq!(attempts.next(at(1_001)), Some(at(3_600)));
}

#[test]
fn what_is_due_as_soon_as_it_is_there_is_renewed_after_half_of_what_is_left() {
    // Of ninety days an hour is left: the authority's own certificate ends then, or its clock is months behind.
    let held = held(days(90), 0.0);
    let obtained = held.not_after - HOUR;
    let renewed = |window: Option<&Suggestion>, attempts: &Attempts| {
        plan(obtained, Some(&held), window, attempts).order
    };
    let mut attempts = Attempts::default();
    attempts.begin(obtained);
    attempts.succeeded(obtained);
    assert_eq!(renewed(None, &attempts), obtained + HOUR / 2);
    let always = suggestion(at(0), at(0));
    assert_eq!(renewed(Some(&always), &attempts), obtained + HOUR / 20);
    // One that was obtained long ago is what it was.
    attempts.succeeded(at(60));
    assert_eq!(
        renewed(None, &attempts),
        at(60) + (days(90) - MINUTE) / 3 * 2
    );
    // An order that fails behind it, and a reload that forgives it, don't put off the next.
    attempts.begin(obtained);
    attempts.forgive();
    assert!(renewed(None, &attempts) < obtained);
}

#[test]
fn a_clock_that_was_set_back_doesnt_make_orders_wait_for_years() {
    let mut attempts = Attempts::default();
    attempts.begin(at(0) + days(4_000));
    attempts.failed(at(1) + days(4_000), None, None);
    assert_eq!(attempts.next(at(0)), None);
}

#[test]
fn orders_of_a_clock_that_was_ahead_count_for_no_later_one() {
    let mut attempts = Attempts::default();
    for order in 0..4 {
        attempts.begin(at(order) + days(400));
        attempts.failed(at(order) + days(400), Some(at(0) + days(407)), None);
    }
    assert_eq!(attempts.next(at(10)), None);
    attempts.begin(at(10));
    attempts.succeeded(at(11));
    assert_eq!(attempts.next(at(20)), None);
    // The limit of an hour holds for those of the right clock.
    for order in 1..4 {
        attempts.begin(at(10 + order));
        attempts.succeeded(at(10 + order));
    }
    assert_eq!(attempts.next(at(20)), Some(at(10) + HOUR));
}

#[test]
fn what_is_kept_is_read_as_it_was() {
    let mut attempts = Attempts::default();
    for second in 0..6 {
        attempts.begin(at(second));
        attempts.failed(at(second), Some(at(9_000)), None);
    }
    let text = serde_json::to_string(&attempts).unwrap();
    let read: Attempts = serde_json::from_str(&text).unwrap();
    assert_eq!(read, attempts);
}

proptest! {
    #[test]
    fn a_certificate_is_never_renewed_later_than_at_its_last_twentieth(
        lifetime in 1_u64..400 * 86_400,
        spread in 0.0..=1.0,
        start in 0_u64..1 << 33,
        length in 0_u64..1 << 33,
        asks: bool,
    ) {
        let lifetime = Duration::from_secs(lifetime);
        let window = suggestion(at(start), at(start + length));
        let held = held(lifetime, spread);
        let order = order_at(at(0), &held, asks.then_some(&window));
        prop_assert!(order <= held.not_after - lifetime / 20 || order <= at(0) + lifetime / 20);
        prop_assert!(order >= at(0));
    }

    #[test]
    fn there_are_never_five_orders_in_an_hour(
        steps in prop::collection::vec((0_u64..4_000, any::<bool>(), prop::option::of(0_u64..100_000)), 1..60),
    ) {
        let mut attempts = Attempts::default();
        let mut now = at(0);
        let mut begun: Vec<SystemTime> = Vec::new();
        for (pause, succeeds, retry_after) in steps {
            now += Duration::from_secs(pause);
            if attempts.next(now).is_some_and(|next| next > now) {
                continue;
            }
            attempts.begin(now);
            begun.push(now);
            if let Some(&fifth) = begun.iter().rev().nth(ORDERS_AN_HOUR) {
                prop_assert!(now.duration_since(fifth).unwrap() >= HOUR);
            }
            now += SECOND;
            if succeeds {
                attempts.succeeded(now);
            } else {
                attempts.failed(now, retry_after.map(|after| now + Duration::from_secs(after)), None);
            }
        }
    }

    #[test]
    fn the_next_order_is_never_further_off_than_the_ladder_and_the_authority_say(
        failures in 0_u32..100,
        retry_after in prop::option::of(0_u64..1 << 32),
    ) {
        let mut attempts = Attempts::default();
        for _ in 0..failures {
            attempts.begin(at(0));
        }
        attempts.failed(at(0), retry_after.map(at), None);
        let latest = at(0) + MAX_RETRY_AFTER.max(6 * HOUR);
        prop_assert!(attempts.next(at(0)).is_none_or(|next| next <= latest));
    }
}

#[test]
fn an_order_that_is_put_off_for_as_long_as_may_be_is_not_due_at_once() {
    let now = UNIX_EPOCH + Duration::from_millis(1_700_000_000_400);
    let mut attempts = Attempts::default();
    attempts.begin(now);
    attempts.failed(now, Some(now + MAX_RETRY_AFTER + HOUR), None);
    let stored = serde_json::to_string(&attempts).unwrap();
    let attempts: Attempts = serde_json::from_str(&stored).unwrap();
    let next = attempts.next(now).unwrap();
    assert_eq!(
        next.duration_since(now).unwrap().as_secs(),
        MAX_RETRY_AFTER.as_secs()
    );
    // The clock was an hour ahead then.
    let next = attempts.next(now - HOUR);
    assert!(next.is_none_or(|next| next < now + DAY), "{next:?}");
}
