//! What clients see of the proxy: its certificate, and the trust of raw clients in it.

use std::io::Write;
use std::path::{Path, PathBuf};

use rustls::SupportedProtocolVersion;
use tempfile::TempDir;

use super::certs::{Authority, Pair, PairFiles, Validity};
use super::config::Config;
use super::proxy::Proxy;
use super::raw::{Raw, RawTls, open_data, protect};
use super::wire::{End, Wire};

/// A name of the proxy's certificate that no site has.
pub const NAME: &str = "proxy.test";

/// The files that a proxy is started with, kept until the end of the test.
pub struct Front {
    /// Trusted by all clients.
    pub authority: Authority,
    /// Where the proxy reads its certificate.
    pub files: PairFiles,
    directory: TempDir,
}

impl Front {
    /// With a certificate for [`NAME`] and these names.
    pub fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new("authority of the proxy");
        let files = authority
            .issue(&[&[NAME], names].concat())
            .write(directory.path());
        Self {
            authority,
            files,
            directory,
        }
    }

    /// A configuration with that certificate.
    pub fn config(&self) -> Config {
        Config::new(&self.files)
    }

    /// For files of the test's own.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The authority's certificate as a file, for real clients.
    pub fn ca(&self) -> PathBuf {
        self.authority.write(self.directory())
    }

    /// TLS of a client that sends and expects this name.
    pub fn tls(&self, name: &str) -> RawTls {
        RawTls::new(&self.authority, name, &[&rustls::version::TLS13])
    }

    /// A client after AUTH TLS.
    pub fn explicit(&self, proxy: &Proxy) -> Raw {
        Raw::connect_auth_tls(proxy.explicit(), &self.tls(NAME))
    }

    /// A client of the implicit port, after the greeting.
    pub fn implicit(&self, proxy: &Proxy) -> Raw {
        self.implicit_as(proxy, NAME)
    }

    /// The same with another name in the ClientHello.
    pub fn implicit_as(&self, proxy: &Proxy, name: &str) -> Raw {
        let mut client = Raw::connect_tls(proxy.implicit(), &self.tls(name));
        client.expect(220);
        client
    }

    /// The next certificate.
    pub fn issue(&self, validity: Validity) -> Pair {
        self.authority.issue_for(&[NAME], validity)
    }

    /// TLS of a client in one version, with TLS sessions of its own.
    pub fn tls_of(&self, version: &'static SupportedProtocolVersion) -> RawTls {
        RawTls::new(&self.authority, NAME, &[version])
    }

    /// A session with TLS 1.3 and private data connections, logged in as this user.
    pub fn session(&self, proxy: &Proxy, user: &str) -> Client {
        let tls = self.tls(NAME);
        let mut control = Raw::connect_auth_tls(proxy.explicit(), &tls);
        control.login(user, "secret");
        control.protect_data();
        Client { control, tls }
    }

    /// The leaf certificate that a new client is shown, in DER.
    pub fn shown_by(&self, proxy: &Proxy) -> Vec<u8> {
        let control = Raw::connect_tls(proxy.implicit(), &self.tls(NAME));
        let leaf = control.wire().peer_certificate();
        leaf.expect("a certificate").to_vec()
    }
}

/// A client that is logged in.
pub struct Client {
    /// Its control connection.
    pub control: Raw,
    /// What its data connections use.
    pub tls: RawTls,
}

impl Client {
    /// Begins a transfer by EPSV: the command is answered with 150, and the handshake is done.
    pub fn begin(&mut self, command: &str) -> Wire {
        let mut data = open_data(self.control.epsv());
        self.control.command(command, 150);
        protect(&mut data, &self.tls).expect("a handshake on the data connection");
        data
    }

    /// Downloads a file, whole.
    pub fn download(&mut self, name: &str) -> Vec<u8> {
        let data = self.begin(&format!("RETR {name}"));
        self.finish_download(data)
    }

    /// Reads what is left of a download; it has to end as a complete one.
    pub fn finish_download(&mut self, mut data: Wire) -> Vec<u8> {
        let (content, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        self.control.expect(226);
        content
    }

    /// Uploads a file, whole.
    pub fn upload(&mut self, name: &str, content: &[u8]) {
        let mut data = self.begin(&format!("STOR {name}"));
        data.write_all(content).expect("the proxy reads");
        self.finish_upload(data);
    }

    /// Ends an upload; it has to be taken as a complete one.
    pub fn finish_upload(&mut self, data: Wire) {
        data.end(End::CloseNotify).expect("the proxy is there");
        self.control.expect(226);
    }
}
