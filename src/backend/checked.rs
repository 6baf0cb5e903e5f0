//! The results of a backend's active checks, and the backend's state that follows from them and from its [`Health`].
//!
//! Two observers, which may disagree: logins that fail take a backend out for a time (ejected), checks that fail take it out
//! until they pass again (down). Neither counts what the other has seen, and [`Availability`] is the one state that follows:
//! down counts before ejected.
//!
//! Checks bring an ejected backend back before its outage is over only if they have seen the fault as well: if they failed
//! when it went out, or have since, and then passed. Checks that passed all the while do not see what logins fail at (the
//! account database, a limit of connections); to believe them would send every few seconds three more logins to a backend
//! that fails them, and the ever longer outages of [`Health`] would be for nothing.

use std::time::Instant;

use super::health::Health;

/// The results of the checks of one backend, as one site makes them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Checked {
    /// The checks that have failed since the last one that passed.
    failed: u32,
    /// The checks that have passed since the last one that failed.
    passed: u32,
    down_since: Option<Instant>,
    /// When the first check passed that followed a failed one.
    recovered_at: Option<Instant>,
}

/// The state of a backend, from both observers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The backend is not known to fail.
    Up,
    /// Logins have failed.
    Ejected {
        /// Since when the backend has been ejected.
        since: Instant,
    },
    /// Checks have failed.
    Down {
        /// Since when the backend has been down.
        since: Instant,
    },
}

impl Checked {
    /// A check has failed, by the backend's fault. Returns how many have in a row, if that takes it down.
    pub fn failed(&mut self, fall: u32, now: Instant) -> Option<u32> {
        self.failed = self.failed.saturating_add(1);
        self.passed = 0;
        self.recovered_at = None;
        if self.failed < fall || self.down_since.is_some() {
            return None;
        }
        self.down_since = Some(now);
        Some(self.failed)
    }

    /// Records that a check has passed.
    pub fn passed(&mut self, rise: u32, now: Instant) {
        if self.failed > 0 {
            self.recovered_at = Some(now);
        }
        self.failed = 0;
        self.passed = self.passed.saturating_add(1);
        if self.passed >= rise {
            self.down_since = None;
        }
    }

    /// Whether the next checks may change its state: it pays to make them soon.
    pub fn is_changing(&self) -> bool {
        if self.down_since.is_some() {
            self.passed > 0
        } else {
            self.failed > 0
        }
    }

    /// Whether the checks have seen the fault for which it was taken out then, and so often since that it is over.
    pub fn saw_the_end_of(&self, outage_since: Instant, rise: u32) -> bool {
        let recovered = self.recovered_at.is_some_and(|at| at >= outage_since);
        recovered && self.passed >= rise
    }

    /// Begins anew with other settings: what was counted is void, and the state found stands until the new checks have decided.
    pub fn begin_anew(&mut self) {
        *self = Self {
            down_since: self.down_since,
            ..Self::default()
        };
    }
}

impl Availability {
    /// The state of a backend; `checked` is `None` if it has no active checks.
    pub fn of(health: &Health, checked: Option<&Checked>) -> Self {
        if let Some(since) = checked.and_then(|checked| checked.down_since) {
            return Self::Down { since };
        }
        match health.ejected_since() {
            Some(since) => Self::Ejected { since },
            None => Self::Up,
        }
    }

