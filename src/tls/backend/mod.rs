//! TLS towards backends: one configuration per backend, and one session cache per FTP session.

mod client_certificate;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::certificate::CertificateError;
use super::pem::{self, FileError};
use super::verify::{CertificatePolicy, Verifier};
use super::x509::{escaped_name, may_be_issuer};
use crate::base::text::escape_path;
use crate::config::{BackendTls, ExpectedName, TlsVersion, Verify};

pub use client_certificate::{
    BackendClientCertificate, BackendClientCertificateLoader, BackendClientCertificates,
};

/// How many server names' sessions rustls' cache holds: there is but one name, and below eight the cache holds one.
/// With each name come up to eight TLS 1.3 tickets.
const RESUMABLE: usize = 8;

/// No server has it (RFC 6761 §6.4): towards servers of names that are yet to be found.
const NO_SERVER: &str = "unknown.invalid";

/// TLS towards one backend, trust anchors included. Made when the configuration is loaded.
#[derive(Clone)]
pub struct BackendTlsClient {
    base: ClientConfig,
    server_name: ServerName<'static>,
    /// The certificate to show where the backend asks for one.
    certificate: Option<Arc<BackendClientCertificate>>,
    non_ca: Option<NonCaTrustAnchor>,
}

/// A file of authorities in which there is none: no certificate that they have issued can come from there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NonCaTrustAnchor {
    /// The file.
    pub file: PathBuf,
    /// The subject of its first certificate.
    pub subject: String,
}

/// Why TLS towards a backend can't be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum BackendTlsError {
    #[error("server name {0:?} is neither a host name nor an IP address")]
    ServerName(String),
    #[error(transparent)]
    Ca(#[from] FileError),
    #[error(
        "certificate {position} in {} cannot be a trust anchor: {source}",
        escape_path(path)
    )]
    TrustAnchor {
        path: std::path::PathBuf,
        /// The position in the file, counted from 1.
        position: usize,
        source: rustls::Error,
    },
    #[error(
        "the operating system has no usable trust store ({0}): install one, or set `verify` to a CA file or a fingerprint"
    )]
    NoSystemRoots(String),
    #[error("client_certificate: {0}")]
    ClientCertificate(#[from] CertificateError),
}

impl BackendTlsClient {
    /// Sets up TLS by a backend's settings. Reads the CA file or the operating system's trust store.
    ///
    /// Blocks on the file system.
    pub fn new(settings: &BackendTls) -> Result<Self, BackendTlsError> {
        let name = match &settings.server_name {
            ExpectedName::Is(name) => name,
            ExpectedName::OfEachServer => NO_SERVER,
        };
        Self::verifying(&settings.verify, name, settings.max_version)
    }

    /// TLS towards servers whose names are yet to be found, see [`Self::named`]. They are verified by a CA file, or by the
    /// operating system's trust store.
    ///
    /// Blocks on the file system.
    pub fn for_any_server(ca: Option<&Path>) -> Result<Self, BackendTlsError> {
        let verify = ca.map_or(Verify::System, |ca| Verify::Ca(ca.to_owned()));
        Self::verifying(&verify, NO_SERVER, TlsVersion::V1_3)
    }

