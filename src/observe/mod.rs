//! What the operator sees: [`log`] lines, [`metrics`] and the admin endpoint ([`http`]).

mod connections;
pub mod http;
pub mod log;
pub mod metrics;