    /// Since when the backend has been out: ejected or down.
    pub fn out_since(self) -> Option<Instant> {
        match self {
            Self::Up => None,
            Self::Ejected { since } | Self::Down { since } => Some(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::backend::balance::{self, Candidate, Rotation};
    use crate::backend::health::{FAILURES, HealthChange};
    use crate::config::Balance;

    const FALL: u32 = 3;
    const RISE: u32 = 2;
    const SECOND: Duration = Duration::from_secs(1);

    /// Checks every second from now on, with these results; and how many failures have taken it down, each time.
    fn checked(results: &[bool], now: Instant) -> (Checked, Vec<u32>) {
        let mut checked = Checked::default();
        let mut downs = Vec::new();
        for (second, good) in (0..).zip(results) {
            let at = now + SECOND * second;
            match good {
                true => checked.passed(RISE, at),
                false => downs.extend(checked.failed(FALL, at)),
            }
        }
        (checked, downs)
    }

    fn is_down(checked: &Checked) -> bool {
        let availability = Availability::of(&Health::default(), Some(checked));
        matches!(availability, Availability::Down { .. })
    }

    #[test]
    fn as_many_failures_in_a_row_as_fall_says_take_it_down() {
        let now = Instant::now();
        let (state, downs) = checked(&[false, false, true, false, false], now);
        assert!(downs.is_empty() && !is_down(&state) && state.is_changing());
        let (state, downs) = checked(&[false, false, false, false], now);
        assert_eq!(downs, [FALL]);
        assert!(is_down(&state) && !state.is_changing());
    }

    #[test]
    fn as_many_successes_in_a_row_as_rise_says_bring_it_up() {
        let now = Instant::now();
        let down = [false; 3];
        let (state, _) = checked(&[&down[..], &[true, false, true]].concat(), now);
        assert!(is_down(&state) && state.is_changing());
        let (state, _) = checked(&[&down[..], &[true, true]].concat(), now);
        assert!(!is_down(&state) && !state.is_changing());
    }

    #[test]
    fn checks_that_saw_the_fault_see_its_end_and_others_do_not() {
        let now = Instant::now();
        let out_at = now + SECOND * 2;
        let ends = |results: &[bool]| checked(results, now).0.saw_the_end_of(out_at, RISE);
        assert!(ends(&[true, false, false, true, true]), "before and after");
        assert!(
            ends(&[true, true, true, false, true, true]),
            "after it alone"
        );
        assert!(!ends(&[true, true, true, true, true]), "they never failed");
        assert!(
            !ends(&[false, true, true, true, true]),
            "it was another fault"
        );
        assert!(!ends(&[true, false, false, true]), "not often enough yet");
    }

    #[test]
    fn with_other_settings_it_stays_down_until_the_new_checks_pass() {
        let now = Instant::now();
        let (mut state, _) = checked(&[false, false, false, true], now);
        state.begin_anew();
        assert!(is_down(&state));
        state.passed(RISE, now);
        assert!(is_down(&state));
        state.passed(RISE, now);
        assert!(!is_down(&state));
    }

    /// An event at one of several backends.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        LoginFails,
        LoginSucceeds,
        CheckFails,
        CheckPasses,
        Waits(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::LoginFails),
            Just(Event::LoginSucceeds),
            Just(Event::CheckFails),
            Just(Event::CheckPasses),
            (0_u64..400).prop_map(Event::Waits),
        ]
    }

    #[derive(Default)]
    struct World {
        health: Health,
        checked: Checked,
    }

    impl World {
        fn availability(&self) -> Availability {
            Availability::of(&self.health, Some(&self.checked))
        }

        fn candidate(&self, index: usize, now: Instant) -> Candidate {
            let availability = self.availability();
            Candidate {
                index,
                weight: 100,
                tier: u32::from(index % 3 == 2),
                sessions: 0,
                full: false,
                out_for: availability
                    .out_since()
                    .map(|since| now.saturating_duration_since(since)),
                down: matches!(availability, Availability::Down { .. }),
                identity: index as u64,
            }
        }

        fn happens(&mut self, event: Event, now: Instant) {
            let before = self.availability();
            match event {
                Event::LoginFails => {
                    let change = self.health.failed(now);
                    if let Some(HealthChange::Ejected { failures }) = change {
                        assert!(failures >= FAILURES);
                    }
                    assert!(before == Availability::Up || before == self.availability());
                }
                Event::LoginSucceeds => {
                    self.health.succeeded(now);
                    let is_down = matches!(before, Availability::Down { .. });
                    assert!(
                        is_down == (self.availability() != Availability::Up),
                        "logins say nothing of checks"
                    );
                }
                Event::CheckFails => {
                    self.checked.failed(FALL, now);
                    assert!(
                        !matches!(before, Availability::Down { .. })
                            || self.availability() == before
                    );
                }
                Event::CheckPasses => {
                    self.checked.passed(RISE, now);
                    if let Some(since) = self.health.ejected_since()
                        && self.checked.saw_the_end_of(since, RISE)
                    {
                        self.health.succeeded(now);
                        assert_eq!(self.availability(), Availability::Up);
                    }
                }
                Event::Waits(_) => {}
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Whatever logins and checks come to, there is a backend to try, and none that is down before one that is not.
        #[test]
        fn a_site_always_has_a_candidate(
            count in 1_usize..6,
            balance in prop::sample::select(vec![Balance::First, Balance::RoundRobin, Balance::LeastSessions, Balance::ByUser]),
            events in prop::collection::vec((0_usize..6, event()), 1..120),
        ) {
            let mut now = Instant::now();
            let mut worlds: Vec<World> = (0..count).map(|_| World::default()).collect();
            let rotation = Mutex::new(Rotation::new(count));
            for (number, event) in events {
                if let Event::Waits(seconds) = event {
                    now += SECOND * u32::try_from(seconds).unwrap();
                }
                worlds[number % count].happens(event, now);
                let candidates: Vec<Candidate> = worlds
                    .iter()
                    .enumerate()
                    .map(|(index, world)| world.candidate(index, now))
                    .collect();
                let order = balance::order(balance, &candidates, 7, &rotation);
                prop_assert!(!order.is_empty());
                let ups = worlds.iter().filter(|world| world.availability() == Availability::Up).count();
                let downs = order.iter().filter(|position| candidates[**position].down).count();
                if ups == 0 {
                    prop_assert_eq!(order.len(), count, "all are tried where none is up");
                    let waits: Vec<_> = order
                        .iter()
                        .map(|position| (candidates[*position].tier, candidates[*position].out_for))
                        .collect();
                    prop_assert!(waits.windows(2).all(|two| two[0].0 != two[1].0 || two[0].1 >= two[1].1));
                } else {
                    prop_assert_eq!(downs, 0, "one that is down is none while another is up");
                    let mut firsts = order.iter().map(|position| candidates[*position]);
                    prop_assert!(firsts.any(|candidate| candidate.out_for.is_none()));
                }
            }
        }
    }
}
