//! The plan of what is carried over from the server, and into what; what can't be needs attention.
//!
//! Where Portcullis has one setting for what IIS sets for each site, the stricter one is taken, so that no site gets weaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use super::backend::{BackendTls, UNKNOWN_HOST};
use super::certificate_trap::{self, Shown};
use super::model::{
    Access, Banner, ControlPolicy, DataPolicy, Endpoint, NamesService, Server, Site,
};
use super::site_plan::{SitePlan, Standing, plan_sites};
use crate::base::text::escape;
use crate::config::is_reachable;

/// The greeting of IIS.
const SERVICE: &str = "Microsoft FTP Service";
/// The longest greeting of a configuration, in bytes.
const MAX_GREETING: usize = 400;
/// Data ports that are listened on at most: each is a socket, and one is enough for most clients.
const MAX_DATA_PORTS: u16 = 1000;
/// The data ports where IIS has no range: the default of Portcullis.
const DEFAULT_DATA_PORTS: RangeInclusive<u16> = 30_000..=30_063;
/// Linux takes the ports of outgoing connections from these.
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;
/// Metrics and probes are there.
const ADMIN_PORT: u16 = 9190;

/// The settings of the configuration to be written.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The certificates that IIS shows today.
    pub shown: BTreeMap<Endpoint, Shown<'a>>,
    /// The listeners that clients connect to.
    pub listeners: Vec<Listener>,
    /// The greeting; `None` for the default of Portcullis.
    pub greeting: Option<String>,
    /// Whether logins in clear text are refused.
    pub tls_required: bool,
    /// Whether transfers in clear text are.
    pub data_required: bool,
    /// The ports for data connections.
    pub data_ports: RangeInclusive<u16>,
    /// The range of data ports in IIS, if it has one of its own.
    pub data_ports_of_iis: Option<RangeInclusive<u16>>,
    /// The address that is announced for them.
    pub announced: Option<Ipv4Addr>,
    /// Whether `host\user` names a host.
    pub backslash_names_host: bool,
    /// The limit that all sites have.
    pub sessions_per_site: Option<u32>,
    /// The sites, in the order of the file.
    pub sites: Vec<SitePlan<'a>>,
    /// Points about the whole server that need attention.
    pub attention: Vec<String>,
}

/// An address and port that clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// All addresses of one kind, at that port.
    pub address: SocketAddr,
    /// Whether TLS begins at once.
    pub is_implicit: bool,
}

/// Plans the configuration; `backend` is what Portcullis reaches IIS by, if that is known.
pub fn plan<'a>(server: &'a Server, backend: Option<&str>) -> Plan<'a> {
    let shown = certificate_trap::everywhere(server);
    let sites = plan_sites(server, &shown, backend);
    let in_force: Vec<&SitePlan> = sites
        .iter()
        .filter(|site| site.standing == Standing::InForce)
        .collect();
    let mut attention = server.unread.clone();
    let listeners = listeners(&in_force);
    let (tls_required, data_required) = clear_text(&in_force, &mut attention);
    let data_ports = data_ports(server, &listeners, &mut attention);
    let announced = announced(&in_force, &mut attention);
    let greeting = greeting(&in_force, &mut attention);
    backends(&in_force, &mut attention);
    one_address(server, &in_force, &mut attention);
    Plan {
        shown,
        listeners,
        greeting,
        tls_required,
        data_required,
        data_ports,
        data_ports_of_iis: server.data_ports.clone(),
        announced,
        backslash_names_host: server.backslash_names_host,
        sessions_per_site: sessions_per_site(&in_force),
        sites,
        attention,
    }
}

