//! Clients that prove by certificate who they are: logins, data connections, files that are replaced, real programs.

mod data;
mod files;
mod logins;
mod programs;
mod views;

use std::fs;
use std::path::PathBuf;

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use testkit::certs::Authority;
use testkit::client_certs::{ClientCertificate, Kind};
use testkit::config::{Config, Site};
use testkit::front::{Front, NAME};
use testkit::proxy::{LogLine, Proxy};
use testkit::raw::{Raw, RawTls};
use testkit::script::Script;
use testkit::scripted::Backend;

use crate::program::Start;

/// Everything about handshakes is tried with each version.
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// What rules call the file of passwords.
const PASSWORDS: &str = "partners.pw";

/// How long the revocation list of a test that isn't about that is good.
const WEEK: time::Duration = time::Duration::WEEK;

/// The authority of the partners, and a proxy with the sites `only`, for those with certificates, and `open`, for everybody.
struct World {
    front: Front,
    partners: Authority,
    backend: Backend,
    proxy: Proxy,
}

impl World {
    /// `rules` are the site's `client_certificate`.
    fn new(rules: &str) -> Self {
        Self::with("optional", rules, |config, _| config)
    }

    /// The same with clients asked in this way, and more in the configuration.
    fn with(ask: &str, rules: &str, more: impl FnOnce(Config, &Front) -> Config) -> Self {
        let partners = Authority::new("Partners");
        Self::of(
            Front::new(&[]),
            partners,
            &format!("ask: {ask}"),
            rules,
            more,
        )
    }

    /// `asked` stands behind the authority in `tls.client_certificates`.
    fn of(
        front: Front,
        partners: Authority,
        asked: &str,
        rules: &str,
        more: impl FnOnce(Config, &Front) -> Config,
    ) -> Self {
        let script = Script::new().password("secret").file("file", "content");
        let backend = Backend::start(script);
        let ca = front.directory().join("partners.pem");
        fs::write(&ca, partners.pem()).expect("the directory is writable");
        let clients = format!("{{ca: {}, {asked}}}", ca.display());
        let passwords = front.directory().join(PASSWORDS).display().to_string();
        let rules = &rules.replace(PASSWORDS, &passwords);
        let only = Site::default("only", backend.address()).set("client_certificate", rules);
        let open = Site::hosts("open", &["open.test"], backend.address());
        let config = front
            .config()
            .tls("client_certificates", &clients)
            .tls("required", "false")
            .site(&only)
            .site(&open);
        let proxy = Proxy::start(more(config, &front));
        Self {
            front,
            partners,
            backend,
            proxy,
        }
    }

    fn good(&self, user: &str) -> ClientCertificate {
        self.partners.issue_client(user, Kind::Good)
    }

    fn tls(
        &self,
        version: &'static SupportedProtocolVersion,
        own: Option<&ClientCertificate>,
    ) -> RawTls {
        match own {
            Some(own) => RawTls::showing(&self.front.authority, NAME, &[version], &own.pair),
            None => self.front.tls_of(version),
        }
    }

    /// A client under TLS with this certificate.
    fn client(
        &self,
        version: &'static SupportedProtocolVersion,
        own: Option<&ClientCertificate>,
    ) -> Raw {
        Raw::connect_auth_tls(self.proxy.explicit(), &self.tls(version, own))
    }

    /// The reply to USER of such a client.
    fn user(
        &self,
        version: &'static SupportedProtocolVersion,
        own: Option<&ClientCertificate>,
        user: &str,
    ) -> u16 {
        let mut client = self.client(version, own);
        client.send(&format!("USER {user}"));
        client.reply().code
    }

    fn counted(&self, site: &str, result: &str) -> f64 {
        self.proxy.metric(&format!(
            "portcullis_client_certificates_total{{result=\"{result}\",site=\"{site}\"}}"
        ))
    }

    /// The line that says why a certificate was not accepted.
    fn refusal(&self, result: &str) -> LogLine {
        self.proxy.wait_for_log(|line| {
            line.message().starts_with("client certificate rejected")
                && line.field("result").as_deref() == Some(result)
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.front.directory().join(name)
    }
}
