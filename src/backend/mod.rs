//! The legacy servers behind the sites, and the connections to them.
//!
//! [`dial`] leads to a backend's [`control`] connection, and that to its [`data`] connections.

pub mod control;
pub mod data;
pub mod dial;

pub use control::{BackendConnection, NoReply};
