//! FileZilla's engine, without its window: `tests/install.sh` compiles the driver. It trusts any certificate, as a user who was
//! asked, and refuses data connections that show another one than the control connection or don't resume its TLS session.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::DEADLINE;
use crate::programs::{resolve, server_file};

/// The version of TLS that one run of it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineTls {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// One session of explicit TLS in passive mode, with all its jobs.
#[derive(Debug)]
pub struct Engine {
    command: Command,
    scratch: TempDir,
}

/// A job of the driver, on files of the first directory.
#[derive(Debug, Clone, Copy)]
pub enum Job<'a> {
    /// Lists the directory.
    List,
    /// Uploads these bytes to a file of this name.
    Upload(&'a str, &'a [u8]),
    /// Downloads the file of this name.
    Download(&'a str),
}

impl EngineTls {
    /// Has the driver use this version alone, by way of a file that is written for GnuTLS: FileZilla itself can be told the
    /// lowest version only.
    pub fn force(self, driver: &mut Command, file: &Path) {
        let other = match self {
            Self::V12 => "tls1.3",
            Self::V13 => "tls1.2",
        };
        let text = format!("[overrides]\ndisabled-version = {other}\n");
        fs::write(file, text).expect("the test's directory is writable");
        driver.env("GNUTLS_SYSTEM_PRIORITY_FILE", file);
    }
}

impl Engine {
    /// Connects to `address` by `name`, which it sends as the server name.
    pub fn new(address: SocketAddr, name: &str, user: &str, tls: EngineTls) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(server_file("filezilla/driver"));
        let timeout = DEADLINE.as_secs().to_string();
        command.args([
            name,
            &address.port().to_string(),
            user,
            "secret",
            "explicit",
        ]);
        command.args(["passive", "", "utf8", &timeout]);
        command.env("HOME", scratch.path());
        resolve(
            &mut command,
            &scratch.path().join("hosts"),
            name,
            address.ip(),
        );
        tls.force(&mut command, &scratch.path().join("gnutls"));
        Self { command, scratch }
    }

    /// Runs to its end. Returns the content of the last download, if all went well.
    ///
    /// # Errors
    /// What it printed, if it reports a failure.
    pub fn run(mut self, jobs: &[Job<'_>]) -> Result<Vec<u8>, String> {
        let downloaded = self.scratch.path().join("downloaded");
        let mut script = String::new();
        for (number, job) in jobs.iter().enumerate() {
            let line = match *job {
                Job::List => "list\n".to_owned(),
                Job::Upload(name, content) => {
                    let local = self.scratch.path().join(number.to_string());
                    fs::write(&local, content).expect("the test's directory is writable");
                    let local = local.display().to_string();
                    format!("upload {} {}\n", hex(name), hex(&local))
                }
                Job::Download(name) => {
                    let local = downloaded.display().to_string();
                    format!("download {} {}\n", hex(name), hex(&local))
                }
            };
            script.push_str(&line);
        }
        let piped = self.command.stdin(Stdio::piped());
        let piped = piped.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut driver = piped.spawn().expect("the driver runs");
        let mut input = driver.stdin.take().expect("it is piped");
        input
            .write_all(script.as_bytes())
            .expect("the driver reads");
        drop(input);
        let output = driver.wait_with_output().expect("it ends");
        let text = [output.stdout, output.stderr].concat();
        match output.status.success() {
            true => Ok(fs::read(downloaded).unwrap_or_default()),
            false => Err(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

fn hex(word: &str) -> String {
    word.bytes().map(|byte| format!("{byte:02x}")).collect()
}
