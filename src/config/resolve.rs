//! From what people write to what the program runs on: defaults, and checks of one value against another.

use super::error::{Fault, quoted};
use super::structure::{Place, Step};
use super::*;
use std::collections::HashMap;
use std::net::IpAddr;

/// The control port of FTP (RFC 959) and of FTP that starts with TLS (IANA's `ftps`).
const FTP_PORT: u16 = 21;
const FTPS_PORT: u16 = 990;
/// The longest name of a site: it is a metric label and a word in log lines.
const LONGEST_SITE_NAME: usize = 64;

/// A path from keys and indices.
macro_rules! path {
    ($($step:expr),*) => { vec![$(Step::from($step)),*] };
}

/// Fills in the defaults and refuses what can't work. Relative file names count from `base`.
pub(super) fn resolve(file: file::File, base: &Path) -> Result<Settings, Fault> {
    let passive_written = file
        .passive
        .as_ref()
        .is_some_and(|passive| passive.ports.is_some());
    let listeners = listeners(&file.listeners)?;
    let passive = passive(file.passive.unwrap_or_default())?;
    let admin = file
        .admin
        .and_then(|admin| admin.address)
        .map_or(default_admin(), |address| address.0);
    refuse_shared_ports(&listeners, &passive, admin, passive_written)?;
    let sites = sites(file.sites, &listeners, base)?;
    let forms = file.user_forms.unwrap_or_default();
    let limits = file.limits.unwrap_or_default();
    Ok(Settings {
        listeners,
        tls: Tls {
            certificate: base.join(file.tls.certificate.0),
            private_key: base.join(file.tls.private_key.0),
            required: file.tls.required.unwrap_or(true),
            session_reuse: file.tls.session_reuse.unwrap_or(SessionReuse::Prefer),
            min_version: file.tls.min_version.unwrap_or(TlsVersion::V1_2),
        },
        passive,
        user_forms: UserForms {
            user_at_host: forms.user_at_host.unwrap_or(false),
            host_backslash_user: forms.host_backslash_user.unwrap_or(false),
        },
        sites,
        active_mode: file.active_mode.unwrap_or(true),
        limits: Limits {
            sessions: limits.sessions.map_or(10_000, |count| count.0),
            sessions_per_client: limits.sessions_per_client.map_or(100, |count| count.0),
        },
        timeouts: timeouts(file.timeouts.unwrap_or_default()),
        admin,
    })
}

fn timeouts(file: file::Timeouts) -> Timeouts {
    let or = |written: Option<scalar::Span>, seconds| {
        written.map_or(Duration::from_secs(seconds), |span| span.0)
    };
    Timeouts {
        tls_handshake: or(file.tls_handshake, 10),
        login: or(file.login, 30),
        idle: or(file.idle, 5 * 60),
        data_connect: or(file.data_connect, 20),
        data_idle: or(file.data_idle, 2 * 60),
        final_reply: or(file.final_reply, 10 * 60),
        drain: or(file.drain, 5 * 60),
        backend_connect: or(file.backend_connect, 10),
        backend_reply: or(file.backend_reply, 60),
    }
}

fn default_admin() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9190))
}

fn listeners(written: &[file::Listener]) -> Result<Vec<Listener>, Fault> {
    if written.is_empty() {
        return Err(fault(
            Place::Key(path!["listeners"]),
            "no listener, so no client could connect",
            "write at least one, such as `- {address: 0.0.0.0:21, tls: explicit}`",
        ));
    }
    let mut listeners: Vec<Listener> = Vec::with_capacity(written.len());
    for (index, listener) in written.iter().enumerate() {
        let address = listener.address.0;
        if let Some(other) = listeners
            .iter()
            .find(|other| overlap(other.address, address))
        {
            return Err(fault(
                Place::Value(path!["listeners", index, "address"]),
                format!("{address} is taken: another listener has {}", other.address),
                "give each listener an address and port of its own; 0.0.0.0 is every IPv4 address, \
                 and [::] is every address, IPv4 too",
            ));
        }
        listeners.push(Listener {
            address,
            tls: listener.tls,
        });
    }
    Ok(listeners)
}

fn passive(written: file::Passive) -> Result<Passive, Fault> {
    let address = match written.address {
        None => None,
        Some(text) => match text.parse::<Ipv4Addr>() {
            // 0/8 is "this network", 224/4 and above are groups and reserved (RFC 6890): nobody can connect to them.
            Ok(address) if (1..224).contains(&address.octets()[0]) => Some(address),
            _ => {
                return Err(fault(
                    Place::Value(path!["passive", "address"]),
                    format!(
                        "{} isn't an IPv4 address that clients can connect to",
                        quoted(&text)
                    ),
                    "write the address that clients reach this machine by, such as 203.0.113.10, or leave it out \
                     to announce the address that the client connected to",
                ));
            }
        },
    };
    Ok(Passive {
        ports: written.ports.map_or(50_000..=50_000, |ports| ports.0),
        address,
    })
}

