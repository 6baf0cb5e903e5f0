//! The backends of one site in a configuration file: where they are, and how they are connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::error::{Fault, quoted};
use super::listeners::covers;
use super::location::{Location, PathStep, steps};
use super::scalar::WaitValue;
use super::sites::is_label;
use super::{
    Backend, BackendTls, Balance, Endpoint, ExpectedName, HostName, KeyPairFiles, Listener,
    SentProxyProtocol, ServerNames, Servers, TlsMode, TlsVersion, Verify, file,
};

/// The control port of FTP (RFC 959) and of FTP that starts with TLS (IANA's `ftps`).
const FTP_PORT: u16 = 21;
const FTPS_PORT: u16 = 990;

/// What a backend's weight is where none is written: others can be more or less than that.
pub const DEFAULT_WEIGHT: u32 = 100;

/// The backends of the site, or the group of one, at this place in the file.
pub(super) fn resolve(
    written: Vec<file::Backend>,
    at: &[PathStep],
    listeners: &[Listener],
    base: &Path,
) -> Result<Vec<Backend>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(child(at, "backends")),
            "no backend, so no login could be served",
            "write at least one, such as `- address: 10.0.0.10:21`",
        ));
    }
    let mut backends: Vec<Backend> = Vec::with_capacity(written.len());
    for (index, backend) in written.into_iter().enumerate() {
        let path: Vec<PathStep> = child(at, "backends")
            .into_iter()
            .chain([index.into()])
            .collect();
        let servers = servers(&backend, &path)?;
        refuse_own(&servers, listeners, &path)?;
        if backends.iter().any(|other| same(&other.servers, &servers)) {
            return Err(Fault::new(
                Location::Value(child(&path, key_of(&servers))),
                format!(
                    "{} is a backend here already",
                    quoted(&written_as(&backend))
                ),
                "keep it once",
            ));
        }
        let name = name(&backend, &path, &backends)?;
        let (weight, max_sessions) = (backend.weight.as_ref(), backend.max_sessions.as_ref());
        let weight = weight.map_or(DEFAULT_WEIGHT, |weight| weight.0);
        let max_sessions = max_sessions.map(|count| count.0);
        let (drain, backup) = (backend.drain, backend.backup);
        let proxy_protocol = backend.proxy_protocol.as_ref().map(|it| SentProxyProtocol {
            version: it.version,
            data: it.data.unwrap_or(false),
        });
        let tls = backend_tls(backend, &servers, path, base)?;
        backends.push(Backend {
            name,
            servers,
            tls,
            weight,
            max_sessions,
            drain: drain.unwrap_or(false),
            backup: backup.unwrap_or(false),
            proxy_protocol,
        });
    }
    check_some_take_logins(&backends, at)?;
    Ok(backends)
}

/// What the operator calls it.
fn name(
    written: &file::Backend,
    path: &[PathStep],
    earlier: &[Backend],
) -> Result<Option<String>, Fault> {
    let Some(name) = &written.name else {
        return Ok(None);
    };
    let fault = |what: String, remedy: &str| {
        let location = Location::Value(child(path, "name"));
        Err(Fault::new(location, what, remedy))
    };
    if !is_label(name) {
        return fault(
            format!("{} can't be the name of a backend", quoted(name)),
            "write 1 to 64 letters, digits, `-`, `_` or `.`: the name is a label in logs and metrics",
        );
    }
    let is_taken = |other: &Backend| other.to_string().eq_ignore_ascii_case(name);
    if earlier.iter().any(is_taken) {
        return fault(
            format!("a second backend named {}", quoted(name)),
            "give each backend of a site a name of its own",
        );
    }
    Ok(Some(name.clone()))
}

