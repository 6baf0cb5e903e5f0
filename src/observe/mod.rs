//! What the operator sees: [`log`] lines, [`metrics`] and the admin endpoint ([`http`]).

pub mod http;
pub mod log;
pub mod metrics;
mod places;
