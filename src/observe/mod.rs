//! What the operator sees: [`log`] lines, [`transfer_log`]s, [`metrics`], and what became of [`reloads`].

mod lines;
pub mod log;
pub mod metrics;
pub mod reloads;
pub mod transfer_log;
