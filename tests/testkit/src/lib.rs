//! What makes whole-program tests short: peers to talk to, addresses to do it at, certificates to do it with.
//!
//! Everything here has its own address, directory and processes, so tests run in parallel, also several test programs
//! at once. Nothing waits longer than [`DEADLINE`], so what hangs fails.

pub mod browser;
pub mod cells;
pub mod certs;
pub mod client_certs;
pub mod clients;
pub mod closed_port;
pub mod config;
pub mod content;
pub mod dnsmasq;
pub mod front;
pub mod haproxy;
pub mod libunftp;
pub mod log;
pub mod loopback;
pub mod pebble;
pub mod poll;
pub mod process;
pub mod proftpd;
pub mod programs;
pub mod proxy;
pub mod proxy_header;
pub mod pureftpd;
pub mod pyftpdlib;
pub mod raw;
pub mod resources;
pub mod script;
pub mod scripted;
pub mod scripted_ca;
pub mod server;
pub mod service_manager;
mod tcp_table;
pub mod vsftpd;
pub mod wire;

use std::time::Duration;

/// How long anything in a test may take before it counts as hanging. Generous: test machines are slow and shared.
pub const DEADLINE: Duration = Duration::from_secs(30);
