//! Headers of both versions, whole, cut and broken.

use super::*;
use proptest::prelude::*;

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn proxied(client: &str, destination: &str) -> Header {
    Header::Proxied(ProxiedAddresses {
        client: end(client),
        destination: end(destination),
    })
}

fn whole(bytes: &[u8]) -> Result<Header, BadHeader> {
    match parse(bytes)? {
        Parsed::Complete { header, length } => {
            assert_eq!(length, bytes.len());
            Ok(header)
        }
        Parsed::Incomplete => panic!("incomplete: {}", bytes.escape_ascii()),
    }
}

fn v2(command: u8, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a length of two bytes");
    [
        &version_2::SIGNATURE[..],
        &[command, protocol],
        &length.to_be_bytes(),
        rest,
    ]
    .concat()
}

fn v2_of(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let protocol = if client.is_ipv4() {
        version_2::TCP_OVER_IPV4
    } else {
        version_2::TCP_OVER_IPV6
    };
    let rest = [
        octets(client.ip()),
        octets(destination.ip()),
        client.port().to_be_bytes().to_vec(),
        destination.port().to_be_bytes().to_vec(),
    ]
    .concat();
    v2(version_2::PROXY, protocol, &rest)
}

fn v1_of(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { 4 } else { 6 };
    format!(
        "PROXY TCP{family} {} {} {} {}\r\n",
        client.ip(),
        destination.ip(),
        client.port(),
        destination.port()
    )
    .into_bytes()
}

#[test]
fn version_1_names_both_ends() {
    assert_eq!(
        whole(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 21\r\n"),
        Ok(proxied("192.0.2.7:40000", "198.51.100.1:21"))
    );
    assert_eq!(
        whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 990\r\n"),
        Ok(proxied("[2001:db8::7]:40000", "[2001:db8::1]:990"))
    );
}

#[test]
fn a_balancers_own_connection_names_nobody() {
    for own in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
        &v2(version_2::LOCAL, version_2::UNSPECIFIED, b""),
        &v2(version_2::LOCAL, version_2::TCP_OVER_IPV4, b"\x01\x02"),
        &v2(version_2::PROXY, version_2::UNSPECIFIED, b"anything"),
    ] {
        assert_eq!(whole(own), Ok(Header::Local), "{}", own.escape_ascii());
    }
}

#[test]
fn an_ipv4_address_mapped_into_ipv6_is_an_ipv4_address() {
    let expected = proxied("192.0.2.7:40000", "198.51.100.1:21");
    assert_eq!(
        whole(b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 40000 21\r\n"),
        Ok(expected)
    );
    let mapped = v2_of(
        end("[::ffff:192.0.2.7]:40000"),
        end("[::ffff:198.51.100.1]:21"),
    );
    assert_eq!(whole(&mapped), Ok(expected));
}

#[test]
fn a_line_that_the_grammar_does_not_have_is_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 21\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 40000 21\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 21 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 040 21\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +40 21\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 21\r\n",
        "PROXY TCP4 192.0.2.007 198.51.100.1 40000 21\r\n",
        "PROXY TCP4 2001:db8::7 2001:db8::1 40000 21\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 40000 21\r\n",
        "PROXY TCP6 fe80::1%eth0 fe80::2 40000 21\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 40000 21\r\n",
        "PROXY \u{e4}\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(BadHeader::Line), "{line:?}");
    }
}

#[test]
fn what_begins_like_no_header_is_refused_at_its_first_wrong_byte() {
    for bytes in [
        &b"U"[..],
        b"USER alice\r\n",
        b"proxy ",
        b"PROXZ",
        b"\x16\x03\x01",
        b"\r\n\r\n\0\r\nQUIR",
    ] {
        assert_eq!(
            parse(bytes),
            Err(BadHeader::NotAHeader),
            "{}",
            bytes.escape_ascii()
        );
    }
}

