//! The servers behind the proxy: which one a login gets, what kinds there are, and what becomes of a session if one fails.

mod client_certificates;
mod discovery;
mod failover;
mod failures;
mod fault_matrix;
mod health;
mod kinds;
mod odd_servers;
mod outages;
mod pools;
mod proxy_protocol;
mod reuse;
mod routing;
mod unclean;
