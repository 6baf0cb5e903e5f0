//! Waiting for what a program doesn't announce: a file, a count, a descriptor that it closes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::DEADLINE;

/// Looks until it has found something; until then `look` says what is there instead.
///
/// # Panics
/// With that, if there is nothing in time.
#[track_caller]
pub fn poll<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "{instead}"),
        }
        // Not to wait for anything, only to leave the processor to the program.
        sleep(Duration::from_millis(5));
    }
}
