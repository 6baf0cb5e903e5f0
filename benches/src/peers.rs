//! Portcullis and its peers, each with one worker on one CPU, without logs, with the same certificate and cipher.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use clap::ValueEnum;
use rustls::{ClientConfig, SupportedProtocolVersion};

use crate::certificate::Certificate;
use crate::client::{DataRoute, Route};
use crate::measure::Part;
use crate::process::Process;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This program.
    Portcullis,
    /// The same with a pool of twenty backends, of which the one with the fewest sessions for its weight serves a login.
    Pool,
    /// nginx's stream module: a relay that ends TLS and knows no FTP.
    Nginx,
    /// HAProxy in TCP mode: the same.
    Haproxy,
    /// ProFTPD with mod_proxy and mod_tls: an FTP proxy.
    ModProxy,
    /// The client at the backend, without TLS: the floor.
    Direct,
}

impl Peer {
    /// All, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Portcullis,
        Self::Pool,
        Self::Nginx,
        Self::Haproxy,
        Self::ModProxy,
        Self::Direct,
    ];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portcullis => "Portcullis",
            Self::Pool => "Portcullis, 20 backends",
            Self::Nginx => "nginx stream",
            Self::Haproxy => "HAProxy",
            Self::ModProxy => "ProFTPD mod_proxy",
            Self::Direct => "no proxy",
        }
    }
}

impl Peer {
    /// Whether it is measured at this: a pool differs in its logins alone.
    pub fn takes_part(self, part: Part) -> bool {
        self != Self::Pool || part == Part::Logins
    }

    /// At which numbers of sessions to look at memory and costs.
    pub fn crowds(self, most: usize, quick: bool) -> Vec<usize> {
        match self {
            Self::Direct | Self::Pool => Vec::new(),
            // A process for each session: 10,000 of them need more memory than most machines have.
            Self::ModProxy if quick => vec![50],
            Self::ModProxy => vec![500],
            _ if quick => vec![1, 500],
            _ => vec![1, 500, 2_000, most],
        }
    }
}

/// What all peers have in common.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The binary of Portcullis.
    pub portcullis: &'a Path,
    /// Where the peers are unpacked.
    pub peers: &'a Path,
    /// For configurations and logs; removed in the end.
    pub folder: &'a Path,
    /// What they show to clients.
    pub certificate: &'a Certificate,
    /// The backend's FTP port and its port for relays.
    pub backend: (u16, u16),
    /// Where they run, alone.
    pub cpu: usize,
    /// What they speak.
    pub version: &'static SupportedProtocolVersion,
}

/// A peer that runs, and the way through it.
#[derive(Debug)]
pub struct Running {
    /// `None` without a proxy.
    pub process: Option<Process>,
    /// How the load client goes.
    pub route: Route,
}

