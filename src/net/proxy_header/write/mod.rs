//! The PROXY protocol's header, version 1 and 2, for connections to backends: from addresses to bytes.
//!
//! The format is HAProxy's, "The PROXY protocol, versions 1 & 2", sections 2.1 and 2.2. The family is that of the addresses in
//! the header, whatever the connection's own is; addresses that no header of one family can hold are left out (UNKNOWN, UNSPEC),
//! and all else that is known of the client is sent all the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustls::CipherSuite;

use super::ProxiedAddresses;
use super::parse::version_2::{LOCAL, PROXY, SIGNATURE, TCP_OVER_IPV4, TCP_OVER_IPV6, UNSPECIFIED};
use crate::base::GlobalSessionId;
use crate::config::{ProxyVersion, TlsVersion};

/// The types of extensions (TLVs).
const AUTHORITY: u8 = 0x02;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CIPHER: u8 = 0x23;

/// SSL's field `client`: the client connected with TLS, and showed no certificate.
const CLIENT_SSL: u8 = 0x01;
/// SSL's field `verify`: anything but zero, which would be a client certificate that was verified.
const NOT_VERIFIED: u32 = 1;

/// The side for which a connection to a backend is opened.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A client, of whose session it is.
    Client(RelayedClient<'a>),
    /// Portcullis itself, to see whether the backend works.
    Proxy,
}

/// The facts about a client that a backend is sent.
#[derive(Debug, Clone, Copy)]
pub struct RelayedClient<'a> {
    /// The client's address, and the one that it connected to.
    pub addresses: ProxiedAddresses,
    /// The host that led to its site, if it named one.
    pub authority: Option<&'a str>,
    /// The id of its session.
    pub unique_id: GlobalSessionId,
    /// The TLS of its control connection; `None` in clear text, and on data connections, which are opened before theirs.
    pub tls: Option<ClientTls>,
}

/// The TLS of a client's control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientTls {
    /// The TLS version.
    pub version: TlsVersion,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
}

/// The addresses of both ends of the client's connection, in one family.
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

/// The header for a connection of this origin.
pub fn header(version: ProxyVersion, origin: Origin<'_>) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => version_1(origin),
        ProxyVersion::V2 => version_2(origin),
    }
}

fn version_1(origin: Origin<'_>) -> Vec<u8> {
    let relayed = match origin {
        Origin::Client(client) => Some(client.addresses),
        Origin::Proxy => None,
    };
    let line = match relayed.and_then(|addresses| Some((addresses, ends(&addresses)?))) {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((addresses, ends)) => {
            let family = match ends {
                Ends::V4(..) => "TCP4",
                Ends::V6(..) => "TCP6",
            };
            let ProxiedAddresses {
                client,
                destination,
            } = addresses;
            format!(
                "PROXY {family} {} {} {} {}\r\n",
                client.ip().to_canonical(),
                destination.ip().to_canonical(),
                client.port(),
                destination.port()
            )
        }
    };
    line.into_bytes()
}

fn version_2(origin: Origin<'_>) -> Vec<u8> {
    let (command, protocol, rest) = match origin {
        Origin::Proxy => (LOCAL, UNSPECIFIED, Vec::new()),
        Origin::Client(client) => {
            let (protocol, mut rest) = addresses(&client.addresses);
            extensions(&mut rest, &client);
            (PROXY, protocol, rest)
        }
    };
    let mut header = SIGNATURE.to_vec();
    header.extend([command, protocol]);
    append(&mut header, &rest);
    header
}

fn addresses(addresses: &ProxiedAddresses) -> (u8, Vec<u8>) {
    let (protocol, mut bytes) = match ends(addresses) {
        None => return (UNSPECIFIED, Vec::new()),
        Some(Ends::V4(client, destination)) => (
            TCP_OVER_IPV4,
            [client.octets(), destination.octets()].concat(),
        ),
        Some(Ends::V6(client, destination)) => (
            TCP_OVER_IPV6,
            [client.octets(), destination.octets()].concat(),
        ),
    };
    bytes.extend(addresses.client.port().to_be_bytes());
    bytes.extend(addresses.destination.port().to_be_bytes());
    (protocol, bytes)
}

/// `None` for ends of two families, and for addresses of no machine: receivers refuse those.
fn ends(addresses: &ProxiedAddresses) -> Option<Ends> {
    let (client, destination) = (addresses.client.ip(), addresses.destination.ip());
    let (client, destination) = (client.to_canonical(), destination.to_canonical());
    if client.is_unspecified() || destination.is_unspecified() {
        return None;
    }
    match (client, destination) {
        (IpAddr::V4(client), IpAddr::V4(destination)) => Some(Ends::V4(client, destination)),
        (IpAddr::V6(client), IpAddr::V6(destination)) => Some(Ends::V6(client, destination)),
        _ => None,
    }
}

fn extensions(header: &mut Vec<u8>, client: &RelayedClient<'_>) {
    if let Some(authority) = client.authority {
        extension(header, AUTHORITY, authority.as_bytes());
    }
    let id = client.unique_id.to_string();
    extension(header, UNIQUE_ID, id.as_bytes());
    if let Some(tls) = &client.tls {
        extension(header, SSL, &ssl(tls));
    }
}

fn ssl(tls: &ClientTls) -> Vec<u8> {
    let mut value = vec![CLIENT_SSL];
    value.extend(NOT_VERIFIED.to_be_bytes());
    let version: &[u8] = match tls.version {
        TlsVersion::V1_2 => b"TLSv1.2",
        TlsVersion::V1_3 => b"TLSv1.3",
    };
    extension(&mut value, SSL_VERSION, version);
    if let Some(cipher) = openssl_name(tls.cipher_suite) {
        extension(&mut value, SSL_CIPHER, cipher.as_bytes());
    }
    value
}

fn extension(header: &mut Vec<u8>, kind: u8, value: &[u8]) {
    header.push(kind);
    append(header, value);
}

/// Appends the length, and the value. One that is longer than a length can say, which none is, would be cut.
fn append(header: &mut Vec<u8>, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    header.extend(length.to_be_bytes());
    header.extend_from_slice(&value[..usize::from(length)]);
}

/// OpenSSL's name of a cipher suite, which HAProxy sends, too, and which the configurations of FTP servers have. Of those
/// that rustls has.
pub fn openssl_name(suite: CipherSuite) -> Option<&'static str> {
    Some(match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
