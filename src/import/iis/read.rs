//! From the elements of an `applicationHost.config` to what they mean.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::document::Element;
use super::inheritance::{Attributes, Sections, Where, is_true, note_other_file};
use super::model::{
    Access, AddressRule, AddressRules, Banner, Binding, Certificate, ClientCertificates,
    CommandFilter, ControlPolicy, DataPolicy, NamesService, Server, Site, Start,
};
use crate::base::text::{decimal, escape};

/// `maxConnections` without a limit.
const UNLIMITED: u32 = u32::MAX;

/// The section with rules for addresses.
const IP_SECURITY: [&str; 3] = ["system.ftpServer", "security", "ipSecurity"];
/// The element with rules for commands, in `ftpServer`.
const COMMANDS: [&str; 2] = ["security", "commandFiltering"];
/// Bindings of FTP, and `location` elements, at most: each is compared with each. IIS itself gets slow with fewer sites.
const MAX_BINDINGS: usize = 10_000;
const MAX_LOCATIONS: usize = 20_000;
/// Rules for addresses and commands at most: of a site with those that it inherits, and of all sites together.
const MAX_RULES_OF_SITE: usize = 1_000;
const MAX_RULES: usize = 100_000;

/// The reason why there are no sites.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The file is XML, but not of IIS.
    #[error(
        "the outermost element is <{found}>; applicationHost.config of IIS has <configuration>"
    )]
    NotOfIis {
        /// The element's name, without characters that act on a terminal.
        found: String,
    },
    /// The sites are in a file of their own.
    #[error(
        "the section <{section}> is in the file `{file}` (configSource): put its content in place of the section"
    )]
    InAnotherFile {
        /// The section.
        section: &'static str,
        /// As written, without characters that act on a terminal.
        file: String,
    },
    /// The file is too large to be carried over in reasonable time.
    #[error("there are more than {most} {what} in it")]
    TooMany {
        /// The kind of thing of which there are too many.
        what: &'static str,
        /// The number that is allowed.
        most: usize,
    },
    /// The file is of a web server without FTP sites.
    #[error(
        "there is no FTP site in it: none of its {sites} sites has a binding with the protocol ftp"
    )]
    NoFtpSite {
        /// The number of its sites.
        sites: usize,
    },
}

/// Reads the file's outermost element.
///
/// # Errors
/// If it has no FTP site.
pub fn server(root: &Element) -> Result<Server, ReadError> {
    if root.name != "configuration" {
        let found = escape(root.name.as_bytes());
        return Err(ReadError::NotOfIis { found });
    }
    let sections = &Sections::new(root);
    let mut unread = Vec::new();
    let sites = sections.one(&["system.applicationHost", "sites"], Where::Server);
    if let Some(file) = sites.and_then(|sites| sites.attribute("configSource")) {
        return Err(ReadError::InAnotherFile {
            section: "sites",
            file: escape(file.as_bytes()),
        });
    }
    let written: Vec<&Element> = sites.map_or(Vec::new(), |sites| sites.all("site").collect());
    let defaults = sites.and_then(|sites| sites.at(&["siteDefaults", "ftpServer"]));
    refuse_more(
        "location elements",
        MAX_LOCATIONS,
        root.all("location").count(),
    )?;
    let bindings = written.iter().flat_map(|site| bindings_of(site));
    refuse_more("bindings of FTP", MAX_BINDINGS, bindings.count())?;
    let mut found: Vec<Site> = Vec::new();
    let mut rules = 0;
    for element in written.iter().filter(|it| bindings_of(it).next().is_some()) {
        let own = rules_of(element, defaults, sections);
        rules += own;
        refuse_more("rules for one site", MAX_RULES_OF_SITE, own)?;
        refuse_more("rules for all sites", MAX_RULES, rules)?;
        found.push(site(element, defaults, sections));
    }
    if found.is_empty() {
        return Err(ReadError::NoFtpSite {
            sites: written.len(),
        });
    }
    let mut section = |path: &[&str], child: &[&str]| {
        let section = sections.one(path, Where::Server)?;
        note_other_file(section, &mut unread);
        section.at(child)
    };
    let firewall = section(&["system.ftpServer", "firewallSupport"], &[]);
    let host_names = section(&["system.ftpServer", "serverRuntime"], &["hostNameSupport"]);
    let failures = section(
        &["system.ftpServer", "security", "authentication"],
        &["denyByFailure"],
    );
    let port = |name| -> Option<u16> { firewall.and_then(|it| decimal(it.attribute(name)?)) };
    let (low, high) = (port("lowDataChannelPort"), port("highDataChannelPort"));
    Ok(Server {
        sites: found,
        certificate: certificate(&mut Attributes::new(None, defaults)),
        data_ports: match (low.unwrap_or(0), high.unwrap_or(0)) {
            (0, _) | (_, 0) => None,
            (low, high) => Some(low..=high).filter(|range| !range.is_empty()),
        },
        backslash_names_host: is_true(host_names, "useDomainNameAsHostName", false),
        denies_by_failure: is_true(failures, "enabled", false)
            && !is_true(failures, "loggingOnlyMode", false),
        unread,
    })
}