/// Which servers an entry stands for.
fn servers(written: &file::Backend, path: &[PathStep]) -> Result<Servers, Fault> {
    let fault = |key, what: &str, remedy: &str| {
        Err(Fault::new(
            Location::Key(child(path, key)),
            what.to_owned(),
            remedy.to_owned(),
        ))
    };
    let expands = written.expand == Some(true);
    let (address, name) = match (&written.address, &written.srv) {
        (Some(address), None) => (address, None),
        (None, Some(name)) => (name, Some(name)),
        (None, None) => {
            return Err(Fault::new(
                Location::Value(path.to_vec()),
                "a backend without `address`",
                "write where it is, such as `address: 10.0.0.10:21`, or the name of its SRV records as `srv`",
            ));
        }
        (Some(_), Some(_)) => {
            return fault(
                "srv",
                "`srv` beside `address`: the SRV records say where the servers are",
                "keep one of them",
            );
        }
    };
    if let Some(name) = name {
        if expands {
            return fault(
                "expand",
                "`expand` beside `srv`, whose records name the servers one by one",
                "leave `expand` out",
            );
        }
        if written.weight.is_some() {
            return fault(
                "weight",
                "`weight` beside `srv`, whose records have weights",
                "change the records, or leave `weight` out; `drain: true` takes the servers out of service",
            );
        }
        if service_domain(name).is_none() {
            return Err(Fault::new(
                Location::Value(child(path, "srv")),
                format!("{} isn't the name of a service", quoted(name)),
                "write _service._protocol.domain, such as _ftp._tcp.example.com",
            ));
        }
        return Ok(Servers::Discovered(ServerNames::Service(name.clone())));
    }
    let start = written.tls.as_ref().and_then(|tls| tls.0);
    let default_port = match start {
        Some(TlsMode::Implicit) => FTPS_PORT,
        _ => FTP_PORT,
    };
    let Some((host, port)) = backend_address(address, default_port) else {
        return Err(Fault::new(
            Location::Value(child(path, "address")),
            format!("{} isn't the address of a backend", quoted(address)),
            "write IP:port, name:port or \"[IPv6]:port\"; the port may be left out",
        ));
    };
    if !expands {
        return Ok(Servers::One(Endpoint { host, port }));
    }
    if host.parse::<IpAddr>().is_ok() {
        return fault(
            "expand",
            "`expand` at an IP address: it is for names, whose addresses may change",
            "write a name as `address`, or leave `expand` out",
        );
    }
    Ok(Servers::Discovered(ServerNames::EachAddress(Endpoint {
        host,
        port,
    })))
}

/// Refuses a label that stands for other servers in another pool of the site: they would be one in metrics.
pub(super) fn refuse_ambiguous_labels(
    backends: &[Backend],
    others: &[&[Backend]],
    at: &[PathStep],
) -> Result<(), Fault> {
    for (index, backend) in backends.iter().enumerate() {
        let label = backend.to_string();
        let has_label = |other: &&Backend| {
            other.to_string().eq_ignore_ascii_case(&label)
                && !same(&other.servers, &backend.servers)
        };
        if others
            .iter()
            .flat_map(|pool| *pool)
            .any(|other| has_label(&other))
        {
            let path = child(at, "backends")
                .into_iter()
                .chain([index.into(), "name".into()]);
            return Err(Fault::new(
                Location::Value(path.collect()),
                format!("a second backend named {}", quoted(&label)),
                "give each backend of a site a name of its own",
            ));
        }
    }
    Ok(())
}

fn child(path: &[PathStep], key: &'static str) -> Vec<PathStep> {
    path.iter().copied().chain([PathStep::from(key)]).collect()
}

fn key_of(servers: &Servers) -> &'static str {
    match servers.endpoint() {
        Some(_) => "address",
        None => "srv",
    }
}

fn written_as(backend: &file::Backend) -> String {
    let written = backend.address.as_ref().or(backend.srv.as_ref());
    written.cloned().unwrap_or_default()
}

/// Whether both lead to the same servers, as far as the text shows.
fn same(one: &Servers, other: &Servers) -> bool {
    match (one.endpoint(), other.endpoint()) {
        (Some(one), Some(other)) => one.id() == other.id(),
        (None, None) => one.to_string().eq_ignore_ascii_case(&other.to_string()),
        _ => false,
    }
}