/// Passive ports are listened on at every address, so nothing else may have one.
fn refuse_shared_ports(
    listeners: &[Listener],
    passive: &Passive,
    admin: SocketAddr,
    passive_written: bool,
) -> Result<(), Fault> {
    let is_passive = |port: u16| port != 0 && passive.ports.contains(&port);
    let range = format!("{}-{}", passive.ports.start(), passive.ports.end());
    for (index, listener) in listeners.iter().enumerate() {
        let place = Place::Value(path!["listeners", index, "address"]);
        if is_passive(listener.address.port()) {
            return Err(fault(
                place,
                format!(
                    "port {} is in passive.ports ({range}) too",
                    listener.address.port()
                ),
                "choose a port outside that range, or other passive ports",
            ));
        }
        if overlap(listener.address, admin) {
            return Err(fault(
                place,
                format!("{} is taken: admin.address is {admin}", listener.address),
                "give the listener and the admin endpoint ports of their own",
            ));
        }
    }
    if is_passive(admin.port()) {
        let place = if passive_written {
            path!["passive", "ports"]
        } else {
            path!["admin", "address"]
        };
        return Err(fault(
            Place::Value(place),
            format!(
                "port {} is in both admin.address and passive.ports ({range})",
                admin.port()
            ),
            "choose passive ports that nothing else uses",
        ));
    }
    Ok(())
}

fn sites(
    written: Vec<file::Site>,
    listeners: &[Listener],
    base: &Path,
) -> Result<Vec<Arc<Site>>, Fault> {
    if written.is_empty() {
        return Err(fault(
            Place::Key(path!["sites"]),
            "no site, so no login could be served",
            "write at least one, with `name`, `hosts` or `default: true`, and `backends`",
        ));
    }
    let mut sites: Vec<Arc<Site>> = Vec::with_capacity(written.len());
    let mut hosts_taken: HashMap<HostPattern, String> = HashMap::new();
    for (index, site) in written.into_iter().enumerate() {
        check_name(&site.name, index, &sites)?;
        let default = site.default.unwrap_or(false);
        if let Some(other) = sites.iter().find(|other| default && other.default) {
            return Err(fault(
                Place::Key(path!["sites", index, "default"]),
                format!(
                    "a second default site: {} is the default already",
                    quoted(&other.name)
                ),
                "keep `default: true` at the one site for logins that name no host",
            ));
        }
        let hosts = hosts(
            &site.name,
            index,
            &site.hosts.unwrap_or_default(),
            &mut hosts_taken,
        )?;
        if hosts.is_empty() && !default {
            return Err(fault(
                Place::Value(path!["sites", index]),
                format!(
                    "no login can reach site {}: it has no hosts and isn't the default",
                    quoted(&site.name)
                ),
                "add `hosts: [ftp.example.com]`, or `default: true` for logins that name no host",
            ));
        }
        let user = user(site.user.as_deref(), index)?;
        if user.names_host()
            && default
            && !hosts
                .iter()
                .any(|host| matches!(host, HostPattern::Exact(_)))
        {
            return Err(fault(
                Place::Value(path!["sites", index, "user"]),
                "`{host}` has no value for a login that names no host",
                "give this default site one host without a wildcard, or leave `{host}` out",
            ));
        }
        let backends = backends(site.backends, index, listeners, base)?;
        sites.push(Arc::new(Site {
            name: site.name,
            default,
            hosts,
            backends,
            user,
        }));
    }
    Ok(sites)
}

fn check_name(name: &str, index: usize, earlier: &[Arc<Site>]) -> Result<(), Fault> {
    let place = Place::Value(path!["sites", index, "name"]);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_SITE_NAME || !name.bytes().all(allowed) {
        return Err(fault(
            place,
            format!("{} can't be the name of a site", quoted(name)),
            "write 1 to 64 letters, digits, `-`, `_` or `.`: the name is a label in logs and metrics",
        ));
    }
    if earlier
        .iter()
        .any(|site| site.name.eq_ignore_ascii_case(name))
    {
        return Err(fault(
            place,
            format!("a second site named {}", quoted(name)),
            "give each site a name of its own; upper and lower case don't make a difference",
        ));
    }
    Ok(())
}

