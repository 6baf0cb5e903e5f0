//! The JSON Schema of configuration files, by which editors complete keys and mark mistakes.
//!
//! `config/schema.json` is made from the types of `file` by a test, which compares it at every other run. So the program
//! carries the text alone, and nothing that makes it.

/// It, as it is in the repository. It knows keys, types, words and the forms of values; what depends on another value, and
/// on files, only [`load`](super::load) and `check` know.
pub const SCHEMA: &str = include_str!("../../../config/schema.json");

#[cfg(test)]
mod tests;
