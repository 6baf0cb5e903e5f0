//! What holds for a session whatever anybody says, in any order that its driver could deliver.

use proptest::prelude::*;
use proptest::sample::select;

use portcullis_models::session::World;
use portcullis_models::session::script::{self, Happening, Listener};

fn read(line: &str) -> Happening {
    script::happening(line.as_bytes()).expect("a line of a script")
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        30 => select(script::CLIENT).prop_map(read),
        30 => select(script::BACKEND).prop_map(read),
        25 => select(script::DATA).prop_map(|(line, _)| read(line)),
        12 => Just(Happening::Answer(true)),
        8 => select(script::OTHER).prop_map(|(line, _)| read(line)),
    ]
}

fn happenings(most: usize) -> impl Strategy<Value = Vec<Happening>> {
    proptest::collection::vec(happening(), 0..most)
}

fn listener() -> impl Strategy<Value = Listener> {
    select(script::LISTENERS).prop_map(|(_, listener)| listener)
}

fn lead(world: &mut World, script: &[&str]) {
    for line in script {
        world.step(&read(line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_order_of_events_breaks_a_promise(listener in listener(), happenings in happenings(120)) {
        let mut world = World::new(listener);
        for happening in &happenings {
            world.step(happening);
        }
    }

    #[test]
    fn nor_does_any_after_login(happenings in happenings(120)) {
        let mut world = World::new(Listener::Implicit);
        lead(&mut world, &["C USER al", "+", "S 331 x", "C PASS p", "S 230 x"]);
        prop_assert!(world.is_logged_in());
        for happening in &happenings {
            world.step(happening);
        }
    }

    /// Where most that can go wrong goes wrong.
    #[test]
    fn nor_does_any_in_the_middle_of_a_transfer(
        command in select(&["C STOR x", "C RETR x"][..]),
        happenings in happenings(40),
    ) {
        let mut world = World::new(Listener::Implicit);
        lead(&mut world, &["C USER al", "+", "S 230 x", "C EPSV", "S 229 x (|||2000|)", "+", command, "D open"]);
        if command == "C STOR x" {
            lead(&mut world, &["D connected"]);
        }
        prop_assert!(world.is_transferring());
        for happening in &happenings {
            world.step(happening);
        }
    }

    /// With an offset and a range at the backend, which are for the next transfer command and for no other.
    #[test]
    fn nor_does_any_behind_a_rest(port in any::<bool>(), range in any::<bool>(), happenings in happenings(40)) {
        let mut world = World::new(Listener::Implicit);
        lead(&mut world, &["C USER al", "+", "S 230 x"]);
        if port {
            lead(&mut world, &["C EPSV", "S 229 x (|||2000|)", "+"]);
        }
        if range {
            lead(&mut world, &["C RANG 5 9", "S 350 x"]);
        }
        lead(&mut world, &["C REST 5", "S 350 x", "C RETR x"]);
        for happening in &happenings {
            world.step(happening);
        }
    }
}

/// The seeds of the fuzz target `session`: what was found once, and dialogues for the fuzzer to start from.
#[test]
fn the_fuzzers_seeds_break_no_promise() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/session");
    let mut played = 0;
    for entry in std::fs::read_dir(folder).expect("the seeds") {
        let path = entry.expect("a seed").path();
        let text = std::fs::read(&path).expect("a seed");
        let (listener, happenings) = script::read(&text).expect("a listener's name");
        let mut world = World::new(listener);
        for happening in &happenings {
            world.step(happening);
        }
        played += 1;
    }
    assert!(played > 10, "{played} seeds");
}
