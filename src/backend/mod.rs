//! The legacy servers behind the sites, and the connections to them.
//!
//! One configuration's view of them is a site's [`Pool`]; what is known of them however often that is reloaded is the
//! [`Registry`]'s: their ids, sessions and health, what was found out about a backend. `select` chooses the backend of a login in
//! the order that [`balance`] has, [`dial`] leads to its [`control`] connection, and that to its [`data`] connections. An ejected
//! backend is dialled by its [`monitor`] until it is back.

mod backend_state;
pub mod balance;
mod certificate;
pub mod check;
mod check_state;
mod checked;
mod checker;
mod configured;
pub mod control;
pub mod data;
pub mod dial;
mod discovered;
mod discovery;
mod explicit_tls;
mod failure_cause;
#[cfg(test)]
mod fixtures;
mod health;
mod live;
mod members;
pub mod monitor;
mod monitor_context;
mod pool;
mod pools;
mod registry;
mod select;
mod servers;
mod site_backend;
mod site_backend_state;
mod site_state;
mod status;
mod statuses;
mod template;
mod upstream_tls;
mod waiting_heads;

pub use check_state::LastCheck;
pub use control::{BackendConnection, ReplyError};
pub use discovery::FailedDiscovery;
pub use live::{BackendSummary, CheckLogin, DrainReport, DrainedBy, OperatorError, SiteSummary};
pub use monitor_context::MonitorContext;
pub use pool::{BackendError, Pool, SiteSlot};
pub use pools::Pools;
pub use registry::Registry;
pub use select::{NoBackend, Selected, Selection};
pub use site_backend::{Backend, BackendSlot};
