//! The certificate of one FTP session, where there are several: chosen in the handshake of its control connection, and
//! shown on its data connections as well, whatever they name.

use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::choice::Asked;
use super::set::CertificateSet;
use crate::config::HostName;

/// Facts about a session before the handshake of its control connection.
#[derive(Debug, Clone)]
pub struct BeforeHandshake {
    /// The argument of HOST, if it has chosen a site.
    pub site_host: Option<HostName>,
    /// The argument of HOST, if it was a name of the proxy itself.
    pub proxy_host: Option<HostName>,
    /// The time: what has expired by then isn't chosen by name.
    pub now: SystemTime,
}

/// The choice of one session, made once.
#[derive(Debug)]
pub(in crate::tls) struct SessionCertificate {
    certificates: Arc<CertificateSet>,
    before: OnceLock<BeforeHandshake>,
    shown: OnceLock<Option<Shown>>,
}

#[derive(Debug)]
struct Shown {
    name: Arc<str>,
    key: Arc<CertifiedKey>,
}

/// For the data connections of a session.
#[derive(Debug)]
pub(in crate::tls) struct OnData(pub Arc<SessionCertificate>);

impl SessionCertificate {
    pub fn new(certificates: Arc<CertificateSet>) -> Self {
        Self {
            certificates,
            before: OnceLock::new(),
            shown: OnceLock::new(),
        }
    }

    /// To be called before the handshake; only the first time counts, as there is only one.
    pub fn expect(&self, before: BeforeHandshake) {
        let _ = self.before.set(before);
    }

    /// The name of the certificate that the client was shown; `None` before the handshake.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.shown.get()?.as_ref().map(|shown| &shown.name)
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<Shown> {
        let server_name = hello
            .server_name()
            .and_then(|name| HostName::parse(name.as_bytes()));
        let before = self.before.get();
        let host = |of: fn(&BeforeHandshake) -> Option<&HostName>| {
            before.and_then(of).map(HostName::as_str)
        };
        let asked = Asked {
            site_host: host(|before| before.site_host.as_ref()),
            server_name: server_name.as_ref().map(HostName::as_str),
            proxy_host: host(|before| before.proxy_host.as_ref()),
        };
        let now = before.map_or(UNIX_EPOCH, |before| before.now);
        let schemes = hello.signature_schemes();
        let (source, pair) = self.certificates.choose(&asked, schemes, now)?;
        Some(Shown {
            name: Arc::clone(&source.name),
            key: Arc::clone(&pair.key),
        })
    }
}

impl ResolvesServerCert for SessionCertificate {
    /// Asked a second time where the client is to send another key share.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.get_or_init(|| self.choose(&hello)).as_ref();
        shown.map(|shown| Arc::clone(&shown.key))
    }
}

impl ResolvesServerCert for OnData {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = &self.0;
        match certificate.shown.get() {
            Some(shown) => shown.as_ref().map(|shown| Arc::clone(&shown.key)),
            // Data connections under TLS belong to a control connection under TLS.
            None => {
                let pair = certificate.certificates.default_pair();
                pair.map(|pair| Arc::clone(&pair.key))
            }
        }
    }
}
