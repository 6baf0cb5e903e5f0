//! TLS towards clients: versions, cipher suites, application protocols, and the certificates, as one immutable snapshot.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;

use super::certificate::CertificateSet;
use super::client_certificates::{ClientTrust, KeyCheck};
use crate::config::TlsVersion;

/// The ALPN protocols that clients may offer on a control connection. A client that offers none is accepted: hardly any FTP
/// client does. One that offers only others, such as a redirected browser (ALPACA), is refused. FileZilla's `x-filezilla-ftp`
/// isn't listed: selecting it promises that PROT P is in force without being asked for.
const CONTROL_PROTOCOLS: [&[u8]; 1] = [b"ftp"];

/// The ALPN protocols that clients may offer on a data connection: FileZilla's name for it, or the registered one again.
const DATA_PROTOCOLS: [&[u8]; 2] = [b"ftp-data", b"ftp"];

/// TLS towards clients with one set of certificates, from which each session makes its own
/// [`SessionTls`](super::binding::SessionTls).
///
/// Offers no resumption by itself. Cheap to make and to clone; make a new one for a new set or new settings.
#[derive(Debug, Clone)]
pub struct ServerTls {
    pub(super) certificates: Arc<CertificateSet>,
    min_version: TlsVersion,
    clients: ClientTrust,
    /// For the control connections of clients that are not asked for a certificate.
    pub(super) control: ServerConfig,
    pub(super) data: ServerConfig,
    /// For data connections that have to show the certificate of their control connection, if clients are asked for one.
    pub(super) asking_data: Option<ServerConfig>,
}

impl ServerTls {
    /// Serves `certificates` in TLS versions from `min_version` on, and asks no client for one.
    pub fn new(certificates: Arc<CertificateSet>, min_version: TlsVersion) -> Self {
        Self::asking(certificates, min_version, &ClientTrust::none())
    }

    /// As [`new`](Self::new), but asks clients for certificates as `clients` says.
    pub fn asking(
        certificates: Arc<CertificateSet>,
        min_version: TlsVersion,
        clients: &ClientTrust,
    ) -> Self {
        let config = |verifier: Option<Arc<dyn ClientCertVerifier>>| {
            config(Arc::clone(&certificates), min_version, verifier)
        };
        let mut data = config(None);
        let mut asking_data = clients.data_verifier().map(|it| config(Some(it)));
        let control = control(config(None));
        for data in asking_data.iter_mut().chain([&mut data]) {
            data.alpn_protocols = DATA_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        }
        Self {
            certificates,
            min_version,
            clients: clients.clone(),
            control,
            data,
            asking_data,
        }
    }

    /// For the control connection of one session whose client is asked for a certificate, with what its handshake will have found
    /// of that one's key. Made anew, since rustls' settings for all connections are the only place for what is found of one.
    pub(super) fn asking_control(&self) -> Option<(ServerConfig, Arc<KeyCheck>)> {
        let (verifier, key) = self.clients.control_verifier()?;
        let certificates = Arc::clone(&self.certificates);
        let config = config(certificates, self.min_version, Some(verifier));
        Some((control(config), key))
    }
}

/// Makes a configuration one for control connections.
fn control(mut config: ServerConfig) -> ServerConfig {
    config.alpn_protocols = CONTROL_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config
}

