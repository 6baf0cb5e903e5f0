//! The cells of a table of cases, played side by side.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

/// Plays every cell, so many at a time.
///
/// # Panics
/// If one of them does: all that did are named, with what they said.
pub fn play<C: Sync>(
    cells: &[C],
    at_once: usize,
    name: impl Fn(&C) -> String + Sync,
    play: impl Fn(&C) + Sync,
) {
    let left = Mutex::new(cells.iter());
    let failed = Mutex::new(Vec::new());
    let next = || left.lock().expect("no holder panics").next();
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(cell) = next() {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| play(cell))) {
                        let why = panic.downcast_ref::<String>().map_or("?", |why| why);
                        let mut failed = failed.lock().expect("no holder panics");
                        failed.push(format!("{}: {why}", name(cell)));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no holder panics");
    assert!(
        failed.is_empty(),
        "{} of {} cells:\n{}",
        failed.len(),
        cells.len(),
        failed.join("\n")
    );
}
