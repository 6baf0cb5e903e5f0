//! The formats of transfer logs: from a record to one line, without files and clock.

pub(super) mod json;
#[cfg(test)]
pub(super) mod samples;
pub(super) mod w3c;
pub(super) mod xferlog;