/// Every port, at all addresses: those of IIS aren't those of another machine.
fn listeners(sites: &[&SitePlan<'_>]) -> Vec<Listener> {
    let bindings = sites.iter().flat_map(|site| &site.site.bindings);
    let listeners: BTreeSet<Listener> = bindings
        .map(|binding| {
            let Endpoint { address, port } = binding.endpoint;
            let all = match address {
                Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                Some(IpAddr::V4(_)) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            };
            Listener {
                address: SocketAddr::new(all, port),
                is_implicit: binding.endpoint.is_implicit(),
            }
        })
        .collect();
    listeners.into_iter().collect()
}

/// Whether logins and transfers in clear text are refused.
fn clear_text(sites: &[&SitePlan<'_>], attention: &mut Vec<String>) -> (bool, bool) {
    let named = |wanted: &dyn Fn(&Site) -> bool| {
        let sites = sites.iter().filter(|site| wanted(site.site));
        sites.map(|site| site.name.as_str()).collect::<Vec<_>>()
    };
    let open = named(&|site| site.control == ControlPolicy::Allow);
    let required = open.len() < sites.len();
    if required && !open.is_empty() {
        attention.push(format!(
            "{} may be used without TLS in IIS, other sites may not; Portcullis has one setting for all: `tls.required` is true, \
             and clients without TLS are refused",
            open.join(", ")
        ));
    }
    let strict = named(&|site| site.data == DataPolicy::Require);
    let clear = named(&|site| site.data == DataPolicy::Deny);
    let is_mixed = !strict.is_empty() && strict.len() < sites.len();
    let data_required = !strict.is_empty() && clear.is_empty();
    if is_mixed && data_required {
        attention.push(format!(
            "files may cross in clear text in IIS, but for those of {}; Portcullis has one setting for all: `tls.data_required` \
             is true, and clear text is refused everywhere",
            strict.join(", ")
        ));
    } else if is_mixed {
        attention.push(format!(
            "{} has encrypted data connections refused by IIS (SslDeny), and {} demands them; Portcullis has one setting for all: \
             `tls.data_required` is false, and each client decides",
            clear.join(", "),
            strict.join(", ")
        ));
    }
    (required, data_required)
}

/// The data ports of IIS, for which firewalls are open, but for ports that something else has.
fn data_ports(
    server: &Server,
    listeners: &[Listener],
    attention: &mut Vec<String>,
) -> RangeInclusive<u16> {
    let taken: BTreeSet<u16> = listeners
        .iter()
        .map(|listener| listener.address.port())
        .chain([ADMIN_PORT])
        .collect();
    let unused = |range: &RangeInclusive<u16>| longest_unused(range, &taken);
    let of_iis = server.data_ports.as_ref().and_then(unused);
    let ports = of_iis
        .or_else(|| unused(&DEFAULT_DATA_PORTS))
        .unwrap_or(DEFAULT_DATA_PORTS);
    if ports.start() <= EPHEMERAL.end() && ports.end() >= EPHEMERAL.start() {
        attention.push(format!(
            "Linux takes the ports of outgoing connections from {}-{}, and one of them may be a data port: have \
             net.ipv4.ip_local_reserved_ports hold {}-{}, or choose lower ports",
            EPHEMERAL.start(),
            EPHEMERAL.end(),
            ports.start(),
            ports.end()
        ));
    }
    ports
}

/// The longest run of ports in `range` of which none is taken.
fn longest_unused(
    range: &RangeInclusive<u16>,
    taken: &BTreeSet<u16>,
) -> Option<RangeInclusive<u16>> {
    let mut longest: Option<RangeInclusive<u16>> = None;
    let mut start = Some(*range.start());
    let ends = taken.range(range.clone()).copied().map(Some).chain([None]);
    for end in ends {
        let last = match end {
            Some(port) => port.checked_sub(1),
            None => Some(*range.end()),
        };
        if let (Some(first), Some(last)) = (start, last)
            && first <= last
        {
            let last = last.min(first.saturating_add(MAX_DATA_PORTS - 1));
            let run = first..=last;
            if longest.as_ref().is_none_or(|other| other.len() < run.len()) {
                longest = Some(run);
            }
        }
        start = end.and_then(|port| port.checked_add(1));
    }
    longest
}

fn announced(sites: &[&SitePlan<'_>], attention: &mut Vec<String>) -> Option<Ipv4Addr> {
    let addresses = sites
        .iter()
        .filter_map(|site| site.site.external_address.as_deref());
    let addresses: BTreeSet<&str> = addresses.filter(|text| *text != "0.0.0.0").collect();
    let shown = |text: &str| escape(text.as_bytes());
    match addresses.iter().collect::<Vec<_>>()[..] {
        [] => None,
        [text] => {
            let address = text.parse().ok().filter(|address| is_reachable(*address));
            if address.is_none() {
                attention.push(format!(
                    "the external address \"{}\" (firewallSupport) is no IPv4 address that clients can connect to",
                    shown(text)
                ));
            }
            address
        }
        ref several => {
            let all: Vec<String> = several.iter().map(|text| shown(text)).collect();
            attention.push(format!(
                "the sites have several external addresses ({}); Portcullis announces one for all: `passive.address`",
                all.join(", ")
            ));
            None
        }
    }
}

/// The greeting of the site that serves logins without a host, or else of the first one.
fn greeting(sites: &[&SitePlan<'_>], attention: &mut Vec<String>) -> Option<String> {
    let default = sites.iter().find(|site| site.is_default);
    let speaker = default.or(sites.first())?;
    let said = in_one_line(&speaker.site.banner);
    let others: BTreeSet<&str> = sites
        .iter()
        .filter(|site| {
            let other = in_one_line(&site.site.banner);
            site.site.banner.text.is_some() && other != said
        })
        .map(|site| site.name.as_str())
        .collect();
    if !others.is_empty() {
        attention.push(format!(
            "the banner is one for all sites in Portcullis: those of {} are left out; `login_text` can show a text of each",
            others.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    let said = said?;
    let is_shown_whole = escape(said.as_bytes()) == said;
    if said.len() > MAX_GREETING || !is_shown_whole {
        attention.push(format!(
            "the banner of {} is too long for one line, or has characters that don't print",
            speaker.name
        ));
        return Some(SERVICE.to_owned());
    }
    Some(said)
}

/// A banner as the one line that a greeting has.
fn in_one_line(banner: &Banner) -> Option<String> {
    let text = banner.text.as_deref();
    let words = text.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
    match (
        banner.names_service,
        words.filter(|words| !words.is_empty()),
    ) {
        (NamesService::Yes, None) => Some(SERVICE.to_owned()),
        (NamesService::Yes, Some(words)) => Some(format!("{SERVICE}. {words}")),
        (NamesService::No, words) => words,
    }
}

fn sessions_per_site(sites: &[&SitePlan<'_>]) -> Option<u32> {
    let mut limits = sites.iter().map(|site| site.site.max_connections);
    let first = limits.next()??;
    let is_usable = (1..=10_000_000).contains(&first);
    (is_usable && limits.all(|limit| limit == Some(first))).then_some(first)
}

/// Adds the points for attention that concern all backends.
fn backends(sites: &[&SitePlan<'_>], attention: &mut Vec<String>) {
    if sites.iter().any(|site| site.backend.is_unknown) {
        attention.push(format!(
            "the file doesn't say by which address Portcullis reaches IIS: write it in place of {}, or import again with \
             --backend HOST",
            UNKNOWN_HOST
        ));
    }
    let unverified: Vec<&SitePlan> = sites
        .iter()
        .filter(|site| site.backend.tls != BackendTls::None)
        .copied()
        .collect();
    if let Some(first) = unverified.first() {
        let start = match first.backend.tls {
            BackendTls::Implicit => "",
            BackendTls::Explicit | BackendTls::None => " -starttls ftp",
        };
        attention.push(format!(
            "the certificate of IIS isn't verified (`verify: none`): the file has only its SHA-1, and it may be one that has expired; \
             whoever is between Portcullis and IIS can read passwords. Pin it with `verify: {{fingerprint: \"sha256:...\"}}`, which \
             openssl s_client -connect {}{start} </dev/null | openssl x509 -noout -fingerprint -sha256 prints",
            first.backend.address
        ));
    }
}

/// IIS sees all clients at one address from now on.
fn one_address(server: &Server, sites: &[&SitePlan<'_>], attention: &mut Vec<String>) {
    if server.denies_by_failure {
        attention.push(
            "IIS refuses addresses with failed logins (denyByFailure), and will see that of Portcullis alone: exempt it, as \
             docs/iis.md says; the guard of Portcullis counts in its place"
                .to_owned(),
        );
    }
    let closed: Vec<&str> = sites
        .iter()
        .filter(|site| site.site.clients.unlisted == Access::Denied)
        .map(|site| site.name.as_str())
        .collect();
    if !closed.is_empty() {
        attention.push(format!(
            "IIS admits only listed addresses at {}, and will see that of Portcullis alone: allow it there (ipSecurity); \
             `clients` has the rules for the clients themselves",
            closed.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_ports_are_the_longest_run_that_nothing_else_has() {
        for (range, taken, expected) in [
            (5000..=5100, &[21][..], Some(5000..=5100)),
            (1024..=65535, &[2121, 9190], Some(1024..=2023)),
            (9180..=9201, &[9190], Some(9191..=9201)),
            (2121..=2121, &[2121], None),
            (2120..=2122, &[2120, 2122], Some(2121..=2121)),
            (65535..=65535, &[], Some(65535..=65535)),
        ] {
            let taken = taken.iter().copied().collect();
            assert_eq!(longest_unused(&range, &taken), expected, "{range:?}");
        }
    }

    #[test]
    fn a_banner_of_several_lines_becomes_one() {
        let banner = |text: Option<&str>, names_service| {
            in_one_line(&Banner {
                text: text.map(str::to_owned),
                names_service,
            })
        };
        let lines = Some("Authorised\r\n use only.");
        assert_eq!(banner(None, NamesService::Yes).as_deref(), Some(SERVICE));
        assert_eq!(
            banner(lines, NamesService::Yes).as_deref(),
            Some("Microsoft FTP Service. Authorised use only.")
        );
        assert_eq!(
            banner(lines, NamesService::No).as_deref(),
            Some("Authorised use only.")
        );
        assert_eq!(banner(None, NamesService::No), None);
    }
}
