//! Real FTP clients: curl, lftp and Python's ftplib, one login and one action at a time.
//!
//! How they differ on the wire is what makes them worth running: curl takes EPSV and a new TLS session ticket each
//! time, lftp PASV and the control connection's session again and again, ftplib no resumption at all, but it
//! insists on close_notify in both directions.

mod curl;
pub mod filezilla;
mod ftplib;
mod lftp;
mod running;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::server::Server;
pub use ftplib::FTPLIB_SESSION;
pub use running::Running;

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// curl.
    Curl,
    /// lftp.
    Lftp,
    /// Python's ftplib as it is.
    Ftplib,
    /// ftplib taught to resume the control connection's TLS session on data connections.
    FtplibReusing,
}

impl Client {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Curl, Self::Lftp, Self::Ftplib, Self::FtplibReusing];
}

/// How the client protects its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTls {
    /// Not at all.
    Clear,
    /// By AUTH TLS, data included.
    Explicit,
    /// From the first byte, data included.
    Implicit,
}

/// How data connections are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMode {
    /// PASV.
    Pasv,
    /// EPSV.
    Epsv,
    /// PORT or EPRT, as the client likes.
    Active,
}

/// Everything a client needs to know.
#[derive(Debug)]
pub struct Login {
    address: SocketAddr,
    user: String,
    password: String,
    tls: ClientTls,
    ca: Option<PathBuf>,
    name: Option<String>,
    max_tls_1_2: bool,
    data: DataMode,
    rate: Option<u32>,
    scratch: TempDir,
}

/// The outcome.
#[derive(Debug)]
pub struct Outcome {
    /// The client's exit code; 0 if it believes that all went well.
    pub code: i32,
    /// What it printed, replies of the server included.
    pub text: String,
    /// What it downloaded; empty otherwise.
    pub content: Vec<u8>,
}

impl Outcome {
    /// Fails the test, with what the client printed, unless the client reports success.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, 0, "the client failed:\n{}", self.text);
        self
    }

    /// Fails the test, with what the client printed, if the client reports success.
    #[track_caller]
    pub fn expect_failure(self) -> Self {
        assert_ne!(self.code, 0, "the client reports success:\n{}", self.text);
        self
    }
}

impl ClientTls {
    /// How URLs call it.
    fn scheme(self) -> &'static str {
        match self {
            Self::Clear | Self::Explicit => "ftp",
            Self::Implicit => "ftps",
        }
    }
}

impl Login {
    /// In clear text, by PASV. The user can be of the form `host|user`.
    pub fn new(address: SocketAddr, user: &str, password: &str) -> Self {
        Self {
            address,
            user: user.to_owned(),
            password: password.to_owned(),
            tls: ClientTls::Clear,
            ca: None,
            name: None,
            max_tls_1_2: false,
            data: DataMode::Pasv,
            rate: None,
            scratch: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Straight to a real server.
    pub fn to(server: &Server) -> Self {
        Self::new(server.address(), server.user(), server.password())
    }

    /// With TLS, trusting this PEM file only.
    pub fn tls(mut self, tls: ClientTls, ca: &Path) -> Self {
        (self.tls, self.ca) = (tls, Some(ca.to_owned()));
        self
    }

    /// Sends and verifies this name instead of the address. lftp can't: it sends the address and verifies no name, only
    /// the chain and the dates.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Offers no TLS 1.3.
    pub fn max_tls_1_2(mut self) -> Self {
        self.max_tls_1_2 = true;
        self
    }

    /// Opens data connections in this way.
    pub fn data(mut self, data: DataMode) -> Self {
        self.data = data;
        self
    }

    /// Moves about so many bytes a second and not more. For curl and lftp.
    pub fn rate(mut self, bytes: u32) -> Self {
        self.rate = Some(bytes);
        self
    }

    /// Lists a directory; empty means the one after login.
    pub fn list(&self, client: Client, directory: &str) -> Outcome {
        self.run(client, Action::List, directory)
    }

    /// Uploads content to a path relative to the directory after login.
    pub fn upload(&self, client: Client, content: &[u8], remote: &str) -> Outcome {
        fs::write(self.local(), content).expect("the test's directory is writable");
        self.run(client, Action::Upload, remote)
    }

    /// Downloads a file, by its path relative to the directory after login.
    pub fn download(&self, client: Client, remote: &str) -> Outcome {
        // A file that the client doesn't write must not be found.
        let _ = fs::remove_file(self.local());
        let outcome = self.run(client, Action::Download, remote);
        Outcome {
            content: fs::read(self.local()).unwrap_or_default(),
            ..outcome
        }
    }

    /// Begins what [`Login::upload`] does.
    pub fn start_upload(&self, client: Client, content: &[u8], remote: &str) -> Running {
        fs::write(self.local(), content).expect("the test's directory is writable");
        self.start(client, Action::Upload, remote)
    }

    /// Begins what [`Login::download`] does.
    pub fn start_download(&self, client: Client, remote: &str) -> Running {
        let _ = fs::remove_file(self.local());
        self.start(client, Action::Download, remote)
    }

    fn start(&self, client: Client, action: Action, remote: &str) -> Running {
        let output = self.scratch.path().join("output");
        let file = fs::File::create(&output).expect("the test's directory is writable");
        let child = self
            .command(client, action, remote)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the file is open"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("start {client:?}: {error}"));
        Running {
            child,
            local: self.local(),
            output,
        }
    }

    fn run(&self, client: Client, action: Action, remote: &str) -> Outcome {
        let output = self
            .command(client, action, remote)
            .output()
            .unwrap_or_else(|error| panic!("start {client:?}: {error}"));
        let text = [output.stdout, output.stderr].concat();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&text).into_owned(),
            content: Vec::new(),
        }
    }

    fn command(&self, client: Client, action: Action, remote: &str) -> Command {
        let mut command = match client {
            Client::Curl => self.curl(action, remote),
            Client::Lftp => self.lftp(action, remote),
            Client::Ftplib => self.ftplib(action, remote, false),
            Client::FtplibReusing => self.ftplib(action, remote, true),
        };
        // No user's .curlrc, .lftprc or .netrc has a say.
        command
            .env("HOME", self.scratch.path())
            .env("LFTP_HOME", self.scratch.path());
        command
    }

    fn local(&self) -> PathBuf {
        self.scratch.path().join("content")
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    List,
    Upload,
    Download,
}
