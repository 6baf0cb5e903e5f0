//! What clients see of the proxy: its certificate, and the trust of raw clients in it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::certs::{Authority, PairFiles};
use super::config::Config;
use super::proxy::Proxy;
use super::raw::{Raw, RawTls};

/// A name of the proxy's certificate that no site has.
pub const NAME: &str = "proxy.test";

/// The files that a proxy is started with, kept until the end of the test.
pub struct Front {
    authority: Authority,
    files: PairFiles,
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
}
