//! Backends' certificates and sessions, by handshakes in memory.

use rcgen::{BasicConstraints, IsCa};
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

use super::*;
use crate::config::TlsMode;
use crate::tls::certificate::fingerprint;
use crate::tls::fault::HandshakeFault;
use crate::tls::fixtures::{Authority, Ends, Identity, VERSIONS, handshake};

const NAME: &str = "be1.test";

fn settings(verify: Verify) -> BackendTls {
    BackendTls {
        start: TlsMode::Explicit,
        verify,
        server_name: ExpectedName::Is(NAME.to_owned()),
        max_version: TlsVersion::V1_3,
        client_certificate: None,
    }
}

/// A client that trusts the certificates in `pem`.
fn trusting(pem: &str) -> BackendTlsClient {
    trusting_as(pem, NAME)
}

fn trusting_as(pem: &str, server_name: &str) -> BackendTlsClient {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    BackendTlsClient::new(&BackendTls {
        server_name: ExpectedName::Is(server_name.to_owned()),
        ..settings(Verify::Ca(file.path().to_owned()))
    })
    .unwrap()
}

fn connect(
    client: &BackendTlsClient,
    backend: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Ends, HandshakeFault> {
    let session = client.session();
    let name = session.server_name().to_str().into_owned();
    handshake(&session.config(), &backend.server(versions), &name)
        .map_err(|failure| HandshakeFault::from(&failure.client.expect("the client's verdict")))
}

/// The one fault that both versions of TLS end with.
fn fault(client: &BackendTlsClient, backend: &Identity) -> HandshakeFault {
    let [old, new] = VERSIONS.map(|versions| connect(client, backend, versions).unwrap_err());
    assert_eq!(old.to_string(), new.to_string());
    assert!(old.is_certificate());
    old
}

#[test]
fn a_certificate_of_a_known_authority_with_the_right_name_is_accepted() {
    let authority = Authority::new("Backend CA");
    let client = trusting(&authority.pem());
    for versions in VERSIONS {
        connect(&client, &authority.issue(&[NAME]), versions).unwrap();
    }
}

#[test]
fn an_address_is_checked_like_a_name() {
    let authority = Authority::new("Backend CA");
    let client = trusting_as(&authority.pem(), "192.0.2.7");
    for versions in VERSIONS {
        connect(&client, &authority.issue(&["192.0.2.7"]), versions).unwrap();
    }
    assert_eq!(
        fault(&client, &authority.issue(&[NAME])).to_string(),
        "certificate is not for 192.0.2.7 but for be1.test"
    );
    assert_eq!(
        fault(&client, &authority.issue(&["192.0.2.8", "2001:db8::7"])).to_string(),
        "certificate is not for 192.0.2.7 but for 192.0.2.8, 2001:db8::7"
    );
}

#[test]
fn a_file_of_authorities_without_one_is_known() {
    let authority = Authority::new("Backend CA");
    let leaf = pem::encode("CERTIFICATE", &authority.issue(&[NAME]).chain[0]);
    let subject = |pem: &str| {
        let client = trusting(pem);
        let non_ca = client.non_ca_trust_anchor();
        non_ca.map(|it| it.subject.clone())
    };
    assert!(subject(&leaf).is_some());
    assert_eq!(subject(&authority.pem()), None);
    assert_eq!(subject(&(leaf + &authority.pem())), None);
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    assert_eq!(subject(&own.cert.pem()), None, "it may be trusted as it is");
}

#[test]
fn an_expired_certificate_is_refused_with_its_date() {
    let authority = Authority::new("Backend CA");
    let backend = authority.issue_for_days(&[NAME], -30..-12);
    let fault = fault(&trusting(&authority.pem()), &backend);
    let HandshakeFault::Expired { .. } = &fault else {
        panic!("{fault:?}");
    };
    let text = fault.to_string();
    assert!(text.starts_with("certificate expired on 20"), "{text}");
    assert!(text.ends_with(" (12 days ago)"), "{text}");
}

#[test]
fn a_certificate_from_the_future_is_refused() {
    let authority = Authority::new("Backend CA");
    let backend = authority.issue_for_days(&[NAME], 3..9);
    let fault = fault(&trusting(&authority.pem()), &backend);
    let HandshakeFault::NotYetValid { not_before, now } = fault else {
        panic!("{fault:?}");
    };
    assert!(now < not_before);
}

#[test]
fn a_certificate_for_other_names_is_refused_naming_them() {
    let authority = Authority::new("Backend CA");
    let client = trusting(&authority.pem());
    assert_eq!(
        fault(&client, &authority.issue(&["a.test", "*.b.test"])).to_string(),
        "certificate is not for be1.test but for a.test, *.b.test"
    );
    assert_eq!(
        fault(&client, &authority.issue(&[])).to_string(),
        "certificate is not for be1.test: it has no subjectAltName"
    );
}

#[test]
fn an_authority_that_was_made_anew_under_its_name_is_told_from_an_unknown_one() {
    let client = trusting(&Authority::new("Backend CA").pem());
    let backend = Authority::new("Backend CA").issue(&[NAME]);
    let text = fault(&client, &backend).to_string();
    let expected = "certificate issued by CN=Backend CA, but not signed with the key of the trusted authority of that name";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn an_unknown_authority_is_refused_naming_it() {
    let client = trusting(&Authority::new("Backend CA").pem());
    assert_eq!(
        fault(&client, &Authority::new("Other CA").issue(&[NAME])).to_string(),
        "certificate issued by CN=Other CA, which is not trusted"
    );
}

#[test]
fn a_self_signed_certificate_is_refused_unless_it_is_in_the_ca_file() {
    let backend = Identity::self_signed(&[NAME]);
    let client = trusting(&Authority::new("Backend CA").pem());
    assert_eq!(
        fault(&client, &backend).to_string(),
        "self-signed certificate (CN=be1.test), which is not trusted"
    );
    for versions in VERSIONS {
        connect(&trusting(&backend.leaf_pem()), &backend, versions).unwrap();
    }
}

#[test]
fn a_self_signed_certificate_that_claims_to_be_an_authority_needs_a_pin() {
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let backend = Identity::self_signed_with(&[NAME], is_ca);
    assert_eq!(
        fault(&trusting(&backend.leaf_pem()), &backend).to_string(),
        "certificate (CN=be1.test) is a certificate authority's, not a server's: pin its fingerprint"
    );
    let pinned = Verify::Fingerprint(fingerprint(&backend.chain[0]));
    let client = BackendTlsClient::new(&settings(pinned)).unwrap();
    for versions in VERSIONS {
        connect(&client, &backend, versions).unwrap();
    }
}

#[test]
fn a_pinned_certificate_is_accepted_whatever_else_is_wrong_with_it() {
    let backend = Authority::new("CA").issue_for_days(&["other.test"], -30..-12);
    let pinned = Verify::Fingerprint(fingerprint(&backend.chain[0]));
    let client = BackendTlsClient::new(&settings(pinned)).unwrap();
    for versions in VERSIONS {
        connect(&client, &backend, versions).unwrap();
    }
}

#[test]
fn another_certificate_than_the_pinned_one_is_refused_with_its_fingerprint() {
    let client = BackendTlsClient::new(&settings(Verify::Fingerprint([7; 32]))).unwrap();
    let backend = Identity::self_signed(&[NAME]);
    let seen = fingerprint(&backend.chain[0]);
    let fault = fault(&client, &backend);
    assert_eq!(fault, HandshakeFault::Fingerprint { seen });
    let hex: String = seen.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        fault.to_string(),
        format!("certificate has fingerprint sha256:{hex}, which is not the configured one")
    );
}

#[test]
fn without_verification_any_certificate_is_accepted() {
    let client = BackendTlsClient::new(&settings(Verify::None)).unwrap();
    let backend = Authority::new("CA").issue_for_days(&["other.test"], -30..-12);
    for versions in VERSIONS {
        connect(&client, &backend, versions).unwrap();
    }
}

/// A peer presents the pinned certificate, which is public, without having its key.
#[test]
fn a_certificate_shown_without_its_key_is_refused_by_every_verifier() {
    let shown = Identity::self_signed(&[NAME]);
    let impostor = Identity::self_signed(&[NAME]).showing(&shown);
    let pinned = Verify::Fingerprint(fingerprint(&shown.chain[0]));
    for verify in [pinned, Verify::None] {
        let client = BackendTlsClient::new(&settings(verify)).unwrap();
        for versions in VERSIONS {
            let session = client.session();
            let failure =
                handshake(&session.config(), &impostor.server(versions), NAME).unwrap_err();
            assert_eq!(
                failure.client,
                Some(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::BadSignature
                ))
            );
        }
    }
}

