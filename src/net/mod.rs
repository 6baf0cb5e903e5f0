//! Sockets: listening, connecting, lines on a control connection, bytes between two data connections.

pub mod connect;
pub mod control;
pub mod listen;
pub mod options;
pub mod relay;
pub mod stream;
