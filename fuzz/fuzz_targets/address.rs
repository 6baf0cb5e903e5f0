//! The notations of a data port: an argument or reply names one address or none, and what is written is read back.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use portcullis::ftp::address::{self, BadEprt, EpsvArgument};
use portcullis::ftp::line::Line;
use portcullis::ftp::reply::ReplyParser;

fuzz_target!(|data: &[u8]| {
    if let Some(target) = address::parse_port(data) {
        let [a, b, c, d] = target.ip().octets();
        let [high, low] = target.port().to_be_bytes();
        let plain = format!("{a},{b},{c},{d},{high},{low}");
        assert_eq!(address::parse_port(plain.as_bytes()), Some(target));
        look_at_target(target.into());
    }
    match address::parse_eprt(data) {
        Ok(target) => {
            let family = if target.is_ipv4() { 1 } else { 2 };
            let plain = format!("|{family}|{}|{}|", target.ip(), target.port());
            assert_eq!(address::parse_eprt(plain.as_bytes()), Ok(target));
            look_at_target(target);
        }
        Err(BadEprt::Syntax | BadEprt::Family) => {}
    }
    match address::parse_epsv(data) {
        EpsvArgument::Any => assert!(data.is_empty()),
        EpsvArgument::Ipv4 => assert_eq!(data, b"1"),
        EpsvArgument::Ipv6 => assert_eq!(data, b"2"),
        EpsvArgument::All => assert!(data.eq_ignore_ascii_case(b"ALL")),
        EpsvArgument::Other => {}
    }
    let announced = announced(data);
    if let Some(port) = announced {
        assert!(port >= 1024);
        assert!(data.starts_with(b"227") || data.starts_with(b"229"));
        write_and_read(Ipv4Addr::LOCALHOST, port);
    }
    if let Some((address, port)) = data.split_first_chunk::<4>().zip(data.last_chunk::<2>()) {
        write_and_read(Ipv4Addr::from(*address.0), u16::from_be_bytes(*port));
    }
});

/// What active mode may reach is the client itself, and no service of its machine.
fn look_at_target(target: SocketAddr) {
    let client: IpAddr = Ipv4Addr::new(192, 0, 2, 7).into();
    for client in [client, target.ip()] {
        let may = address::is_own_unprivileged(target, client);
        let own = target.ip().to_canonical() == client.to_canonical();
        assert_eq!(may, own && target.port() >= 1024);
    }
}

fn write_and_read(address: Ipv4Addr, port: u16) {
    let expected = (port >= 1024).then_some(port);
    for written in [address::reply_227(address, port), address::reply_229(port)] {
        let line = written.strip_suffix("\r\n").expect("one whole line");
        assert!(!line.contains(['\r', '\n']));
        assert_eq!(announced(line.as_bytes()), expected);
    }
}

fn announced(line: &[u8]) -> Option<u16> {
    let line = Line::Whole(Bytes::copy_from_slice(line));
    let reply = ReplyParser::default().push(line).ok().flatten()?;
    address::announced(&reply).map(|announced| announced.port)
}
