//! The backends of one site in a configuration file: where they are, and how they are connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::error::{Fault, quoted};
use super::listeners::covers;
use super::location::{Location, PathStep, steps};
use super::scalar::WaitValue;
use super::{
    Backend, BackendTls, Balance, HostName, Listener, SentProxyProtocol, TlsMode, TlsVersion,
    Verify, canonical_host, file,
};

/// The control port of FTP (RFC 959) and of FTP that starts with TLS (IANA's `ftps`).
const FTP_PORT: u16 = 21;
const FTPS_PORT: u16 = 990;

/// What a backend's weight is where none is written: others can be more or less than that.
const DEFAULT_WEIGHT: u32 = 100;

/// The backends of site number `site`.
pub(super) fn resolve(
    written: Vec<file::Backend>,
    site: usize,
    listeners: &[Listener],
    base: &Path,
) -> Result<Vec<Backend>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "backends"]),
            "no backend, so this site could serve no login",
            "write at least one, such as `- address: 10.0.0.10:21`",
        ));
    }
    let mut backends: Vec<Backend> = Vec::with_capacity(written.len());
    for (index, backend) in written.into_iter().enumerate() {
        let location = Location::Value(steps!["sites", site, "backends", index, "address"]);
        let start = backend.tls.and_then(|tls| tls.0);
        let default_port = if start == Some(TlsMode::Implicit) {
            FTPS_PORT
        } else {
            FTP_PORT
        };
        let Some((host, port)) = backend_address(&backend.address, default_port) else {
            return Err(Fault::new(
                location,
                format!(
                    "{} isn't the address of a backend",
                    quoted(&backend.address)
                ),
                "write IP:port, name:port or \"[IPv6]:port\"; the port may be left out",
            ));
        };
        if let Some(listener) = listeners
            .iter()
            .find(|listener| is_own(&host, port, listener.address))
        {
            return Err(Fault::new(
                location,
                format!(
                    "this backend is Portcullis itself: it listens on {}",
                    listener.address
                ),
                "write the address of the FTP server behind it",
            ));
        }
        if backends
            .iter()
            .any(|other| other.canonical_host() == canonical_host(&host) && other.port == port)
        {
            return Err(Fault::new(
                location,
                format!(
                    "{} is a backend of this site already",
                    quoted(&backend.address)
                ),
                "keep it once",
            ));
        }
        let (weight, max_sessions) = (backend.weight.as_ref(), backend.max_sessions.as_ref());
        let weight = weight.map_or(DEFAULT_WEIGHT, |weight| weight.0);
        let max_sessions = max_sessions.map(|count| count.0);
        let (drain, backup) = (backend.drain, backend.backup);
        let proxy_protocol = backend.proxy_protocol.as_ref().map(|it| SentProxyProtocol {
            version: it.version,
            data: it.data.unwrap_or(false),
        });
        let tls = backend_tls(
            backend,
            &host,
            steps!["sites", site, "backends", index],
            base,
        )?;
        backends.push(Backend {
            host,
            port,
            tls,
            weight,
            max_sessions,
            drain: drain.unwrap_or(false),
            backup: backup.unwrap_or(false),
            proxy_protocol,
        });
    }
    check_some_take_logins(&backends, site)?;
    Ok(backends)
}

/// A site of which every backend is drained, or a backup, is a mistake.
fn check_some_take_logins(backends: &[Backend], site: usize) -> Result<(), Fault> {
    let location = || Location::Key(steps!["sites", site, "backends"]);
    if !backends.iter().any(Backend::takes_logins) {
        return Err(Fault::new(
            location(),
            "no backend of this site takes new logins: each has `drain: true` or `weight: 0`",
            "leave one of them without, or take the site out",
        ));
    }
    if backends.iter().all(|backend| backend.backup) {
        return Err(Fault::new(
            location(),
            "every backend of this site is a backup, and there is none that they stand in for",
            "leave `backup` out at those that serve as a rule",
        ));
    }
    Ok(())
}

/// Checks what a site says of its backends together.
pub(super) fn check_balance(
    balance: Option<Balance>,
    queue: Option<&WaitValue>,
    backends: &[Backend],
    site: usize,
) -> Result<(), Fault> {
    if balance.is_some_and(|balance| balance != Balance::First) && backends.len() == 1 {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "balance"]),
            "`balance` has one backend to choose from",
            "add another one to `backends`, or leave `balance` out",
        ));
    }
    let limited = backends
        .iter()
        .any(|backend| backend.max_sessions.is_some());
    if queue.is_some_and(|wait| !wait.0.is_zero()) && !limited {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "queue"]),
            "`queue` without `max_sessions`: there is nothing that logins would wait for",
            "give the backends `max_sessions`, or leave `queue` out",
        ));
    }
    Ok(())
}

