//! pyftpdlib: names are Unicode, and TLS is OpenSSL's as Python has it.
//!
//! User: `alice` with password `secret`. Files belong to who runs the test.

use std::process::Command;

use super::programs;
use super::server::{PASSIVE_PORTS, Place, Security, Server, USER};

/// Starts pyftpdlib.
///
/// # Panics
/// On implicit TLS, which it doesn't have.
pub fn start(security: Security<'_>) -> Server {
    let place = Place::claim();
    let python = programs::server_file("pyftpdlib/bin/python");
    let mut run = Command::new(python);
    run.arg("-c").arg(include_str!("pyftpdlib.py")).args([
        place.address().ip().to_string(),
        place.address().port().to_string(),
        place.file("root"),
        USER.0.to_owned(),
        USER.1.to_owned(),
        PASSIVE_PORTS.0.to_string(),
        PASSIVE_PORTS.1.to_string(),
    ]);
    match security {
        Security::Plain => {}
        Security::Explicit(pair, _) => {
            let files = place.write_pair(pair);
            run.arg(files.certificate).arg(files.private_key);
        }
        Security::Implicit(..) => panic!("pyftpdlib has no implicit TLS"),
    }
    Server::start(place, run, &[], USER, security)
}
