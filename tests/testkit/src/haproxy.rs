//! HAProxy 2.6: the load balancer that the PROXY protocol comes from, and a strict reader of it.

use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};

use tempfile::TempDir;

use super::loopback::Loopback;
use super::process::Process;
use super::server::command;

/// What every configuration begins with.
const COMMON: &str = "global\n  maxconn 200\ndefaults\n  mode tcp\n  retries 0\n  timeout connect 30s\n  \
                      timeout client 30s\n  timeout server 30s\n";

/// Starts HAProxy with this behind [`COMMON`], in a directory of its own.
fn run(config: &str) -> (Process, TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("haproxy.cfg");
    fs::write(&file, format!("{COMMON}{config}")).expect("the test's directory is writable");
    let mut run = command("haproxy/usr/sbin/haproxy");
    run.args(["-db", "-f"]).arg(&file);
    (Process::start(run, directory.path(), &[]), directory)
}

/// Waits until a server behind the balancer greets through this address.
fn wait_for_greeting(process: &mut Process, address: SocketAddr) {
    process.poll("relay a greeting", || {
        let mut socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(super::DEADLINE)).ok()?;
        socket.read_exact(&mut [0]).ok()
    });
}

/// A balancer that relays the same ports of its own address to a proxy, until this is dropped.
#[derive(Debug)]
pub struct Balancer {
    // Dropped first: it reads its directory.
    _process: Process,
    loopback: Loopback,
    _directory: TempDir,
}

impl Balancer {
    /// Starts it. It announces clients by `send`, which is `send-proxy` or `send-proxy-v2`, and connects from the address
    /// that it is reached at. The first of `ports` has to greet.
    pub fn start(loopback: Loopback, send: &str, to: IpAddr, ports: &[u16]) -> Self {
        let own = loopback.ip();
        let mut config = String::new();
        for port in ports {
            writeln!(
                config,
                "listen ftp{port}\n  bind {own}:{port}\n  server portcullis {to}:{port} {send} source {own}"
            )
            .expect("a String takes everything");
        }
        let (mut process, directory) = run(&config);
        wait_for_greeting(&mut process, loopback.at(ports[0]));
        Self {
            _process: process,
            loopback,
            _directory: directory,
        }
    }

    /// Where it is reached.
    pub fn at(&self, port: u16) -> SocketAddr {
        self.loopback.at(port)
    }
}

/// A balancer that gives each connection to one of several proxies that are ready, until this is dropped.
#[derive(Debug)]
pub struct ReadinessBalancer {
    // Dropped first: it reads its directory.
    _process: Process,
    loopback: Loopback,
    _directory: TempDir,
}

impl ReadinessBalancer {
    /// Starts it before these proxies, each by the address of its control connections and that of its admin endpoint, which is
    /// asked for `/readyz` ten times a second. The first of them has to greet.
    pub fn start(proxies: &[(SocketAddr, SocketAddr)]) -> Self {
        let loopback = Loopback::claim();
        let mut config = format!(
            "  timeout check 5s\nlisten control\n  bind {}\n  option httpchk GET /readyz\n  \
             http-check expect status 200\n",
            loopback.at(CONTROL_PORT)
        );
        for (number, (control, admin)) in proxies.iter().enumerate() {
            writeln!(
                config,
                "  server portcullis{number} {control} check addr {} port {} inter 100ms fall 1 rise 1",
                admin.ip(),
                admin.port()
            )
            .expect("a String takes everything");
        }
        let (mut process, directory) = run(&config);
        wait_for_greeting(&mut process, loopback.at(CONTROL_PORT));
        Self {
            _process: process,
            loopback,
            _directory: directory,
        }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.loopback.at(CONTROL_PORT)
    }
}

/// A receiver of PROXY headers in front of a server, until this is dropped: it closes what begins with none.
#[derive(Debug)]
pub struct Receiver {
    // Dropped first: it reads its directory.
    _process: Process,
    loopback: Loopback,
    _directory: TempDir,
}

/// Where a receiver relays its connections.
#[derive(Debug, Clone, Copy)]
pub enum Upstream {
    /// Control connections to this address, and data connections to the same port of it that they came to.
    Server(SocketAddr),
    /// All to this address, with a header of version 1 that says the same.
    AtOnePort(SocketAddr),
}

impl Receiver {
    /// Starts it with these ports for data connections, from the first to the last.
    pub fn start(to: Upstream, data: (u16, u16)) -> Self {
        let loopback = Loopback::claim();
        let own = loopback.ip();
        let (control_to, data_to) = match to {
            Upstream::Server(address) => (address.to_string(), address.ip().to_string()),
            Upstream::AtOnePort(address) => {
                let to = format!("{address} send-proxy");
                (to.clone(), to)
            }
        };
        let config = format!(
            "listen control\n  bind {own}:{CONTROL_PORT} accept-proxy\n  server it {control_to}\n\
             listen data\n  bind {own}:{}-{} accept-proxy\n  server it {data_to}\n",
            data.0, data.1
        );
        let (mut process, directory) = run(&config);
        process.poll("accept connections", || {
            TcpStream::connect(loopback.at(CONTROL_PORT)).ok()
        });
        Self {
            _process: process,
            loopback,
            _directory: directory,
        }
    }

    /// Where control connections go.
    pub fn address(&self) -> SocketAddr {
        self.loopback.at(CONTROL_PORT)
    }
}

const CONTROL_PORT: u16 = 2121;
