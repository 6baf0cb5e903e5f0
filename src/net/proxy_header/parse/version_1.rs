//! Version 1: a line of text (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BadHeader, Header, Parsed, proxied};
use crate::base::text::decimal;

pub const START: &[u8] = b"PROXY ";
/// The longest header of version 1, in bytes with its line end.
const MAX_LEN: usize = 107;

/// `PROXY TCP4 192.0.2.7 198.51.100.1 40000 21` and CR LF.
pub fn parse(bytes: &[u8]) -> Result<Parsed, BadHeader> {
    let within = &bytes[..bytes.len().min(MAX_LEN)];
    let Some(end) = memchr::memchr(b'\n', within) else {
        return if bytes.len() < MAX_LEN {
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
        // Text after UNKNOWN means nothing.
        ["PROXY", "UNKNOWN", ..] => Ok(Header::Local),
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
            proxied(client, destination)
        }
        _ => Err(BadHeader::Line),
    }
}

fn port_number(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    decimal(text).filter(|_| canonical)
}
