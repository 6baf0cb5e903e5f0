//! libunftp 0.24 in its PROXY mode, behind the HAProxy that this mode needs: it listens at one port, to which the control
//! port and all data ports have to lead. It reads version 1 over IPv4 alone.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use super::certs::Pair;
use super::haproxy::{Receiver, Upstream};
use super::process::Process;
use super::server::{Place, USER, command};

/// It, running until this is dropped.
#[derive(Debug)]
pub struct Libunftp {
    receiver: Receiver,
    _process: Process,
    place: Place,
}

/// The ports of data connections.
const DATA: (u16, u16) = (10_000, 10_015);

impl Libunftp {
    /// Starts it with this certificate for AUTH TLS; control connections are those whose header has the destination port
    /// `control`.
    pub fn start(pair: &Pair, control: u16) -> Self {
        let place = Place::claim();
        let files = place.write_pair(pair);
        let mut run = command("libunftp/server");
        run.arg(place.address().to_string());
        run.args([control, DATA.0, DATA.1].map(|port| port.to_string()));
        run.args([place.root(), files.certificate, files.private_key]);
        let mut process = Process::start(run, place.directory(), &[]);
        process.poll("accept connections", || {
            TcpStream::connect(place.address()).ok()
        });
        let to = Upstream::AtOnePort(place.address());
        Self {
            receiver: Receiver::start(to, DATA),
            _process: process,
            place,
        }
    }

    /// Where control connections go.
    pub fn address(&self) -> SocketAddr {
        self.receiver.address()
    }

    /// The user that may log in, and the password.
    pub fn user(&self) -> (&'static str, &'static str) {
        USER
    }

    /// The user's home.
    pub fn root(&self) -> PathBuf {
        self.place.root()
    }
}