fn refuse_more(what: &'static str, most: usize, found: usize) -> Result<(), ReadError> {
    if found > most {
        return Err(ReadError::TooMany { what, most });
    }
    Ok(())
}

/// The bindings of a site that are of FTP.
fn bindings_of(site: &Element) -> impl Iterator<Item = &Element> {
    let bindings = site.all("bindings").flat_map(|it| it.all("binding"));
    bindings.filter(|binding| {
        let protocol = binding.attribute("protocol").unwrap_or_default();
        protocol.eq_ignore_ascii_case("ftp")
    })
}

/// The sections with rules for the addresses of a site's clients, the most general one first.
fn address_sections<'a>(site: &str, sections: &Sections<'a>) -> impl Iterator<Item = &'a Element> {
    let all = |place| sections.all(&IP_SECURITY, place);
    all(Where::Server).chain(all(Where::Site(site)))
}

/// How many rules hold for the site.
fn rules_of(site: &Element, defaults: Option<&Element>, sections: &Sections<'_>) -> usize {
    let name = site.attribute("name").unwrap_or_default();
    let attributes = Attributes::new(site.at(&["ftpServer"]), defaults);
    let of_commands = attributes.elements(&COMMANDS);
    let all = address_sections(name, sections).chain(of_commands);
    all.map(|section| section.children.len()).sum()
}

/// A site with bindings of FTP.
fn site(element: &Element, defaults: Option<&Element>, sections: &Sections<'_>) -> Site {
    let name = element.attribute("name").unwrap_or_default();
    let own = element.at(&["ftpServer"]);
    let mut attributes = Attributes::new(own, defaults);
    let mut bindings = Vec::new();
    for binding in bindings_of(element) {
        let text = binding.attribute("bindingInformation").unwrap_or_default();
        match Binding::parse(text) {
            Some(binding) => bindings.push(binding),
            None => {
                let text = escape(text.as_bytes());
                attributes
                    .unread
                    .push(format!("the binding \"{text}\" isn't IP:port:host"));
            }
        }
    }
    let automatic = [Some(element), own]
        .into_iter()
        .all(|level| is_true(level, "serverAutoStart", true));
    let ssl = ["security", "ssl"];
    let max_connections = attributes
        .text(&["connections"], "maxConnections")
        .and_then(decimal)
        .filter(|most| *most != UNLIMITED);
    let external = attributes.text(&["firewallSupport"], "externalIp4Address");
    let banner = Banner {
        text: attributes
            .text(&["messages"], "bannerMessage")
            .map(str::to_owned),
        names_service: attributes.word(
            &["messages"],
            "suppressDefaultBanner",
            &[("true", NamesService::No), ("false", NamesService::Yes)],
        ),
    };
    Site {
        id: element
            .attribute("id")
            .and_then(decimal)
            .unwrap_or(u64::MAX),
        start: if automatic {
            Start::Automatic
        } else {
            Start::Manual
        },
        bindings,
        control: attributes.word(
            &ssl,
            "controlChannelPolicy",
            &[
                ("SslAllow", ControlPolicy::Allow),
                ("SslRequire", ControlPolicy::Require),
                (
                    "SslRequireCredentialsOnly",
                    ControlPolicy::RequireCredentialsOnly,
                ),
            ],
        ),
        data: attributes.word(
            &ssl,
            "dataChannelPolicy",
            &[
                ("SslAllow", DataPolicy::Allow),
                ("SslRequire", DataPolicy::Require),
                ("SslDeny", DataPolicy::Deny),
            ],
        ),
        certificate: certificate(&mut attributes),
        client_certificates: attributes.word(
            &["security", "sslClientCertificates"],
            "clientCertificatePolicy",
            &[
                ("CertIgnore", ClientCertificates::Ignored),
                ("CertAllow", ClientCertificates::AskedFor),
                ("CertRequire", ClientCertificates::AskedFor),
            ],
        ),
        external_address: external.map(str::to_owned),
        max_connections,
        banner,
        commands: commands(&mut attributes),
        clients: clients(name, sections, &mut attributes.unread),
        unread: attributes.unread,
        name: name.to_owned(),
    }
}

