//! Fixtures that the tests of this module share: certificates made on the spot and handshakes in memory.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};
use time::OffsetDateTime;

use super::certificate::{CertificatePair, CertificateSet};
use super::pem;

/// Everything about TLS is tested with each version by itself.
pub(super) static VERSIONS: [&[&SupportedProtocolVersion]; 2] =
    [&[&rustls::version::TLS12], &[&rustls::version::TLS13]];

pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = OffsetDateTime::now_utc() - time::Duration::days(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(90);
    params
}

/// A certificate authority.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    pub(super) fn new(common_name: &str) -> Self {
        let mut params = params(&[], common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// Another authority, whose certificate this one has issued, valid from a year ago until `days` from now.
    pub(super) fn subordinate(&self, common_name: &str, days: i64) -> Self {
        let mut params = params(&[], common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_before = OffsetDateTime::now_utc() - time::Duration::days(365);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Another certificate for these names and the key of one that it has issued, valid for `from..to` days from now.
    pub(super) fn issue_anew(
        &self,
        former: &Identity,
        names: &[&str],
        days: std::ops::Range<i64>,
    ) -> CertificateDer<'static> {
        self.sign_for_days(params(names, names[0]), &former.key, days)
    }

    /// As [`issue_anew`](Self::issue_anew), for an authority.
    pub(super) fn issue_authority_anew(
        &self,
        former: &Authority,
        common_name: &str,
        days: std::ops::Range<i64>,
    ) -> CertificateDer<'static> {
        let mut params = params(&[], common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.sign_for_days(params, former.issuer.key(), days)
    }

    /// As [`issue_authority_anew`](Self::issue_authority_anew), valid for 90 days, with parameters that `change` has changed.
    pub(super) fn issue_authority_with(
        &self,
        former: &Authority,
        common_name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = params(&[], common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        self.sign_for_days(params, former.issuer.key(), -1..90)
    }

    fn sign_for_days(
        &self,
        mut params: CertificateParams,
        key: &KeyPair,
        days: std::ops::Range<i64>,
    ) -> CertificateDer<'static> {
        params.not_before = OffsetDateTime::now_utc() + time::Duration::days(days.start);
        params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days.end);
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }

    pub(super) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_with(names, |_| {})
    }

    /// Valid for `from..to` days from now.
    pub(super) fn issue_for_days(&self, names: &[&str], days: std::ops::Range<i64>) -> Identity {
        self.issue_with(names, |params| {
            params.not_before = OffsetDateTime::now_utc() + time::Duration::days(days.start);
            params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days.end);
        })
    }

    pub(super) fn issue_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = params(names, names.first().unwrap_or(&"nameless"));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            leaf_pem: leaf.pem(),
            chain_pem: format!("{}{}", leaf.pem(), self.certificate.pem()),
            chain: vec![leaf.der().clone(), self.certificate.der().clone()],
            key,
        }
    }
}

impl Authority {
    /// The authority's revocation list, with certificates of these serial numbers, until `days` from now.
    pub(super) fn revoke(&self, serials: &[u64], days: i64) -> String {
        self.revoke_in(1, serials, days)
    }

    /// As [`revoke`](Self::revoke), in the list of this number; one of a greater number is issued later.
    pub(super) fn revoke_in(&self, number: u64, serials: &[u64], days: i64) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now - time::Duration::days(20),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: now - time::Duration::days(30)
                + time::Duration::hours(i64::try_from(number).unwrap()),
            next_update: now + time::Duration::days(days),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A leaf certificate, its chain, and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    leaf_pem: String,
    chain_pem: String,
    key: KeyPair,
}

impl Identity {
    pub(super) fn self_signed(names: &[&str]) -> Self {
        Self::self_signed_with(names, IsCa::NoCa)
    }

    pub(super) fn self_signed_with(names: &[&str], is_ca: IsCa) -> Self {
        Self::self_signed_by(KeyPair::generate().unwrap(), names, is_ca)
    }

