//! The session's decisions: any order of commands, replies and data events, judged by the model that the property tests
//! use, too.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use portcullis_models::session::{World, script};

fuzz_target!(|data: &[u8]| {
    let Some((listener, happenings)) = script::read(data) else {
        return;
    };
    let mut world = World::new(listener);
    for happening in &happenings {
        world.step(happening);
    }
});

// Half of the changes are made to lines, since most changes to bytes make a line that means nothing.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut dice = Dice(seed | 1);
    if dice.roll(2) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = change_a_line(&data[..size], &mut dice);
    let length = changed.len().min(max_size);
    data[..length].copy_from_slice(&changed[..length]);
    length
});

fn change_a_line(text: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let (at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
    match dice.roll(6) {
        0 => lines[at] = any_line(dice, at),
        1 if lines.len() > 1 => {
            lines.remove(at);
        }
        2 => lines.swap(at, other),
        3 => lines.insert(at, lines[other]),
        _ => lines.insert(at + 1, any_line(dice, at + 1)),
    }
    lines.join(&b'\n')
}

fn any_line(dice: &mut Dice, at: usize) -> &'static [u8] {
    let line = match dice.roll(4) {
        _ if at == 0 => script::LISTENERS[dice.roll(script::LISTENERS.len())].0,
        0 => script::CLIENT[dice.roll(script::CLIENT.len())],
        1 => script::BACKEND[dice.roll(script::BACKEND.len())],
        2 => script::DATA[dice.roll(script::DATA.len())].0,
        _ => script::OTHER[dice.roll(script::OTHER.len())].0,
    };
    line.as_bytes()
}

/// A generator of small numbers (xorshift): libFuzzer gives a seed and wants the same change for the same one.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 8) as usize % sides
    }
}
