//! Real FTP clients: curl, lftp and Python's ftplib, one login and one action at a time.
//!
//! How they differ on the wire is what makes them worth running: curl takes EPSV and a new TLS session ticket each
//! time, lftp PASV and the control connection's session again and again, ftplib no resumption at all, but it
//! insists on close_notify in both directions.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::DEADLINE;
use super::programs::program;
use super::server::Server;

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

/// What came of it.
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
        // What the client doesn't write must not be found.
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
        // Nobody's .curlrc, .lftprc or .netrc has a say.
        command
            .env("HOME", self.scratch.path())
            .env("LFTP_HOME", self.scratch.path());
        command
    }

    fn curl(&self, action: Action, remote: &str) -> Command {
        let mut curl = Command::new(program("curl"));
        curl.args([
            "--silent",
            "--show-error",
            "--verbose",
            "--max-time",
            &DEADLINE.as_secs().to_string(),
        ]);
        curl.arg("--user")
            .arg(format!("{}:{}", self.user, self.password));
        if let Some(ca) = &self.ca {
            curl.arg("--cacert").arg(ca);
        }
        if self.tls == ClientTls::Explicit {
            curl.arg("--ssl-reqd");
        }
        if self.max_tls_1_2 {
            curl.args(["--tls-max", "1.2"]);
        }
        if let Some(rate) = self.rate {
            curl.arg("--limit-rate").arg(rate.to_string());
        }
        match self.data {
            DataMode::Pasv => curl.arg("--disable-epsv"),
            DataMode::Epsv => &mut curl,
            DataMode::Active => curl.args(["--ftp-port", "-"]),
        };
        match action {
            Action::List => &mut curl,
            Action::Upload => curl.arg("--upload-file").arg(self.local()),
            Action::Download => curl.arg("--output").arg(self.local()),
        };
        let scheme = if self.tls == ClientTls::Implicit {
            "ftps"
        } else {
            "ftp"
        };
        let port = self.address.port();
        let host = match &self.name {
            Some(name) => {
                curl.arg("--resolve")
                    .arg(format!("{name}:{port}:{}", self.address.ip()));
                format!("{name}:{port}")
            }
            None => self.address.to_string(),
        };
        // A directory's URL ends in a slash.
        let slash = if matches!(action, Action::List) && !remote.is_empty() {
            "/"
        } else {
            ""
        };
        curl.arg(format!("{scheme}://{host}/{remote}{slash}"));
        curl
    }

    fn lftp(&self, action: Action, remote: &str) -> Command {
        let mut script = vec![
            "debug 4".to_owned(),
            "set cmd:fail-exit yes".to_owned(),
            "set net:max-retries 1".to_owned(),
            // After a failure that isn't final it would wait for half a minute, and then longer and longer.
            "set net:reconnect-interval-base 1".to_owned(),
            "set net:reconnect-interval-multiplier 1".to_owned(),
            format!("set net:timeout {}", DEADLINE.as_secs()),
            format!("set ftp:ssl-allow {}", self.tls != ClientTls::Clear),
            format!("set ftp:ssl-force {}", self.tls != ClientTls::Clear),
            "set ftp:ssl-protect-data yes".to_owned(),
            format!("set ssl:check-hostname {}", self.name.is_none()),
            format!("set ftp:passive-mode {}", self.data != DataMode::Active),
            format!("set ftp:prefer-epsv {}", self.data == DataMode::Epsv),
        ];
        if let Some(ca) = &self.ca {
            script.push(format!(
                "set ssl:ca-file {}",
                quoted(&ca.display().to_string())
            ));
        }
        if let Some(rate) = self.rate {
            script.push(format!("set net:limit-rate {rate}"));
        }
        if self.max_tls_1_2 {
            script.push("set ssl:priority NORMAL:-VERS-TLS1.3".to_owned());
        }
        let scheme = if self.tls == ClientTls::Implicit {
            "ftps"
        } else {
            "ftp"
        };
        script.push(format!(
            "open --user {} --password {} {scheme}://{}",
            quoted(&self.user),
            quoted(&self.password),
            self.address,
        ));
        let local = quoted(&self.local().display().to_string());
        script.push(match action {
            Action::List => format!("ls {}", quoted(remote)),
            Action::Upload => format!("put {local} -o {}", quoted(remote)),
            Action::Download => format!("get {} -o {local}", quoted(remote)),
        });
        script.push("bye".to_owned());
        let mut lftp = Command::new(program("lftp"));
        lftp.arg("--norc").arg("-c").arg(script.join("; "));
        lftp
    }

    fn ftplib(&self, action: Action, remote: &str, reuse: bool) -> Command {
        let host = self.address.ip().to_string();
        let local = self.local().display().to_string();
        let ca = self
            .ca
            .as_ref()
            .map(|ca| ca.display().to_string())
            .unwrap_or_default();
        let job = [
            ("host", host.as_str()),
            ("name", self.name.as_deref().unwrap_or(&host)),
            ("port", &self.address.port().to_string()),
            ("user", &self.user),
            ("password", &self.password),
            ("timeout", &DEADLINE.as_secs().to_string()),
            ("reuse", if reuse { "yes" } else { "no" }),
            ("max_tls", if self.max_tls_1_2 { "1.2" } else { "1.3" }),
            ("ca", &ca),
            ("remote", remote),
            ("local", &local),
            ("tls", self.tls.word()),
            ("data", self.data.word()),
            ("action", action.word()),
        ];
        let mut python = Command::new(program("python3"));
        python.arg("-c").arg(concat!(
            include_str!("ftplib_session.py"),
            include_str!("ftplib_driver.py")
        ));
        python.args(job.iter().map(|(key, value)| format!("{key}={value}")));
        python
    }

    fn local(&self) -> PathBuf {
        self.scratch.path().join("content")
    }
}

/// A client at work.
#[derive(Debug)]
pub struct Running {
    child: Child,
    local: PathBuf,
    output: PathBuf,
}

impl Running {
    /// Whether it has exited.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_some()
    }

    /// How many bytes of a download are in its file.
    pub fn received(&self) -> u64 {
        fs::metadata(&self.local).map_or(0, |file| file.len())
    }

    /// Kills it; false if it has exited already.
    pub fn kill(&mut self) -> bool {
        !self.is_over() && self.child.kill().is_ok()
    }

    /// Waits for its exit: code -1 if it was killed, and for a download what is in its file.
    pub fn wait(mut self) -> Outcome {
        let status = self.child.wait().expect("the child is ours");
        let text = fs::read(&self.output).unwrap_or_default();
        Outcome {
            code: status.code().unwrap_or(-1),
            text: String::from_utf8_lossy(&text).into_owned(),
            content: fs::read(&self.local).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Action {
    List,
    Upload,
    Download,
}

// The words that ftplib_driver.py knows.
impl ClientTls {
    fn word(self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
        }
    }
}

impl DataMode {
    fn word(self) -> &'static str {
        match self {
            Self::Pasv => "pasv",
            Self::Epsv => "epsv",
            Self::Active => "active",
        }
    }
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Upload => "upload",
            Self::Download => "download",
        }
    }
}

/// A word of an lftp command line.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}
