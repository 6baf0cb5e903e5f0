//! What new sessions begin with: one immutable snapshot of everything that a reload may change.
//!
//! A session takes the snapshot of the moment it is accepted and keeps it to its end, so no reload and no certificate
//! swap ever touches a live session.

use std::collections::HashMap;
use std::sync::Arc;

use crate::announce::Announcements;
use crate::config::{Backend, HostName, Settings, Site};
use crate::passive::PassivePorts;
use crate::route::Router;
use crate::tls::{BackendTlsClient, BackendTlsError, CertificatePair, ServerTls};

/// A snapshot: the configuration and the certificate that are live.
#[derive(Debug, Clone)]
pub struct Live {
    /// What the configuration says.
    pub policy: Arc<Policy>,
    /// The certificate in use.
    pub certificate: Arc<CertificatePair>,
    /// The client leg's TLS with that certificate.
    pub tls: Arc<ServerTls>,
    /// The certificate's names: as argument of HOST they mean the proxy itself.
    pub own_names: Arc<[HostName]>,
}

/// The configuration in the form in which sessions use it.
#[derive(Debug)]
pub struct Policy {
    /// As resolved from the file.
    pub settings: Settings,
    /// Who serves which login.
    pub router: Arc<Router>,
    /// The open passive ports.
    pub passive: PassivePorts,
    /// What clients are told of those.
    pub announcements: Arc<Announcements>,
    backend_clients: BackendClients,
}

/// By site, the TLS of each of its backends, in their order; none for one in clear text.
pub type BackendClients = HashMap<String, Vec<Option<BackendTlsClient>>>;

/// The TLS of a backend can't be set up.
#[derive(Debug, thiserror::Error)]
#[error("site {site}, backend {backend}: {source}")]
pub struct BackendError {
    /// The site's name.
    pub site: String,
    /// The backend's address as configured.
    pub backend: String,
    /// What is wrong.
    pub source: Box<BackendTlsError>,
}

impl Live {
    /// This policy with this certificate.
    pub fn new(policy: Arc<Policy>, certificate: Arc<CertificatePair>) -> Self {
        let own_names = certificate
            .names
            .iter()
            .filter_map(|name| HostName::parse(name.as_bytes()))
            .collect();
        Self {
            tls: Arc::new(ServerTls::new(
                &certificate,
                policy.settings.tls.min_version,
            )),
            policy,
            certificate,
            own_names,
        }
    }
}

/// Trust anchors and verifiers for each backend of each site, read from their files.
///
/// # Errors
/// If a CA file or the system's trust store can't be used, or a server name isn't one.
pub fn backend_clients(settings: &Settings) -> Result<BackendClients, BackendError> {
    let of_backend = |site: &Site, backend: &Backend| {
        let Some(tls) = &backend.tls else {
            return Ok(None);
        };
        BackendTlsClient::new(tls)
            .map(Some)
            .map_err(|source| BackendError {
                site: site.name.clone(),
                backend: backend.to_string(),
                source: Box::new(source),
            })
    };
    settings
        .sites
        .iter()
        .map(|site| {
            let clients = site
                .backends
                .iter()
                .map(|backend| of_backend(site, backend))
                .collect::<Result<_, _>>()?;
            Ok((site.name.clone(), clients))
        })
        .collect()
}

impl Policy {
    /// Puts the parts together.
    pub fn new(
        settings: Settings,
        backend_clients: BackendClients,
        passive: PassivePorts,
        announcements: Announcements,
    ) -> Self {
        Self {
            router: Arc::new(Router::new(&settings.sites, settings.user_forms)),
            settings,
            passive,
            announcements: Arc::new(announcements),
            backend_clients,
        }
    }

    /// A site's backends, each with its TLS if it has any, in the order in which they are to be tried.
    pub fn backends<'a>(
        &'a self,
        site: &'a Site,
    ) -> impl Iterator<Item = (&'a Backend, Option<&'a BackendTlsClient>)> {
        let tls = self
            .backend_clients
            .get(&site.name)
            .into_iter()
            .flatten()
            .map(Option::as_ref);
        site.backends.iter().zip(tls)
    }
}