#[test]
fn a_header_longer_than_its_bound_is_refused_before_it_has_come() {
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..106]), Ok(Parsed::Incomplete));
    assert_eq!(parse(&endless[..107]), Err(BadHeader::TooLong));
    let longest = v2(version_2::LOCAL, 0, &[0; version_2::MAX_REST]);
    assert_eq!(whole(&longest), Ok(Header::Local));
    assert_eq!(longest.len(), MAX_LEN);
    let longer = v2(version_2::LOCAL, 0, &[0; version_2::MAX_REST + 1]);
    assert_eq!(parse(&longer[..version_2::FIXED]), Err(BadHeader::TooLong));
}

#[test]
fn version_2_of_another_kind_is_refused() {
    for command in [0x00, 0x11, 0x22, 0x31] {
        let header = v2(command, version_2::TCP_OVER_IPV4, &[1; 12]);
        assert_eq!(parse(&header), Err(BadHeader::Command(command)));
    }
    // UDP, and sockets of the file system.
    for protocol in [0x01, 0x12, 0x22, 0x31, 0x41] {
        let header = v2(version_2::PROXY, protocol, &[1; 216]);
        assert_eq!(parse(&header), Err(BadHeader::Protocol(protocol)));
    }
    for (protocol, least) in [
        (version_2::TCP_OVER_IPV4, 12),
        (version_2::TCP_OVER_IPV6, 36),
    ] {
        let rest = vec![1; least];
        whole(&v2(version_2::PROXY, protocol, &rest)).expect("long enough");
        let short = v2(version_2::PROXY, protocol, &rest[1..]);
        assert_eq!(parse(&short), Err(BadHeader::TooShort));
    }
}

#[test]
fn an_address_that_is_no_machines_is_refused() {
    for bad in ["0.0.0.0", "224.0.0.1", "255.255.255.255"] {
        let bad = SocketAddr::new(bad.parse().expect("an address"), 40000);
        for header in [v1_of(bad, end("198.51.100.1:21")), v2_of(bad, bad)] {
            assert_eq!(parse(&header), Err(BadHeader::Address(bad.ip())));
        }
    }
    let mapped = v2_of(end("[::ffff:0.0.0.0]:1"), end("[::1]:21"));
    assert!(matches!(parse(&mapped), Err(BadHeader::Address(_))));
}

#[test]
fn extensions_are_skipped() {
    let mut header = v2_of(end("192.0.2.7:40000"), end("198.51.100.1:21"));
    header.extend_from_slice(b"\x02\x00\x04test");
    header[15] += 7;
    assert_eq!(
        whole(&header),
        Ok(proxied("192.0.2.7:40000", "198.51.100.1:21"))
    );
}

prop_compose! {
    fn machine(ipv6: bool)(bytes: [u8; 16], port: u16) -> SocketAddr {
        let [a, b, c, d, ..] = bytes;
        let ip = if ipv6 { IpAddr::from(bytes) } else { IpAddr::from([a.clamp(1, 223), b, c, d]) };
        SocketAddr::new(ip, port)
    }
}

fn addresses() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    any::<bool>()
        .prop_flat_map(|ipv6| (machine(ipv6), machine(ipv6)))
        .prop_filter("a machine", |(one, other)| {
            super::proxied(*one, *other).is_ok()
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_arrives(
        (client, destination) in addresses(),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let expected = super::proxied(client, destination).expect("machines");
        for header in [v1_of(client, destination), v2_of(client, destination)] {
            let bytes = [&header[..], &behind].concat();
            for length in 0..header.len() {
                prop_assert_eq!(parse(&bytes[..length]), Ok(Parsed::Incomplete));
            }
            for length in header.len()..=bytes.len() {
                let complete = Parsed::Complete { header: expected, length: header.len() };
                prop_assert_eq!(parse(&bytes[..length]), Ok(complete));
            }
        }
    }

    #[test]
    fn any_bytes_are_a_header_or_none_within_bounds(
        start in prop_oneof![Just(&b""[..]), Just(version_1::START), Just(&version_2::SIGNATURE[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..MAX_LEN + 10),
    ) {
        let bytes = [start, &rest].concat();
        match parse(&bytes) {
            Ok(Parsed::Incomplete) => prop_assert!(bytes.len() < MAX_LEN),
            Ok(Parsed::Complete { length, .. }) => prop_assert!(length <= bytes.len().min(MAX_LEN)),
            Err(_) => {}
        }
    }
}
