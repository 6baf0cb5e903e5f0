//! How FTP writes down where a data connection goes: PORT and 227 (RFC 959), EPRT and 229 (RFC 2428).
//!
//! What clients send is read strictly. What servers send is read as leniently as their variety demands: no parentheses,
//! dots for commas, `!` for `|`, a 227 in answer to EPSV.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use super::reply::Reply;

/// Why an EPRT argument names no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadEprt {
    /// Not of the form `|1|132.235.1.2|6275|`.
    Syntax,
    /// A network protocol other than 1 (IPv4) and 2 (IPv6).
    Family,
}

/// What an EPSV command asks for.
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

/// The port that a server's answer to EPSV or PASV announces.
///
/// The address in a 227 is not even returned: data goes to the address of the control connection, or a server could
/// point Portcullis anywhere (CVE-2020-8284), and behind NAT it is wrong more often than right. A 229 in answer to PASV
/// and a 227 in answer to EPSV are both met in the wild.
pub fn announced_port(reply: &Reply) -> Option<u16> {
    let port = match reply.number() {
        227 => six_numbers(reply.text()).map(|fields| address_of(fields).port()),
        229 => port_in_229(reply.text()),
        _ => None,
    };
    port.filter(|port| *port >= FIRST_UNPRIVILEGED)
}

/// Whether a client may be reached there in active mode: its own address, and no privileged port (RFC 2577 §3).
pub fn is_own_unprivileged(target: SocketAddr, client: IpAddr) -> bool {
    target.ip().to_canonical() == client.to_canonical() && target.port() >= FIRST_UNPRIVILEGED
}

/// The reply to PASV. One line and these very words: several clients look for them.
pub fn reply_227(address: Ipv4Addr, port: u16) -> String {
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    format!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})\r\n")
}

/// The reply to EPSV.
pub fn reply_229(port: u16) -> String {
    format!("229 Entering Extended Passive Mode (|||{port}|)\r\n")
}

/// Ports below belong to system services; no FTP data connection has business there.
const FIRST_UNPRIVILEGED: u16 = 1024;

fn address_of([a, b, c, d, high, low]: [u8; 6]) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]))
}

/// Digits only: `parse` alone would take a sign as well.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// The first six numbers with commas (or dots) between them, wherever they stand (RFC 1123 §4.1.2.6).
fn six_numbers(text: &[u8]) -> Option<[u8; 6]> {
    text.split(|byte| !byte.is_ascii_digit() && *byte != b',' && *byte != b'.')
        .find_map(|run| {
            let run = std::str::from_utf8(run).ok()?;
            let numbers: Option<Vec<u8>> = run.split([',', '.']).map(decimal).collect();
            numbers?.try_into().ok()
        })
}

/// The number between the last two of four equal delimiters.
fn port_in_229(text: &[u8]) -> Option<u16> {
    let open = text
        .iter()
        .position(|byte| *byte == b'(')
        .map_or(0, |at| at + 1);
    let inside = &text[open..];
    let delimiter = *inside.first().filter(|byte| byte.is_ascii_punctuation())?;
    let digits = inside.strip_prefix(&[delimiter; 3])?;
    let end = digits.iter().position(|byte| *byte == delimiter)?;
    decimal(std::str::from_utf8(&digits[..end]).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ftp::line::Line;
    use crate::ftp::reply::ReplyParser;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn announced(text: &str) -> Option<u16> {
        let line = Line::Whole(Bytes::copy_from_slice(text.as_bytes()));
        announced_port(&ReplyParser::default().push(line).unwrap().unwrap())
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
    }

    #[test]
    fn a_port_that_no_data_connection_could_have_is_none() {
        for text in [
            "227 Entering Passive Mode (10,0,0,1,0,21)",
            "227 Entering Passive Mode (10,0,0,1,0,0)",
            "227 Entering Passive Mode (10,0,0,1,256,1)",
            "227 Entering Passive Mode (10,0,0,1,5)",
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
