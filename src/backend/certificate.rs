//! When the certificate is valid that a backend has shown: learned from logins, checks and the monitor, and shown in metrics.

use std::sync::Arc;

use super::control::BackendConnection;
use super::site_backend::Backend;
use crate::observe::metrics::Metrics;
use crate::tls::Validity;

impl Backend {
    /// Shows when the certificate of this connection is valid, if it is another one than before.
    pub(super) fn learn_certificate(&self, connection: &BackendConnection, metrics: &Metrics) {
        let Some(certificate) = connection.stream().backend_certificate() else {
            return;
        };
        if self.at_site.learn_certificate(certificate) {
            self.report_certificate(metrics);
        }
    }

    /// Shows the validity period of a certificate of which nothing else is known.
    pub(super) fn learn_validity(&self, validity: Validity, metrics: &Metrics) {
        self.at_site.learn_validity(validity);
        self.report_certificate(metrics);
    }

    /// The validity period of the certificate that the backend showed last, if it is connected to under TLS.
    pub(super) fn certificate(&self) -> Option<Validity> {
        self.tls.as_ref().and_then(|_| self.at_site.certificate())
    }

    /// Shows the validity period in metrics, for the backend as the configuration in use has it: `self` may be one of an earlier
    /// one, or of one of the site's groups.
    fn report_certificate(&self, metrics: &Metrics) {
        self.state.for_each_shown(|backend| {
            if Arc::ptr_eq(&backend.at_site, &self.at_site) {
                backend.show_certificate(metrics);
            }
        });
    }

    /// Shows the validity period in metrics, for the backend as this configuration has it.
    pub(super) fn show_certificate(&self, metrics: &Metrics) {
        if let Some(validity) = self.certificate() {
            let (site, backend) = (&self.site, &self.label);
            metrics.backend_certificate(site, backend, validity.not_before, validity.not_after);
        }
    }
}
