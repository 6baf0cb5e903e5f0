//! What every other module may use: ids, and tasks that end with their handles.

pub mod ids;
pub mod task;

pub use ids::{BackendId, SessionId, SiteId};
