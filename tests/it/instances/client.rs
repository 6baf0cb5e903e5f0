//! A client of the fleet, which notices which instance it has come to.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use testkit::front::NAME;
use testkit::raw::{Raw, RawTls, protect};
use testkit::wire::{End, Wire};

use super::fleet::Fleet;

/// A file of the backend, which tells by one transfer that a session works.
pub const FILE: (&str, &[u8]) = ("file", b"what the file holds");

/// A client's address: nobody listens there, and others of this machine may have it as well.
pub fn address(number: usize) -> IpAddr {
    let [.., high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 77, high, low.max(1)).into()
}

/// A client that has connected and agreed on TLS; its handshake is to come.
pub struct Arriving {
    control: Raw,
    tls: RawTls,
    from: IpAddr,
}

/// A client that is logged in; its data connections are private.
pub struct Session {
    pub control: Raw,
    pub tls: RawTls,
    from: IpAddr,
}

impl Arriving {
    /// Connects from this address, up to the reply to AUTH TLS.
    pub fn connect(fleet: &Fleet, from: IpAddr) -> Self {
        let mut control = Raw::over(Wire::connect_from(from, fleet.explicit()));
        control.expect(220);
        control.command("AUTH TLS", 234);
        Self {
            control,
            tls: fleet.front.tls(NAME),
            from,
        }
    }

    /// Does the handshake and logs in; this has to succeed.
    pub fn log_in(self, user: &str) -> Session {
        let Self {
            mut control,
            tls,
            from,
        } = self;
        control.handshake(&tls).expect("a handshake");
        control.login(user, "secret");
        control.protect_data();
        Session { control, tls, from }
    }
}

impl Session {
    /// Connects from this address and logs in.
    pub fn start(fleet: &Fleet, from: IpAddr, user: &str) -> Self {
        Arriving::connect(fleet, from).log_in(user)
    }

    /// The same at this instance: others are left again.
    pub fn start_at(fleet: &Fleet, instance: usize, from: IpAddr, user: &str) -> Self {
        // The one with the fewest is next, and those that are left here stay until then.
        let mut others = Vec::new();
        loop {
            let session = Self::start(fleet, from, user);
            if session.instance(fleet) == instance {
                return session;
            }
            others.push(session);
            assert!(others.len() < 20, "HAProxy never comes to {instance}");
        }
    }

    /// The instance that the client has come to.
    pub fn instance(&self, fleet: &Fleet) -> usize {
        fleet.instance_of(self.control.local_addr())
    }

    /// Opens a connection to this address, from the client's.
    pub fn connect(&self, to: SocketAddr) -> Wire {
        Wire::connect_from(self.from, to)
    }

    /// Says a transfer command for a data connection that is open, up to the end of the handshake on it.
    pub fn begin(&mut self, command: &str, data: &mut Wire) {
        self.control.command(command, 150);
        protect(data, &self.tls).expect("a handshake on the data connection");
    }

    /// Reads what is left of a download, which has to end as a complete one.
    pub fn finish_download(&mut self, mut data: Wire) -> Vec<u8> {
        let (content, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        self.control.expect(226);
        content
    }

    /// Writes what is left of an upload, which has to be taken as a complete one.
    pub fn finish_upload(&mut self, mut data: Wire, rest: &[u8]) {
        data.write_all(rest).expect("the proxy reads");
        data.end(End::CloseNotify).expect("the proxy is there");
        self.control.expect(226);
    }

    /// Downloads [`FILE`] by this connection.
    pub fn download_by(&mut self, mut data: Wire) {
        self.begin(&format!("RETR {}", FILE.0), &mut data);
        assert_eq!(self.finish_download(data), FILE.1);
    }

    /// Downloads [`FILE`]; gives the instance that has done it.
    pub fn download(&mut self, fleet: &Fleet) -> usize {
        let at = self.control.epsv();
        self.download_by(self.connect(at));
        fleet.owner(at)
    }

    /// Leaves in order.
    pub fn quit(mut self) {
        self.control.command("QUIT", 221);
    }
}
