//! Tests of which certificate a client is shown: by names, by kinds of keys, by time; and that a session keeps to it.

use std::path::Path;
use std::time::Duration;

use rustls::{ClientConnection, HandshakeKind, ServerConfig};

use super::*;
use crate::config::{HostName, TlsVersion};
use crate::tls::certificate::entry::ConfiguredCertificate;
use crate::tls::fixtures::{VERSIONS, client, handshake};
use crate::tls::{Asked, BeforeHandshake, ServerTls, SessionTls, Tickets, Verifies};

/// A set of these, each known by its name; the first is the default.
fn set(pairs: Vec<(&str, Identity)>) -> CertificateSet {
    let entries = pairs.into_iter().map(|(name, identity)| {
        let pair = Files::with(&identity.chain_pem(), &identity.key_pem()).load();
        let source = Source {
            name: name.into(),
            ..Source::pair(Path::new(name), Path::new(name))
        };
        ConfiguredCertificate::loaded(source, Arc::new(pair.unwrap()))
    });
    Inventory::new(entries.collect(), Vec::new())
        .into_set()
        .unwrap()
}

fn ecdsa(names: &[&str]) -> Identity {
    Identity::self_signed(names)
}

fn rsa(names: &[&str]) -> Identity {
    Identity::self_signed_by_rsa(names)
}

fn for_days(names: &[&str], days: i64) -> Identity {
    Authority::new("CA").issue_for_days(names, -1..days)
}

fn sni(name: &str) -> Asked<'_> {
    Asked {
        server_name: Some(name),
        ..Asked::default()
    }
}

fn shown<'s>(set: &'s CertificateSet, asked: &Asked<'_>) -> &'s str {
    shown_to(set, asked, Verifies::Everything)
}

fn shown_to<'s>(set: &'s CertificateSet, asked: &Asked<'_>, verifies: Verifies) -> &'s str {
    &set.choose(asked, &verifies.schemes(), now())
        .unwrap()
        .0
        .name
}

#[test]
fn a_name_gets_its_certificate_and_an_unknown_one_or_none_the_default() {
    let set = set(vec![
        ("default", ecdsa(&["ftp.test"])),
        ("b", ecdsa(&["ftpb.test", "also.ftpb.test"])),
        ("c", ecdsa(&["ftpc.test"])),
    ]);
    for (name, certificate) in [
        ("ftpb.test", "b"),
        ("also.ftpb.test", "b"),
        ("ftpc.test", "c"),
        ("ftp.test", "default"),
        ("unknown.test", "default"),
        ("test", "default"),
        ("x.ftpb.test", "default"),
        ("", "default"),
    ] {
        assert_eq!(shown(&set, &sni(name)), certificate, "{name}");
    }
    assert_eq!(shown(&set, &Asked::default()), "default");
}

#[test]
fn an_exact_name_goes_before_a_wildcard_and_a_wildcard_is_one_label() {
    let set = set(vec![
        ("default", ecdsa(&["ftp.test", "exact.b.test"])),
        ("wildcard", for_days(&["*.b.test"], 300)),
        ("exact", rsa(&["one.b.test"])),
    ]);
    for (name, certificate) in [
        ("any.b.test", "wildcard"),
        ("one.b.test", "exact"),
        // By the default one, though the other lasts longer.
        ("exact.b.test", "default"),
        ("b.test", "default"),
        (".b.test", "default"),
        ("a.any.b.test", "default"),
    ] {
        assert_eq!(shown(&set, &sni(name)), certificate, "{name}");
    }
}

#[test]
fn of_two_of_one_kind_the_one_that_expires_last_is_shown() {
    let set = set(vec![
        ("default", for_days(&["ftp.test"], 20)),
        ("short", for_days(&["b.test"], 10)),
        ("long", for_days(&["b.test", "ftp.test"], 40)),
        ("middle", for_days(&["b.test"], 30)),
    ]);
    assert_eq!(shown(&set, &sni("b.test")), "long");
    // A client that names the default one's name gets the best, too; one that names none doesn't.
    assert_eq!(shown(&set, &sni("ftp.test")), "long");
    assert_eq!(shown(&set, &Asked::default()), "default");
}

