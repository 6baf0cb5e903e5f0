//! The hot paths: what every command, login, transfer and byte goes through.

mod backend;
mod protocol;
mod relay;
mod session;
mod tls;

use std::io;

/// A path and how often it is gone.
pub struct Path {
    /// Its name in the baseline.
    pub name: &'static str,
    /// How often: its count is that of all rounds, divided.
    pub rounds: u32,
    /// Gets ready, and goes it so many times.
    pub go: fn(u32) -> io::Result<()>,
}

/// All of them.
pub const PATHS: &[Path] = &[
    path("command", 1000, protocol::command),
    path("reply", 1000, protocol::reply),
    path("features", 100, protocol::features),
    path("route", 1000, protocol::route),
    path("selection_of_1", 100, backend::selection_of_1),
    path("selection_of_20", 100, backend::selection_of_20),
    path("login", 100, session::login),
    path("forwarded_command", 1000, session::forwarded_command),
    path("transfer", 100, session::transfer),
    path("session_tls", 100, tls::session),
    path("data_connection_lookup", 100, tls::data_connection_lookup),
    path("relay_plain_mib", 4, relay::plain),
    path("relay_to_tls_mib", 4, relay::to_tls),
    path("relay_from_tls_mib", 4, relay::from_tls),
];

const fn path(name: &'static str, rounds: u32, go: fn(u32) -> io::Result<()>) -> Path {
    Path { name, rounds, go }
}
