//! HAProxy 2.6: the load balancer that the PROXY protocol comes from, and a strict reader of it.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

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

/// A balancer that sends each control connection to one of several proxies that are ready, and each data connection to the proxy
/// whose port it is, until this is dropped. It announces clients by PROXY headers.
#[derive(Debug)]
pub struct ReadinessBalancer {
    // Dropped first: it reads its directory.
    _process: Process,
    loopback: Loopback,
    _directory: TempDir,
}

/// A proxy behind a [`ReadinessBalancer`].
#[derive(Debug, Clone, Copy)]
pub struct Instance {
    /// Where control connections go.
    pub control: SocketAddr,
    /// Is asked for `/readyz` ten times a second.
    pub admin: SocketAddr,
    /// Where data connections to the balancer's port of the same number go.
    pub data: SocketAddr,
}

impl ReadinessBalancer {
    /// Starts it before these proxies. The first of them has to greet.
    pub fn start(loopback: Loopback, instances: &[Instance]) -> Self {
        let own = loopback.ip();
        let mut config = format!(
            "  timeout check 5s\nlisten control\n  bind {}\n  option httpchk GET /readyz\n  \
             http-check expect status 200\n",
            loopback.at(CONTROL_PORT)
        );
        for (number, Instance { control, admin, .. }) in instances.iter().enumerate() {
            writeln!(
                config,
                "  server portcullis{number} {control} send-proxy-v2 source {own} check addr {} port {} inter 100ms fall 1 rise 1",
                admin.ip(),
                admin.port()
            )
            .expect("a String takes everything");
        }
        for (number, Instance { data, .. }) in instances.iter().enumerate() {
            writeln!(
                config,
                "listen data{number}\n  bind {own}:{}\n  server portcullis{number} {data} send-proxy-v2 source {own}",
                data.port()
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

/// HAProxy with a whole configuration of the test's, which asks it how its servers are, until this is dropped.
#[derive(Debug)]
pub struct Observed {
    // Dropped first: it reads its directory.
    process: Process,
    loopback: Loopback,
    directory: TempDir,
}

impl Observed {
    /// Starts it. The configuration listens at this address and nowhere else.
    pub fn start(loopback: Loopback, config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let file = directory.path().join(name);
            fs::write(&file, text).expect("the test's directory is writable");
            file
        };
        let socket = directory.path().join(STATISTICS);
        let ours = format!("global\n  stats socket {}\n", socket.display());
        let mut run = command("haproxy/usr/sbin/haproxy");
        run.args(["-db", "-f"])
            .arg(write("haproxy.cfg", config))
            .arg("-f")
            .arg(write("statistics.cfg", &ours));
        let mut observed = Self {
            process: Process::start(run, directory.path(), &[]),
            loopback,
            directory,
        };
        let socket = observed.directory.path().join(STATISTICS);
        observed
            .process
            .poll("answer on its socket", || statistics(&socket));
        observed
    }

    /// Where a port of it is.
    pub fn at(&self, port: u16) -> SocketAddr {
        self.loopback.at(port)
    }

    /// Waits until a server of one of its sections is `UP` or `DOWN`.
    ///
    /// # Panics
    /// If it isn't in time.
    pub fn wait_for(&mut self, section: &str, server: &str, status: &str) {
        let socket = self.directory.path().join(STATISTICS);
        let what = format!("have {section}/{server} {status}");
        self.process.poll(&what, || {
            let table = statistics(&socket)?;
            let mut lines = table.lines().map(|line| line.split(','));
            let column = lines.next()?.position(|name| name == "status")?;
            let of_server = |line: &std::str::Split<'_, char>| {
                let mut names = line.clone();
                names.next() == Some(section) && names.next() == Some(server)
            };
            let mut line = lines.find(of_server)?;
            (line.nth(column)? == status).then_some(())
        });
    }
}

/// What HAProxy tells of its sections and servers, as a table: a line each, and names in the first.
fn statistics(socket: &Path) -> Option<String> {
    let mut connection = UnixStream::connect(socket).ok()?;
    connection.set_read_timeout(Some(super::DEADLINE)).ok()?;
    connection.write_all(b"show stat\n").ok()?;
    let mut table = String::new();
    connection.read_to_string(&mut table).ok()?;
    table.starts_with("# pxname,").then_some(table)
}

/// The name of its socket, in its directory.
const STATISTICS: &str = "statistics.sock";

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
