//! Clients with certificates of every kind, in handshakes in memory, and the files that they are judged by.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, ClientConfig, ServerConfig, SignatureAlgorithm, SignatureScheme,
    SupportedProtocolVersion,
};

use super::*;
use crate::base::file_watch::FileWatch as _;
use crate::config::{CrlExpired, TlsVersion};
use crate::tls::fixtures::{
    Authority, Failure, Identity, VERSIONS, client, client_showing, handshake, now, set_of,
};
use crate::tls::{HandshakeFault, ServerTls};

/// The settings for a control connection, and what its handshake will have found of the client's key.
fn asked(tls: &ServerTls) -> (ServerConfig, Arc<KeyCheck>) {
    let not_asked = || (tls.control.clone(), Arc::default());
    tls.asking_control().unwrap_or_else(not_asked)
}

/// The server's authority, the partners' one, and where their files are.
struct World {
    server: Authority,
    partners: Authority,
    identity: Identity,
    directory: tempfile::TempDir,
}

fn named(user: &str) -> impl FnOnce(&mut CertificateParams) {
    let user = user.to_owned();
    move |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    }
}

impl World {
    fn new() -> Self {
        let server = Authority::new("CA");
        Self {
            identity: server.issue(&["ftp.test"]),
            partners: Authority::new("Partners"),
            server,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn partner(&self, user: &str) -> Identity {
        self.partners.issue_with(&[], named(user))
    }

    fn settings(&self, ask: AskClients) -> ClientCertificates {
        let ca = self.directory.path().join("ca.pem");
        fs::write(&ca, self.partners.pem()).unwrap();
        ClientCertificates {
            ca: Some(ca),
            crls: Vec::new(),
            crl_expired: CrlExpired::Refuse,
            ask,
        }
    }

    fn with_list(&self, list: &str, crl_expired: CrlExpired) -> ClientTrust {
        let crl = self.directory.path().join("partners.crl");
        fs::write(&crl, list).unwrap();
        let settings = ClientCertificates {
            crls: vec![crl],
            crl_expired,
            ..self.settings(AskClients::Optional)
        };
        trust(&settings)
    }

    fn server(&self, trust: &ClientTrust) -> Arc<ServerConfig> {
        let set = set_of(&self.identity);
        Arc::new(asked(&ServerTls::asking(set, TlsVersion::V1_2, trust)).0)
    }

    /// The result of a handshake with this certificate.
    fn shown(
        &self,
        trust: &ClientTrust,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Identity>,
    ) -> Result<Option<ClientIdentity>, Box<Failure>> {
        let client = match own {
            Some(own) => client_showing(&self.server, versions, own),
            None => client(&self.server, versions),
        };
        let ends = handshake(&Arc::new(client), &self.server(trust), "ftp.test")?;
        let chain = ends.server.peer_certificates().unwrap_or_default();
        Ok(trust.identify(chain, KeyProof::Verified, now()))
    }
}

fn trust(settings: &ClientCertificates) -> ClientTrust {
    ClientTrust::load(Some(settings), HashSet::new()).unwrap()
}

fn judged(trust: &ClientTrust, own: &Identity) -> Result<(), CertificateResult> {
    let identity = trust
        .identify(&own.chain, KeyProof::Verified, now())
        .unwrap();
    identity.chain.map_err(|fault| fault.result)
}

#[test]
fn a_certificate_is_judged_behind_the_handshake_whatever_it_is() {
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    let strangers = Authority::new("Partners");
    let web = world.partners.issue_with(&["acme.test"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    for versions in VERSIONS {
        assert_eq!(world.shown(&trust, versions, None).unwrap(), None);
        for (own, judgement) in [
            (world.partner("acme"), Ok(())),
            (
                world.partners.issue_for_days(&["acme"], -9..-1),
                Err(CertificateResult::Expired),
            ),
            (
                world.partners.issue_for_days(&["acme"], 1..9),
                Err(CertificateResult::NotYetValid),
            ),
            (
                strangers.issue_with(&[], named("acme")),
                Err(CertificateResult::UnknownCa),
            ),
            (
                Identity::self_signed(&["acme"]),
                Err(CertificateResult::UnknownCa),
            ),
        ] {
            let shown = world.shown(&trust, versions, Some(&own)).unwrap().unwrap();
            assert_eq!(shown.fingerprint, fingerprint(&own.chain[0]));
            assert_eq!(shown.common_name.as_deref(), Some(b"acme".as_slice()));
            assert_eq!(shown.chain.map_err(|fault| fault.result), judgement);
        }
        let shown = world.shown(&trust, versions, Some(&web)).unwrap().unwrap();
        let fault = shown.chain.unwrap_err();
        assert_eq!(fault.result, CertificateResult::Purpose);
        assert!(fault.detail.contains("pinned"), "{}", fault.detail);
    }
}

#[test]
fn where_one_is_required_the_handshake_fails_without_a_good_or_pinned_one() {
    let world = World::new();
    let settings = world.settings(AskClients::Required);
    let stranger = Identity::self_signed(&["partner"]);
    let pinned = [fingerprint(&stranger.chain[0])];
    let pinning = ClientTrust::load(Some(&settings), pinned.into()).unwrap();
    let trust = trust(&settings);
    for versions in VERSIONS {
        let alert = |trust, own: Option<&Identity>| {
            let failure = world.shown(trust, versions, own).unwrap_err();
            let error = io::Error::other(failure.server.unwrap());
            let Some(rustls::Error::AlertReceived(alert)) = failure.client else {
                panic!("no alert")
            };
            (alert, refused_certificate(&error))
        };
        let missing = Some(CertificateResult::Missing);
        assert_eq!(
            alert(&trust, None),
            (AlertDescription::CertificateRequired, missing)
        );
        let unknown = Some(CertificateResult::UnknownCa);
        assert_eq!(
            alert(&trust, Some(&stranger)),
            (AlertDescription::UnknownCA, unknown)
        );
        let other_key = Authority::new("Partners").issue_with(&[], named("acme"));
        assert_eq!(
            alert(&trust, Some(&other_key)),
            (AlertDescription::UnknownCA, unknown)
        );
        let good = world.partner("acme");
        assert!(world.shown(&trust, versions, Some(&good)).is_ok());
        assert!(world.shown(&pinning, versions, Some(&stranger)).is_ok());
    }
}

#[test]
fn a_client_without_the_key_is_refused_though_none_is_required() {
    #[derive(Debug)]
    struct Thief(Arc<CertifiedKey>);
    impl ResolvesClientCert for Thief {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    let (stolen, own) = (world.partner("acme"), world.partner("mallory"));
    let provider = crate::tls::provider();
    let key = provider
        .key_provider
        .load_private_key(own.key_der())
        .unwrap();
    let thief = Arc::new(Thief(Arc::new(CertifiedKey::new(stolen.chain, key))));
    for versions in VERSIONS {
        let mut config = client(&world.server, versions);
        config.client_auth_cert_resolver = Arc::clone(&thief) as _;
        let failure = handshake(&Arc::new(config), &world.server(&trust), "ftp.test");
        let error = io::Error::other(failure.unwrap_err().server.unwrap());
        assert_eq!(
            refused_certificate(&error),
            Some(CertificateResult::Invalid)
        );
    }
}

/// A client that shows a certificate with an RSA key of 1024 bits, and signs with PSS. No signature by such a key can be
/// verified, so that a wrong one does.
#[derive(Debug)]
struct ShortKey;

impl ShortKey {
    fn client(world: &World, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        #[derive(Debug)]
        struct Resolver(Arc<CertifiedKey>);
        impl ResolvesClientCert for Resolver {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                Some(Arc::clone(&self.0))
            }
            fn has_certs(&self) -> bool {
                true
            }
        }
        let pem = include_bytes!("../../../tests/old_certificates/rsa1024.crt");
        let chain = vec![CertificateDer::from_pem_slice(pem).unwrap()];
        let certified = CertifiedKey::new(chain, Arc::new(Self));
        let mut config = client(&world.server, versions);
        config.client_auth_cert_resolver = Arc::new(Resolver(Arc::new(certified)));
        Arc::new(config)
    }
}

impl SigningKey for ShortKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for ShortKey {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![1; 128])
    }
    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

#[test]
fn a_key_by_which_nothing_can_be_verified_ends_no_handshake_and_is_no_proof() {
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    for versions in VERSIONS {
        let client = ShortKey::client(&world, versions);
        let tls = ServerTls::asking(set_of(&world.identity), TlsVersion::V1_2, &trust);
        let (config, key) = asked(&tls);
        let ends = handshake(&client, &Arc::new(config), "ftp.test").unwrap();
        assert_eq!(key.proof(), KeyProof::Unverifiable);
        let chain = ends.server.peer_certificates().unwrap();
        let identity = trust.identify(chain, key.proof(), now()).unwrap();
        assert_eq!(identity.key, KeyProof::Unverifiable);
        assert!(identity.subject.ends_with(" (key not verified)"));
        let fault = identity.chain.unwrap_err();
        assert_eq!(fault.result, CertificateResult::Invalid);
        assert!(
            fault.detail.contains("RSA key of 1024 bits"),
            "{}",
            fault.detail
        );

        // A finding about one client doesn't hold for the next.
        let (config, key) = asked(&tls);
        let own = client_showing(&world.server, versions, &world.partner("acme"));
        handshake(&Arc::new(own), &Arc::new(config), "ftp.test").unwrap();
        assert_eq!(key.proof(), KeyProof::Verified);
    }
}

#[test]
fn such_a_key_is_refused_in_words_where_a_certificate_is_required() {
    let world = World::new();
    let pem = include_bytes!("../../../tests/old_certificates/rsa1024.crt");
    let pinned = fingerprint(&CertificateDer::from_pem_slice(pem).unwrap());
    let settings = world.settings(AskClients::Required);
    let required = ClientTrust::load(Some(&settings), [pinned].into()).unwrap();
    let set = set_of(&world.identity);
    let control = asked(&ServerTls::asking(
        Arc::clone(&set),
        TlsVersion::V1_2,
        &required,
    ));
    let optional = trust(&world.settings(AskClients::Optional));
    let data = ServerTls::asking(set, TlsVersion::V1_2, &optional).asking_data;
    for config in [Arc::new(control.0), Arc::new(data.unwrap())] {
        for versions in VERSIONS {
            let client = ShortKey::client(&world, versions);
            let failure = handshake(&client, &config, "ftp.test").unwrap_err();
            let error = HandshakeFault::from(&failure.server.unwrap()).to_string();
            assert!(
                error.starts_with("bad certificate: RSA key of 1024 bits"),
                "{error}"
            );
        }
    }
}

#[test]
fn a_chain_that_is_too_long_to_be_kept_is_refused() {
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    let mut own = world.partner("acme");
    while own.chain.iter().map(|it| it.len()).sum::<usize>() <= 16 * 1024 {
        own.chain.push(own.chain[1].clone());
    }
    for versions in VERSIONS {
        let failure = world.shown(&trust, versions, Some(&own)).unwrap_err();
        let error = HandshakeFault::from(&failure.server.unwrap()).to_string();
        assert!(error.starts_with("bad certificate: chain of "), "{error}");
    }
}

#[test]
fn a_revoked_certificate_is_told_from_a_list_that_is_old_or_missing() {
    let world = World::new();
    let with_serial = |serial: u64| {
        world.partners.issue_with(&[], |params| {
            named("acme")(params);
            params.serial_number = Some(serial.into());
        })
    };
    let (good, revoked) = (with_serial(7), with_serial(8));
    let fresh = world.with_list(&world.partners.revoke(&[8], 30), CrlExpired::Refuse);
    assert_eq!(judged(&fresh, &good), Ok(()));
    assert_eq!(judged(&fresh, &revoked), Err(CertificateResult::Revoked));

    let old = world.partners.revoke(&[8], -2);
    let refusing = world.with_list(&old, CrlExpired::Refuse);
    assert_eq!(judged(&refusing, &good), Err(CertificateResult::CrlExpired));
    let accepting = world.with_list(&old, CrlExpired::Accept);
    assert_eq!(judged(&accepting, &good), Ok(()));
    assert_eq!(
        judged(&accepting, &revoked),
        Err(CertificateResult::Revoked)
    );

    let others = Authority::new("Others").revoke(&[], 30);
    let missing = world.with_list(&others, CrlExpired::Refuse);
    assert_eq!(judged(&missing, &good), Err(CertificateResult::CrlMissing));
    let [list] = missing.lists() else {
        panic!("one list")
    };
    assert!(!list.is_of_authority && !missing.authorities()[0].has_list);
    assert_eq!(list.issuer, "CN=Others");
}

#[test]
fn a_self_issued_root_without_extensions_is_an_authority_and_a_leaf_is_none() {
    let world = World::new();
    let settings = world.settings(AskClients::Optional);
    let root = Identity::self_signed(&["Old root"]);
    let leaf = world.partner("alice");
    fs::write(
        settings.ca.as_deref().unwrap(),
        root.leaf_pem() + &leaf.leaf_pem(),
    )
    .unwrap();
    let trust = trust(&settings);
    let found = trust.authorities().iter().map(|it| it.is_authority);
    assert_eq!(found.collect::<Vec<_>>(), [true, false]);
}

/// Trust in `authorities` by these lists, a file each.
fn trust_by(world: &World, authorities: &[&Authority], lists: &[&str]) -> ClientTrust {
    let mut settings = world.settings(AskClients::Optional);
    let pems: String = authorities.iter().map(|it| it.pem()).collect();
    fs::write(settings.ca.as_deref().unwrap(), pems).unwrap();
    for (index, list) in lists.iter().enumerate() {
        let file = world.directory.path().join(format!("{index}.crl"));
        fs::write(&file, list).unwrap();
        settings.crls.push(file);
    }
    trust(&settings)
}

fn numbered(authority: &Authority, serial: u64) -> Identity {
    authority.issue_with(&[], |params| {
        named("acme")(params);
        params.serial_number = Some(serial.into());
    })
}

#[test]
fn of_several_lists_of_one_issuer_the_newest_counts_in_any_order() {
    let world = World::new();
    let partners = &world.partners;
    let (good, revoked) = (numbered(partners, 7), numbered(partners, 8));
    for older in [
        partners.revoke_in(1, &[], 30),
        partners.revoke_in(1, &[], -2),
    ] {
        let newer = partners.revoke_in(2, &[8], 30);
        for lists in [[older.as_str(), &newer], [&newer, older.as_str()]] {
            let trust = trust_by(&world, &[partners], &lists);
            assert_eq!(judged(&trust, &good), Ok(()));
            assert_eq!(judged(&trust, &revoked), Err(CertificateResult::Revoked));
            assert_eq!(trust.lists().len(), 1);
        }
    }
}

#[test]
fn lists_of_two_authorities_of_one_name_count_for_their_own_certificates() {
    let world = World::new();
    let (former, renewed) = (&world.partners, Authority::new("Partners"));
    let (by_former, by_renewed) = (former.revoke(&[8], 30), renewed.revoke_in(2, &[9], 30));
    for lists in [
        [by_former.as_str(), &by_renewed],
        [&by_renewed, by_former.as_str()],
    ] {
        let trust = trust_by(&world, &[former, &renewed], &lists);
        for (authority, revoked, good) in [(former, 8, 9), (&renewed, 9, 8)] {
            assert_eq!(judged(&trust, &numbered(authority, good)), Ok(()));
            assert_eq!(
                judged(&trust, &numbered(authority, revoked)),
                Err(CertificateResult::Revoked)
            );
        }
        assert!(trust.authorities().iter().all(|it| it.has_list));
        // A list that none of the authorities has signed spoils nothing.
        let trust = trust_by(&world, &[&renewed], &lists);
        assert_eq!(judged(&trust, &numbered(&renewed, 8)), Ok(()));
        assert_eq!(
            trust.lists().iter().filter(|it| it.is_of_authority).count(),
            1
        );
    }
    let trust = trust_by(&world, &[former, &renewed], &[&by_former]);
    assert!(judged(&trust, &numbered(&renewed, 7)).is_err());
    assert!(!trust.authorities()[1].has_list);
}

#[test]
fn a_list_in_der_is_read_as_well() {
    let world = World::new();
    let pem = world.partners.revoke(&[], 30);
    let der = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(pem.as_bytes());
    let file = world.directory.path().join("partners.der");
    fs::write(&file, der.unwrap()).unwrap();
    let settings = ClientCertificates {
        crls: vec![file.clone()],
        ..world.settings(AskClients::Optional)
    };
    assert_eq!(judged(&trust(&settings), &world.partner("acme")), Ok(()));
    let mut two = fs::read(&file).unwrap();
    two.push(b'\n');
    fs::write(&file, two).unwrap();
    let error = ClientTrust::load(Some(&settings), HashSet::new()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has 1 bytes behind its revocation list"),
        "{error}"
    );
}

#[test]
fn each_fault_of_a_file_is_told_with_its_name() {
    let world = World::new();
    let fault = |name: &str, content: &str| {
        let file = world.directory.path().join(name);
        fs::write(&file, content).unwrap();
        let mut settings = world.settings(AskClients::Optional);
        match name {
            "bad.pem" => settings.ca = Some(file),
            _ => settings.crls.push(file),
        }
        let fault = ClientTrust::load(Some(&settings), HashSet::new()).unwrap_err();
        fault
            .to_string()
            .replace(&format!("{}/", world.directory.path().display()), "")
    };
    let list = world.partners.revoke(&[], 30);
    assert_eq!(fault("bad.pem", "hello"), "bad.pem holds no certificate");
    assert_eq!(
        fault("a.crl", &world.partners.pem()),
        "a.crl holds no revocation list"
    );
    assert_eq!(
        fault("a.crl", &list[..list.len() - 40]),
        "a.crl ends in the middle of a revocation list: half written?"
    );
    let garbage = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    assert_eq!(
        fault("a.crl", &format!("{list}{garbage}")),
        "revocation list 2 in a.crl is malformed"
    );
    // Version 1, as `openssl ca -gencrl` makes it by default: its signature is of no matter here.
    let old = "-----BEGIN X509 CRL-----\n\
        MEowODAKBggqhkjOPQQDAjAMMQowCAYDVQQDDAFhFw0yNjAxMDEwMDAwMDBaFw0y\n\
        NzAxMDEwMDAwMDBaMAoGCCqGSM49BAMCAwIAAA==\n-----END X509 CRL-----\n";
    assert_eq!(
        fault("a.crl", old),
        "revocation list 1 in a.crl is of version 1, or without extensions: with OpenSSL, set `crlnumber` and `crl_extensions`"
    );
}

#[test]
fn names_of_authorities_are_told_unless_certificates_are_pinned() {
    let world = World::new();
    let settings = world.settings(AskClients::Optional);
    let hints = |pinned: &[[u8; 32]]| {
        let trust = ClientTrust::load(Some(&settings), pinned.iter().copied().collect()).unwrap();
        trust
            .control_verifier()
            .unwrap()
            .0
            .root_hint_subjects()
            .len()
    };
    assert_eq!(hints(&[]), 1);
    assert_eq!(hints(&[[0; 32]]), 0);
    assert!(ClientTrust::none().control_verifier().is_none());
}

#[test]
fn the_names_in_a_certificate_are_read() {
    let world = World::new();
    let own = world.partners.issue_with(&["acme.test"], |params| {
        let address = "ftp@acme.test".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(address));
    });
    let trust = ClientTrust::none();
    let identity = trust
        .identify(&own.chain, KeyProof::Verified, now())
        .unwrap();
    assert_eq!(identity.emails, [b"ftp@acme.test".as_slice().into()]);
    assert_eq!(identity.dns_names, [b"acme.test".as_slice().into()]);
    assert_eq!(identity.subject, "CN=acme.test");
    assert_eq!(
        identity.chain.unwrap_err().result,
        CertificateResult::UnknownCa
    );
    assert_eq!(trust.identify(&[], KeyProof::Verified, now()), None);
    let garbage = [CertificateDer::from(vec![0x30, 0])];
    let unreadable = trust.identify(&garbage, KeyProof::Verified, now()).unwrap();
    assert_eq!(
        unreadable.chain.unwrap_err().result,
        CertificateResult::Invalid
    );
}

#[test]
fn an_authoritys_own_certificate_is_refused_in_words() {
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    let own = world.partners.issue_with(&[], |params| {
        named("acme")(params);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    let fault = trust
        .identify(&own.chain, KeyProof::Verified, now())
        .unwrap()
        .chain;
    let words = "bad certificate: it is a certificate authority's own (CA:TRUE)";
    assert_eq!(fault.unwrap_err().detail, words);
}

#[test]
fn of_two_common_names_none_counts() {
    let world = World::new();
    let own = world.partners.issue_with(&[], |params| {
        named("acme")(params);
        let other = rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]);
        params.distinguished_name.push(other, "bob");
    });
    let identity = ClientTrust::none()
        .identify(&own.chain, KeyProof::Verified, now())
        .unwrap();
    assert_eq!(identity.common_name, None, "{}", identity.subject);
}

#[test]
fn a_list_that_can_not_be_used_is_named_by_its_file_and_a_delta_list_in_words() {
    let world = World::new();
    let pem = world.partners.revoke(&[8], 30);
    let list = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut der = list.to_vec();
    // The number of the list, by which a delta list has that of the complete one.
    let (crl_number, delta_indicator) = ([0x55, 0x1d, 0x14], [0x55, 0x1d, 0x1b]);
    let at = der.windows(3).position(|it| it == crl_number).unwrap();
    der[at..at + 3].copy_from_slice(&delta_indicator);
    let [good, delta] = ["good.crl", "delta.crl"].map(|name| world.directory.path().join(name));
    fs::write(&good, Authority::new("Others").revoke(&[], 30)).unwrap();
    fs::write(&delta, der).unwrap();
    let settings = ClientCertificates {
        crls: vec![good, delta],
        ..world.settings(AskClients::Optional)
    };
    let error = ClientTrust::load(Some(&settings), HashSet::new()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("CN=Partners in ")
            && text.contains("/delta.crl cannot be used: it is a delta list"),
        "{text}"
    );
}

#[test]
fn new_files_are_found_when_they_have_come_to_rest_and_bad_ones_told_once() {
    let world = World::new();
    let settings = world.settings(AskClients::Optional);
    let in_use = trust(&settings);
    let mut watch = ClientTrustWatch::new(Some(&settings), &in_use).unwrap();
    let ca: &Path = settings.ca.as_deref().unwrap();
    let at = now() + Duration::from_secs(1);
    let mut found = |content: Option<&str>| {
        match content {
            Some(content) => fs::write(ca, content).unwrap(),
            None => fs::remove_file(ca).unwrap(),
        }
        assert!(watch.poll(at).is_none());
        let found = watch.poll(at)?;
        assert!(watch.poll(at).is_none());
        Some(
            found
                .map(|trust| trust.authorities()[0].subject.clone())
                .is_ok(),
        )
    };
    let other = Authority::new("Others");
    assert_eq!(found(Some(&world.partners.pem())), None, "as loaded");
    assert_eq!(found(Some(&other.pem())), Some(true));
    assert_eq!(found(Some("half")), Some(false));
    assert_eq!(found(None), Some(false));
    assert_eq!(found(Some(&other.pem())), Some(true), "put back");
    assert!(ClientTrustWatch::new(None, &in_use).is_none());
}

#[test]
fn the_fault_of_an_issuer_is_not_told_as_that_of_the_certificate() {
    let world = World::new();
    let trust = trust(&world.settings(AskClients::Optional));
    let issuer = world.partners.subordinate("Inter", 1);
    let fault = |anew| {
        let own = issuer.issue_with(&[], named("acme")).below(anew);
        let identity = trust.identify(&own.chain, KeyProof::Verified, now());
        identity.unwrap().chain.unwrap_err()
    };
    let dated = |days| world.partners.issue_authority_anew(&issuer, "Inter", days);
    let with = |change: fn(&mut CertificateParams)| {
        world
            .partners
            .issue_authority_with(&issuer, "Inter", change)
    };
    let expired = fault(dated(-30..-1));
    assert_eq!(expired.result, CertificateResult::Expired);
    let words = "certificate 2 of its chain (CN=Inter) expired on ";
    assert!(expired.detail.starts_with(words), "{}", expired.detail);
    let not_yet = fault(dated(1..30));
    assert_eq!(not_yet.result, CertificateResult::NotYetValid);
    let words = "certificate 2 of its chain (CN=Inter) not valid before ";
    assert!(not_yet.detail.starts_with(words), "{}", not_yet.detail);
    let purpose = fault(with(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    }));
    assert_eq!(purpose.result, CertificateResult::Purpose);
    let words = "certificate 2 of its chain (CN=Inter) is not for clients (clientAuth)";
    assert!(purpose.detail.starts_with(words), "{}", purpose.detail);
    let no_authority = fault(with(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa));
    assert_eq!(no_authority.result, CertificateResult::Invalid);
    assert_eq!(
        no_authority.detail,
        "bad certificate: one in its chain has issued the one before it without being an authority's (no CA:TRUE)"
    );
    let critical = fault(with(|params| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    }));
    assert_eq!(
        critical.detail,
        "bad certificate: it, or one in its chain, has a critical extension that is not supported"
    );
}

