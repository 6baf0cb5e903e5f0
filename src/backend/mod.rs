//! The legacy servers behind the sites, and the connections to them.

pub mod dial;
