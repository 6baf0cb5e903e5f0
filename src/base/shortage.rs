//! Errors of a socket that say nothing of its peer: this machine has nothing left for the connection.

use std::io;

use rustix::io::Errno;

/// What passes as soon as other connections end: no file descriptor, no memory, no port to connect from.
const SHORTAGES: [Errno; 5] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOBUFS,
    Errno::NOMEM,
    Errno::ADDRNOTAVAIL,
];

/// Whether this machine lacks something, be it that the peer works.
pub fn is_shortage(error: &io::Error) -> bool {
    let raw = error.raw_os_error();
    raw.is_some_and(|raw| SHORTAGES.iter().any(|errno| errno.raw_os_error() == raw))
}
