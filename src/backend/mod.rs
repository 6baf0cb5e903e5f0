//! The legacy servers behind the sites, and the connections to them.
//!
//! What one configuration says of them is a site's [`Pool`]; what is known of them however often that is reloaded is the
//! [`Registry`]'s: their ids, a site's sessions, what was found out about a backend. `select` chooses the backend of a
//! login, [`dial`] leads to its [`control`] connection, and that to its [`data`] connections.

pub mod control;
pub mod data;
pub mod dial;
mod pool;
mod registry;
mod select;

pub use control::{BackendConnection, ReplyError};
pub use pool::{Backend, BackendError, Pool, Pools, SiteSlot};
pub use registry::Registry;