/// The configuration that control and data connections have in common.
fn config(
    certificates: Arc<CertificateSet>,
    min_version: TlsVersion,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(super::provider())
        .with_protocol_versions(super::versions(min_version..=TlsVersion::V1_3))
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // Early data could be replayed, and with it a PASS or a DELE.
    config.max_early_data_size = 0;
    // Our order puts AES-128-GCM first. Having one order also makes control and data connections agree on a suite,
    // without which a session isn't resumed.
    config.ignore_client_order = true;
    config
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CipherSuite, HandshakeKind, ProtocolVersion};

    use super::*;
    use crate::tls::fixtures::{Authority, VERSIONS, client, handshake, set_of};

    const TLS12_ONLY: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
    const TLS13_ONLY: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

    fn with_protocols(
        authority: &Authority,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&str],
    ) -> Arc<rustls::ClientConfig> {
        let mut config = client(authority, versions);
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn server(authority: &Authority, min_version: TlsVersion) -> ServerTls {
        ServerTls::new(set_of(&authority.issue(&["ftp.test"])), min_version)
    }

    #[test]
    fn a_control_connection_speaks_ftp_or_nothing_in_particular() {
        let authority = Authority::new("CA");
        let tls = server(&authority, TlsVersion::V1_2);
        let config = Arc::new(tls.control);
        for versions in VERSIONS {
            let selected = |protocols: &[&str]| {
                let client = with_protocols(&authority, versions, protocols);
                handshake(&client, &config, "ftp.test")
                    .map(|ends| ends.server.alpn_protocol().map(<[u8]>::to_vec))
            };
            assert_eq!(selected(&[]).unwrap(), None);
            assert_eq!(selected(&["ftp"]).unwrap().unwrap(), b"ftp");
            assert_eq!(
                selected(&["x-filezilla-ftp", "ftp"]).unwrap().unwrap(),
                b"ftp"
            );
            for stranger in ["http/1.1", "h2", "x-filezilla-ftp", "ftp-data"] {
                let failure = selected(&[stranger]).unwrap_err();
                assert_eq!(failure.server, Some(rustls::Error::NoApplicationProtocol));
                assert_eq!(
                    failure.client,
                    Some(rustls::Error::AlertReceived(
                        AlertDescription::NoApplicationProtocol
                    ))
                );
            }
        }
    }

    #[test]
    fn a_data_connection_speaks_ftp_data_or_ftp() {
        let authority = Authority::new("CA");
        let tls = server(&authority, TlsVersion::V1_2);
        let config = Arc::new(tls.data);
        for versions in VERSIONS {
            for (offered, selected) in [
                (vec!["ftp", "ftp-data"], Some(b"ftp-data".as_slice())),
                (vec!["ftp"], Some(b"ftp".as_slice())),
                (vec![], None),
            ] {
                let client = with_protocols(&authority, versions, &offered);
                let ends = handshake(&client, &config, "ftp.test").unwrap();
                assert_eq!(ends.server.alpn_protocol(), selected);
            }
            let browser = with_protocols(&authority, versions, &["h2", "http/1.1"]);
            assert!(handshake(&browser, &config, "ftp.test").is_err());
        }
    }

    #[test]
    fn older_versions_than_the_minimum_are_refused() {
        let authority = Authority::new("CA");
        let config = Arc::new(server(&authority, TlsVersion::V1_3).control);
        let old = Arc::new(client(&authority, &TLS12_ONLY));
        let failure = handshake(&old, &config, "ftp.test")
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            failure.client,
            Some(rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion
            ))
        );
        let new = Arc::new(client(&authority, &TLS13_ONLY));
        let ends = handshake(&new, &config, "ftp.test").unwrap();
        assert_eq!(
            ends.server.protocol_version(),
            Some(ProtocolVersion::TLSv1_3)
        );
    }

    #[test]
    fn aes_128_gcm_is_preferred_whatever_the_client_prefers() {
        let authority = Authority::new("CA");
        let config = Arc::new(server(&authority, TlsVersion::V1_2).control);
        for (versions, suite) in [
            (&TLS13_ONLY, CipherSuite::TLS13_AES_128_GCM_SHA256),
            (
                &TLS12_ONLY,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ),
        ] {
            let mut client_provider = rustls::crypto::aws_lc_rs::default_provider();
            client_provider
                .cipher_suites
                .sort_by_key(|suite| format!("{:?}", suite.suite()).contains("AES_128"));
            let client = Arc::new(
                rustls::ClientConfig::builder_with_provider(Arc::new(client_provider))
                    .with_protocol_versions(versions)
                    .unwrap()
                    .with_root_certificates(authority.roots())
                    .with_no_client_auth(),
            );
            let ends = handshake(&client, &config, "ftp.test").unwrap();
            assert_eq!(
                ends.server.negotiated_cipher_suite().unwrap().suite(),
                suite
            );
        }
    }

    #[test]
    fn resumption_is_not_offered_by_the_snapshot_itself() {
        let authority = Authority::new("CA");
        let config = Arc::new(server(&authority, TlsVersion::V1_2).control);
        for versions in VERSIONS {
            let client = Arc::new(client(&authority, versions));
            for _ in 0..2 {
                let ends = handshake(&client, &config, "ftp.test").unwrap();
                assert_eq!(ends.server.handshake_kind(), Some(HandshakeKind::Full));
            }
        }
    }
}
