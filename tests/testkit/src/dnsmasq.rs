//! dnsmasq: a name server whose records a test changes.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use tempfile::TempDir;

use super::loopback::Loopback;
use super::process::Process;
use super::server::command;

/// A name server for the domain `test`, and for nothing else, until this is dropped.
#[derive(Debug)]
pub struct NameServer {
    // Dropped first: it reads its directory.
    process: Option<Process>,
    loopback: Loopback,
    directory: TempDir,
}

/// A record that it has.
#[derive(Debug, Clone)]
pub enum Record<'a> {
    /// The name has this address.
    Address(&'a str, IpAddr),
    /// The service has a server of this name, with port, priority and weight.
    Service(&'a str, &'a str, u16, u16, u16),
}

impl NameServer {
    /// Starts it with these records.
    pub fn start(records: &[Record<'_>]) -> Self {
        let mut server = Self {
            process: None,
            loopback: Loopback::claim(),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        server.change(records);
        server
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddr {
        // Its own port, 53, is for root alone.
        self.loopback.at(5353)
    }

    /// Starts it anew with other records, which it says hold for a second.
    pub fn change(&mut self, records: &[Record<'_>]) {
        self.stop();
        let mut config = String::from(
            "no-resolv\nno-hosts\nlocal=/test/\nlocal-ttl=1\nbind-interfaces\nno-daemon\nuser=root\npid-file=\n",
        );
        config += &format!(
            "port={}\nlisten-address={}\n",
            self.address().port(),
            self.address().ip()
        );
        for record in records {
            config += &match record {
                Record::Address(name, address) => format!("host-record={name},{address}\n"),
                Record::Service(name, target, port, priority, weight) => {
                    format!("srv-host={name},{target},{port},{priority},{weight}\n")
                }
            };
        }
        let file = self.directory.path().join("dnsmasq.conf");
        fs::write(&file, config).expect("the test's directory is writable");
        let mut run = command("dnsmasq/usr/sbin/dnsmasq");
        run.arg(format!("--conf-file={}", file.display()));
        let mut process = Process::start(run, self.directory.path(), &[]);
        let to = self.address();
        process.poll("answer", || is_answered(to).then_some(()));
        self.process = Some(process);
    }

    /// Ends it: queries are answered by nothing.
    pub fn stop(&mut self) {
        self.process = None;
    }
}

/// Whether a query, for the addresses of `test`, gets any answer.
fn is_answered(server: SocketAddr) -> bool {
    const QUERY: &[u8] =
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04test\x00\x00\x01\x00\x01";
    let ask = || {
        let socket = UdpSocket::bind((server.ip(), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.connect(server)?;
        socket.send(QUERY)?;
        socket.recv(&mut [0; 512])
    };
    ask().is_ok()
}
