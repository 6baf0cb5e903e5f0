//! What a site allows its clients, and which of its backends serve whom.

mod access;
mod client_certificates;
mod commands;
mod groups;
mod rate;
mod rein;