fn hosts(
    site: &str,
    index: usize,
    written: &[String],
    taken: &mut HashMap<HostPattern, String>,
) -> Result<Vec<HostPattern>, Fault> {
    let mut hosts = Vec::with_capacity(written.len());
    for (number, text) in written.iter().enumerate() {
        let place = || Place::Value(path!["sites", index, "hosts", number]);
        let Some(host) = HostPattern::parse(text) else {
            return Err(fault(
                place(),
                format!("{} isn't a host name", quoted(text)),
                "write a name such as ftp.example.com, or \"*.example.com\" for any one label before it; \
                 without a port, and international names in their xn-- form",
            ));
        };
        if let Some(other) = taken.insert(host.clone(), site.to_owned()) {
            return Err(fault(
                place(),
                format!("{host} belongs to site {} already", quoted(&other)),
                "keep each host at one site",
            ));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn user(written: Option<&str>, index: usize) -> Result<UserTemplate, Fault> {
    written.map_or(Ok(UserTemplate::default()), |text| {
        text.parse().map_err(|error: TemplateError| {
            let message = match error {
                TemplateError::UnknownPlaceholder(name) => format!("unknown placeholder {}", quoted(&format!("{{{name}}}"))),
                other => other.to_string(),
            };
            fault(
                Place::Value(path!["sites", index, "user"]),
                message,
                "write \"{user}\", \"{host}|{user}\" or \"{user}@{host}\"; braces hold `user` or `host`",
            )
        })
    })
}

fn backends(
    written: Vec<file::Backend>,
    site: usize,
    listeners: &[Listener],
    base: &Path,
) -> Result<Vec<Backend>, Fault> {
    if written.is_empty() {
        return Err(fault(
            Place::Key(path!["sites", site, "backends"]),
            "no backend, so nobody could serve this site",
            "write at least one, such as `- address: 10.0.0.10:21`",
        ));
    }
    let mut backends: Vec<Backend> = Vec::with_capacity(written.len());
    for (index, backend) in written.into_iter().enumerate() {
        let place = Place::Value(path!["sites", site, "backends", index, "address"]);
        let start = backend.tls.and_then(|tls| tls.0);
        let default_port = if start == Some(ListenerTls::Implicit) {
            FTPS_PORT
        } else {
            FTP_PORT
        };
        let Some((host, port)) = backend_address(&backend.address, default_port) else {
            return Err(fault(
                place,
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
            return Err(fault(
                place,
                format!(
                    "this backend is Portcullis itself: it listens on {}",
                    listener.address
                ),
                "write the address of the FTP server behind it",
            ));
        }
        if backends
            .iter()
            .any(|other| other.host == host && other.port == port)
        {
            return Err(fault(
                place,
                format!(
                    "{} is a backend of this site already",
                    quoted(&backend.address)
                ),
                "keep it once",
            ));
        }
        let tls = backend_tls(
            backend,
            &host,
            path!["sites", site, "backends", index],
            base,
        )?;
        backends.push(Backend { host, port, tls });
    }
    Ok(backends)
}

/// What `tls` says, and nothing that means something only with it.
fn backend_tls(
    written: file::Backend,
    host: &str,
    path: Vec<Step>,
    base: &Path,
) -> Result<Option<BackendTls>, Fault> {
    let place = |key: &'static str| path.iter().copied().chain([Step::from(key)]).collect();
    let Some(start) = written.tls.and_then(|tls| tls.0) else {
        let needless = [
            ("verify", written.verify.is_some()),
            ("server_name", written.server_name.is_some()),
            ("max_version", written.max_version.is_some()),
        ];
        return match needless.into_iter().find(|(_, present)| *present) {
            None => Ok(None),
            Some((key, _)) => Err(fault(
                Place::Key(place(key)),
                format!("`{key}` without `tls`: the connection to this backend isn't encrypted"),
                format!("add `tls: explicit` or `tls: implicit`, or leave `{key}` out"),
            )),
        };
    };
    let server_name = match written.server_name {
        None => host.to_owned(),
        Some(text) if text.parse::<IpAddr>().is_ok() => text,
        Some(text) => match HostName::parse(text.as_bytes()) {
            Some(name) => name.to_string(),
            None => {
                return Err(fault(
                    Place::Value(place("server_name")),
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
            host.parse::<std::net::Ipv6Addr>().ok()?;
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
        // 10.0.0.256 and 10.0.1 are slips of the pen, and would be asked of DNS.
        Err(_)
            if host
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            return None;
        }
        Err(_) => {
            HostName::parse(host.as_bytes())?;
        }
    }
    Some((host.to_owned(), port))
}

/// Whether connecting to `host` and `port` would reach the listener at `own`, as far as the text tells.
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

/// Whether the operating system would refuse one of the two. Port 0 is another port each time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}

/// Whether listening on `wildcard` takes `address` too: 0.0.0.0 does for IPv4, and [::] for everything.
fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || address.is_ipv4())
}

fn fault(place: Place, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault {
        place,
        message: message.into(),
        help: help.into(),
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
    fn listeners_overlap_as_the_operating_system_sees_it() {
        let overlap = |one: &str, other: &str| {
            let (one, other) = (
                one.parse().expect("an address"),
                other.parse().expect("an address"),
            );
            assert_eq!(super::overlap(one, other), super::overlap(other, one));
            super::overlap(one, other)
        };
        assert!(overlap("0.0.0.0:21", "10.0.0.1:21"));
        assert!(overlap("[::]:21", "0.0.0.0:21"));
        assert!(overlap("[::]:21", "[fd00::1]:21"));
        assert!(overlap("[::ffff:10.0.0.1]:21", "10.0.0.1:21"));
        assert!(!overlap("0.0.0.0:21", "[fd00::1]:21"));
        assert!(!overlap("10.0.0.1:21", "10.0.0.2:21"));
        assert!(!overlap("0.0.0.0:0", "0.0.0.0:0"));
        assert!(!overlap("0.0.0.0:21", "0.0.0.0:990"));
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
