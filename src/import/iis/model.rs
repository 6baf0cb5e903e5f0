//! The FTP settings of an `applicationHost.config`, with what sites inherit filled in.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

use crate::base::text::decimal;

/// A server with its FTP sites.
#[derive(Debug, Default)]
pub struct Server {
    /// Sites with a binding of FTP, in the order of the file.
    pub sites: Vec<Site>,
    /// The certificate of the server's own FTP SSL settings (`siteDefaults`).
    pub certificate: Option<Certificate>,
    /// `firewallSupport` of the server; `None`: Windows chooses the ports.
    pub data_ports: Option<RangeInclusive<u16>>,
    /// `useDomainNameAsHostName`: `host\user` names a host.
    pub backslash_names_host: bool,
    /// `denyByFailure`: addresses with failed logins are refused.
    pub denies_by_failure: bool,
    /// The server's values that couldn't be read.
    pub unread: Vec<String>,
}

/// An FTP site.
#[derive(Debug)]
pub struct Site {
    /// The site's name in IIS.
    pub name: String,
    /// The site's number.
    pub id: u64,
    /// Whether the site starts with the service.
    pub start: Start,
    /// The site's bindings of FTP, in the order of the file.
    pub bindings: Vec<Binding>,
    /// The policy for encryption of the control connection.
    pub control: ControlPolicy,
    /// The policy for encryption of the data connections.
    pub data: DataPolicy,
    /// The site's own certificate, or that of the server's settings.
    pub certificate: Option<Certificate>,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// `externalIp4Address`, as written.
    pub external_address: Option<String>,
    /// `maxConnections`, where there is a limit.
    pub max_connections: Option<u32>,
    /// The greeting.
    pub banner: Banner,
    /// The commands that it refuses.
    pub commands: CommandFilter,
    /// The clients that it refuses.
    pub clients: AddressRules,
    /// The site's values that couldn't be read.
    pub unread: Vec<String>,
}

/// Whether a site runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The site starts with the service.
    Automatic,
    /// The site runs only when an administrator starts it.
    Manual,
}

/// A binding at which a site is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Address and port.
    pub endpoint: Endpoint,
    /// The virtual host; `None` for logins that name none.
    pub host: Option<String>,
}

/// An address and a port of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address; `None` for all addresses that have no binding of their own.
    pub address: Option<IpAddr>,
    /// The port; not 0.
    pub port: u16,
}

/// `controlChannelPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControlPolicy {
    /// Clear text is served as well.
    Allow,
    /// All of it under TLS.
    #[default]
    Require,
    /// USER and PASS under TLS.
    RequireCredentialsOnly,
}

/// `dataChannelPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPolicy {
    /// Clear text is served as well.
    Allow,
    /// Data connections have to be under TLS.
    #[default]
    Require,
    /// Data connections have to be in clear text.
    Deny,
}

/// `clientCertificatePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// Certificates aren't asked for.
    #[default]
    Ignored,
    /// Certificates are asked for, whether they have to be there or not.
    AskedFor,
}

/// A certificate in a store of Windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate's SHA-1, as written.
    pub thumbprint: String,
    /// The name of the store.
    pub store: String,
}

/// `messages`, as far as they come before a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Banner {
    /// `bannerMessage`.
    pub text: Option<String>,
    /// Whether IIS sends its own line before it.
    pub names_service: NamesService,
}

/// `suppressDefaultBanner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamesService {
    /// `Microsoft FTP Service`.
    #[default]
    Yes,
    /// The line that names the service is suppressed.
    No,
}

/// `commandFiltering`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandFilter {
    /// Commands with `allowed="false"`.
    pub denied: Vec<String>,
    /// The access to all other commands.
    pub unlisted: Access,
}

/// `ipSecurity`: the first rule that has a client's address counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressRules {
    /// In the order in which they are tried.
    pub rules: Vec<AddressRule>,
    /// The access of clients that match no rule.
    pub unlisted: Access,
}

/// A rule of `ipSecurity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRule {
    /// The clients that match.
    pub network: Ipv4Net,
    /// The access of these clients.
    pub access: Access,
}

/// The access of a client or a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Clients or commands are allowed.
    #[default]
    Allowed,
    /// Clients or commands are refused.
    Denied,
}

impl Site {
    /// The site's bindings without a host name.
    pub fn general_bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings
            .iter()
            .filter(|binding| binding.host.is_none())
    }
}

impl Endpoint {
    /// Port 990 is implicit TLS for IIS, and every other one explicit.
    pub fn is_implicit(self) -> bool {
        self.port == 990
    }

    /// Whether clients that connect to `self` reach bindings of `other`.
    pub fn is_served_by(self, other: Self) -> bool {
        self.port == other.port && (other.address.is_none() || other.address == self.address)
    }
}

impl fmt::Display for Endpoint {
    /// Writes the endpoint as IIS does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "*:{}", self.port),
            Some(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

impl Binding {
    /// Reads `bindingInformation`: `*:21:ftp.example.com`, `10.0.0.1:21:`, `[fd00::1]:990:`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => text.split_once(':')?,
        };
        let (port, host) = rest.split_once(':').unwrap_or((rest, ""));
        let address = match address.trim() {
            "" | "*" => None,
            address => Some(address.parse().ok()?),
        };
        let port = decimal(port.trim()).filter(|port| *port != 0)?;
        let host = host.trim();
        Some(Self {
            endpoint: Endpoint {
                address: address.filter(|address: &IpAddr| !address.is_unspecified()),
                port,
            },
            host: (!host.is_empty()).then(|| host.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        let binding = Binding::parse(text)?;
        Some(format!(
            "{} {}",
            binding.endpoint,
            binding.host.as_deref().unwrap_or("-")
        ))
    }

    #[test]
    fn a_binding_is_an_address_a_port_and_a_host() {
        for (text, expected) in [
            ("*:21:", "*:21 -"),
            (":21:", "*:21 -"),
            ("0.0.0.0:21:", "*:21 -"),
            ("*:21", "*:21 -"),
            ("*:990:ftpb.albigi.lab", "*:990 ftpb.albigi.lab"),
            ("10.0.0.1:2121:a", "10.0.0.1:2121 a"),
            ("[fd00::1]:990:", "[fd00::1]:990 -"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "*",
            "21",
            "*:0:",
            "*:65536:",
            "*:+21:",
            "10.0.0.256:21:",
            "[fd00::1:21:",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn a_binding_to_all_addresses_serves_each_of_them() {
        let endpoint = |text| Binding::parse(text).unwrap().endpoint;
        let (all, one) = (endpoint("*:21:"), endpoint("10.0.0.1:21:"));
        assert!(one.is_served_by(all) && one.is_served_by(one) && all.is_served_by(all));
        assert!(!all.is_served_by(one));
        assert!(!endpoint("10.0.0.1:990:").is_served_by(all));
    }
}
