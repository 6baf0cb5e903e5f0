//! The notation of data connection addresses in FTP: PORT and 227 (RFC 959), EPRT and 229 (RFC 2428).
//!
//! Input from clients is parsed strictly, input from servers as leniently as their variety demands: no parentheses,
//! blanks beside the commas, dots for commas, a full stop at the end, `!` for `|`, a 227 in answer to EPSV.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use super::reply::Reply;
use crate::base::text::decimal;

/// Ports below belong to system services; no FTP data connection has business there.
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Why an EPRT argument names no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadEprt {
    /// The argument is not of the form `|1|132.235.1.2|6275|`.
    Syntax,
    /// The argument has a network protocol other than 1 (IPv4) and 2 (IPv6).
    Family,
}

/// The kind of address that an EPSV command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpsvArgument {
    /// The protocol of the control connection.
    Any,
    /// `1`
    Ipv4,
    /// `2`
    Ipv6,
    /// `ALL`: from now on only EPSV (RFC 2428 §4).
    All,
    /// Anything else.
    Other,
}

/// Reads `h1,h2,h3,h4,p1,p2`.
pub fn parse_port(argument: &[u8]) -> Option<SocketAddrV4> {
    let text = std::str::from_utf8(argument).ok()?;
    let mut fields = [0u8; 6];
    let mut parts = text.split(',');
    for field in &mut fields {
        *field = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| address_of(fields))
}

/// Reads `|family|address|port|`; any printable character may be the delimiter.
pub fn parse_eprt(argument: &[u8]) -> Result<SocketAddr, BadEprt> {
    let text = std::str::from_utf8(argument).map_err(|_| BadEprt::Syntax)?;
    let delimiter = text
        .chars()
        .next()
        .filter(|first| matches!(first, '!'..='~') && !first.is_ascii_alphanumeric())
        .ok_or(BadEprt::Syntax)?;
    let fields: Vec<&str> = text.split(delimiter).collect();
    let ["", family, address, port, ""] = fields[..] else {
        return Err(BadEprt::Syntax);
    };
    let address = match family {
        "1" => IpAddr::V4(address.parse().map_err(|_| BadEprt::Syntax)?),
        "2" => IpAddr::V6(address.parse().map_err(|_| BadEprt::Syntax)?),
        _ => return Err(BadEprt::Family),
    };
    let port = decimal(port).ok_or(BadEprt::Syntax)?;
    Ok(SocketAddr::new(address, port))
}

/// Reads the argument of EPSV.
pub fn parse_epsv(argument: &[u8]) -> EpsvArgument {
    match argument {
        b"" => EpsvArgument::Any,
        b"1" => EpsvArgument::Ipv4,
        b"2" => EpsvArgument::Ipv6,
        all if all.eq_ignore_ascii_case(b"ALL") => EpsvArgument::All,
        _ => EpsvArgument::Other,
    }
}

/// The endpoint that a server announces in its answer to EPSV or PASV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnouncedEndpoint {
    /// The port.
    pub port: u16,
    /// The address of a 227: for people to read, see [`announced`].
    pub address: Option<Ipv4Addr>,
}

/// The port that a server's answer to EPSV or PASV announces.
///
/// The address in a 227 is ignored: data goes to the address of the control connection, or a server could point
/// Portcullis anywhere (CVE-2020-8284), and behind NAT it is wrong more often than right. A 229 in answer to PASV and a
/// 227 in answer to EPSV occur in practice, and so do replies of several lines.
pub fn announced(reply: &Reply) -> Option<AnnouncedEndpoint> {
    let read = |text: &[u8]| match reply.number() {
        227 => six_numbers(text).map(|fields| {
            let there = address_of(fields);
            AnnouncedEndpoint {
                port: there.port(),
                address: Some(*there.ip()),
            }
        }),
        229 => port_in_229(text).map(|port| AnnouncedEndpoint {
            port,
            address: None,
        }),
        _ => None,
    };
    let texts = reply.lines().filter_map(|line| line.get(4..));
    read(reply.text())
        .or_else(|| texts.filter_map(read).next())
        .filter(|announced| announced.port >= FIRST_UNPRIVILEGED)
}

/// Whether a client may be reached there in active mode: its own address, and no privileged port (RFC 2577 §3).
pub fn is_own_unprivileged(target: SocketAddr, client: IpAddr) -> bool {
    target.ip().to_canonical() == client.to_canonical() && target.port() >= FIRST_UNPRIVILEGED
}

/// The reply to PASV. One line in exactly this form: several clients search for it.
pub fn reply_227(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})\r\n")
}

/// PORT, or EPRT where that has no meaning, as a client of a backend.
pub fn active_command(at: SocketAddr) -> String {
    match at.ip().to_canonical() {
        IpAddr::V4(ip) => port_command(ip, at.port()),
        IpAddr::V6(ip) => eprt_command(ip, at.port()),
    }
}

