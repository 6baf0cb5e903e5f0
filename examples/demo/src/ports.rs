//! Ports on loopback.

use std::io;
use std::net::TcpListener;

/// `wanted` if nobody has it, else any free port.
pub fn free_or(wanted: u16) -> io::Result<u16> {
    match TcpListener::bind(("127.0.0.1", wanted)) {
        Ok(_) => Ok(wanted),
        Err(_) => free(),
    }
}

/// A port that nobody has now.
pub fn free() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