#[test]
fn a_handshake_that_fails_for_a_certificate_says_for_whose() {
    let world = World::new();
    let settings = world.settings(AskClients::Required);
    let tls = ServerTls::asking(set_of(&world.identity), TlsVersion::V1_2, &trust(&settings));
    let stranger = Authority::new("Strangers").issue_with(&[], named("acme"));
    let refused = |own: &Identity, versions| {
        let (config, check) = asked(&tls);
        let client = client_showing(&world.server, versions, own);
        let shaken = handshake(&Arc::new(client), &Arc::new(config), "ftp.test");
        let refused = check.refused().cloned();
        assert_eq!(shaken.is_err(), refused.is_some());
        refused
    };
    for versions in VERSIONS {
        assert_eq!(refused(&world.partner("acme"), versions), None);
        let identity = refused(&stranger, versions).unwrap();
        // It is refused before its key is looked at.
        assert_eq!(identity.subject, "CN=acme (key not verified)");
        assert_eq!(identity.fingerprint, fingerprint(&stranger.chain[0]));
        let fault = identity.chain.unwrap_err();
        assert_eq!(fault.result, CertificateResult::UnknownCa);
        assert_eq!(fault.detail, "issued by unknown CN=Strangers");
    }
}

#[test]
fn a_list_for_a_part_of_the_certificates_is_refused_in_words() {
    #[derive(Debug, thiserror::Error)]
    #[error("UnsupportedCrlIssuingDistributionPoint")]
    struct OfWebpki;
    let source = rustls::CertRevocationListError::Other(rustls::OtherError(Arc::new(OfWebpki)));
    let error = ClientTrustError::UnusableList {
        path: "users.crl".into(),
        issuer: "CN=Partners".to_owned(),
        source: rustls::server::VerifierBuilderError::InvalidCrl(source),
    };
    let text = error.to_string();
    assert!(
        text.contains("cannot be used: it is for a part of its issuer's"),
        "{text}"
    );
}
