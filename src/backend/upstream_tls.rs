//! TLS towards the servers of an entry of a site's `backends`.

use crate::config::{self, BackendTls, ExpectedName, TlsMode};
use crate::tls::{BackendClientCertificateLoader, BackendTlsClient, BackendTlsError};

/// TLS towards a backend.
#[derive(Debug, Clone)]
pub(super) struct UpstreamTls {
    /// When TLS starts.
    pub start: TlsMode,
    pub client: BackendTlsClient,
}

impl UpstreamTls {
    pub fn load(
        settings: &BackendTls,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let files = settings.client_certificate.as_ref();
        let certificate = files.map(|files| certificates.load(files)).transpose()?;
        Ok(Self {
            start: settings.start,
            client: BackendTlsClient::new(settings)?.showing(certificate),
        })
    }

    /// A copy of these settings for a server of this host, whose own name its certificate may have to have.
    pub fn towards(&self, settings: &config::Backend, host: &str) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let each = tls.is_some_and(|tls| tls.server_name == ExpectedName::OfEachServer);
        let mut tls = self.clone();
        if each {
            tls.client = tls.client.named(host)?;
        }
        Ok(tls)
    }
}
