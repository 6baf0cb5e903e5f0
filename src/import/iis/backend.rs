//! By which of its bindings Portcullis uses a site of IIS, and how.

use std::collections::{BTreeMap, HashSet};

use super::certificate_trap::Shown;
use super::model::{Binding, ControlPolicy, DataPolicy, Endpoint, Site};
use crate::config::HostPattern;

/// In place of the address of IIS where nothing says it. The name can't exist (RFC 2606 §2), so no password goes astray.
pub const UNKNOWN_HOST: &str = "iis.invalid";

/// The backend through which IIS serves a site.
#[derive(Debug)]
pub struct BackendPlan {
    /// Host and port of the backend.
    pub address: String,
    /// Whether the host of the address is [`UNKNOWN_HOST`].
    pub is_unknown: bool,
    /// The TLS by which it is connected to.
    pub tls: BackendTls,
    /// The user name that IIS gets in USER; `None` for the client's own, without the host.
    pub user: Option<String>,
    /// Points that need attention.
    pub attention: Vec<String>,
}

/// The TLS by which IIS is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendTls {
    /// IIS is connected to in clear text.
    None,
    /// TLS begins with AUTH TLS.
    Explicit,
    /// TLS begins with the first byte.
    Implicit,
}

/// Plans the backend of a site with these hosts, where `shown` is what IIS shows; `known` is what Portcullis reaches IIS by, if
/// that is known.
pub fn plan(
    shown: &BTreeMap<Endpoint, Shown<'_>>,
    site: &Site,
    is_default: bool,
    hosts: &[HostPattern],
    known: Option<&str>,
) -> BackendPlan {
    let Some(binding) = binding(site, is_default, hosts) else {
        return BackendPlan {
            address: format!("{UNKNOWN_HOST}:21"),
            is_unknown: true,
            tls: BackendTls::None,
            user: None,
            attention: Vec::new(),
        };
    };
    let endpoint = binding.endpoint;
    let own = endpoint.address.filter(|address| !address.is_loopback());
    let own = own.map(|address| address.to_string());
    let host = known.map(str::to_owned).or(own);
    let is_unknown = host.is_none();
    let host = host.unwrap_or_else(|| UNKNOWN_HOST.to_owned());
    let address = if host.contains(':') {
        format!("[{host}]:{}", endpoint.port)
    } else {
        format!("{host}:{}", endpoint.port)
    };
    let (tls, attention) = tls(shown, site, endpoint);
    BackendPlan {
        address,
        is_unknown,
        tls,
        user: user(site, binding, hosts),
        attention,
    }
}

/// Without a host where clients come without one, and rather with AUTH TLS than at port 990: both are the same to the site.
fn binding<'a>(site: &'a Site, is_default: bool, hosts: &[HostPattern]) -> Option<&'a Binding> {
    let hosts: HashSet<&HostPattern> = hosts.iter().collect();
    let is_usable = |binding: &&Binding| match binding.host.as_deref() {
        Some(host) => HostPattern::parse(host).is_some_and(|host| hosts.contains(&host)),
        None => true,
    };
    let usable = site.bindings.iter().filter(is_usable);
    let chosen = usable.min_by_key(|binding| {
        let is_foreign = is_default && binding.host.is_some();
        (is_foreign, binding.endpoint.is_implicit())
    });
    chosen.or(site.bindings.first())
}

/// The user name for IIS. It knows hosts by address and port: a host that it has only elsewhere is represented by one that it has
/// here.
fn user(site: &Site, binding: &Binding, hosts: &[HostPattern]) -> Option<String> {
    let host = HostPattern::parse(binding.host.as_deref()?)?;
    let here = site.bindings.iter();
    let here = here.filter(|other| binding.endpoint.is_served_by(other.endpoint));
    let here: HashSet<HostPattern> = here
        .filter_map(|other| HostPattern::parse(other.host.as_deref()?))
        .collect();
    let is_here = |host: &HostPattern| here.contains(host);
    Some(match host {
        HostPattern::Exact(host) if !hosts.iter().all(is_here) => format!("{host}|{{user}}"),
        HostPattern::Exact(_) | HostPattern::AnyLabelBefore(_) => "{host}|{user}".to_owned(),
    })
}

