//! The plan of what is carried over from each site: its name and hosts, where IIS serves it, and the access rights there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::backend::{self, BackendPlan, BackendTls};
use super::certificate_trap::Shown;
use super::model::{Access, ClientCertificates, ControlPolicy, Endpoint, Server, Site, Start};
use super::networks::{Clients, clients};
use crate::base::text::escape;
use crate::config::{HostPattern, NO_SITE};
use crate::policy::DeniedCommand;

/// The longest name of a site.
const MAX_NAME: usize = 64;

/// The settings of a site in the configuration.
#[derive(Debug)]
pub struct SitePlan<'a> {
    /// The site in IIS.
    pub site: &'a Site,
    /// The site's name in the configuration.
    pub name: String,
    /// Whether the site is served.
    pub standing: Standing,
    /// Whether the site takes logins that name no host.
    pub is_default: bool,
    /// The site's hosts.
    pub hosts: Vec<HostPattern>,
    /// The backend through which IIS serves it.
    pub backend: BackendPlan,
    /// The clients that it admits.
    pub clients: Clients,
    /// The commands that the site refuses.
    pub denied: Vec<DeniedCommand>,
    /// Points that need attention.
    pub attention: Vec<String>,
    /// Remarks on what IIS goes on doing.
    pub remarks: Vec<String>,
}

/// Whether a site is in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The site is in force.
    InForce,
    /// The site is written as a comment.
    Comment,
}

/// Plans all sites, where `shown` has the certificates that IIS shows; `known` is the host by which Portcullis reaches IIS, if
/// that is known.
pub fn plan_sites<'a>(
    server: &'a Server,
    shown: &BTreeMap<Endpoint, Shown<'_>>,
    known: Option<&str>,
) -> Vec<SitePlan<'a>> {
    let default = default_site(server);
    let mut names = Names::default();
    let mut hosts_taken: HashMap<HostPattern, String> = HashMap::new();
    let sites = server.sites.iter().map(|site| {
        let is_default = default.is_some_and(|default| std::ptr::eq(default, site));
        let mut attention = site.unread.clone();
        let name = names.of(site);
        let hosts = hosts(site, &name, &mut hosts_taken, &mut attention);
        let standing = standing(site, is_default, &hosts, default, &mut attention);
        let mut backend = backend::plan(shown, site, is_default, &hosts, known);
        attention.append(&mut backend.attention);
        let mut plan = SitePlan {
            site,
            name,
            standing,
            is_default,
            backend,
            hosts,
            clients: clients(&site.clients),
            denied: Vec::new(),
            attention,
            remarks: Vec::new(),
        };
        plan.take_commands();
        plan.note_the_rest();
        plan
    });
    sites.collect()
}

/// The site for logins that name no host: the one at all addresses, at FTP's own port, with the lowest number.
fn default_site(server: &Server) -> Option<&Site> {
    let started = server
        .sites
        .iter()
        .filter(|site| site.start == Start::Automatic);
    let general = started.flat_map(|site| site.general_bindings().map(move |it| (site, it)));
    let first = general.min_by_key(|(site, binding)| {
        let endpoint = binding.endpoint;
        (endpoint.address.is_some(), endpoint.port != 21, site.id)
    });
    first.map(|(site, _)| site)
}

/// The names of sites in the configuration.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    /// How many sites have had a name that was made into this one.
    used: HashMap<String, usize>,
}

impl Names {
    /// The site's name as one of those that metrics can have, which no other site has.
    fn of(&mut self, site: &Site) -> String {
        let is_allowed =
            |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        let words = site.name.split(|character| !is_allowed(character));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let base = if words.is_empty() {
            "site".to_owned()
        } else {
            words.join("-")
        };
        let used = self.used.entry(base.to_ascii_lowercase()).or_default();
        loop {
            *used += 1;
            let end = match *used {
                1 => String::new(),
                number => format!("-{number}"),
            };
            let name = format!("{}{end}", &base[..base.len().min(MAX_NAME - end.len())]);
            let is_reserved = name.eq_ignore_ascii_case(NO_SITE);
            if !is_reserved && self.taken.insert(name.to_ascii_lowercase()) {
                return name;
            }
        }
    }
}

