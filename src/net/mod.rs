//! Sockets: listening, connecting, PROXY headers, lines on a control connection, bytes between two data connections.

pub mod connect;
pub mod control;
pub mod deadline;
pub mod listen;
pub mod options;
pub mod proxy_header;
pub mod relay;
pub mod resolve;
pub mod source;
pub mod stream;
mod tls_source;
