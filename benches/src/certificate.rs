//! One certificate for all: ECDSA P-256, from a CA that the load client trusts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// The name in the certificate.
pub const SERVER_NAME: &str = "bench.test";

/// Where the certificate is, and who trusts it.
#[derive(Debug)]
pub struct Certificate {
    /// The certificate and its issuer's, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub both: PathBuf,
    roots: Arc<RootCertStore>,
}

impl Certificate {
    /// Makes one in `folder`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, new_key()?).map_err(io::Error::other)?;
        let key = new_key()?;
        let certificate = CertificateParams::new(vec![SERVER_NAME.to_owned()])
            .and_then(|params| params.signed_by(&key, &ca))
            .map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).map_err(io::Error::other)?;
        let made = Self {
            chain: folder.join("bench.crt"),
            key: folder.join("bench.key"),
            both: folder.join("bench.pem"),
            roots: Arc::new(roots),
        };
        fs::write(&made.chain, certificate.pem())?;
        write_private(&made.key, &key.serialize_pem())?;
        write_private(&made.both, &(certificate.pem() + &key.serialize_pem()))?;
        Ok(made)
    }

    /// A client that offers just this version, AES-128-GCM and X25519, so that all peers agree on the same.
    pub fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let provider = CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .expect("the provider has a cipher suite for either version")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth()
    }
}

fn new_key() -> io::Result<KeyPair> {
    KeyPair::generate().map_err(io::Error::other)
}

fn write_private(path: &Path, pem: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(pem.as_bytes())
}