fn certificate(attributes: &mut Attributes<'_>) -> Option<Certificate> {
    let path = ["security", "ssl"];
    let thumbprint = attributes.text(&path, "serverCertHash")?;
    Some(Certificate {
        thumbprint: thumbprint.to_owned(),
        store: attributes
            .text(&path, "serverCertStoreName")
            .unwrap_or("MY")
            .to_owned(),
    })
}

fn commands(attributes: &mut Attributes<'_>) -> CommandFilter {
    let mut levels: Vec<&Element> = attributes.elements(&COMMANDS).collect();
    levels.reverse();
    let mut denied: Vec<String> = Vec::new();
    for entry in levels.iter().flat_map(|level| &level.children) {
        let command = entry.attribute("command").unwrap_or_default();
        // A name twice: the more specific one counts.
        denied.retain(|other| entry.name != "clear" && !other.eq_ignore_ascii_case(command));
        if entry.name == "add" && !is_true(Some(entry), "allowed", true) {
            denied.push(command.to_owned());
        }
    }
    let unlisted = &[("true", Access::Allowed), ("false", Access::Denied)];
    CommandFilter {
        denied,
        unlisted: attributes.word(&COMMANDS, "allowUnlisted", unlisted),
    }
}

/// The rules of the site itself are tried before those of the server.
fn clients(site: &str, sections: &Sections<'_>, unread: &mut Vec<String>) -> AddressRules {
    let mut result = AddressRules::default();
    for section in address_sections(site, sections) {
        note_other_file(section, unread);
        if section.attribute("allowUnlisted").is_some() {
            result.unlisted = access(section, "allowUnlisted", true);
        }
        let mut added = Vec::new();
        for entry in &section.children {
            match entry.name.as_str() {
                "clear" => {
                    added.clear();
                    result.rules.clear();
                }
                "remove" => {
                    if let Some(network) = network(entry) {
                        result.rules.retain(|rule| rule.network != network);
                    }
                }
                "add" => match network(entry) {
                    Some(network) => added.push(AddressRule {
                        network,
                        access: access(entry, "allowed", false),
                    }),
                    None => unread.push(unusable_rule(entry)),
                },
                _ => {}
            }
        }
        result.rules.splice(..0, added);
    }
    if sections.is_below(&IP_SECURITY, site) {
        unread.push("ipSecurity of single folders: Portcullis decides by site".to_owned());
    }
    result
}

fn unusable_rule(entry: &Element) -> String {
    let value = |name| escape(entry.attribute(name).unwrap_or_default().as_bytes());
    let whom = match entry.attribute("domainName") {
        Some(_) => format!("the domain \"{}\"", value("domainName")),
        None => format!(
            "\"{}\", mask \"{}\"",
            value("ipAddress"),
            value("subnetMask")
        ),
    };
    let verb = match access(entry, "allowed", false) {
        Access::Allowed => "allows",
        Access::Denied => "denies",
    };
    format!("ipSecurity {verb} {whom}, which isn't a network")
}

/// The network of a rule, if its mask is one.
fn network(entry: &Element) -> Option<Ipv4Net> {
    if entry
        .attribute("domainName")
        .is_some_and(|it| !it.is_empty())
    {
        return None;
    }
    let address: Ipv4Addr = entry.attribute("ipAddress")?.trim().parse().ok()?;
    let mask = match entry.attribute("subnetMask") {
        None | Some("") => Ipv4Addr::BROADCAST,
        Some(mask) => mask.trim().parse().ok()?,
    };
    let network = Ipv4Net::with_netmask(address, mask).ok()?;
    Some(network.trunc())
}

fn access(element: &Element, name: &str, default: bool) -> Access {
    if is_true(Some(element), name, default) {
        Access::Allowed
    } else {
        Access::Denied
    }
}