#[test]
fn ecdsa_is_shown_where_the_client_verifies_it_and_else_rsa() {
    let set = set(vec![
        ("default", rsa(&["ftp.test"])),
        ("default-ecdsa", ecdsa(&["ftp.test"])),
        ("b-rsa", rsa(&["b.test"])),
        ("b-ecdsa", for_days(&["b.test"], 3)),
    ]);
    for (name, verifies, certificate) in [
        ("ftp.test", Verifies::Everything, "default-ecdsa"),
        ("ftp.test", Verifies::RsaAlone, "default"),
        ("b.test", Verifies::Everything, "b-ecdsa"),
        ("b.test", Verifies::RsaAlone, "b-rsa"),
        ("unknown.test", Verifies::Everything, "default"),
    ] {
        assert_eq!(
            shown_to(&set, &sni(name), verifies),
            certificate,
            "{name} {verifies:?}"
        );
    }
}

#[test]
fn a_client_that_cannot_use_the_default_key_gets_one_with_the_same_names() {
    let of_default = ("beside", rsa(&["ftp.test", "*.ftp.test", "more.test"]));
    let default = ("default", ecdsa(&["ftp.test", "a.ftp.test"]));
    let other = ("other", rsa(&["ftp.test"]));
    let names = [Asked::default(), sni("unknown.test")];
    let set_with = set(vec![default, other, of_default]);
    for asked in names {
        assert_eq!(shown_to(&set_with, &asked, Verifies::RsaAlone), "beside");
        assert_eq!(shown(&set_with, &asked), "default");
    }
    // One that has not all of its names may be the wrong one: the handshake fails, as without it.
    let set_without = set(vec![
        ("default", ecdsa(&["ftp.test", "a.ftp.test"])),
        ("other", rsa(&["ftp.test"])),
    ]);
    for asked in names {
        assert_eq!(
            shown_to(&set_without, &asked, Verifies::RsaAlone),
            "default"
        );
    }
    // A name that only an ECDSA certificate has: better another name than none.
    let set = set(vec![
        ("default", rsa(&["ftp.test"])),
        ("b", ecdsa(&["b.test"])),
    ]);
    assert_eq!(
        shown_to(&set, &sni("b.test"), Verifies::RsaAlone),
        "default"
    );
}

#[test]
fn what_expires_while_it_is_in_use_is_never_shown_in_place_of_a_good_one() {
    let set = set(vec![
        ("default", for_days(&["ftp.test"], 50)),
        ("exact", for_days(&["one.b.test"], 10)),
        ("wildcard", for_days(&["*.b.test"], 20)),
    ]);
    let shown_after = |days: u64| {
        let then = now() + Duration::from_secs(days * 86_400 + 3_600);
        let schemes = Verifies::Everything.schemes();
        &*set
            .choose(&sni("one.b.test"), &schemes, then)
            .unwrap()
            .0
            .name
    };
    assert_eq!(shown_after(9), "exact");
    assert_eq!(shown_after(10), "wildcard");
    assert_eq!(shown_after(20), "default");
    // There is nothing better.
    assert_eq!(shown_after(50), "default");
}

/// For 90 days, below an issuer that is valid for `days` from now.
fn below_issuer(names: &[&str], days: std::ops::Range<i64>) -> Identity {
    let root = Authority::new("root");
    let issuer = root.subordinate("CA", 1);
    let issuer_anew = root.issue_authority_anew(&issuer, "CA", days);
    issuer.issue_for_days(names, -1..90).below(issuer_anew)
}

#[test]
fn one_whose_chain_is_not_valid_is_never_shown_in_place_of_a_good_one() {
    for bad_chain in [-30..-1, 1..365] {
        let bad = |names: &[&str]| below_issuer(names, bad_chain.clone());
        let set = set(vec![
            ("default", bad(&["ftp.test"])),
            ("bad", bad(&["b.test"])),
            ("good", for_days(&["b.test"], 3)),
            ("exact", bad(&["one.c.test"])),
            ("wildcard", for_days(&["*.c.test"], 3)),
            ("alone", bad(&["alone.test"])),
            ("beside", for_days(&["ftp.test", "more.test"], 3)),
        ]);
        for (name, certificate) in [
            ("b.test", "good"),
            ("one.c.test", "wildcard"),
            // Better than one for another name: many clients verify nothing.
            ("alone.test", "alone"),
            ("ftp.test", "beside"),
            ("unknown.test", "beside"),
        ] {
            assert_eq!(shown(&set, &sni(name)), certificate, "{name}");
        }
    }
}

#[test]
fn a_chain_counts_as_long_as_its_issuers_do() {
    let set = set(vec![
        ("default", for_days(&["ftp.test"], 50)),
        ("short-chain", below_issuer(&["b.test"], -1..10)),
        ("long-chain", for_days(&["b.test"], 20)),
    ]);
    assert_eq!(shown(&set, &sni("b.test")), "long-chain");
}