fn port_command(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("PORT {a},{b},{c},{d},{high},{low}")
}

fn eprt_command(address: Ipv6Addr, port: u16) -> String {
    format!("EPRT |2|{address}|{port}|")
}

/// The reply to EPSV.
pub fn reply_229(port: u16) -> String {
    format!("229 Entering Extended Passive Mode (|||{port}|)\r\n")
}

fn address_of([a, b, c, d, high, low]: [u8; 6]) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
}

/// The first six numbers with commas (or dots) between them, wherever they stand (RFC 1123 §4.1.2.6).
fn six_numbers(text: &[u8]) -> Option<[u8; 6]> {
    let begins_number = |at: &usize| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        text[*at].is_ascii_digit() && !before.is_some_and(u8::is_ascii_digit)
    };
    (0..text.len())
        .filter(begins_number)
        .find_map(|at| six_numbers_at(&text[at..]))
}

/// Six numbers right here. Blanks may stand on both sides of a comma: Bochs' server writes `127, 0, 0, 1, 4, 1`.
fn six_numbers_at(mut text: &[u8]) -> Option<[u8; 6]> {
    let mut fields = [0; 6];
    for (index, field) in fields.iter_mut().enumerate() {
        if index > 0 {
            let (separator, rest) = text.trim_ascii_start().split_first()?;
            if !b",.".contains(separator) {
                return None;
            }
            text = rest.trim_ascii_start();
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = text.split_at(digits);
        *field = decimal(std::str::from_utf8(number).ok()?)?;
        text = rest;
    }
    Some(fields)
}

/// The number between the last two of four equal delimiters. Between the others there is nothing, or what should be
/// left out according to RFC 2428 §3: protocol and address.
fn port_in_229(text: &[u8]) -> Option<u16> {
    // As nearly every server writes it.
    if let Some(at) = memchr::memchr(b'(', text)
        && let Some(digits) = text[at + 1..].strip_prefix(b"|||")
        && let Some(end) = memchr::memchr(b'|', digits)
        && let Ok(digits) = std::str::from_utf8(&digits[..end])
        && let Some(port) = decimal(digits)
    {
        return Some(port);
    }
    (0..text.len()).find_map(|at| {
        let delimiter = *text.get(at).filter(|byte| byte.is_ascii_punctuation())?;
        let mut fields = text[at + 1..].split(|byte| *byte == delimiter);
        let (protocol, address, port) = (fields.next()?, fields.next()?, fields.next()?);
        // What stands behind the last delimiter, be it nothing.
        fields.next()?;
        let is_left_out = protocol.is_empty() && address.is_empty();
        let is_written = matches!(protocol, b"1" | b"2") && !address.is_empty();
        (is_left_out || is_written)
            .then(|| decimal(std::str::from_utf8(port.trim_ascii()).ok()?))
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn announced(text: &str) -> Option<u16> {
        let mut parser = ReplyParser::default();
        let reply = text.split("\r\n").find_map(|line| {
            let line = Line::Whole(Bytes::copy_from_slice(line.as_bytes()));
            parser.push(line).unwrap()
        });
        super::announced(&reply.unwrap()).map(|announced| announced.port)
    }

    #[test]
    fn port_takes_six_numbers_and_nothing_else() {
        assert_eq!(
            parse_port(b"127,0,0,1,4,1"),
            Some("127.0.0.1:1025".parse().unwrap())
        );
        for bad in [
            "127,0,0,1,4",
            "127,0,0,1,4,1,2",
            "256,0,0,1,4,1",
            "127,0,0,1,4,+1",
            "127, 0,0,1,4,1",
            "",
            "a,b,c,d,e,f",
        ] {
            assert_eq!(parse_port(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn eprt_takes_both_families_and_any_delimiter() {
        assert_eq!(
            parse_eprt(b"|1|132.235.1.2|6275|"),
            Ok("132.235.1.2:6275".parse().unwrap())
        );
        assert_eq!(
            parse_eprt(b"!2!::1!6446!"),
            Ok("[::1]:6446".parse().unwrap())
        );
        assert_eq!(parse_eprt(b"|3|x|1025|"), Err(BadEprt::Family));
        for bad in [
            "|1|::1|1025|",
            "|1|1.2.3.4|65536|",
            "|1|1.2.3.4|1025",
            "1",
            "",
            "|2|fe80::1%eth0|1025|",
            "|1|1.2.3.4|-1|",
        ] {
            assert_eq!(parse_eprt(bad.as_bytes()), Err(BadEprt::Syntax), "{bad}");
        }
    }

    #[test]
    fn active_mode_reaches_only_the_clients_own_unprivileged_ports() {
        let client: IpAddr = "127.0.0.1".parse().unwrap();
        let allowed = |target: &str| is_own_unprivileged(target.parse().unwrap(), client);
        assert!(allowed("127.0.0.1:1024"));
        assert!(allowed("[::ffff:127.0.0.1]:1024"));
        for target in [
            "127.0.0.1:1023",
            "127.0.0.2:5000",
            "[::1]:5000",
            "0.0.0.0:5000",
            "224.0.0.1:5000",
        ] {
            assert!(!allowed(target), "{target}");
        }
    }

    #[test]
    fn servers_announce_ports_in_many_ways() {
        assert_eq!(
            announced("227 Entering Passive Mode (192,168,1,1,195,80)."),
            Some(50000)
        );
        assert_eq!(
            announced("227 Entering Passive Mode 192,168,1,1,195,80"),
            Some(50000)
        );
        assert_eq!(announced("227 ok =192.168.1.1.195.80"), Some(50000));
        assert_eq!(
            announced("229 Entering Extended Passive Mode (|||50000|)"),
            Some(50000)
        );
        assert_eq!(
            announced("229 Entering Extended Passive Mode (!!!50000!)"),
            Some(50000)
        );
        assert_eq!(announced("229 |||50000|"), Some(50000));
        for text in [
            "227 Entering passive mode (192, 168, 1, 1, 195, 80).",
            "227 Entering Passive Mode 192,168,1,1,195,80.",
            "227 Entering Passive Mode (192 ,168 ,1 ,1 ,195 ,80)",
            "227 Passive mode 1 of 2 (192,168,001,001,195,080)",
            "227 PASV ok; 192,168,1,1,195,80;",
            "227-Entering Passive Mode (192,168,1,1,195,80)\r\n227 Go on",
            "229 Entering Extended Passive Mode |||50000|",
            "229 Ok. ( |||50000| )",
            "229 Entering Extended Passive Mode (|||50000|).",
            "229 Entering Extended Passive Mode (|1|192.168.1.1|50000|)",
            "229 Entering Extended Passive Mode (|2|fe80::1|50000|)",
            "229-Entering Extended Passive Mode (|||50000|)\r\n229 Go on",
        ] {
            assert_eq!(announced(text), Some(50000), "{text}");
        }
    }

    #[test]
    fn the_address_of_a_227_is_read_for_people_to_see() {
        let line = Line::Whole("227 ok (10,0,0,1,195,80)".into());
        let reply = ReplyParser::default().push(line).unwrap().unwrap();
        let announced = super::announced(&reply).unwrap();
        assert_eq!(announced.address, Some(Ipv4Addr::new(10, 0, 0, 1)));
    }

    #[test]
    fn a_port_that_no_data_connection_could_have_is_none() {
        for text in [
            "227 Entering Passive Mode (10,0,0,1,0,21)",
            "227 Entering Passive Mode (10,0,0,1,0,0)",
            "227 Entering Passive Mode (10,0,0,1,256,1)",
            "227 Entering Passive Mode (10,0,0,1,5)",
            "227 Entering Passive Mode (10,0,0,1,5,)",
            "227 Entering Passive Mode (10,0;0,1,195,80)",
            "229 mode (|1|10.0.0.1|x|)",
            "229 mode (|3|x|50000|)",
            "229 mode (|||50000)",
            "229 Entering Extended Passive Mode (|||65536|)",
            "229 Entering Extended Passive Mode (|||22|)",
            "229 Entering Extended Passive Mode",
            "200 127,0,0,1,195,80",
        ] {
            assert_eq!(announced(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_announced_is_read_back(octets: [u8; 4], port in 1024u16..) {
            let address = Ipv4Addr::from(octets);
            prop_assert_eq!(announced(reply_227(address, port).trim_end()), Some(port));
            prop_assert_eq!(announced(reply_229(port).trim_end()), Some(port));
            let [a, b, c, d] = octets;
            let [high, low] = port.to_be_bytes();
            let written = format!("{a},{b},{c},{d},{high},{low}");
            prop_assert_eq!(parse_port(written.as_bytes()), Some(SocketAddrV4::new(address, port)));
            prop_assert_eq!(port_command(address, port), format!("PORT {written}"));
            let mapped = address.to_ipv6_mapped();
            let eprt = eprt_command(mapped, port);
            prop_assert_eq!(parse_eprt(&eprt.as_bytes()[5..]), Ok((mapped, port).into()));
        }

        #[test]
        fn any_bytes_are_an_address_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_port(&bytes);
            let _ = parse_eprt(&bytes);
            let _ = parse_epsv(&bytes);
            let _ = port_in_229(&bytes);
            let _ = six_numbers(&bytes);
        }
    }
}