#[cfg(test)]
mod tests {
    use super::super::document::parse;
    use super::*;

    fn read(text: &str) -> Result<Server, ReadError> {
        server(&parse(text.as_bytes()).expect("XML"))
    }

    /// A server with one site: the content of its `ftpServer`, that of `siteDefaults`, and further sections.
    fn one_site(own: &str, defaults: &str, more: &str) -> Server {
        let text = format!(
            "<configuration><system.applicationHost><sites>\
             <site name=\"Partner FTP\" id=\"2\"><bindings>\
             <binding protocol=\"http\" bindingInformation=\"*:80:\"/>\
             <binding protocol=\"ftp\" bindingInformation=\"*:21:ftp.test\"/></bindings>\
             <ftpServer>{own}</ftpServer></site>\
             <siteDefaults><ftpServer>{defaults}</ftpServer></siteDefaults>\
             </sites></system.applicationHost>{more}</configuration>"
        );
        read(&text).expect("a site")
    }

    fn ip_security(attributes: &str, rules: &str) -> String {
        format!(
            "<system.ftpServer><security><ipSecurity {attributes}>{rules}</ipSecurity></security></system.ftpServer>"
        )
    }

    #[test]
    fn a_site_inherits_what_it_does_not_say() {
        let server = one_site(
            "<security><ssl controlChannelPolicy=\"SslAllow\"/></security>",
            "<security><ssl serverCertHash=\"AB\" controlChannelPolicy=\"SslRequire\" dataChannelPolicy=\"SslDeny\"/></security>\
             <connections maxConnections=\"50\"/>",
            "",
        );
        let site = &server.sites[0];
        assert_eq!(site.control, ControlPolicy::Allow);
        assert_eq!(site.data, DataPolicy::Deny);
        assert_eq!(site.max_connections, Some(50));
        assert_eq!(site.certificate, server.certificate);
        assert_eq!(server.certificate.unwrap().store, "MY");
        assert_eq!(site.start, Start::Automatic);
    }

    #[test]
    fn what_nothing_says_is_as_in_the_schema_of_iis() {
        let server = one_site("", "<connections maxConnections=\"4294967295\"/>", "");
        let site = &server.sites[0];
        assert_eq!(
            (site.control, site.data),
            (ControlPolicy::Require, DataPolicy::Require)
        );
        assert_eq!((site.max_connections, &site.certificate), (None, &None));
        assert_eq!(server.data_ports, None);
        assert_eq!(site.clients, AddressRules::default());
        assert!(site.unread.is_empty() && server.unread.is_empty());
    }

    #[test]
    fn what_can_not_be_read_is_noted_without_its_secrets() {
        let server = one_site(
            "<security><ssl serverCertHash=\"[enc:AesProvider:c2VjcmV0:enc]\" dataChannelPolicy=\"Maybe\"/></security>",
            "",
            "",
        );
        let unread = server.sites[0].unread.join("; ");
        assert_eq!(
            unread,
            "`dataChannelPolicy` is \"Maybe\", which isn't known; `serverCertHash` is encrypted"
        );
    }

    #[test]
    fn denied_commands_are_those_of_every_level() {
        let server = one_site(
            "<security><commandFiltering><add command=\"SITE\" allowed=\"true\"/><add command=\"DELE\" allowed=\"false\"/>\
             <remove command=\"RMD\"/></commandFiltering></security>",
            "<security><commandFiltering allowUnlisted=\"false\"><add command=\"SITE\" allowed=\"false\"/>\
             <add command=\"RMD\" allowed=\"false\"/><add command=\"SYST\" allowed=\"false\"/></commandFiltering></security>",
            "",
        );
        let commands = &server.sites[0].commands;
        assert_eq!(commands.denied, ["SYST", "DELE"]);
        assert_eq!(commands.unlisted, Access::Denied);
    }

