//! Pebble: a certificate authority that speaks ACME, and the name server by which it finds the host of a name.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::certs::Authority;
use super::loopback::Loopback;
use super::process::Process;
use super::programs::program;
use super::server::command;

/// Where it looks for answers over HTTP.
pub const HTTP_PORT: u16 = 5_002;
/// Where it looks for answers over TLS.
pub const TLS_PORT: u16 = 5_001;

/// The account that it wants where it wants one: id and key.
pub const EXTERNAL_ACCOUNT: (&str, &str) = (
    "kid-1",
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
);

/// How it behaves.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// How many of a hundred good nonces it refuses.
    pub refused_nonces: u32,
    /// Whether it wants [`EXTERNAL_ACCOUNT`].
    pub wants_external_account: bool,
    /// How long its certificates are valid, in seconds.
    pub validity: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            refused_nonces: 5,
            wants_external_account: false,
            validity: 90 * 86_400,
        }
    }
}

/// A running authority.
#[derive(Debug)]
pub struct Pebble {
    // Dropped first: they read their directory.
    process: Option<Process>,
    _names: Process,
    loopback: Loopback,
    manners: Manners,
    ca: PathBuf,
    directory: TempDir,
}

impl Pebble {
    /// Starts one that finds every name at this address.
    pub fn start(names_at: IpAddr, manners: Manners) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let loopback = Loopback::claim();
        let authority = Authority::new("authority of the authority's server");
        let ip = loopback.ip().to_string();
        authority.issue(&[&ip]).write(directory.path());
        let ca = authority.write(directory.path());
        let mut names = command("pebble/usr/bin/pebble-challtestsrv");
        names
            .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
            .args(["-defaultIPv6", "", "-defaultIPv4", &names_at.to_string()])
            .args(["-dns01", &loopback.at(8_053).to_string()])
            .args(["-management", &loopback.at(8_055).to_string()]);
        let names_directory = directory.path().join("names");
        fs::create_dir(&names_directory).expect("the test's directory is writable");
        let mut names = Process::start(names, &names_directory, &[]);
        let management = loopback.at(8_055);
        names.poll("listen", || {
            std::net::TcpStream::connect(management)
                .is_ok()
                .then_some(())
        });
        let mut pebble = Self {
            process: None,
            _names: names,
            loopback,
            manners,
            ca,
            directory,
        };
        pebble.restart();
        pebble
    }

    /// Starts it anew: it has forgotten every account and every order, and has another root.
    pub fn restart(&mut self) {
        self.stop();
        let manners = self.manners;
        let (id, key) = EXTERNAL_ACCOUNT;
        let config = format!(
            r#"{{"pebble": {{
                "listenAddress": "{}", "managementListenAddress": "{}",
                "certificate": {:?}, "privateKey": {:?},
                "httpPort": {HTTP_PORT}, "tlsPort": {TLS_PORT}, "ocspResponderURL": "",
                "externalAccountBindingRequired": {}, "externalAccountMACKeys": {{"{id}": "{key}"}},
                "certificateValidityPeriod": {}
            }}}}"#,
            self.loopback.at(14_000),
            self.loopback.at(15_000),
            self.directory.path().join("tls.crt"),
            self.directory.path().join("tls.key"),
            manners.wants_external_account,
            manners.validity,
        );
        let file = self.directory.path().join("pebble.json");
        fs::write(&file, config).expect("the test's directory is writable");
        let mut run = command("pebble/usr/bin/pebble");
        run.arg("-config").arg(file);
        run.args(["-dnsserver", &self.loopback.at(8_053).to_string()]);
        run.env("PEBBLE_VA_NOSLEEP", "1");
        run.env("PEBBLE_AUTHZREUSE", "0");
        run.env("PEBBLE_WFE_NONCEREJECT", manners.refused_nonces.to_string());
        let mut process = Process::start(run, self.directory.path(), &[]);
        let ports = [self.loopback.at(14_000), self.loopback.at(15_000)];
        process.poll("listen", || {
            let listens = |port: &SocketAddr| std::net::TcpStream::connect(port).is_ok();
            ports.iter().all(listens).then_some(())
        });
        self.process = Some(process);
    }

    /// Ends it: connections are refused from then on.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// The URL of its directory.
    pub fn directory_url(&self) -> String {
        format!("https://{}/dir", self.loopback.at(14_000))
    }

    /// By which its own server is verified.
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Where TXT records are set: `/set-txt` and `/clear-txt` of its name server.
    pub fn names(&self) -> SocketAddr {
        self.loopback.at(8_055)
    }

    /// Writes the root of the certificates that it issues into a directory, for clients.
    pub fn root(&self, directory: &Path) -> PathBuf {
        let file = directory.join("pebble-root.pem");
        let url = format!("https://{}/roots/0", self.loopback.at(15_000));
        let got = Command::new(program("curl"))
            .args(["--silent", "--show-error", "--fail", "--max-time", "20"])
            .arg("--cacert")
            .arg(&self.ca)
            .arg("--output")
            .args([file.as_os_str(), url.as_ref()])
            .status()
            .expect("curl is there");
        assert!(got.success(), "the root of pebble isn't there");
        file
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("output.log")).unwrap_or_default()
    }
}
