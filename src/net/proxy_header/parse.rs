//! The PROXY protocol's header, version 1 and 2, from bytes to addresses.
//!
//! A load balancer writes it before the first byte of a connection that it relays, and says with it who the client is.
//! Whoever may write one may claim to be anybody, so what isn't exactly a header is none, and nothing is guessed.
//!
//! The format is HAProxy's, "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The connection is relayed, and these are the ends of the one that the balancer accepted.
    Relayed(Ends),
    /// The connection is the balancer's own, such as a health check, or it doesn't know the ends: LOCAL, UNKNOWN.
    Own,
}

/// The two ends of a client's connection, in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Who connected.
    pub client: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What the bytes at the beginning of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// All of them belong to a header, and some are still to come.
    Incomplete,
    /// The first `length` of them are a header.
    Complete {
        /// What it says.
        header: Header,
        /// Where it ends.
        length: usize,
    },
}

/// Why the bytes aren't a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// They begin like neither version.
    #[error("what came is no PROXY header")]
    NotAHeader,
    /// Longer than the version allows, or than anybody needs.
    #[error("the PROXY header is too long")]
    TooLong,
    /// Version 1, but not as its grammar has it.
    #[error("the PROXY header's line is malformed")]
    Line,
    /// Version 2 has no such version or command.
    #[error("the PROXY header has the unknown version and command {0:#04x}")]
    Command(u8),
    /// Neither TCP over IPv4 nor over IPv6.
    #[error("the PROXY header is for the protocol {0:#04x}, which isn't TCP")]
    Protocol(u8),
    /// Version 2 too short for its addresses.
    #[error("the PROXY header ends before its addresses do")]
    TooShort,
    /// Addresses that no connection can have.
    #[error("the PROXY header names {0}, which no connection comes from")]
    Address(IpAddr),
}

/// Reads a header from the beginning of `bytes`.
///
/// # Errors
/// As soon as it is sure that no header can become of them.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let begins_like = |start: &[u8]| bytes.iter().zip(start).all(|(one, other)| one == other);
    if begins_like(V2_SIGNATURE) {
        version_2(bytes)
    } else if begins_like(V1_START) {
        version_1(bytes)
    } else {
        Err(BadHeader::NotAHeader)
    }
}