    #[test]
    fn rules_of_a_location_come_before_those_of_the_server() {
        let allow = "<add ipAddress=\"10.0.0.0\" subnetMask=\"255.0.0.0\" allowed=\"true\"/>";
        let deny = "<add ipAddress=\"10.9.9.9\"/>";
        let server = ip_security("allowUnlisted=\"false\"", allow);
        let own = ip_security("", deny);
        let shown = |more: &str| {
            let read = one_site("", "", more);
            let clients = &read.sites[0].clients;
            let rules: Vec<_> = clients
                .rules
                .iter()
                .map(|rule| rule.network.to_string())
                .collect();
            (rules.join(" "), clients.unlisted)
        };
        assert_eq!(
            shown(&format!(
                "{server}<location path=\"partner ftp\">{own}</location>"
            )),
            ("10.9.9.9/32 10.0.0.0/8".to_owned(), Access::Denied)
        );
        assert_eq!(
            shown(&format!(
                "{server}<location path=\"Partner FTP 2\">{own}</location>"
            )),
            ("10.0.0.0/8".to_owned(), Access::Denied)
        );
        let cleared = ip_security("", &format!("<clear/>{deny}"));
        assert_eq!(
            shown(&format!(
                "<location path=\"\">{server}</location><location path=\"Partner FTP\">{cleared}</location>"
            )),
            ("10.9.9.9/32".to_owned(), Access::Denied)
        );
    }

    #[test]
    fn rules_that_are_no_networks_are_noted() {
        let rules = ip_security(
            "",
            "<add domainName=\"*.evil.test\"/><add ipAddress=\"10.0.0.1\" subnetMask=\"255.0.255.0\" allowed=\"true\"/>",
        );
        let folder = format!("<location path=\"Partner FTP/in\">{rules}</location>");
        let server = one_site("", "", &format!("{rules}{folder}"));
        assert_eq!(
            server.sites[0].unread,
            [
                "ipSecurity denies the domain \"*.evil.test\", which isn't a network",
                "ipSecurity allows \"10.0.0.1\", mask \"255.0.255.0\", which isn't a network",
                "ipSecurity of single folders: Portcullis decides by site",
            ]
        );
    }

    #[test]
    fn settings_of_the_server_are_read() {
        let server = one_site(
            "",
            "",
            "<system.ftpServer><firewallSupport lowDataChannelPort=\"5000\" highDataChannelPort=\"5100\"/>\
             <serverRuntime><hostNameSupport useDomainNameAsHostName=\"true\"/></serverRuntime>\
             <security><authentication><denyByFailure enabled=\"true\"/></authentication></security></system.ftpServer>",
        );
        assert_eq!(server.data_ports, Some(5000..=5100));
        assert!(server.backslash_names_host && server.denies_by_failure);
    }

    #[test]
    fn a_file_without_ftp_sites_says_why() {
        for (text, message) in [
            ("<html/>", "the outermost element is <html>"),
            ("<configuration/>", "none of its 0 sites"),
            (
                "<configuration><system.applicationHost><sites><site name=\"a\"><bindings>\
                 <binding protocol=\"http\" bindingInformation=\"*:80:\"/></bindings></site></sites></system.applicationHost></configuration>",
                "none of its 1 sites",
            ),
            (
                "<configuration><system.applicationHost><sites configSource=\"sites.config\"/></system.applicationHost></configuration>",
                "the section <sites> is in the file `sites.config`",
            ),
        ] {
            let error = read(text).expect_err("no site").to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn more_than_can_be_compared_is_refused() {
        let sites = |inside: &str, more: &str| {
            let text = format!(
                "<configuration><system.applicationHost><sites>{inside}</sites></system.applicationHost>{more}</configuration>"
            );
            read(&text).expect_err("too many").to_string()
        };
        let binding = "<binding protocol=\"ftp\" bindingInformation=\"*:21:a\"/>";
        let site = format!("<site name=\"a\"><bindings>{binding}</bindings></site>");
        let rules = ip_security(
            "",
            &"<add ipAddress=\"10.0.0.1\"/>".repeat(MAX_RULES_OF_SITE),
        );
        for (inside, more, message) in [
            (
                site.replace(binding, &binding.repeat(MAX_BINDINGS + 1)),
                String::new(),
                "more than 10000 bindings of FTP",
            ),
            (
                site.clone(),
                "<location/>".repeat(MAX_LOCATIONS + 1),
                "more than 20000 location elements",
            ),
            (
                site.clone(),
                format!("{rules}<location path=\"A\">{rules}</location>"),
                "more than 1000 rules for one site",
            ),
            (
                site.repeat(101),
                rules.clone(),
                "more than 100000 rules for all sites",
            ),
        ] {
            let error = sites(&inside, &more);
            assert!(error.contains(message), "{error}");
        }
    }
}
