//! What every other module may use: ids, and tasks that end with their handles.

pub mod client_key;
pub(crate) mod expiring;
pub mod ids;
pub mod signal;
pub mod task;

pub use client_key::ClientKey;
pub use ids::{BackendId, SessionId, SiteId};