/// The site's hosts that no site before it has.
fn hosts(
    site: &Site,
    name: &str,
    taken: &mut HashMap<HostPattern, String>,
    attention: &mut Vec<String>,
) -> Vec<HostPattern> {
    let mut hosts = Vec::new();
    let mut seen = HashSet::new();
    for text in site.bindings.iter().filter_map(|it| it.host.as_deref()) {
        let Some(host) = HostPattern::parse(text) else {
            attention.push(format!(
                "the host \"{}\" is no host name; an international one is written in its xn-- form",
                escape(text.as_bytes())
            ));
            continue;
        };
        if !seen.insert(host.clone()) {
            continue;
        }
        // A site that doesn't run takes none from one that does.
        if site.start == Start::Automatic {
            if let Some(other) = taken.get(&host) {
                attention.push(format!(
                    "the host {host} leads to site {other}, which has it at another address or port"
                ));
                continue;
            }
            taken.insert(host.clone(), name.to_owned());
        }
        hosts.push(host);
    }
    hosts
}

/// Whether a login can lead to it.
fn standing(
    site: &Site,
    is_default: bool,
    hosts: &[HostPattern],
    default: Option<&Site>,
    attention: &mut Vec<String>,
) -> Standing {
    let has_general = site.general_bindings().next().is_some();
    let other = default.filter(|_| has_general && !is_default);
    let other = other.map(|other| escape(other.name.as_bytes()));
    let why_not = match (site.start, &other) {
        (Start::Manual, _) => "it isn't started with IIS".to_owned(),
        (Start::Automatic, None) if is_default || !hosts.is_empty() => return Standing::InForce,
        (Start::Automatic, None) => "no login can lead to it without a host name".to_owned(),
        (Start::Automatic, Some(other)) if !hosts.is_empty() => {
            attention.push(format!(
                "without a host name its users reach \"{other}\" from now on, whatever address and port they connect to"
            ));
            return Standing::InForce;
        }
        (Start::Automatic, Some(other)) => format!(
            "it has no host name, and \"{other}\" takes the logins that name none; address and port choose no site in \
             Portcullis. Give it a host, which its users then write before their names, or a Portcullis of its own"
        ),
    };
    attention.insert(0, format!("left out: {why_not}"));
    Standing::Comment
}

