//! The legacy servers behind the sites, and the connections to them.
//!
//! [`dial`] leads to a backend's [`control`] connection.

pub mod control;
pub mod dial;

pub use control::{BackendConnection, NoReply};
