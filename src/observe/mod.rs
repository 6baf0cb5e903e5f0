//! What the operator sees: [`log`] lines, [`metrics`], and what became of [`reloads`].

pub mod log;
pub mod metrics;
pub mod reloads;