/// `PROXY TCP4 192.0.2.7 198.51.100.1 40000 21` and CR LF.
fn version_1(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let within = &bytes[..bytes.len().min(LONGEST_V1)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < LONGEST_V1 {
            Ok(Parsed::Incomplete)
        } else {
            Err(BadHeader::TooLong)
        };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(BadHeader::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| BadHeader::Line)?;
    Ok(Parsed::Complete {
        header: ends_of_line(line)?,
        length: end + 1,
    })
}

fn ends_of_line(line: &str) -> Result<Header, BadHeader> {
    let fields: Vec<&str> = line.split(' ').collect();
    let address = |text: &str| -> Option<IpAddr> {
        match fields[1] {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            _ => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    match fields[..] {
        // What follows UNKNOWN means nothing.
        ["PROXY", "UNKNOWN", ..] => Ok(Header::Own),
        [
            "PROXY",
            "TCP4" | "TCP6",
            client,
            destination,
            client_port,
            port,
        ] => {
            let end = |ip, number| Some(SocketAddr::new(address(ip)?, port_number(number)?));
            let client = end(client, client_port).ok_or(BadHeader::Line)?;
            let destination = end(destination, port).ok_or(BadHeader::Line)?;
            relayed(client, destination)
        }
        _ => Err(BadHeader::Line),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok())?
}

/// Signature, version and command, protocol, length of the rest; then addresses, ports, and extensions (TLVs) that mean
/// nothing here.
fn version_2(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., command, protocol, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_V2_REST {
        return Err(BadHeader::TooLong);
    }
    let local = match command {
        V2_LOCAL => true,
        V2_PROXY => false,
        other => return Err(BadHeader::Command(other)),
    };
    let Some(rest) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let header = match protocol {
        // A balancer's own connection may name any protocol or none.
        _ if local => Header::Own,
        V2_UNSPECIFIED => Header::Own,
        V2_TCP_OVER_IPV4 => {
            let Some(([client, destination], ports)) = addresses::<4>(rest) else {
                return Err(BadHeader::TooShort);
            };
            relayed((client, ports[0]).into(), (destination, ports[1]).into())?
        }
        V2_TCP_OVER_IPV6 => {
            let Some(([client, destination], ports)) = addresses::<16>(rest) else {
                return Err(BadHeader::TooShort);
            };
            relayed((client, ports[0]).into(), (destination, ports[1]).into())?
        }
        other => return Err(BadHeader::Protocol(other)),
    };
    Ok(Parsed::Complete {
        header,
        length: V2_FIXED + length,
    })
}

/// Two addresses of `N` bytes, and two ports.
fn addresses<const N: usize>(bytes: &[u8]) -> Option<([[u8; N]; 2], [u16; 2])> {
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    let [a, b, c, d] = *ports;
    let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    Some(([*client, *destination], ports))
}

/// Refuses addresses that stand for no machine: to connect to 0.0.0.0, as active mode would, is to connect to oneself.
fn relayed(client: SocketAddr, destination: SocketAddr) -> Result<Header, BadHeader> {
    for ip in [client.ip(), destination.ip()] {
        let ip = ip.to_canonical();
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(BadHeader::Address(ip));
        }
    }
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    Ok(Header::Relayed(Ends {
        client: canonical(client),
        destination: canonical(destination),
    }))
}

/// The most bytes that a header has.
pub const LONGEST: usize = V2_FIXED + LONGEST_V2_REST;

const V1_START: &[u8] = b"PROXY ";
/// With its line end, section 2.1.
const LONGEST_V1: usize = 107;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Up to where the addresses begin.
const V2_FIXED: usize = 16;
/// Addresses and extensions. The format allows 64 KiB; what balancers send, TLS details included, stays below one.
const LONGEST_V2_REST: usize = 2048;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const V2_UNSPECIFIED: u8 = 0x00;
const V2_TCP_OVER_IPV4: u8 = 0x11;
const V2_TCP_OVER_IPV6: u8 = 0x21;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn relayed(client: &str, destination: &str) -> Header {
        Header::Relayed(Ends {
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
            &V2_SIGNATURE[..],
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
            V2_TCP_OVER_IPV4
        } else {
            V2_TCP_OVER_IPV6
        };
        let rest = [
            octets(client.ip()),
            octets(destination.ip()),
            client.port().to_be_bytes().to_vec(),
            destination.port().to_be_bytes().to_vec(),
        ]
        .concat();
        v2(V2_PROXY, protocol, &rest)
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
            Ok(relayed("192.0.2.7:40000", "198.51.100.1:21"))
        );
        assert_eq!(
            whole(b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 990\r\n"),
            Ok(relayed("[2001:db8::7]:40000", "[2001:db8::1]:990"))
        );
    }

    #[test]
    fn a_balancers_own_connection_names_nobody() {
        for own in [
            &b"PROXY UNKNOWN\r\n"[..],
            b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n",
            &v2(V2_LOCAL, V2_UNSPECIFIED, b""),
            &v2(V2_LOCAL, V2_TCP_OVER_IPV4, b"\x01\x02"),
            &v2(V2_PROXY, V2_UNSPECIFIED, b"anything"),
        ] {
            assert_eq!(whole(own), Ok(Header::Own), "{}", own.escape_ascii());
        }
    }

    #[test]
    fn an_ipv4_address_mapped_into_ipv6_is_an_ipv4_address() {
        let expected = relayed("192.0.2.7:40000", "198.51.100.1:21");
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
        let longest = v2(V2_LOCAL, 0, &[0; LONGEST_V2_REST]);
        assert_eq!(whole(&longest), Ok(Header::Own));
        assert_eq!(longest.len(), LONGEST);
        let longer = v2(V2_LOCAL, 0, &[0; LONGEST_V2_REST + 1]);
        assert_eq!(parse(&longer[..V2_FIXED]), Err(BadHeader::TooLong));
    }

    #[test]
    fn version_2_of_another_kind_is_refused() {
        for command in [0x00, 0x11, 0x22, 0x31] {
            let header = v2(command, V2_TCP_OVER_IPV4, &[1; 12]);
            assert_eq!(parse(&header), Err(BadHeader::Command(command)));
        }
        // UDP, and sockets of the file system.
        for protocol in [0x01, 0x12, 0x22, 0x31, 0x41] {
            let header = v2(V2_PROXY, protocol, &[1; 216]);
            assert_eq!(parse(&header), Err(BadHeader::Protocol(protocol)));
        }
        for (protocol, least) in [(V2_TCP_OVER_IPV4, 12), (V2_TCP_OVER_IPV6, 36)] {
            let rest = vec![1; least];
            whole(&v2(V2_PROXY, protocol, &rest)).expect("long enough");
            let short = v2(V2_PROXY, protocol, &rest[1..]);
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
            Ok(relayed("192.0.2.7:40000", "198.51.100.1:21"))
        );
    }

    prop_compose! {
        fn machine(ipv6: bool)(bytes: [u8; 16], port: u16) -> SocketAddr {
            let [a, b, c, d, ..] = bytes;
            let ip = if ipv6 { IpAddr::from(bytes) } else { IpAddr::from([a.clamp(1, 223), b, c, d]) };
            SocketAddr::new(ip, port)
        }
    }

    fn ends() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        any::<bool>()
            .prop_flat_map(|ipv6| (machine(ipv6), machine(ipv6)))
            .prop_filter("a machine", |(one, other)| {
                super::relayed(*one, *other).is_ok()
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_arrives(
            (client, destination) in ends(),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let expected = super::relayed(client, destination).expect("machines");
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
            start in prop_oneof![Just(&b""[..]), Just(V1_START), Just(&V2_SIGNATURE[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..LONGEST + 10),
        ) {
            let bytes = [start, &rest].concat();
            match parse(&bytes) {
                Ok(Parsed::Incomplete) => prop_assert!(bytes.len() < LONGEST),
                Ok(Parsed::Complete { length, .. }) => prop_assert!(length <= bytes.len().min(LONGEST)),
                Err(_) => {}
            }
        }
    }
}
