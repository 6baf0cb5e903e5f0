//! The sites of a configuration file: names and hosts of their own, and a way in for each.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Fault, quoted};
use super::location::{Location, steps};
use super::{
    Backend, Balance, ClientCertificates, CloseNotify, HostPattern, Listener, PassiveMode,
    SessionReuse, Site, TemplateError, UnknownUsers, UserTemplate, backends, checks,
    client_certificates, file, groups, policy,
};

/// The longest name of a site or backend: it is a metric label and appears in log lines.
const MAX_NAME: usize = 64;
/// Used in place of a site's name in metrics and log lines where there is no site: for example for a login that named
/// an unknown host.
pub const NO_SITE: &str = "none";

/// What holds for clients of a site that doesn't say otherwise.
pub(super) struct SiteDefaults<'a> {
    pub client_certificates: Option<&'a ClientCertificates>,
    pub session_reuse: SessionReuse,
    pub close_notify: CloseNotify,
}

/// The sites of a file, checked against each other and against the listeners. Relative file names count from `base`.
pub(super) fn resolve(
    written: Vec<file::Site>,
    listeners: &[Listener],
    defaults: SiteDefaults<'_>,
    base: &Path,
) -> Result<Vec<Arc<Site>>, Fault> {
    if written.is_empty() {
        return Err(Fault::new(
            Location::Key(steps!["sites"]),
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
            return Err(Fault::new(
                Location::Key(steps!["sites", index, "default"]),
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
            return Err(Fault::new(
                Location::Value(steps!["sites", index]),
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
            return Err(Fault::new(
                Location::Value(steps!["sites", index, "user"]),
                "`{host}` has no value for a login that names no host",
                "give this default site one host without a wildcard, or leave `{host}` out",
            ));
        }
        let unknown_users = site.unknown_users.unwrap_or(UnknownUsers::Accept);
        let at = steps!["sites", index];
        let backends = match site.backends {
            Some(written) => backends::resolve(written, &at, listeners, base)?,
            None if unknown_users == UnknownUsers::Refuse && site.groups.is_some() => Vec::new(),
            None => {
                return Err(Fault::new(
                    Location::Value(at),
                    format!("site {} has no `backends`", quoted(&site.name)),
                    "write where its FTP server is, such as `backends: [{address: 10.0.0.10:21}]`",
                ));
            }
        };
        let groups = groups::resolve(
            site.groups,
            unknown_users,
            &backends,
            index,
            listeners,
            base,
        )?;
        let pools = groups.iter().map(|group| &group.backends[..]);
        let pools: Vec<&[Backend]> = pools
            .chain([&backends[..]])
            .filter(|pool| !pool.is_empty())
            .collect();
        backends::check_balance(site.balance, site.queue.as_ref(), &pools, index)?;
        let checks = checks::resolve(site.health, &pools, index, base)?;
        let client_certificate = client_certificates::resolve_site(
            site.client_certificate,
            defaults.client_certificates,
            index,
            base,
        )?;
        let policy = policy::resolve(
            site.clients,
            client_certificate,
            site.commands,
            site.maintenance,
            site.login_text,
            site.rate,
            index,
        )?;
        sites.push(Arc::new(Site {
            name: site.name,
            default,
            hosts,
            backends,
            groups,
            unknown_users,
            user,
            session_reuse: site.session_reuse.unwrap_or(defaults.session_reuse),
            passive_mode: site.passive_mode.unwrap_or(PassiveMode::Auto),
            close_notify: site.close_notify.unwrap_or(defaults.close_notify),
            balance: site.balance.unwrap_or(Balance::First),
            queue: site.queue.map_or(Duration::ZERO, |wait| wait.0),
            checks,
            policy,
        }));
    }
    Ok(sites)
}

/// Whether it can be the name of a site or backend.
pub(super) fn is_label(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn check_name(name: &str, index: usize, earlier: &[Arc<Site>]) -> Result<(), Fault> {
    let location = Location::Value(steps!["sites", index, "name"]);
    if !is_label(name) {
        return Err(Fault::new(
            location,
            format!("{} can't be the name of a site", quoted(name)),
            "write 1 to 64 letters, digits, `-`, `_` or `.`: the name is a label in logs and metrics",
        ));
    }
    if name.eq_ignore_ascii_case(NO_SITE) {
        return Err(Fault::new(
            location,
            format!("{} can't be the name of a site", quoted(name)),
            "write another name: `none` stands in logs and metrics for logins that lead to no site",
        ));
    }
    if earlier
        .iter()
        .any(|site| site.name.eq_ignore_ascii_case(name))
    {
        return Err(Fault::new(
            location,
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
        let location = || Location::Value(steps!["sites", index, "hosts", number]);
        let Some(host) = HostPattern::parse(text) else {
            return Err(Fault::new(
                location(),
                format!("{} isn't a host name", quoted(text)),
                if is_binding(text) {
                    "a binding of IIS has the host name behind its second colon: write that alone; addresses and ports \
                     belong under `listeners`"
                } else {
                    "write a name such as ftp.example.com, or \"*.example.com\" for any one label before it; \
                     without a port, and international names in their xn-- form"
                },
            ));
        };
        if let Some(other) = taken.insert(host.clone(), site.to_owned()) {
            return Err(Fault::new(
                location(),
                format!("{host} belongs to site {} already", quoted(&other)),
                "keep each host at one site",
            ));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

/// `IP:port:host`, as IIS has its sites' addresses.
fn is_binding(text: &str) -> bool {
    let mut parts = text.split(':');
    matches!((parts.next(), parts.next(), parts.next(), parts.next()),
        (Some(_), Some(port), Some(_), None) if port.parse::<u16>().is_ok())
}

fn user(written: Option<&str>, index: usize) -> Result<UserTemplate, Fault> {
    written.map_or(Ok(UserTemplate::default()), |text| {
        text.parse().map_err(|error: TemplateError| {
            let message = match error {
                TemplateError::UnknownPlaceholder(name) => format!("unknown placeholder {}", quoted(&format!("{{{name}}}"))),
                other => other.to_string(),
            };
            Fault::new(
                Location::Value(steps!["sites", index, "user"]),
                message,
                "write \"{user}\", \"{host}|{user}\" or \"{user}@{host}\"; braces hold `user` or `host`",
            )
        })
    })
}
