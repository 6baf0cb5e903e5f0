//! What the operator sees: [`log`] lines, [`transfer_log`]s and [`metrics`].

mod lines;
pub mod log;
pub mod metrics;
pub mod transfer_log;
