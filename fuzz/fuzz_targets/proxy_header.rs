//! The PROXY protocol's header: bytes in any pieces are the same header, what follows it does not matter, and the ends
//! that it names could be those of a connection.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use portcullis::net::proxy_header::parse::{Header, MAX_LEN, Parsed, ProxiedAddresses, parse};

fuzz_target!(|data: &[u8]| {
    let parsed = parse(data);
    match parsed {
        Ok(Parsed::Complete { header, length }) => {
            assert!((1..=data.len().min(MAX_LEN)).contains(&length));
            // Not a byte of what comes behind it is looked at, and not one of it can be missing.
            assert_eq!(parse(&data[..length]), parsed);
            for end in ends_to_try(length) {
                assert_eq!(parse(&data[..end]), Ok(Parsed::Incomplete), "{end}");
            }
            if let Header::Proxied(ends) = header {
                look_at(ends);
            }
        }
        Ok(Parsed::Incomplete) => {
            assert!(data.len() < MAX_LEN, "a header without end");
            for end in ends_to_try(data.len()) {
                assert_eq!(parse(&data[..end]), Ok(Parsed::Incomplete), "{end}");
            }
        }
        // Whoever was refused once is not let in by more bytes.
        Err(_) => {
            for end in ends_to_try(data.len()) {
                assert!(
                    !matches!(parse(&data[..end]), Ok(Parsed::Complete { .. })),
                    "{end}"
                );
            }
        }
    }
});

/// Where to cut: everywhere, if that is not too often.
fn ends_to_try(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by(length / 256 + 1)
}

fn look_at(ends: ProxiedAddresses) {
    for end in [ends.client, ends.destination] {
        assert_eq!(end.ip(), end.ip().to_canonical());
        assert!(!end.ip().is_unspecified() && !end.ip().is_multicast());
    }
    if ends.client.is_ipv4() == ends.destination.is_ipv4() {
        let line = line(ends.client, ends.destination);
        let expected = Parsed::Complete {
            header: Header::Proxied(ends),
            length: line.len(),
        };
        assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
    }
}

/// These ends in version 1.
fn line(client: SocketAddr, destination: SocketAddr) -> String {
    let family = if client.is_ipv4() { 4 } else { 6 };
    format!(
        "PROXY TCP{family} {} {} {} {}\r\n",
        client.ip(),
        destination.ip(),
        client.port(),
        destination.port()
    )
}
