//! The servers: real ones, and one that speaks like IIS.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use testkit::certs::Pair;
use testkit::server::{Reuse, Security, Server};
use testkit::{proftpd, pureftpd, pyftpdlib, vsftpd};

use crate::servers::{iis, inetutils};

/// A server, and whether Portcullis speaks TLS to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// vsftpd without TLS.
    Vsftpd,
    /// vsftpd with TLS and `require_ssl_reuse=YES`.
    VsftpdTls,
    /// ProFTPD without TLS.
    Proftpd,
    /// ProFTPD with mod_tls, which demands session reuse.
    ProftpdTls,
    /// ProFTPD without TLS and without passive mode.
    ProftpdActive,
    /// ProFTPD with mod_tls and without passive mode.
    ProftpdActiveTls,
    /// Pure-FTPd without TLS.
    Pureftpd,
    /// Pure-FTPd with TLS.
    PureftpdTls,
    /// pyftpdlib without TLS.
    Pyftpdlib,
    /// pyftpdlib with TLS.
    PyftpdlibTls,
    /// The ftpd of GNU inetutils, run as inetd does.
    Inetutils,
    /// What speaks like IIS, without TLS.
    Iis,
    /// What speaks like IIS, with TLS.
    IisTls,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::Vsftpd,
        Self::VsftpdTls,
        Self::Proftpd,
        Self::ProftpdTls,
        Self::ProftpdActive,
        Self::ProftpdActiveTls,
        Self::Pureftpd,
        Self::PureftpdTls,
        Self::Pyftpdlib,
        Self::PyftpdlibTls,
        Self::Inetutils,
        Self::Iis,
        Self::IisTls,
    ];

    /// Whether Portcullis speaks TLS to it. All serve clear text, too, to those who don't ask for TLS.
    pub fn has_tls(self) -> bool {
        matches!(
            self,
            Self::VsftpdTls
                | Self::ProftpdTls
                | Self::ProftpdActiveTls
                | Self::PureftpdTls
                | Self::PyftpdlibTls
                | Self::IisTls
        )
    }

    /// What Portcullis has to greet with for clients that know a server by its greeting.
    pub fn greeting(self) -> Option<&'static str> {
        matches!(self, Self::Iis | Self::IisTls).then_some("Microsoft FTP Service")
    }

    /// Starts one; `pair` is its certificate if it has TLS.
    pub fn start(self, pair: &Pair) -> Running {
        let required = Security::Explicit(pair, Reuse::Required);
        let optional = Security::Explicit(pair, Reuse::Optional);
        match self {
            Self::Vsftpd => Running::Process(vsftpd::start(Security::Plain)),
            Self::VsftpdTls => Running::Process(vsftpd::start(required)),
            Self::Proftpd => Running::Process(proftpd::start(Security::Plain)),
            Self::ProftpdTls => Running::Process(proftpd::start(required)),
            Self::ProftpdActive => {
                Running::Process(proftpd::start_with(Security::Plain, NO_PASSIVE_MODE))
            }
            Self::ProftpdActiveTls => {
                Running::Process(proftpd::start_with(required, NO_PASSIVE_MODE))
            }
            Self::Pureftpd => Running::Process(pureftpd::start(Security::Plain)),
            Self::PureftpdTls => Running::Process(pureftpd::start(optional)),
            Self::Pyftpdlib => Running::Process(pyftpdlib::start(Security::Plain)),
            Self::PyftpdlibTls => Running::Process(pyftpdlib::start(optional)),
            Self::Inetutils => Running::Inetd(inetutils::start()),
            Self::Iis => Running::Iis(iis::start(None)),
            Self::IisTls => Running::Iis(iis::start(Some(pair))),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vsftpd => "vsftpd",
            Self::VsftpdTls => "vsftpd, TLS",
            Self::Proftpd => "ProFTPD",
            Self::ProftpdTls => "ProFTPD, TLS",
            Self::ProftpdActive => "ProFTPD, active mode",
            Self::ProftpdActiveTls => "ProFTPD, active mode, TLS",
            Self::Pureftpd => "Pure-FTPd",
            Self::PureftpdTls => "Pure-FTPd, TLS",
            Self::Pyftpdlib => "pyftpdlib",
            Self::PyftpdlibTls => "pyftpdlib, TLS",
            Self::Inetutils => "inetutils-ftpd",
            Self::Iis => "as IIS",
            Self::IisTls => "as IIS, TLS",
        })
    }
}

/// What a firewall that lets nobody in does to a server, or one that never had it.
const NO_PASSIVE_MODE: &str = "<Limit PASV EPSV>\nDenyAll\n</Limit>\n";

/// A server that runs until this is dropped.
#[derive(Debug)]
pub enum Running {
    /// A process of its own.
    Process(Server),
    /// A process for each session.
    Inetd(inetutils::Inetd),
    /// Threads of the test.
    Iis(iis::Iis),
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Process(server) => server.address(),
            Self::Inetd(server) => server.address(),
            Self::Iis(server) => server.address(),
        }
    }

    /// Who may log in, and the password.
    pub fn account(&self) -> (&str, &str) {
        match self {
            Self::Process(server) => (server.user(), server.password()),
            Self::Inetd(_) | Self::Iis(_) => testkit::server::USER,
        }
    }

    /// The directory after login.
    pub fn root(&self) -> PathBuf {
        match self {
            Self::Process(server) => server.root(),
            Self::Inetd(server) => server.root(),
            Self::Iis(server) => server.root().to_owned(),
        }
    }

    /// Makes a directory below [`Running::root`] that the user may write to.
    pub fn make_directory(&self, path: impl AsRef<Path>) {
        let path = self.root().join(path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
        self.give(&path);
    }

    /// Puts a file below [`Running::root`] that is the user's.
    pub fn put(&self, path: impl AsRef<Path>, content: &[u8]) {
        let path = self.root().join(path);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.give(&path);
    }

    fn give(&self, path: &Path) {
        let root = fs::metadata(self.root()).expect("the server has it");
        chown(path, Some(root.uid()), Some(root.gid())).expect("it is ours to give");
    }
}
