//! An entry of a site's `backends`: one backend, or what name servers list.

use std::sync::Arc;

use super::balance;
use super::check_state::CheckSettings;
use super::discovery::{Discovered, Statuses};
use super::registry::{Registry, SiteState};
use super::servers::Server;
use super::site_backend::{Backend, BackendChecks};
use crate::config::{self, BackendTls, ExpectedName, Servers, Site, TlsMode};
use crate::observe::metrics::{Metrics, Shown, ShownBackend};
use crate::tls::{
    BackendClientCertificate, BackendClientCertificateLoader, BackendTlsClient, BackendTlsError,
};

/// An entry of a site's `backends`.
#[derive(Debug)]
pub(super) enum Entry {
    One(Arc<Backend>),
    Discovered(Arc<Discovered>),
}

/// What all servers of an entry have in common.
#[derive(Debug)]
pub(super) struct Template {
    pub settings: config::Backend,
    pub site: Arc<Site>,
    site_state: Arc<SiteState>,
    tls: Option<UpstreamTls>,
}

/// TLS towards a backend.
#[derive(Debug, Clone)]
pub(super) struct UpstreamTls {
    /// When it starts.
    pub start: TlsMode,
    pub client: BackendTlsClient,
}

impl Entry {
    pub(super) fn load(
        settings: &config::Backend,
        site: &Arc<Site>,
        site_state: &Arc<SiteState>,
        registry: &Registry,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let tls = tls.map(|tls| UpstreamTls::load(tls, certificates));
        let template = Template {
            settings: settings.clone(),
            site: Arc::clone(site),
            site_state: Arc::clone(site_state),
            tls: tls.transpose()?,
        };
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

    /// What it has series for, as one of this site's.
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

    /// What it is shown, if it is.
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

impl Template {
    /// One of the servers.
    pub fn backend(
        &self,
        server: Server,
        statuses: Option<Arc<Statuses>>,
        registry: &Registry,
    ) -> Result<Backend, BackendTlsError> {
        let (settings, site) = (&self.settings, &self.site);
        let id = server.endpoint.id();
        let tls = self.tls.as_ref();
        let tls = tls.map(|tls| tls.towards(settings, &server.endpoint.host));
        let checks = site.checks.as_ref().map(|checks| BackendChecks {
            settings: CheckSettings {
                checks: checks.clone(),
                tls: settings.tls.clone(),
                proxy_protocol: settings.proxy_protocol,
                passive_mode: site.passive_mode,
            },
            state: self.site_state.checks_of(id.clone()),
            site: Arc::clone(&self.site_state),
        });
        Ok(Backend {
            tls: tls.transpose()?,
            checks,
            site: site.name.clone(),
            identity: balance::hash([server.endpoint.to_string().as_bytes()]),
            label: settings.to_string().into(),
            state: registry.backend(id.clone()),
            at_site: self.site_state.backend(id.clone()),
            id,
            settings: settings.clone(),
            statuses,
            server,
        })
    }
}

impl UpstreamTls {
    fn load(
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

    /// The same towards a server of this host, whose own name its certificate may have to have.
    fn towards(&self, settings: &config::Backend, host: &str) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let each = tls.is_some_and(|tls| tls.server_name == ExpectedName::OfEachServer);
        let mut tls = self.clone();
        if each {
            tls.client = tls.client.named(host)?;
        }
        Ok(tls)
    }
}