#[test]
fn a_session_resumes_its_own_connections_and_no_other_sessions() {
    let authority = Authority::new("Backend CA");
    let client = trusting(&authority.pem());
    for versions in VERSIONS {
        let backend = authority.issue(&[NAME]).server(versions);
        let (one, other) = (client.session(), client.session());
        let kind = |session: &BackendSessionTls| {
            let ends = handshake(&session.config(), &backend, NAME).unwrap();
            ends.client.handshake_kind().unwrap()
        };
        assert_eq!(kind(&one), HandshakeKind::Full);
        for _ in 0..12 {
            assert_eq!(kind(&one), HandshakeKind::Resumed);
        }
        assert_eq!(kind(&other), HandshakeKind::Full);
    }
}

#[test]
fn no_newer_version_than_the_settings_allow_is_offered() {
    let client = BackendTlsClient::new(&BackendTls {
        max_version: TlsVersion::V1_2,
        ..settings(Verify::None)
    })
    .unwrap();
    let backend = Identity::self_signed(&[NAME]);
    let both = [&rustls::version::TLS13, &rustls::version::TLS12];
    let ends = connect(&client, &backend, &both).unwrap();
    assert_eq!(
        ends.client.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
    assert_eq!(
        connect(&client, &backend, VERSIONS[1]).unwrap_err(),
        HandshakeFault::NoCommonVersion
    );
}

#[test]
fn a_backend_that_answers_in_plaintext_is_recognized() {
    let session = BackendTlsClient::new(&settings(Verify::None))
        .unwrap()
        .session();
    for greeting in [
        "220 Welcome\r\n",
        "500 What?\r\n",
        "HTTP/1.1 400 Bad Request\r\n",
    ] {
        let mut connection =
            rustls::ClientConnection::new(session.config(), session.server_name()).unwrap();
        connection.read_tls(&mut greeting.as_bytes()).unwrap();
        let error = connection.process_new_packets().unwrap_err();
        assert_eq!(HandshakeFault::from(&error), HandshakeFault::NotTls);
    }
}

#[test]
fn settings_that_cannot_work_are_refused_with_the_file_at_fault() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let missing = file.path().with_extension("missing");
    let failure = |settings: &BackendTls| BackendTlsClient::new(settings).unwrap_err();
    assert!(matches!(
        failure(&settings(Verify::Ca(missing))),
        BackendTlsError::Ca(FileError::Read { .. })
    ));
    assert!(matches!(
        failure(&settings(Verify::Ca(file.path().to_owned()))),
        BackendTlsError::Ca(FileError::Empty { .. })
    ));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file.path(), garbage).unwrap();
    assert!(matches!(
        failure(&settings(Verify::Ca(file.path().to_owned()))),
        BackendTlsError::TrustAnchor { position: 1, .. }
    ));
    let unnamed = BackendTls {
        server_name: ExpectedName::Is("no name".to_owned()),
        ..settings(Verify::None)
    };
    assert_eq!(
        failure(&unnamed).to_string(),
        "server name \"no name\" is neither a host name nor an IP address"
    );
}

