//! Basics that every other module may use: ids, state per client, text and files from outside, time budgets, and tasks that end
//! with their handles.

pub mod address;
pub(crate) mod bucket;
pub mod budget;
pub mod client_key;
pub(crate) mod expiring;
pub mod fair_queue;
pub mod file;
pub mod file_watch;
pub mod ids;
pub mod replace;
pub mod secret;
pub mod shortage;
pub mod task;
pub mod text;
pub mod wakeup;
pub mod wrap;

pub use client_key::ClientKey;
pub use ids::{BackendId, GlobalSessionId, InstanceId, SessionId, SiteId};
