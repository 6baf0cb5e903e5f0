//! Reports to the operator: [`log`] lines, [`transfer_log`]s, [`metrics`], and the results of [`reloads`].

mod lines;
pub mod log;
pub mod metrics;
pub mod reloads;
pub mod transfer_log;