    pub(super) fn self_signed_by_rsa(names: &[&str]) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        Self::self_signed_by(key, names, IsCa::NoCa)
    }

    pub(super) fn self_signed_by_ed25519(names: &[&str]) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self::self_signed_by(key, names, IsCa::NoCa)
    }

    fn self_signed_by(key: KeyPair, names: &[&str], is_ca: IsCa) -> Self {
        let mut params = params(names, names.first().unwrap_or(&"nameless"));
        params.is_ca = is_ca;
        let leaf = params.self_signed(&key).unwrap();
        Self {
            leaf_pem: leaf.pem(),
            chain_pem: leaf.pem(),
            chain: vec![leaf.der().clone()],
            key,
        }
    }

    /// From PEM files.
    pub(super) fn of(certificate: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        Self {
            chain: chain.collect::<Result<_, _>>().unwrap(),
            leaf_pem: certificate.to_owned(),
            chain_pem: certificate.to_owned(),
            key: KeyPair::from_pem(key).unwrap(),
        }
    }

    pub(super) fn leaf_pem(&self) -> String {
        self.leaf_pem.clone()
    }

    pub(super) fn chain_pem(&self) -> String {
        self.chain_pem.clone()
    }

    /// With this certificate of its issuer in its chain.
    pub(super) fn below(self, issuer: CertificateDer<'static>) -> Self {
        Self {
            chain_pem: self.leaf_pem.clone() + &pem::encode("CERTIFICATE", &issuer),
            chain: vec![self.chain[0].clone(), issuer],
            ..self
        }
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// This identity's key under another's certificate.
    pub(super) fn showing(self, other: &Identity) -> Self {
        Self {
            chain: other.chain.clone(),
            ..self
        }
    }

    /// The private key, for a client that has this identity.
    pub(super) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// A server that shows this certificate, in the given versions, with rustls' own kind of session cache.
    pub(super) fn server(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ServerConfig> {
        let provider = super::provider();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = provider.key_provider.load_private_key(key).unwrap();
        // Not by `with_single_cert`, which would notice what `showing` does.
        let certified = CertifiedKey::new(self.chain.clone(), key);
        Arc::new(
            ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(versions)
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        )
    }
}

/// The set whose one pair is in the files of `identity`.
pub(super) fn set_of(identity: &Identity) -> Arc<CertificateSet> {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("tls.crt"),
        directory.path().join("tls.key"),
    );
    fs::write(&certificate, identity.chain_pem()).unwrap();
    fs::write(&key, identity.key_pem()).unwrap();
    let pair = CertificatePair::load(&certificate, &key, now()).unwrap();
    Arc::new(CertificateSet::from(pair))
}

/// A client that trusts `authority`, with a session cache of its own.
pub(super) fn client(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth()
}

/// As [`client`], with a certificate of its own.
pub(super) fn client_showing(
    authority: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    own: &Identity,
) -> ClientConfig {
    ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_auth_cert(own.chain.clone(), own.key_der())
        .unwrap()
}

/// Both ends of a finished handshake, tickets delivered.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) client: ClientConnection,
    pub(super) server: ServerConnection,
}

/// The error of each end in a handshake that failed.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) client: Option<rustls::Error>,
    pub(super) server: Option<rustls::Error>,
}

/// Runs a handshake in memory until neither end has anything left to say.
pub(super) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &str,
) -> Result<Ends, Box<Failure>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let mut failure = Failure {
        client: None,
        server: None,
    };
    while client.wants_write() || server.wants_write() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() && failure.server.is_none() {
            server.read_tls(&mut rest).unwrap();
            failure.server = server.process_new_packets().err();
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() && failure.client.is_none() {
            client.read_tls(&mut rest).unwrap();
            failure.client = client.process_new_packets().err();
        }
    }
    if failure.client.is_some() || failure.server.is_some() {
        return Err(Box::new(failure));
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Ends { client, server })
}