#[test]
fn a_valid_one_with_all_its_names_stands_in_for_a_default_that_has_expired() {
    let set = set(vec![
        ("default", for_days(&["ftp.test"], 10)),
        ("beside", for_days(&["ftp.test", "more.test"], 20)),
        ("other", for_days(&["other.test"], 90)),
    ]);
    let schemes = Verifies::Everything.schemes();
    for (name, shown) in [(9, "default"), (11, "beside"), (21, "default")].map(|(days, shown)| {
        let then = now() + Duration::from_secs(days * 86_400);
        let (source, _) = set.choose(&sni("unknown.test"), &schemes, then).unwrap();
        (source.name.to_string(), shown)
    }) {
        assert_eq!(name, shown);
    }
}

#[test]
fn host_that_chose_a_site_goes_before_the_server_name_and_one_that_did_not_behind_it() {
    let set = set(vec![
        ("default", ecdsa(&["ftp.test"])),
        ("b", ecdsa(&["b.test"])),
        ("c", ecdsa(&["c.test"])),
    ]);
    for (site_host, server_name, proxy_host, certificate) in [
        (Some("b.test"), None, None, "b"),
        (Some("b.test"), Some("c.test"), None, "b"),
        // The site that the session gets has none of its own, and the other's would contradict it.
        (Some("unknown.test"), Some("c.test"), None, "default"),
        (None, Some("c.test"), Some("b.test"), "c"),
        (None, Some("unknown.test"), Some("b.test"), "b"),
        (None, None, Some("b.test"), "b"),
        (None, None, Some("unknown.test"), "default"),
    ] {
        let asked = Asked {
            site_host,
            server_name,
            proxy_host,
        };
        assert_eq!(shown(&set, &asked), certificate, "{asked:?}");
    }
}

/// A set as [`set`], signed by this authority, and the session of a client.
fn session(authority: &Authority) -> SessionTls {
    let set = set(vec![
        ("default", authority.issue(&["ftp.test"])),
        ("b", authority.issue(&["b.test"])),
    ]);
    let tls = ServerTls::new(Arc::new(set), TlsVersion::V1_2);
    SessionTls::new(&tls, None, crate::base::SessionId(7))
}

fn before(site_host: Option<&str>) -> BeforeHandshake {
    BeforeHandshake {
        site_host: site_host.and_then(|host| HostName::parse(host.as_bytes())),
        proxy_host: None,
        now: now(),
    }
}

#[test]
fn data_connections_show_what_their_control_connection_has_shown_whatever_they_name() {
    let authority = Authority::new("CA");
    for versions in VERSIONS {
        for (on_control, certificate) in [("ftp.test", "default"), ("b.test", "b")] {
            let session = session(&authority);
            session.before_handshake(before(None));
            let mut config = client(&authority, versions);
            let ends = handshake(&Arc::new(config.clone()), &session.control(), on_control);
            let on_control = leaf(&ends.unwrap().client);
            assert_eq!(session.shown_certificate().unwrap().as_ref(), certificate);
            // The certificate has another name than this client names, so it must not look.
            config.dangerous().set_certificate_verifier(trusting());
            let config = Arc::new(config);
            for on_data in ["ftp.test", "b.test", "unknown.test"] {
                let data = session.data(crate::config::SessionReuse::Off, Tickets::None);
                let server: Arc<ServerConfig> = data.connection().config();
                let ends = handshake(&config, &server, on_data).unwrap();
                assert_eq!(ends.server.handshake_kind(), Some(HandshakeKind::Full));
                assert_eq!(leaf(&ends.client), on_control, "{on_data}");
            }
        }
    }
}

#[test]
fn host_counts_in_the_handshake_that_follows_it() {
    let authority = Authority::new("CA");
    for versions in VERSIONS {
        let session = session(&authority);
        session.before_handshake(before(Some("b.test")));
        let config = Arc::new(client(&authority, versions));
        let failure = handshake(&config, &session.control(), "ftp.test");
        // It names one host by HOST and trusts in another.
        assert!(failure.unwrap_err().client.is_some());
        assert_eq!(&**session.shown_certificate().unwrap(), "b");
    }
}

fn leaf(client: &ClientConnection) -> Vec<u8> {
    client.peer_certificates().unwrap()[0].to_vec()
}

/// Looks at nothing.
fn trusting() -> Arc<dyn rustls::client::danger::ServerCertVerifier> {
    Arc::new(Trusting)
}

#[derive(Debug)]
struct Trusting;

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        Verifies::Everything.schemes()
    }
}
