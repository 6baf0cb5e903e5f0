//! Sockets: listening, connecting, PROXY headers, lines on a control connection, bytes between two data connections.

pub mod bounded_server;
pub mod connect;
pub mod control;
pub mod data;
pub mod deadline;
pub mod delivery;
pub mod dns;
#[cfg(test)]
pub mod fixtures;
pub mod inherited;
pub mod listen;
pub mod liveness;
pub mod options;
pub mod proxy_header;
pub mod record_framing;
pub mod resolve;
pub mod stream;
pub mod unix;
