//! The settings that all servers of an entry of a site's `backends` have in common, and a backend for each server.

use std::sync::Arc;

use super::balance;
use super::check_state::CheckSettings;
use super::registry::Registry;
use super::servers::Server;
use super::site_backend::{Backend, BackendChecks};
use super::site_state::SiteState;
use super::statuses::Statuses;
use super::upstream_tls::UpstreamTls;
use crate::config::{self, Site};
use crate::tls::{BackendClientCertificateLoader, BackendTlsError};

/// The settings that all servers of an entry have in common.
#[derive(Debug)]
pub(super) struct Template {
    pub settings: config::Backend,
    pub site: Arc<Site>,
    site_state: Arc<SiteState>,
    pub tls: Option<UpstreamTls>,
}

impl Template {
    pub fn load(
        settings: &config::Backend,
        site: &Arc<Site>,
        site_state: &Arc<SiteState>,
        certificates: &mut BackendClientCertificateLoader<'_>,
    ) -> Result<Self, BackendTlsError> {
        let tls = settings.tls.as_ref();
        let tls = tls.map(|tls| UpstreamTls::load(tls, certificates));
        Ok(Self {
            settings: settings.clone(),
            site: Arc::clone(site),
            site_state: Arc::clone(site_state),
            tls: tls.transpose()?,
        })
    }

    /// A backend for one of the servers.
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