impl Stage<'_> {
    /// Starts a peer and waits until it accepts.
    pub fn start(&self, peer: Peer) -> io::Result<Running> {
        let folder = tempfile::Builder::new()
            .prefix(&format!("{peer:?}-"))
            .tempdir_in(self.folder)?
            .keep();
        // ProFTPD's sessions aren't root's.
        set_mode(&folder, 0o755)?;
        let started = match peer {
            Peer::Portcullis => self.portcullis(&folder, &self.backends(1), "first"),
            Peer::Pool => self.portcullis(&folder, &self.backends(20), "least_sessions"),
            Peer::Nginx => self.nginx(&folder),
            Peer::Haproxy => self.haproxy(&folder),
            Peer::ModProxy => self.mod_proxy(&folder),
            Peer::Direct => Ok(Running {
                process: None,
                route: Route {
                    control: local(self.backend.0),
                    data: DataRoute::Ftp,
                    tls: None,
                },
            }),
        };
        let waited = started.and_then(|mut running| {
            if let Some(process) = &mut running.process {
                process.wait_for(running.route.control)?;
            }
            Ok(running)
        });
        waited.map_err(|error| {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            io::Error::other(format!("{} does not start: {error}\n{log}", peer.name()))
        })
    }

    fn client(&self) -> ClientConfig {
        self.certificate.client(self.version)
    }

    /// The backend, by so many of its addresses.
    fn backends(&self, count: u32) -> String {
        let backend = |number| {
            let port = self.backend.0;
            format!(
                "{{address: 127.0.0.{number}:{port}, weight: {weight}}}",
                weight = 10 * number
            )
        };
        let backends: Vec<String> = (1..=count).map(backend).collect();
        backends.join(", ")
    }

    fn portcullis(&self, folder: &Path, backends: &str, balance: &str) -> io::Result<Running> {
        let control = free_port()?;
        let passive = free_ports(PASSIVE_PORTS)?;
        let config = format!(
            "listeners:\n  - {{address: 127.0.0.1:{control}, tls: implicit}}\n\
             tls: {{certificate: {certificate}, private_key: {key}}}\n\
             passive: {{ports: {passive}-{last}}}\n\
             sites:\n  - {{name: bench, default: true, balance: {balance}, backends: [{backends}]}}\n\
             limits: {{sessions: 20000, allow: [127.0.0.1]}}\n\
             timeouts: {{idle: 1h}}\n\
             admin: {{address: 127.0.0.1:{admin}}}\n",
            certificate = self.certificate.chain.display(),
            key = self.certificate.key.display(),
            last = passive + PASSIVE_PORTS - 1,
            admin = free_port()?,
        );
        let config = write(folder, "portcullis.yaml", &config)?;
        let process = Process::start(self.portcullis, self.cpu, &folder.join("log"), |command| {
            command
                .args(["run", "--log-level", "warn", "--config"])
                .arg(config);
        })?;
        Ok(Running {
            process: Some(process),
            route: Route {
                control: local(control),
                data: DataRoute::Ftp,
                tls: Some(self.client()),
            },
        })
    }

    fn nginx(&self, folder: &Path) -> io::Result<Running> {
        let (control, data) = (free_port()?, free_port()?);
        // Buffers of 64 KiB where files go: with nginx's own 16 KiB it costs more. Its control connections keep those.
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/log error;\n\
             load_module {modules}/ngx_stream_module.so;\n\
             events {{ worker_connections 65536; multi_accept on; }}\n\
             stream {{\n\
               ssl_certificate {certificate};\n ssl_certificate_key {key};\n\
               ssl_protocols TLSv1.2 TLSv1.3;\n ssl_session_cache shared:bench:16m;\n ssl_session_timeout 1h;\n\
               proxy_timeout 1h;\n\
               server {{ listen 127.0.0.1:{control} ssl backlog=1024; proxy_pass 127.0.0.1:{backend}; }}\n\
               server {{ listen 127.0.0.1:{data} ssl backlog=1024; proxy_pass 127.0.0.1:{raw}; proxy_buffer_size 64k; }}\n\
             }}\n",
            folder = folder.display(),
            modules = self.peers.join("nginx/usr/lib/nginx/modules").display(),
            certificate = self.certificate.chain.display(),
            key = self.certificate.key.display(),
            backend = self.backend.0,
            raw = self.backend.1,
        );
        let config = write(folder, "nginx.conf", &config)?;
        let program = self.peers.join("nginx/usr/sbin/nginx");
        let process = Process::start(&program, self.cpu, &folder.join("out"), |command| {
            command
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(config)
                .arg("-e")
                .arg(folder.join("log"));
        })?;
        Ok(self.relay(process, control, data))
    }

    fn haproxy(&self, folder: &Path) -> io::Result<Running> {
        let (control, data) = (free_port()?, free_port()?);
        let config = format!(
            "global\n  nbthread 1\n  maxconn 9900\n  tune.bufsize 65536\n  tune.ssl.cachesize 100000\n\
             defaults\n  mode tcp\n  maxconn 9900\n  backlog 1024\n\
               timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             listen control\n  bind 127.0.0.1:{control} ssl crt {both}\n  server backend 127.0.0.1:{backend}\n\
             listen data\n  bind 127.0.0.1:{data} ssl crt {both}\n  server backend 127.0.0.1:{raw}\n",
            both = self.certificate.both.display(),
            backend = self.backend.0,
            raw = self.backend.1,
        );
        let config = write(folder, "haproxy.cfg", &config)?;
        let unpacked = self.peers.join("haproxy");
        let process = Process::start(
            &unpacked.join("usr/sbin/haproxy"),
            self.cpu,
            &folder.join("log"),
            |command| {
                command
                    .env("LD_LIBRARY_PATH", unpacked.join("usr/lib/x86_64-linux-gnu"))
                    .args(["-db", "-f"])
                    .arg(config);
            },
        )?;
        Ok(self.relay(process, control, data))
    }

    fn relay(&self, process: Process, control: u16, data: u16) -> Running {
        Running {
            process: Some(process),
            route: Route {
                control: local(control),
                data: DataRoute::Fixed(local(data)),
                tls: Some(self.client()),
            },
        }
    }

    fn mod_proxy(&self, folder: &Path) -> io::Result<Running> {
        let control = free_port()?;
        let tables = folder.join("tables");
        fs::create_dir(&tables)?;
        set_mode(&tables, 0o700)?;
        let config = format!(
            "ServerName bench\nServerType standalone\nDefaultAddress 127.0.0.1\nPort {control}\nSocketBindTight on\n\
             UseIPv6 off\nUseReverseDNS off\nTCPBacklog 255\nMaxInstances none\nUser root\nGroup root\n\
             ModulePath {modules}\nLoadModule mod_proxy.c\nLoadModule mod_tls.c\n\
             WtmpLog off\nPidFile {folder}/pid\nScoreboardFile {folder}/scoreboard\nScoreboardMutex {folder}/mutex\n\
             SystemLog none\nTransferLog none\nDelayEngine off\nTimeoutIdle 0\nTimeoutNoTransfer 0\nTimeoutStalled 0\n\
             TLSEngine on\nTLSRequired on\nTLSProtocol TLSv1.2 TLSv1.3\nTLSVerifyClient off\nTLSRenegotiate none\n\
             TLSLog none\nTLSOptions UseImplicitSSL\n\
             TLSECCertificateFile {certificate}\nTLSECCertificateKeyFile {key}\n\
             ProxyEngine on\nProxyRole reverse\nProxyTables {tables}\nProxyTLSEngine off\nProxyLog none\n\
             ProxyReverseServers ftp://127.0.0.1:{backend}\n",
            folder = folder.display(),
            tables = tables.display(),
            modules = self.peers.join("proftpd/usr/lib/proftpd").display(),
            certificate = self.certificate.chain.display(),
            key = self.certificate.key.display(),
            backend = self.backend.0,
        );
        let config = write(folder, "proftpd.conf", &config)?;
        let program = self.peers.join("proftpd/usr/sbin/proftpd");
        let process = Process::start(&program, self.cpu, &folder.join("log"), |command| {
            command.args(["-n", "-c"]).arg(config);
        })?;
        let mut client = self.client();
        // With a name that is none of its virtual hosts, mod_tls's session begins without a greeting.
        client.enable_sni = false;
        Ok(Running {
            process: Some(process),
            route: Route {
                control: local(control),
                data: DataRoute::Ftp,
                tls: Some(client),
            },
        })
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that is free, outside of those that the kernel gives to connections.
pub fn free_port() -> io::Result<u16> {
    free_ports(1)
}

/// The first of so many free ports in a row, outside of those that the kernel gives to connections. Never the same ones
/// twice, since a port is taken only when the peer that is given it has started.
pub fn free_ports(count: u16) -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    for _ in 0..PORTS / count {
        let first = FIRST_PORT + NEXT.fetch_add(count, Ordering::Relaxed) % PORTS;
        if (first..first + count).all(|port| TcpListener::bind(local(port)).is_ok()) {
            return Ok(first);
        }
    }
    Err(io::Error::other("no free ports"))
}

/// Enough for all transfers at once from one address.
pub const PASSIVE_PORTS: u16 = 64;

const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 16_000;

fn write(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    // ProFTPD refuses a file that others may write.
    set_mode(&path, 0o600)?;
    Ok(path)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
