//! Guesses that are sent in the same moment.

use super::*;

/// Sends these guesses of one client in the same moment; returns those that go out, and how many wait.
fn at_once(
    scene: &Scene,
    guard: &Arc<Guard>,
    trials: &[AttemptFingerprint],
) -> (Vec<PendingAttempt>, usize) {
    let mut pending = Vec::new();
    let mut later = 0;
    for fingerprint in trials {
        match guard.begin_attempt(attacker(1), FTPA, fingerprint, &scene.rules, scene.now) {
            AttemptDecision::Allowed(attempt) => pending.push(attempt),
            AttemptDecision::Wait => later += 1,
            AttemptDecision::Blocked => panic!("no login has failed"),
        }
    }
    (pending, later)
}

#[test]
fn no_more_guesses_are_under_way_than_may_fail_and_the_others_wait() {
    let scene = Scene::new();
    let guard = Arc::new(Guard::new());
    let failures = scene.rules.failures as usize;
    let trials: Vec<AttemptFingerprint> = (0..100_u8)
        .map(|attempt| guard.fingerprint(&[attempt]))
        .collect();
    let (mut pending, later) = at_once(&scene, &guard, &trials);
    assert_eq!((pending.len(), later), (failures, 100 - failures));

    // One has failed: its slot is used up.
    guard.failed(attacker(1), Some(FTPA), &trials[0], &scene.rules, scene.now);
    drop(pending.remove(0));
    let next = &trials[failures..=failures];
    assert_eq!(at_once(&scene, &guard, next).1, 1);
    // One was right: its slot is free.
    drop(pending.remove(0));
    assert_eq!(at_once(&scene, &guard, next).1, 0);
    // All have failed.
    for fingerprint in &trials[1..failures] {
        guard.failed(
            attacker(1),
            Some(FTPA),
            fingerprint,
            &scene.rules,
            scene.now,
        );
    }
    drop(pending);
    let no = guard.begin_attempt(attacker(1), FTPA, &trials[50], &scene.rules, scene.now);
    assert!(matches!(no, AttemptDecision::Blocked));
    assert!(guard.state().pending.is_empty());
}

#[test]
fn one_password_in_many_sessions_is_one_guess() {
    let scene = Scene::new();
    let guard = Arc::new(Guard::new());
    let trials = vec![guard.fingerprint(b"robot"); 100];
    let (pending, later) = at_once(&scene, &guard, &trials);
    assert_eq!((pending.len(), later), (100, 0));
    let (others, later) = at_once(&scene, &guard, &[guard.fingerprint(b"alice")]);
    assert_eq!((others.len(), later), (1, 0));
    drop((pending, others));
    assert!(guard.state().pending.is_empty());
}