    fn verifying(
        verify: &Verify,
        name: &str,
        max_version: TlsVersion,
    ) -> Result<Self, BackendTlsError> {
        let server_name = server_name(name)?;
        let (policy, non_ca) = match verify {
            Verify::System => (system_roots()?, None),
            Verify::Ca(path) => {
                let certificates = pem::certificates(path, &pem::read(path)?)?;
                let non_ca = non_ca_trust_anchor(path, &certificates);
                (ca_roots(path, certificates)?, non_ca)
            }
            Verify::Fingerprint(expected) => (CertificatePolicy::Fingerprint(*expected), None),
            Verify::None => (CertificatePolicy::Nothing, None),
        };
        let base = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(super::versions(TlsVersion::V1_2..=max_version))
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Verifier::new(policy, max_version))
            .with_no_client_auth();
        Ok(Self {
            base,
            server_name,
            certificate: None,
            non_ca,
        })
    }

    /// A copy with a certificate to show where the backend asks for one.
    pub fn showing(self, certificate: Option<Arc<BackendClientCertificate>>) -> Self {
        Self {
            certificate,
            ..self
        }
    }

    /// The file that it trusts, if there is no authority in it.
    pub fn non_ca_trust_anchor(&self) -> Option<&NonCaTrustAnchor> {
        self.non_ca.as_ref()
    }

    /// The certificate to show, if there is one.
    pub fn certificate(&self) -> Option<&Arc<BackendClientCertificate>> {
        self.certificate.as_ref()
    }

    /// A copy for a server of this name.
    ///
    /// # Errors
    /// If it is neither a host name nor an IP address.
    pub fn named(&self, host: &str) -> Result<Self, BackendTlsError> {
        Ok(Self {
            server_name: server_name(host)?,
            ..self.clone()
        })
    }

    /// TLS for one FTP session, with nothing to resume yet. Each full handshake of it shows the certificate that is in use
    /// now: rustls, too, resumes only with the one that the session began with.
    pub fn session(&self) -> BackendSessionTls {
        // Only the cache is new: rustls resumes a session only with the same verifier that checked its full handshake.
        let mut config = self.base.clone();
        config.resumption = Resumption::in_memory_sessions(RESUMABLE);
        if let Some(certificate) = &self.certificate {
            config.client_auth_cert_resolver = certificate.in_use();
        }
        BackendSessionTls {
            config: Arc::new(config),
            server_name: self.server_name.clone(),
        }
    }
}

impl fmt::Debug for BackendTlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendTlsClient")
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// TLS of one FTP session towards its backend, for its control connection and all its data connections alike: backends
/// that demand resumption (vsftpd, ProFTPD) demand that of the same session. Two users never share one.
#[derive(Debug, Clone)]
pub struct BackendSessionTls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl BackendSessionTls {
    /// The configuration for every handshake of the session.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to send as SNI and to expect in the certificate, on every connection of the session.
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, BackendTlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| BackendTlsError::ServerName(name.to_owned()))
}

/// Whether a file of authorities has none.
fn non_ca_trust_anchor(
    path: &Path,
    certificates: &[CertificateDer<'_>],
) -> Option<NonCaTrustAnchor> {
    let parsed = certificates
        .iter()
        .map(|der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed));
    // One that can't be read is refused as a trust anchor.
    let parsed: Vec<_> = parsed.collect::<Result<_, _>>().ok()?;
    let has_authority = parsed.iter().any(may_be_issuer);
    let first = parsed.first().filter(|_| !has_authority)?;
    Some(NonCaTrustAnchor {
        file: path.to_owned(),
        subject: escaped_name(first.subject()),
    })
}

fn ca_roots(
    path: &Path,
    certificates: Vec<CertificateDer<'static>>,
) -> Result<CertificatePolicy, BackendTlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.into_iter().enumerate() {
        roots
            .add(certificate)
            .map_err(|source| BackendTlsError::TrustAnchor {
                path: path.to_owned(),
                position: index + 1,
                source,
            })?;
    }
    // `pem::certificates` never returns an empty list.
    CertificatePolicy::roots(roots).ok_or_else(|| {
        FileError::NoCertificate {
            path: path.to_owned(),
        }
        .into()
    })
}

fn system_roots() -> Result<CertificatePolicy, BackendTlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A single odd certificate among hundreds is the distributor's business, not a reason to trust none.
    roots.add_parsable_certificates(found.certs);
    CertificatePolicy::roots(roots).ok_or_else(|| {
        let cause = found.errors.first().map(ToString::to_string);
        BackendTlsError::NoSystemRoots(cause.unwrap_or_else(|| "it is empty".to_owned()))
    })
}

#[cfg(test)]
mod tests;
