//! The certificate that IIS shows at each of its addresses and ports.
//!
//! The TLS handshake is over before USER names a virtual host, so all sites of an address and port show one certificate: that of
//! the site there without a host name, or else that of the server's own FTP SSL settings. A new certificate for
//! another site changes nothing, and when that one ends, all of them fail.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr;

use super::model::{Binding, Certificate, Endpoint, Server, Site, Start};

/// How many hosts are named. There may be thousands.
const MAX_NAMED: usize = 10;

/// The certificate that every client of an address and port is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The address and the port.
    pub endpoint: Endpoint,
    /// The settings that decide.
    pub decided_by: DecidedBy<'a>,
    /// The certificate in them.
    pub certificate: Option<&'a Certificate>,
    /// The hosts of sites that have no say in it, or the first ones of many.
    pub others: Vec<&'a str>,
    /// The number of further hosts.
    pub more: usize,
}

/// The settings that decide which certificate is shown.
#[derive(Debug, Clone, Copy)]
pub enum DecidedBy<'a> {
    /// The site without a host name.
    Site(&'a Site),
    /// No site there is without one.
    Server,
}

/// The certificates shown at every address and port at which a site starts by itself.
pub fn everywhere(server: &Server) -> BTreeMap<Endpoint, Shown<'_>> {
    let endpoints: BTreeSet<Endpoint> = bindings(server)
        .map(|(_, binding)| binding.endpoint)
        .collect();
    endpoints
        .into_iter()
        .map(|endpoint| (endpoint, at(server, endpoint)))
        .collect()
}

fn at(server: &Server, endpoint: Endpoint) -> Shown<'_> {
    let there = || bindings(server).filter(|(_, it)| endpoint.is_served_by(it.endpoint));
    // A binding to the address itself comes before one to all addresses.
    let general = there()
        .filter(|(_, binding)| binding.host.is_none())
        .max_by_key(|(site, binding)| (binding.endpoint.address.is_some(), Reverse(site.id)));
    let decided_by = general.map_or(DecidedBy::Server, |(site, _)| DecidedBy::Site(site));
    let has_no_say = |site: &Site| match decided_by {
        DecidedBy::Site(one) => !ptr::eq(one, site),
        DecidedBy::Server => true,
    };
    let others = there().filter(|(site, _)| has_no_say(site));
    let mut others: Vec<&str> = others
        .filter_map(|(_, binding)| binding.host.as_deref())
        .collect();
    others.sort_unstable();
    others.dedup();
    let more = others.len().saturating_sub(MAX_NAMED);
    others.truncate(MAX_NAMED);
    others.shrink_to_fit();
    Shown {
        endpoint,
        decided_by,
        certificate: match decided_by {
            DecidedBy::Site(site) => site.certificate.as_ref(),
            DecidedBy::Server => server.certificate.as_ref(),
        },
        others,
        more,
    }
}

fn bindings(server: &Server) -> impl Iterator<Item = (&Site, &Binding)> {
    let started = server
        .sites
        .iter()
        .filter(|site| site.start == Start::Automatic);
    started.flat_map(|site| site.bindings.iter().map(move |binding| (site, binding)))
}

#[cfg(test)]
mod tests {
    use super::super::configuration::certificate;
    use super::super::site_plan::tests::server;
    use super::*;

    /// `ftpServer` with this certificate.
    fn settings(thumbprint: &str) -> String {
        format!(
            "<ftpServer><security><ssl serverCertHash=\"{thumbprint}\"/></security></ftpServer>"
        )
    }

    fn shown(sites: &[(&str, &[&str], &str)]) -> Vec<String> {
        everywhere(&server(sites))
            .values()
            .map(certificate)
            .collect()
    }

    #[test]
    fn the_site_without_a_host_name_decides_for_all_others() {
        let (good, expired) = (settings("60"), settings("E0"));
        let sites: [(&str, &[&str], &str); 2] = [
            ("b", &["*:21:b.test", "*:990:b.test"], &good),
            ("a", &["*:21:"], &expired),
        ];
        assert_eq!(
            shown(&sites),
            [
                "*:21: everybody is shown the certificate of site \"a\" (thumbprint E0, store MY); the users of b.test as well",
                "*:990: nobody can use TLS: the certificate would be that of the server's own FTP SSL settings, since no site there is \
                 without a host name, and there is none; the users of b.test as well",
            ]
        );
    }

    #[test]
    fn a_binding_to_the_address_itself_comes_before_one_to_all() {
        let (one, other) = (settings("01"), settings("02"));
        let sites: [(&str, &[&str], &str); 3] = [
            ("all", &["*:21:"], &one),
            ("own", &["10.0.0.1:21:"], &other),
            ("named", &["10.0.0.2:21:c.test"], &other),
        ];
        assert_eq!(
            shown(&sites),
            [
                "*:21: everybody is shown the certificate of site \"all\" (thumbprint 01, store MY)",
                "10.0.0.1:21: everybody is shown the certificate of site \"own\" (thumbprint 02, store MY)",
                "10.0.0.2:21: everybody is shown the certificate of site \"all\" (thumbprint 01, store MY); the users of c.test as well",
            ]
        );
    }

    #[test]
    fn of_many_hosts_the_first_are_named() {
        let bindings: Vec<String> = (10..40).map(|it| format!("*:21:h{it}.test")).collect();
        let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
        let lines = shown(&[("many", &bindings, "")]);
        assert!(lines[0].ends_with("; the users of h10.test, h11.test, h12.test, h13.test, h14.test, h15.test, h16.test, \
                                   h17.test, h18.test, h19.test and 20 more hosts as well"), "{lines:?}");
    }
}
