//! Certificates that are ordered: from an authority that looks, and from one that does what a test wants.

mod challenges;
mod instances;
mod manners;
mod renewal;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use testkit::config::Config;
use testkit::pebble::{HTTP_PORT, Manners, Pebble};
use testkit::proxy::{LogLine, Proxy};

/// A name that the certificate is for.
const NAME: &str = "ftp.albigi.test";

const ORDERED: &str = "certificate ordered";
const IN_USE: &str = "certificate in use";
const FAILED: &str = "certificate order failed";

/// Pebble, which finds the proxy by every name, and a directory for what the proxy keeps.
struct Setting {
    /// The proxy's.
    ip: IpAddr,
    pebble: Pebble,
    directory: tempfile::TempDir,
}

impl Setting {
    /// With the configuration of a proxy that names no certificate.
    fn new(manners: Manners) -> (Self, Config) {
        let config = Config::without_certificate();
        let ip = config.explicit().ip();
        let setting = Self {
            ip,
            pebble: Pebble::start(ip, manners),
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        (setting, config)
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("acme")
    }

    /// How the authority sees that names are ours, over HTTP.
    fn http(&self) -> String {
        format!("{{http: \"{}:{HTTP_PORT}\"}}", self.ip)
    }

    /// The section `acme` with this challenge, and more keys.
    fn section(&self, names: &str, challenge: &str, more: &str) -> String {
        section(
            &self.pebble.directory_url(),
            self.pebble.ca(),
            &self.state(),
            names,
            challenge,
            more,
        )
    }
}

fn section(
    directory: &str,
    ca: &Path,
    state: &Path,
    names: &str,
    challenge: &str,
    more: &str,
) -> String {
    format!(
        "{{directory_url: {directory:?}, ca: {ca:?}, state: {state:?}, names: [{names}], challenge: {challenge}{more}}}",
    )
}

fn says(message: &'static str) -> impl Fn(&LogLine) -> bool {
    move |line| line.message() == message
}

/// The orders that came to this.
fn orders(proxy: &Proxy, result: &str, stage: &str) -> f64 {
    proxy.metric(&format!(
        "portcullis_acme_orders_total{{result=\"{result}\",stage=\"{stage}\"}}"
    ))
}
