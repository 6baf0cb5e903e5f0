//! TLS towards backends: one configuration per backend, and one session cache per FTP session.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::date;
use super::pem::{self, FileError};
use super::verify::{CertificatePolicy, Verifier};
use crate::config::{BackendTls, ExpectedName, TlsVersion, Verify};

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
}

/// Why TLS towards a backend can't be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say what each variant is
pub enum BackendTlsError {
    #[error("server name {0:?} is neither a host name nor an IP address")]
    ServerName(String),
    #[error(transparent)]
    Ca(#[from] FileError),
    #[error("certificate {position} in {} cannot be a trust anchor: {source}", path.display())]
    TrustAnchor {
        path: std::path::PathBuf,
        /// Counted from 1.
        position: usize,
        source: rustls::Error,
    },
    #[error(
        "the operating system has no usable trust store ({0}): install one, or set `verify` to a CA file or a fingerprint"
    )]
    NoSystemRoots(String),
}

impl BackendTlsClient {
    /// Sets up TLS by a backend's settings. Reads the CA file or the operating system's trust store.
    ///
    /// Blocks on the file system.
    pub fn new(settings: &BackendTls) -> Result<Self, BackendTlsError> {
        let server_name = server_name(match &settings.server_name {
            ExpectedName::Is(name) => name,
            ExpectedName::OfEachServer => NO_SERVER,
        })?;
        let policy = match &settings.verify {
            Verify::System => system_roots()?,
            Verify::Ca(path) => ca_roots(path)?,
            Verify::Fingerprint(expected) => CertificatePolicy::Fingerprint(*expected),
            Verify::None => CertificatePolicy::Nothing,
        };
        let base = ClientConfig::builder_with_provider(super::provider())
            .with_protocol_versions(super::versions(TlsVersion::V1_2..=settings.max_version))
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Verifier::new(policy, settings.max_version))
            .with_no_client_auth();
        Ok(Self { base, server_name })
    }

    /// The same towards a server of this name.
    ///
    /// # Errors
    /// If it is neither a host name nor an IP address.
    pub fn named(&self, host: &str) -> Result<Self, BackendTlsError> {
        Ok(Self {
            base: self.base.clone(),
            server_name: server_name(host)?,
        })
    }

    /// TLS for one FTP session, with nothing to resume yet.
    pub fn session(&self) -> BackendSessionTls {
        // Only the cache is new: rustls resumes a session only with the same verifier that checked its full handshake.
        let mut config = self.base.clone();
        config.resumption = Resumption::in_memory_sessions(RESUMABLE);
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
    /// What to do every handshake of the session with.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// What to send as SNI and to expect in the certificate, on every connection of the session.
    pub fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, BackendTlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| BackendTlsError::ServerName(name.to_owned()))
}

/// When a backend's certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when on; none of a certificate of which only the end is known, since it was refused for that.
    pub not_before: Option<SystemTime>,
    /// Until when.
    pub not_after: SystemTime,
}

impl Validity {
    /// That of a certificate; `None` if it can't be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            not_before: Some(date::system_time(&validity.not_before)),
            not_after: date::system_time(&validity.not_after),
        })
    }

    /// That of a certificate which was refused for its end.
    pub fn expired(not_after: SystemTime) -> Self {
        Self {
            not_before: None,
            not_after,
        }
    }
}

fn ca_roots(path: &Path) -> Result<CertificatePolicy, BackendTlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in pem::certificates(path, &pem::read(path)?)?
        .into_iter()
        .enumerate()
    {
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
