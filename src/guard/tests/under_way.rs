//! Guesses that are sent in the same moment.

use super::*;

/// What becomes of these guesses of one client if all are sent in the same moment: how many go out, and how many wait.
fn at_once(scene: &Scene, guard: &Arc<Guard>, trials: &[Trial]) -> (Vec<Guess>, usize) {
    let mut under_way = Vec::new();
    let mut later = 0;
    for trial in trials {
        match guard.may_guess(attacker(1), FTPA, trial, &scene.rules, scene.now) {
            MayGuess::Yes(guess) => under_way.push(guess),
            MayGuess::Later => later += 1,
            MayGuess::No => panic!("nobody has failed"),
        }
    }
    (under_way, later)
}

#[test]
fn no_more_guesses_are_under_way_than_may_fail_and_the_others_wait() {
    let scene = Scene::new();
    let guard = Arc::new(Guard::new());
    let failures = scene.rules.failures as usize;
    let trials: Vec<Trial> = (0..100_u8).map(|guess| guard.trial(&[guess])).collect();
    let (mut under_way, later) = at_once(&scene, &guard, &trials);
    assert_eq!((under_way.len(), later), (failures, 100 - failures));

    // One has failed: its slot is used up.
    guard.failed(attacker(1), Some(FTPA), &trials[0], &scene.rules, scene.now);
    drop(under_way.remove(0));
    let next = &trials[failures..=failures];
    assert_eq!(at_once(&scene, &guard, next).1, 1);
    // One was right: its slot is free.
    drop(under_way.remove(0));
    assert_eq!(at_once(&scene, &guard, next).1, 0);
    // All have failed.
    for trial in &trials[1..failures] {
        guard.failed(attacker(1), Some(FTPA), trial, &scene.rules, scene.now);
    }
    drop(under_way);
    let no = guard.may_guess(attacker(1), FTPA, &trials[50], &scene.rules, scene.now);
    assert!(matches!(no, MayGuess::No));
    assert!(guard.state().under_way.is_empty());
}

#[test]
fn one_password_in_many_sessions_is_one_guess() {
    let scene = Scene::new();
    let guard = Arc::new(Guard::new());
    let trials = vec![guard.trial(b"robot"); 100];
    let (under_way, later) = at_once(&scene, &guard, &trials);
    assert_eq!((under_way.len(), later), (100, 0));
    let (others, later) = at_once(&scene, &guard, &[guard.trial(b"alice")]);
    assert_eq!((others.len(), later), (1, 0));
    drop((under_way, others));
    assert!(guard.state().under_way.is_empty());
}
