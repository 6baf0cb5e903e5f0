//! Headers byte by byte, and read again by the parser for incoming ones.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::base::{InstanceId, SessionId};
use crate::net::proxy_header::parse::{self, Header, Parsed};

const TLS_1_2: ClientTls = ClientTls {
    version: TlsVersion::V1_2,
    cipher_suite: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
};
const TLS_1_3: ClientTls = ClientTls {
    version: TlsVersion::V1_3,
    cipher_suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
};

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A client of which nothing but its addresses is known, and its session's id.
fn client(client: &str, destination: &str) -> RelayedClient<'static> {
    RelayedClient {
        addresses: ProxiedAddresses {
            client: end(client),
            destination: end(destination),
        },
        authority: None,
        unique_id: GlobalSessionId {
            instance: InstanceId::of(0x0123_4567_89ab_cdef),
            session: SessionId(42),
        },
        tls: None,
    }
}

fn v1(origin: Origin<'_>) -> String {
    String::from_utf8(header(ProxyVersion::V1, origin)).expect("a line of text")
}

fn v2(client: RelayedClient<'_>) -> Vec<u8> {
    header(ProxyVersion::V2, Origin::Client(client))
}

/// Signature, command and protocol, and length of what follows.
fn fixed(command: u8, protocol: u8, length: u8) -> Vec<u8> {
    let mut fixed = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a".to_vec();
    fixed.extend([command, protocol, 0, length]);
    fixed
}

/// The extension that each header of a client has.
const ID: &[u8] = b"\x05\x00\x130123456789abcdef-42";

/// The part of a header after the addresses and the session's id.
fn behind_the_id(header: &[u8], addresses: usize) -> &[u8] {
    header[16 + addresses..]
        .strip_prefix(ID)
        .expect("the session's id")
}

#[test]
fn version_1_is_a_line_of_the_family_of_its_addresses() {
    let line = |from, to| v1(Origin::Client(client(from, to)));
    assert_eq!(
        line("192.0.2.7:40000", "198.51.100.1:21"),
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 21\r\n"
    );
    assert_eq!(
        line("[2001:db8::7]:40000", "[2001:db8::1]:990"),
        "PROXY TCP6 2001:db8::7 2001:db8::1 40000 990\r\n"
    );
    assert_eq!(
        line("[::ffff:192.0.2.7]:40000", "198.51.100.1:21"),
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 21\r\n"
    );
}

#[test]
fn version_1_has_room_for_the_longest_addresses() {
    let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535";
    let line = v1(Origin::Client(client(longest, longest)));
    // Of the 107 that a receiver has space for.
    assert_eq!(line.len(), 104);
}

#[test]
fn version_2_is_binary_and_of_the_family_of_its_addresses() {
    let ipv4 = v2(client("192.0.2.7:40000", "198.51.100.1:21"));
    let mut expected = fixed(0x21, 0x11, 34);
    expected.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 21]);
    expected.extend(ID);
    assert_eq!(ipv4, expected);
    let mapped = v2(client(
        "[::ffff:192.0.2.7]:40000",
        "[::ffff:198.51.100.1]:21",
    ));
    assert_eq!(mapped, expected);

    let ipv6 = v2(client("[2001:db8::7]:40000", "[2001:db8::1]:990"));
    let mut expected = fixed(0x21, 0x21, 58);
    expected.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07");
    expected.extend(b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01");
    expected.extend([0x9c, 0x40, 0x03, 0xde]);
    expected.extend(ID);
    assert_eq!(ipv6, expected);
}

#[test]
fn ends_of_two_families_or_of_no_machine_are_left_out() {
    for (from, to) in [
        ("192.0.2.7:40000", "[2001:db8::1]:21"),
        ("[2001:db8::7]:40000", "198.51.100.1:21"),
        ("192.0.2.7:40000", "0.0.0.0:0"),
        ("[2001:db8::7]:40000", "[::]:0"),
    ] {
        let client = client(from, to);
        assert_eq!(v1(Origin::Client(client)), "PROXY UNKNOWN\r\n");
        let mut expected = fixed(0x21, 0x00, 22);
        expected.extend(ID);
        assert_eq!(v2(client), expected);
    }
}

#[test]
fn a_check_names_no_client() {
    assert_eq!(v1(Origin::Proxy), "PROXY UNKNOWN\r\n");
    assert_eq!(
        header(ProxyVersion::V2, Origin::Proxy),
        fixed(0x20, 0x00, 0)
    );
}

#[test]
fn the_host_that_a_client_named_comes_first() {
    let header = v2(RelayedClient {
        authority: Some("ftpb.example.com"),
        ..client("192.0.2.7:40000", "198.51.100.1:21")
    });
    let expected = [&b"\x02\x00\x10ftpb.example.com"[..], ID].concat();
    assert_eq!(&header[28..], expected);
}

#[test]
fn the_tls_of_the_client_is_told_in_the_words_of_openssl() {
    let told = |tls| {
        let header = v2(RelayedClient {
            tls: Some(tls),
            ..client("192.0.2.7:40000", "198.51.100.1:21")
        });
        behind_the_id(&header, 12).to_vec()
    };
    assert_eq!(
        told(TLS_1_2),
        b"\x20\x00\x2d\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.2\x23\x00\x1bECDHE-RSA-AES128-GCM-SHA256"
    );
    assert_eq!(
        told(TLS_1_3),
        b"\x20\x00\x28\x01\x00\x00\x00\x01\x21\x00\x07TLSv1.3\x23\x00\x16TLS_AES_256_GCM_SHA384"
    );
}

#[test]
fn every_cipher_suite_that_a_client_can_have_has_a_name() {
    for suite in crate::tls::provider().cipher_suites.iter() {
        assert!(openssl_name(suite.suite()).is_some(), "{suite:?}");
    }
}

#[test]
fn an_id_fits_into_its_extension() {
    let id = GlobalSessionId {
        instance: InstanceId::random(),
        session: SessionId(u64::MAX),
    };
    assert!(id.to_string().len() <= 128);
}

fn any_end() -> impl Strategy<Value = SocketAddr> {
    any::<SocketAddr>().prop_map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()))
}

/// Whether a receiver takes this for the address of a machine.
fn of_a_machine(end: SocketAddr) -> bool {
    let ip = end.ip();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(
        from in any_end().prop_filter("of a machine", |end| of_a_machine(*end)),
        to in any_end().prop_filter("of a machine", |end| of_a_machine(*end)),
        authority in proptest::option::of("[a-z.]{1,253}"),
        session in any::<u64>(),
        tls in proptest::option::of(prop_oneof![Just(TLS_1_2), Just(TLS_1_3)]),
        version in prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)],
    ) {
        let addresses = ProxiedAddresses { client: from, destination: to };
        let unique_id = GlobalSessionId { instance: InstanceId::random(), session: SessionId(session) };
        let client = RelayedClient { addresses, authority: authority.as_deref(), unique_id, tls };
        let bytes = header(version, Origin::Client(client));
        let expected = match from.is_ipv4() == to.is_ipv4() {
            true => Header::Proxied(addresses),
            false => Header::Local,
        };
        let length = bytes.len();
        prop_assert_eq!(parse::parse(&bytes), Ok(Parsed::Complete { header: expected, length }));
    }
}
