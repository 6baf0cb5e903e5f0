//! The order in which a site's backends are tried for one login.
//!
//! Backends that are configured as backups come behind all others, and within each of the two groups those that are out
//! behind those that are not: out of order, a backend is still tried before a login fails. Those that checks have found
//! down are only tried where no backend is up. Which of the rest comes first is the site's `balance`. Turns are taken by those
//! alone that can have the login.

use std::cmp::{Ordering, Reverse};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::Balance;

/// A backend that may serve a login, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The backend's position among all of the site's backends.
    pub index: usize,
    /// The backend's share of the logins, relative to the others'; not zero.
    pub weight: u32,
    /// The backend's tier: backends of a higher one are only tried where none of a lower one serves (backups, and SRV records of
    /// a lower priority).
    pub tier: u32,
    /// The backend's sessions at present, of all sites.
    pub sessions: usize,
    /// Whether these have reached the backend's limit.
    pub full: bool,
    /// For how long the backend has been out, ejected or down; `None` if it is up.
    pub out_for: Option<Duration>,
    /// Whether checks have taken the backend out.
    pub down: bool,
    /// A hash of its address: the same in every process, and after a restart.
    pub identity: u64,
}

/// State of the smooth weighted round robin of nginx: how far each backend is behind its share of the logins.
#[derive(Debug, Default)]
pub struct Rotation(Vec<i64>);

impl Rotation {
    /// A rotation over this number of backends.
    pub fn new(backends: usize) -> Self {
        Self(vec![0; backends])
    }

    /// The place of the one whose turn it is, of those that serve. Each has one as often as its weight says, spread evenly, so that
    /// equal weights alternate; candidates that don't serve now wait without being owed anything.
    fn next(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let serving = candidates.iter().filter(|candidate| candidate.serves());
        let tier = serving.map(|candidate| candidate.tier).min()?;
        let mut total = 0;
        let mut chosen = None;
        let mut most = 0;
        for (position, candidate) in candidates.iter().enumerate() {
            if candidate.tier != tier || !candidate.serves() {
                continue;
            }
            let weight = i64::from(candidate.weight);
            total += weight;
            let owed = &mut self.0[candidate.index];
            *owed += weight;
            if chosen.is_none() || *owed > most {
                (chosen, most) = (Some(position), *owed);
            }
        }
        let chosen = chosen?;
        self.0[candidates[chosen].index] -= total;
        Some(chosen)
    }
}

/// The candidates' places in the list, those that are to be tried, in that order. At least one if there is a candidate. `key`
/// is a [`hash`] of what `balance` looks at of the login, its user or its client.
pub fn order(
    balance: Balance,
    candidates: &[Candidate],
    key: u64,
    rotation: &Mutex<Rotation>,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let mut all = candidates.iter();
    if all.any(|candidate| candidate.down) && candidates.iter().any(|it| it.out_for.is_none()) {
        order.retain(|position| !candidates[*position].down);
    }
    if order.len() < 2 {
        return order;
    }
    match balance {
        Balance::First => {}
        Balance::RoundRobin => rotate(&mut order, candidates, rotation),
        Balance::LeastSessions => {
            // Those that have the same share take turns.
            rotate(&mut order, candidates, rotation);
            order.sort_by(|one, other| by_load(&candidates[*one], &candidates[*other]));
        }
        Balance::ByUser | Balance::ByClient => rendezvous(&mut order, candidates, key),
    }
    // Stable: within a group the order from above holds. The one that has been out for longest is tried first.
    order.sort_by_key(|position| {
        let candidate = &candidates[*position];
        let out = candidate.out_for.is_some();
        (candidate.tier, out, Reverse(candidate.out_for))
    });
    order
}

impl Candidate {
    /// Whether the backend may have a turn, where its tier is the lowest that has any that may. Were the others to have turns,
    /// their neighbours would get them.
    fn serves(&self) -> bool {
        self.out_for.is_none() && !self.full
    }
}

/// Begins the order with the candidate whose turn it is.
fn rotate(order: &mut [usize], candidates: &[Candidate], rotation: &Mutex<Rotation>) {
    let mut rotation = rotation.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(next) = rotation.next(candidates) {
        // In the order of the list until now, of which some may be missing.
        order.rotate_left(order.partition_point(|position| *position < next));
    }
}

/// Sessions for each unit of weight, with the one that is about to come.
fn by_load(one: &Candidate, other: &Candidate) -> Ordering {
    let share = |it: &Candidate, weight: u32| (it.sessions as u128 + 1) * u128::from(weight);
    share(one, other.weight).cmp(&share(other, one.weight))
}