fn refuse_own(servers: &Servers, listeners: &[Listener], path: &[PathStep]) -> Result<(), Fault> {
    let Some(Endpoint { host, port }) = servers.endpoint() else {
        return Ok(());
    };
    let own = listeners
        .iter()
        .find(|listener| is_own(host, *port, listener.address));
    own.map_or(Ok(()), |listener| {
        Err(Fault::new(
            Location::Value(child(path, "address")),
            format!(
                "this backend is Portcullis itself: it listens on {}",
                listener.address
            ),
            "write the address of the FTP server behind it",
        ))
    })
}

/// The domain of a service such as `_ftp._tcp.example.com` (RFC 2782).
fn service_domain(name: &str) -> Option<HostName> {
    let mut labels = name.splitn(3, '.');
    let is_special = |label: &str| label.len() > 1 && label.starts_with('_') && label.is_ascii();
    let special = [labels.next()?, labels.next()?];
    let domain = labels.next()?;
    if !special.into_iter().all(is_special) {
        return None;
    }
    server_name(domain.trim_end_matches('.'))
}

/// A pool of which every backend is drained, or a backup, is a mistake.
fn check_some_take_logins(backends: &[Backend], at: &[PathStep]) -> Result<(), Fault> {
    let location = || Location::Key(child(at, "backends"));
    if !backends.iter().any(Backend::takes_logins) {
        return Err(Fault::new(
            location(),
            "no backend takes new logins: each has `drain: true` or `weight: 0`",
            "leave one of them without that",
        ));
    }
    if backends.iter().all(|backend| backend.backup) {
        return Err(Fault::new(
            location(),
            "every backend is a backup, and there is none that they stand in for",
            "leave `backup` out at those that serve as a rule",
        ));
    }
    Ok(())
}

/// Checks what a site says of the backends of each of its pools.
pub(super) fn check_balance(
    balance: Option<Balance>,
    queue: Option<&WaitValue>,
    pools: &[&[Backend]],
    site: usize,
) -> Result<(), Fault> {
    let only_one = |backends: &[Backend]| matches!(backends, [only] if matches!(only.servers, Servers::One(_)));
    let only_one = pools.iter().all(|backends| only_one(backends));
    if balance.is_some_and(|balance| balance != Balance::First) && only_one {
        return Err(Fault::new(
            Location::Key(steps!["sites", site, "balance"]),
            "`balance` has one backend to choose from",
            "add another one to `backends`, or leave `balance` out",
        ));
    }
    let limited = pools
        .iter()
        .flat_map(|backends| *backends)
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
    servers: &Servers,
    path: Vec<PathStep>,
    base: &Path,
) -> Result<Option<BackendTls>, Fault> {
    let location = |key: &'static str| child(&path, key);
    let Some(start) = written.tls.and_then(|tls| tls.0) else {
        let needless = [
            ("verify", written.verify.is_some()),
            ("server_name", written.server_name.is_some()),
            ("max_version", written.max_version.is_some()),
            ("client_certificate", written.client_certificate.is_some()),
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
        None => match servers.endpoint() {
            Some(endpoint) => ExpectedName::Is(endpoint.host.clone()),
            None => ExpectedName::OfEachServer,
        },
        Some(text) if text.parse::<IpAddr>().is_ok() => ExpectedName::Is(text),
        Some(text) => match server_name(&text) {
            Some(name) => ExpectedName::Is(name.to_string()),
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
    if server_name == ExpectedName::OfEachServer && verify == Verify::System {
        return Err(Fault::new(
            Location::Key(location("srv")),
            "forged SRV records could name an attacker's server, whose certificate the system trusts",
            "write the name that the servers' certificates have as `server_name`, or `verify` with their CA or a fingerprint",
        ));
    }
    Ok(Some(BackendTls {
        start,
        verify,
        server_name,
        max_version: written.max_version.unwrap_or(TlsVersion::V1_2),
        client_certificate: written.client_certificate.map(|pair| KeyPairFiles {
            certificate: base.join(pair.certificate.0),
            private_key: base.join(pair.private_key.0),
        }),
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