/// What `tls` says, and nothing that means something only with it.
fn backend_tls(
    written: file::Backend,
    host: &str,
    path: Vec<PathStep>,
    base: &Path,
) -> Result<Option<BackendTls>, Fault> {
    let location = |key: &'static str| path.iter().copied().chain([PathStep::from(key)]).collect();
    let Some(start) = written.tls.and_then(|tls| tls.0) else {
        let needless = [
            ("verify", written.verify.is_some()),
            ("server_name", written.server_name.is_some()),
            ("max_version", written.max_version.is_some()),
        ];
        return match needless.into_iter().find(|(_, present)| *present) {
            None => Ok(None),
            Some((key, _)) => Err(Fault::new(
                Location::Key(location(key)),
                format!("`{key}` without `tls`: the connection to this backend isn't encrypted"),
                format!("add `tls: explicit` or `tls: implicit`, or leave `{key}` out"),
            )),
        };
    };
    let server_name = match written.server_name {
        None => host.to_owned(),
        Some(text) if text.parse::<IpAddr>().is_ok() => text,
        Some(text) => match server_name(&text) {
            Some(name) => name.to_string(),
            None => {
                return Err(Fault::new(
                    Location::Value(location("server_name")),
                    format!("{} isn't a name that a certificate can have", quoted(&text)),
                    "write a host name such as be1.example.com, or an IP address",
                ));
            }
        },
    };
    let verify = match written.verify {
        None | Some(file::Verify::System) => Verify::System,
        Some(file::Verify::None) => Verify::None,
        Some(file::Verify::Ca(file)) => Verify::Ca(base.join(file.0)),
        Some(file::Verify::Fingerprint(fingerprint)) => Verify::Fingerprint(fingerprint.0),
    };
    Ok(Some(BackendTls {
        start,
        verify,
        server_name,
        max_version: written.max_version.unwrap_or(TlsVersion::V1_2),
    }))
}

/// Host without brackets, and port.
fn backend_address(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            let port = if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':')?)
            };
            (host, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let digits = |port: &&str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => default_port,
        Some(port) => Some(port)
            .filter(digits)?
            .parse()
            .ok()
            .filter(|port| *port != 0)?,
    };
    match host.parse::<IpAddr>() {
        Ok(ip) => {
            let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
            if ip.is_unspecified() || ip.is_multicast() || broadcast {
                return None;
            }
        }
        Err(_) => {
            server_name(host)?;
        }
    }
    Some((host.to_owned(), port))
}

/// The name of a server, as DNS and certificates can have it: its last label is not a number, or some resolvers would
/// take it for an IPv4 address. 10.0.0.256 and 10.0.1 are typing errors.
fn server_name(text: &str) -> Option<HostName> {
    let name = HostName::parse(text.as_bytes())?;
    let last = name.as_str().rsplit('.').next().unwrap_or_default();
    let is_number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => last.bytes().all(|digit| digit.is_ascii_digit()),
    };
    (!is_number).then_some(name)
}

/// Whether connecting to `host` and `port` would reach the listener at `own`, as far as the text shows.
fn is_own(host: &str, port: u16, own: SocketAddr) -> bool {
    if port != own.port() {
        return false;
    }
    let own = own.ip().to_canonical();
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => ip == own || (ip.is_loopback() && covers(own, ip)),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost") && (own.is_loopback() || own.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_address_may_leave_its_port_out() {
        let read = |text| backend_address(text, 21);
        assert_eq!(read("10.0.0.1"), Some(("10.0.0.1".into(), 21)));
        assert_eq!(read("10.0.0.1:2121"), Some(("10.0.0.1".into(), 2121)));
        assert_eq!(read("[fd00::1]"), Some(("fd00::1".into(), 21)));
        assert_eq!(read("[fd00::1]:990"), Some(("fd00::1".into(), 990)));
        assert_eq!(
            read("Be_1.example.com:21"),
            Some(("Be_1.example.com".into(), 21))
        );
    }

    #[test]
    fn what_cannot_be_connected_to_is_no_backend() {
        let bad = [
            "",
            ":21",
            "fd00::1",
            "[fd00::1]21",
            "[fd00::1",
            "[10.0.0.1]:21",
            "10.0.0.1:",
            "10.0.0.1:0",
            "a:65536",
            "a:+1",
            "0.0.0.0:21",
            "[::]:21",
            "224.0.0.1",
            "255.255.255.255",
            "10.0.0.256",
            "10.0.1",
            "a b",
            "ftp://a",
            "[fe80::1%1]",
        ];
        for text in bad {
            assert_eq!(backend_address(text, 21), None, "{text:?}");
        }
    }

    #[test]
    fn a_backend_that_is_this_listener_is_recognised() {
        let own =
            |host: &str, listener: &str| is_own(host, 21, listener.parse().expect("an address"));
        assert!(own("10.0.0.1", "10.0.0.1:21"));
        assert!(own("127.0.0.2", "0.0.0.0:21"));
        assert!(own("::1", "[::]:21"));
        assert!(own("LocalHost", "0.0.0.0:21"));
        assert!(!own("10.0.0.2", "0.0.0.0:21"));
        assert!(!own("::1", "0.0.0.0:21"));
        assert!(!own("127.0.0.1", "127.0.0.1:2121"));
    }
}