/// Weighted rendezvous hashing: each backend gets a score from the key and its own identity, so that the choice needs no
/// table, and a backend that vanishes takes only its own keys with it.
fn rendezvous(order: &mut [usize], candidates: &[Candidate], key: u64) {
    let score = |candidate: &Candidate| {
        // Strictly between 0 and 1.
        let uniform = (mix(key ^ candidate.identity.rotate_left(32)) >> 11) as f64 + 0.5;
        let uniform = uniform / (1_u64 << 53) as f64;
        f64::from(candidate.weight) / -uniform.ln()
    };
    order.sort_by(|one, other| score(&candidates[*other]).total_cmp(&score(&candidates[*one])));
}

/// A hash that doesn't depend on process, version or machine (FNV-1a, finished so that all bits count).
pub fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        // A byte that text does not have, so that the parts can't run into each other.
        for byte in part.iter().chain(&[0xff]) {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    mix(state)
}

/// The finaliser of SplitMix64: each bit of the input changes half of the output's.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: u32 = 100_000;

    fn candidate(number: u32, weight: u32) -> Candidate {
        Candidate {
            index: number as usize - 1,
            weight,
            tier: 0,
            sessions: 0,
            full: false,
            out_for: None,
            down: false,
            identity: hash([format!("10.0.0.{number}:21").as_bytes()]),
        }
    }

    fn pool(weights: &[u32]) -> Vec<Candidate> {
        (1..)
            .zip(weights)
            .map(|(number, weight)| candidate(number, *weight))
            .collect()
    }

    fn user(number: u32) -> u64 {
        hash([&b"site"[..], format!("user{number}").as_bytes()])
    }

    fn ordered(balance: Balance, pool: &[Candidate]) -> Vec<usize> {
        let rotation = Mutex::new(Rotation::new(pool.len()));
        order(balance, pool, user(0), &rotation)
    }

    fn firsts(balance: Balance, pool: &[Candidate], logins: usize) -> Vec<usize> {
        let rotation = Mutex::new(Rotation::new(pool.len()));
        (0..logins)
            .map(|_| order(balance, pool, user(0), &rotation)[0])
            .collect()
    }

    fn place_of(pool: &[Candidate], number: u32) -> usize {
        let rotation = Mutex::default();
        order(Balance::ByUser, pool, user(number), &rotation)[0]
    }

    fn of_user(pool: &[Candidate], number: u32) -> u64 {
        pool[place_of(pool, number)].identity
    }

    #[test]
    fn first_is_the_configured_order() {
        assert_eq!(ordered(Balance::First, &pool(&[1, 500, 100])), [0, 1, 2]);
    }

    #[test]
    fn round_robin_alternates_between_equals_and_heeds_weights() {
        assert_eq!(
            firsts(Balance::RoundRobin, &pool(&[100, 100]), 4),
            [0, 1, 0, 1]
        );
        assert_eq!(
            firsts(Balance::RoundRobin, &pool(&[2, 1, 1]), 8),
            [0, 1, 2, 0, 0, 1, 2, 0]
        );
    }

    #[test]
    fn round_robin_falls_through_to_the_next_ones_and_owes_nothing_to_one_that_was_away() {
        let whole = pool(&[1, 1, 1]);
        let rotation = Mutex::new(Rotation::new(3));
        let turn = |pool: &[Candidate]| {
            let order = order(Balance::RoundRobin, pool, user(0), &rotation);
            order
                .into_iter()
                .map(|position| pool[position].index)
                .collect::<Vec<_>>()
        };
        assert_eq!(turn(&whole), [0, 1, 2]);
        assert_eq!(turn(&whole), [1, 2, 0]);
        for _ in 0..100 {
            turn(&whole[..2]);
        }
        let firsts: Vec<usize> = (0..6).map(|_| turn(&whole)[0]).collect();
        for index in 0..3 {
            let times = firsts.iter().filter(|first| **first == index).count();
            assert_eq!(times, 2, "{firsts:?}");
        }
    }

    #[test]
    fn least_sessions_counts_them_by_weight() {
        let mut pool = pool(&[100, 200, 100]);
        pool[0].sessions = 10;
        pool[1].sessions = 19;
        pool[2].sessions = 12;
        assert_eq!(
            ordered(Balance::LeastSessions, &pool),
            [1, 0, 2],
            "20 of 200, 11 of 100, 13 of 100"
        );
    }

    #[test]
    fn least_sessions_has_idle_backends_take_turns() {
        assert_eq!(
            firsts(Balance::LeastSessions, &pool(&[1, 1, 1]), 3),
            [0, 1, 2]
        );
    }

    #[test]
    fn a_users_backend_depends_on_nothing_but_names_and_addresses() {
        let pool = pool(&[100, 100, 100]);
        let mut turned = pool.clone();
        turned.reverse();
        turned[0].sessions = 99;
        for number in 0..1_000 {
            assert_eq!(of_user(&pool, number), of_user(&turned, number));
        }
        // Of the version that first had this: an upgrade moves no user.
        let chosen: Vec<usize> = (0..8).map(|number| place_of(&pool, number)).collect();
        assert_eq!(chosen, [0, 2, 2, 0, 1, 1, 2, 0]);
    }

    #[test]
    fn a_lost_backend_moves_only_its_own_users() {
        let whole = pool(&[100, 100, 100]);
        let rest = &whole[..2];
        for number in 0..10_000 {
            let before = of_user(&whole, number);
            if before != whole[2].identity {
                assert_eq!(of_user(rest, number), before);
            }
        }
    }

    #[test]
    fn users_are_shared_out_by_weight() {
        let pool = pool(&[100, 300, 100]);
        let third = pool[1].identity;
        let served = (0..USERS).filter(|number| of_user(&pool, *number) == third);
        let share = served.count() as f64 / f64::from(USERS);
        assert!((share - 0.6).abs() < 0.05 * 0.6, "{share}");
    }

    #[test]
    fn backups_and_those_that_are_out_come_last_and_are_still_there() {
        let mut pool = pool(&[1, 1, 1, 1, 1]);
        pool[0].out_for = Some(Duration::from_secs(3));
        pool[1].tier = 1;
        pool[2].out_for = Some(Duration::from_secs(9));
        pool[3].tier = 1;
        pool[3].out_for = Some(Duration::from_secs(1));
        assert_eq!(ordered(Balance::First, &pool), [4, 2, 0, 1, 3]);
    }

    #[test]
    fn those_that_are_down_are_left_out_while_one_is_up_be_it_a_backup() {
        let mut pool = pool(&[1, 1, 1]);
        pool[0].out_for = Some(Duration::from_secs(3));
        pool[0].down = true;
        pool[1].out_for = Some(Duration::from_secs(9));
        pool[2].tier = 1;
        for balance in [Balance::First, Balance::RoundRobin, Balance::ByUser] {
            assert_eq!(ordered(balance, &pool), [1, 2]);
        }
        pool[2].out_for = Some(Duration::from_secs(1));
        assert_eq!(ordered(Balance::First, &pool), [1, 0, 2]);
    }

    #[test]
    fn the_turns_of_one_that_is_down_are_shared_by_the_others() {
        let mut pool = pool(&[1, 1, 1]);
        pool[0].out_for = Some(Duration::from_secs(3));
        pool[0].down = true;
        assert_eq!(firsts(Balance::RoundRobin, &pool, 4), [1, 2, 1, 2]);
        assert_eq!(firsts(Balance::LeastSessions, &pool, 4), [1, 2, 1, 2]);
    }

    #[test]
    fn backends_that_serve_alternate_however_many_others_stand_behind_them() {
        for stand_behind in [
            |other: &mut Candidate| other.tier = 1,
            |other: &mut Candidate| other.out_for = Some(Duration::from_secs(3)),
            |other: &mut Candidate| other.full = true,
        ] {
            for balance in [Balance::RoundRobin, Balance::LeastSessions] {
                let mut pool = pool(&[1, 1, 1, 1]);
                // More sessions than the others, which `least_sessions` looks at first.
                pool[2].sessions = 1;
                pool[3].sessions = 1;
                stand_behind(&mut pool[2]);
                stand_behind(&mut pool[3]);
                assert_eq!(firsts(balance, &pool, 6), [0, 1, 0, 1, 0, 1]);
            }
        }
    }

    #[test]
    fn backups_share_the_logins_evenly_where_no_other_serves() {
        let mut pool = pool(&[1, 1, 1, 1]);
        pool[0].out_for = Some(Duration::from_secs(3));
        pool[1].full = true;
        pool[2].tier = 1;
        pool[3].tier = 1;
        let rotation = Mutex::new(Rotation::new(pool.len()));
        let backups = [(); 4].map(|()| {
            let order = order(Balance::RoundRobin, &pool, user(0), &rotation);
            assert_eq!(order[..2], [1, 0], "they are still tried before a backup");
            order[2]
        });
        assert_eq!(backups, [2, 3, 2, 3]);
    }

    #[test]
    fn weights_hold_among_those_that_serve() {
        let mut pool = pool(&[5, 2, 1]);
        pool[0].tier = 1;
        let firsts = firsts(Balance::RoundRobin, &pool, 6);
        assert_eq!(firsts.iter().filter(|first| **first == 1).count(), 4);
    }

    #[test]
    fn parts_of_a_key_do_not_run_into_each_other() {
        assert_ne!(hash([&b"ab"[..], b"c"]), hash([&b"a"[..], b"bc"]));
    }
}
