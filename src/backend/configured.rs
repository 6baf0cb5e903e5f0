//! An entry of a site's `backends`: one backend, or what name servers list.

use std::sync::Arc;

use super::discovered::Discovered;
use super::registry::Registry;
use super::servers::Server;
use super::site_backend::Backend;
use super::site_state::SiteState;
use super::template::Template;
use super::upstream_tls::UpstreamTls;
use crate::config::{self, Servers, Site};
use crate::observe::metrics::{Metrics, Shown, ShownBackend};
use crate::tls::{BackendClientCertificate, BackendClientCertificateLoader, BackendTlsError};

/// An entry of a site's `backends`.
#[derive(Debug)]
pub(super) enum ConfiguredBackend {
    One(Arc<Backend>),
    Discovered(Arc<Discovered>),
}

impl ConfiguredBackend {
    pub(super) fn load(
        settings: &config::Backend,
        site: &Arc<Site>,
        site_state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let template = Template::load(settings, site, site_state, certificates)?;
        Ok(match &settings.servers {
            Servers::One(endpoint) => {
                let server = Server::one(endpoint.clone());
                Self::One(Arc::new(template.backend(server, None, registry)?))
            }
            Servers::Discovered(names) => {
                let discovered = Discovered::new(names.clone(), template, registry);
                Self::Discovered(Arc::new(discovered))
            }
        })
    }

    /// The metric series of this entry, as one of this site's.
    pub(super) fn shown<'a>(&'a self, site: &'a Site) -> ShownBackend<'a> {
        let (settings, backend) = match self {
            Self::One(it) => (&it.settings, &*it.label),
            Self::Discovered(it) => (&it.template.settings, &*it.label),
        };
        ShownBackend {
            site: &site.name,
            backend,
            shown: Shown {
                checks: site.checks.is_some() && settings.takes_logins(),
                tls: settings.tls.is_some(),
                client_certificate: self.client_certificate().is_some(),
            },
        }
    }

    /// TLS towards its servers, if they have it.
    pub(super) fn tls(&self) -> Option<&UpstreamTls> {
        match self {
            Self::One(it) => it.tls.as_ref(),
            Self::Discovered(it) => it.template.tls.as_ref(),
        }
    }

    /// The client certificate that the backend is shown, if any.
    pub(super) fn client_certificate(&self) -> Option<&Arc<BackendClientCertificate>> {
        self.tls()?.client.certificate()
    }

    pub(super) fn report_backend_client_certificate(&self, site: &Site, metrics: &Metrics) {
        if let Some(certificate) = self.client_certificate() {
            let pair = certificate.in_use();
            let backend = self.shown(site).backend;
            metrics.backend_client_certificate(
                &site.name,
                backend,
                pair.not_before,
                pair.not_after,
            );
        }
    }
}