/// A device's certificate of X.509 version 1.
fn of_version_1() -> Identity {
    Identity::of(
        include_str!("../../../tests/old_certificates/version1.crt"),
        include_str!("../../../tests/old_certificates/version1.key"),
    )
}

#[test]
fn a_certificate_of_version_1_is_as_good_as_any_where_only_its_key_counts() {
    let backend = of_version_1();
    let pinned = Verify::Fingerprint(fingerprint(&backend.chain[0]));
    for verify in [Verify::None, pinned] {
        for max_version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let client = BackendTlsClient::new(&BackendTls {
                max_version,
                ..settings(verify.clone())
            });
            let versions = VERSIONS[usize::from(max_version == TlsVersion::V1_3)];
            connect(&client.unwrap(), &backend, versions).unwrap();
        }
    }
    let fault = fault(&trusting(&Authority::new("Backend CA").pem()), &backend);
    assert_eq!(
        fault.to_string(),
        "certificate is of X.509 version 1, and only version 3 can be verified: pin its fingerprint"
    );
}

#[test]
fn a_certificate_of_version_1_with_another_key_is_refused_all_the_same() {
    let backend = Identity::self_signed(&[NAME]).showing(&of_version_1());
    let client = BackendTlsClient::new(&settings(Verify::None)).unwrap();
    for versions in VERSIONS {
        connect(&client, &backend, versions).unwrap_err();
    }
}