/// The TLS towards IIS: where IIS has a certificate to show, TLS goes on as it came from the clients until now.
fn tls(
    shown: &BTreeMap<Endpoint, Shown<'_>>,
    site: &Site,
    endpoint: Endpoint,
) -> (BackendTls, Vec<String>) {
    let has_certificate = shown
        .get(&endpoint)
        .is_some_and(|shown| shown.certificate.is_some());
    let is_open = site.control == ControlPolicy::Allow;
    let tls = match has_certificate {
        _ if endpoint.is_implicit() => BackendTls::Implicit,
        false => BackendTls::None,
        true if is_open && site.data == DataPolicy::Deny => BackendTls::None,
        true => BackendTls::Explicit,
    };
    let mut attention = Vec::new();
    if !has_certificate && (endpoint.is_implicit() || !is_open) {
        attention.push(format!(
            "IIS demands TLS at {endpoint}, but has no certificate to show there, so that no client can log in today; let its FTP \
             SSL settings allow connections without SSL from Portcullis, which shows a certificate of its own"
        ));
    }
    if tls != BackendTls::None && site.data == DataPolicy::Deny {
        attention.push(
            "IIS refuses encrypted data connections (SslDeny), which Portcullis asks for where the control connection is \
             encrypted: set the policy of the data channel to Allow"
                .to_owned(),
        );
    }
    (tls, attention)
}

#[cfg(test)]
mod tests {
    use super::super::site_plan::tests::{plans, server};
    use super::*;

    #[test]
    fn the_user_names_a_host_that_iis_has_at_the_backends_port() {
        for (bindings, user, address) in [
            (&["*:21:"][..], None, "iis.invalid:21"),
            (
                &["*:990:b.test", "*:21:b.test"],
                Some("{host}|{user}"),
                "iis.invalid:21",
            ),
            (&["*:990:b.test"], Some("{host}|{user}"), "iis.invalid:990"),
            (
                &["10.0.0.1:21:b.test", "*:21:c.test"],
                Some("{host}|{user}"),
                "10.0.0.1:21",
            ),
            (
                &["*:21:b.test", "*:2121:c.test"],
                Some("b.test|{user}"),
                "iis.invalid:21",
            ),
            (
                &["[fd00::1]:21:b.test"],
                Some("{host}|{user}"),
                "[fd00::1]:21",
            ),
            (
                &["127.0.0.1:21:b.test"],
                Some("{host}|{user}"),
                "iis.invalid:21",
            ),
        ] {
            let server = server(&[("a", bindings, "")]);
            let plans = plans(&server);
            assert_eq!(plans[0].backend.user.as_deref(), user, "{bindings:?}");
            assert_eq!(plans[0].backend.address, address, "{bindings:?}");
        }
    }

    #[test]
    fn tls_towards_iis_is_what_iis_can_do_there() {
        let policy = |certificate: &str, control: &str, data: &str| {
            format!(
                "<ftpServer><security><ssl serverCertHash=\"{certificate}\" controlChannelPolicy=\"{control}\" \
                 dataChannelPolicy=\"{data}\"/></security></ftpServer>"
            )
        };
        for (binding, certificate, control, data, tls, attention) in [
            (
                "*:21:",
                "AB",
                "SslRequire",
                "SslRequire",
                BackendTls::Explicit,
                "",
            ),
            (
                "*:21:",
                "AB",
                "SslAllow",
                "SslAllow",
                BackendTls::Explicit,
                "",
            ),
            ("*:21:", "AB", "SslAllow", "SslDeny", BackendTls::None, ""),
            (
                "*:21:",
                "AB",
                "SslRequire",
                "SslDeny",
                BackendTls::Explicit,
                "to Allow",
            ),
            ("*:21:", "", "SslAllow", "SslAllow", BackendTls::None, ""),
            (
                "*:21:",
                "",
                "SslRequire",
                "SslAllow",
                BackendTls::None,
                "no certificate",
            ),
            (
                "*:990:",
                "AB",
                "SslAllow",
                "SslAllow",
                BackendTls::Implicit,
                "",
            ),
            // The certificate of the site itself is never shown.
            (
                "*:21:b.test",
                "AB",
                "SslRequire",
                "SslAllow",
                BackendTls::None,
                "no certificate",
            ),
        ] {
            let settings = policy(certificate, control, data);
            let server = server(&[("a", &[binding], &settings)]);
            let plans = plans(&server);
            assert_eq!(plans[0].backend.tls, tls, "{binding} {settings}");
            let said = plans[0].attention.join("\n");
            assert_eq!(said.is_empty(), attention.is_empty(), "{said}");
            assert!(said.contains(attention), "{said}");
        }
    }
}