impl SitePlan<'_> {
    fn take_commands(&mut self) {
        let filter = &self.site.commands;
        let mut left = BTreeSet::new();
        for command in &filter.denied {
            match DeniedCommand::new(command) {
                Ok(denied) if !self.denied.contains(&denied) => self.denied.push(denied),
                Ok(_) => {}
                Err(error) => {
                    left.insert(format!("{}, which {error}", escape(command.as_bytes())));
                }
            }
        }
        for command in left {
            self.remarks
                .push(format!("IIS goes on refusing {command}."));
        }
        if filter.unlisted == Access::Denied {
            self.attention.push(
                "IIS refuses all commands that it doesn't list (commandFiltering), and goes on doing so; Portcullis itself needs USER, \
                 PASS, ACCT, REST, ABOR, NOOP, QUIT, EPSV and PASV, and with TLS AUTH, PBSZ and PROT"
                    .to_owned(),
            );
        }
    }

    fn note_the_rest(&mut self) {
        let site = self.site;
        if self.backend.tls == BackendTls::None {
            self.remarks.push(
                "Between Portcullis and IIS everything is in clear text: no one else may be there."
                    .to_owned(),
            );
        }
        if self.clients == Clients::Nobody {
            self.attention.push(
                "its ipSecurity admits no client, so it is out of service here as well".to_owned(),
            );
        }
        if site.control == ControlPolicy::RequireCredentialsOnly {
            self.attention.push(
                "its clients may go on without TLS after the login (SslRequireCredentialsOnly); Portcullis refuses CCC".to_owned(),
            );
        }
        if site.client_certificates == ClientCertificates::AskedFor {
            self.attention.push(
                "it asks clients for certificates (sslClientCertificates), which Portcullis doesn't; have IIS ignore them".to_owned(),
            );
        }
        if let Some(most) = site.max_connections {
            self.remarks
                .push(format!("IIS goes on limiting it to {most} connections."));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::import::iis::{certificate_trap, document, read};

    /// Each site by its name, the attributes of its bindings, and what stands in its `ftpServer`.
    pub fn server(sites: &[(&str, &[&str], &str)]) -> Server {
        let sites: String = sites
            .iter()
            .enumerate()
            .map(|(number, (name, bindings, settings))| {
                let bindings: String = bindings
                    .iter()
                    .map(|it| format!("<binding protocol=\"ftp\" bindingInformation=\"{it}\"/>"))
                    .collect();
                format!(
                    "<site name=\"{name}\" id=\"{number}\"><bindings>{bindings}</bindings>{settings}</site>"
                )
            })
            .collect();
        let text = format!(
            "<configuration><system.applicationHost><sites>{sites}</sites></system.applicationHost></configuration>"
        );
        let root = document::parse(text.as_bytes()).expect("XML");
        read::server(&root).expect("sites")
    }

    /// All sites, without knowing where IIS is.
    pub fn plans(server: &Server) -> Vec<SitePlan<'_>> {
        plan_sites(server, &certificate_trap::everywhere(server), None)
    }

    #[test]
    fn names_are_such_as_metrics_have_and_no_two_are_the_same() {
        let long = "x".repeat(80);
        let names = [
            "Default FTP Site",
            "default-ftp site",
            "None",
            "\u{fc}",
            "",
            &long,
            &long,
        ];
        let sites: Vec<_> = names
            .iter()
            .map(|name| (*name, &["*:21:"][..], ""))
            .collect();
        let server = server(&sites);
        let plans = plans(&server);
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        let cut = ["x".repeat(64), format!("{}-2", "x".repeat(62))];
        assert_eq!(
            names,
            [
                "Default-FTP-Site",
                "default-ftp-site-2",
                "None-2",
                "site",
                "site-2",
                &cut[0],
                &cut[1],
            ]
        );
    }

    #[test]
    fn the_default_site_is_the_most_general_one() {
        for (sites, expected) in [
            (
                &[("a", &["*:21:a.test"][..], ""), ("b", &["*:21:"], "")][..],
                Some("b"),
            ),
            (
                &[("a", &["10.0.0.1:21:"], ""), ("b", &["*:2121:"], "")],
                Some("b"),
            ),
            (&[("a", &["*:990:"], ""), ("b", &["*:21:"], "")], Some("b")),
            (&[("a", &["*:21:"], ""), ("b", &["*:21:"], "")], Some("a")),
            (&[("a", &["*:21:a.test"], "")], None),
            (
                &[
                    ("a", &["*:21:"], "<ftpServer serverAutoStart=\"false\"/>"),
                    ("b", &["*:21:"], ""),
                ],
                Some("b"),
            ),
        ] {
            let server = server(sites);
            let plans = plans(&server);
            let default = plans.iter().find(|plan| plan.is_default);
            assert_eq!(
                default.map(|plan| plan.name.as_str()),
                expected,
                "{sites:?}"
            );
        }
    }

    #[test]
    fn a_site_that_no_login_can_lead_to_is_left_out() {
        let server = server(&[
            ("a", &["*:21:"], ""),
            ("b", &["10.0.0.1:21:"], ""),
            ("c", &["10.0.0.1:21:c.test"], ""),
            ("d", &["10.0.0.2:21:C.test"], ""),
            (
                "e",
                &["*:21:c.test"],
                "<ftpServer serverAutoStart=\"false\"/>",
            ),
            ("f", &["*:21:b\u{fc}cher.test"], ""),
        ]);
        let plans = plans(&server);
        let standing: Vec<bool> = plans
            .iter()
            .map(|plan| plan.standing == Standing::InForce)
            .collect();
        assert_eq!(standing, [true, false, true, false, false, false]);
        for (plan, why) in [
            (1, "it has no host name, and \"a\" takes the logins"),
            (3, "the host c.test leads to site c"),
            (4, "it isn't started with IIS"),
            (5, "xn-- form"),
        ] {
            let attention = plans[plan].attention.join("\n");
            assert!(attention.contains(why), "{attention}");
        }
    }
}
