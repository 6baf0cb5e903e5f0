//! What every other module may use: ids.

pub mod ids;

pub use ids::SessionId;
