//! Which certificate IIS shows at each of its addresses and ports.
//!
//! The TLS handshake is over before USER names a virtual host, so all sites of an address and port show one certificate: that of
//! the site there without a host name, or else that of the server's own FTP SSL settings. Whoever renews the certificate of
//! another site changes nothing, and when that one ends, all of them fail.

use std::collections::BTreeSet;

use super::model::{Binding, Certificate, Endpoint, Server, Site, Start};

/// The certificate that every client of an address and port is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The address and the port.
    pub endpoint: Endpoint,
    /// Whose settings decide.
    pub decided_by: DecidedBy<'a>,
    /// The certificate in them.
    pub certificate: Option<&'a Certificate>,
    /// The hosts of sites that have no say in it.
    pub others: Vec<&'a str>,
}

/// Whose settings decide.
#[derive(Debug, Clone, Copy)]
pub enum DecidedBy<'a> {
    /// The site without a host name.
    Site(&'a Site),
    /// No site there is without one.
    Server,
}

/// What is shown at every address and port at which a site starts by itself.
pub fn everywhere(server: &Server) -> Vec<Shown<'_>> {
    let endpoints: BTreeSet<Endpoint> = bindings(server)
        .map(|(_, binding)| binding.endpoint)
        .collect();
    endpoints
        .into_iter()
        .map(|endpoint| at(server, endpoint))
        .collect()
}

/// What is shown at this one.
pub fn at(server: &Server, endpoint: Endpoint) -> Shown<'_> {
    let there = || bindings(server).filter(|(_, it)| endpoint.is_served_by(it.endpoint));
    // A binding to the address itself comes before one to all addresses.
    let general = there()
        .filter(|(_, binding)| binding.host.is_none())
        .max_by_key(|(site, binding)| {
            (
                binding.endpoint.address.is_some(),
                std::cmp::Reverse(site.id),
            )
        });
    let decided_by = general.map_or(DecidedBy::Server, |(site, _)| DecidedBy::Site(site));
    let has_no_say = |site: &Site| match decided_by {
        DecidedBy::Site(one) => !std::ptr::eq(one, site),
        DecidedBy::Server => true,
    };
    let others: BTreeSet<&str> = there()
        .filter(|(site, _)| has_no_say(site))
        .filter_map(|(_, binding)| binding.host.as_deref())
        .collect();
    Shown {
        endpoint,
        decided_by,
        certificate: match decided_by {
            DecidedBy::Site(site) => site.certificate.as_ref(),
            DecidedBy::Server => server.certificate.as_ref(),
        },
        others: others.into_iter().collect(),
    }
}

fn bindings(server: &Server) -> impl Iterator<Item = (&Site, &Binding)> {
    let started = server
        .sites
        .iter()
        .filter(|site| site.start == Start::Automatic);
    started.flat_map(|site| site.bindings.iter().map(move |binding| (site, binding)))
}
