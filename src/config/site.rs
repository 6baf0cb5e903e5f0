//! What the configuration says of one site: its hosts and networks, its groups, and the servers behind it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Checks, CloseNotify, HostPattern, SessionReuse, TlsMode, TlsVersion, UserTemplate};
use crate::base::BackendId;
use crate::policy::{SitePolicy, UserList};

/// A virtual host and the backends behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The operator's name for it: in logs, as a metric label, in messages.
    pub name: String,
    /// Takes logins that name no host.
    pub default: bool,
    /// Names and wildcards that lead here; never empty unless `default`.
    pub hosts: Vec<HostPattern>,
    /// Serve the users of no group. One of them takes new logins, or there is none, and each user has to be in a group.
    pub backends: Vec<Backend>,
    /// Users with backends of their own; the first that has a user applies.
    pub groups: Vec<Group>,
    /// What becomes of the users of no group.
    pub unknown_users: UnknownUsers,
    /// Which of them serves a login.
    pub balance: Balance,
    /// How long a login waits while all of them have as many sessions as they may.
    pub queue: Duration,
    /// How they are checked; `None` if they are not dialled but for logins, and to see whether one that failed is back.
    pub checks: Option<Checks>,
    /// What the backend gets as USER.
    pub user: UserTemplate,
    /// Policy for clients' data connections that resume, or don't, their control session.
    pub session_reuse: SessionReuse,
    /// How its backends are asked for data connections.
    pub passive_mode: PassiveMode,
    /// How clients' uploads under TLS have to end.
    pub close_notify: CloseNotify,
    /// What it allows its clients.
    pub policy: SitePolicy,
}

impl Site {
    /// A site without hosts and backends, and with the defaults of configuration files.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            default: false,
            hosts: Vec::new(),
            backends: Vec::new(),
            groups: Vec::new(),
            unknown_users: UnknownUsers::Accept,
            balance: Balance::First,
            queue: Duration::ZERO,
            checks: None,
            user: UserTemplate::default(),
            session_reuse: SessionReuse::Prefer,
            passive_mode: PassiveMode::Auto,
            close_notify: CloseNotify::Require,
            policy: SitePolicy::default(),
        }
    }

    /// The backends of the site itself and of each group.
    pub fn all_backends(&self) -> impl Iterator<Item = &Backend> {
        let of_groups = self.groups.iter().flat_map(|group| &group.backends);
        self.backends.iter().chain(of_groups)
    }
}

/// Users of a site that have backends of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The operator's name for it: in logs and messages.
    pub name: String,
    /// Its users.
    pub users: UserList,
    /// The file that has further ones.
    pub users_file: Option<PathBuf>,
    /// Never empty, and one of them takes new logins.
    pub backends: Vec<Backend>,
}

/// What becomes of users of a site that are in none of its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownUsers {
    /// The site's own backends serve them.
    Accept,
    /// They are refused as for a wrong password.
    Refuse,
}

/// Which of a site's backends is tried first for a login; the others follow where that one fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// In the order of the file.
    First,
    /// One after the other, by their weights.
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastSessions,
    /// The same for all sessions of a user, here and in every other instance.
    ByUser,
    /// The same for all sessions of a client's address.
    ByClient,
}

impl Balance {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::RoundRobin => "round_robin",
            Self::LeastSessions => "least_sessions",
            Self::ByUser => "by_user",
            Self::ByClient => "by_client",
        }
    }
}

/// How backends are asked for data connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassiveMode {
    /// By EPSV or PASV as the client asks, then by the other, then by PORT or EPRT.
    Auto,
    /// By EPSV alone.
    Epsv,
    /// By PASV alone.
    Pasv,
    /// By PORT or EPRT alone: they connect to Portcullis.
    Active,
}

impl PassiveMode {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epsv => "epsv",
            Self::Pasv => "pasv",
            Self::Active => "active",
        }
    }
}

/// One legacy FTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The operator's name for it, in place of its address.
    pub name: Option<String>,
    /// Which servers it stands for.
    pub servers: Servers,
    /// TLS on the backend leg; `None` is plaintext.
    pub tls: Option<BackendTls>,
    /// Its share of the logins, relative to the site's other backends; 0 takes no new sessions. Each server's, if it stands for
    /// several; those of SRV records have their own.
    pub weight: u32,
    /// The most sessions that it may have, of all sites; each server, if it stands for several.
    pub max_sessions: Option<usize>,
    /// Keeps its sessions, and takes no new ones.
    pub drain: bool,
    /// Only used when no other can be.
    pub backup: bool,
    /// The PROXY headers that it expects; `None` if it expects none.
    pub proxy_protocol: Option<SentProxyProtocol>,
}

/// The PROXY protocol towards a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentProxyProtocol {
    /// The version of each header.
    pub version: ProxyVersion,
    /// Whether the data connections that it accepts begin with a header, too.
    pub data: bool,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with extensions.
    V2,
}

impl Backend {
    /// Whether new logins may go there.
    pub fn takes_logins(&self) -> bool {
        !self.drain && self.weight > 0
    }
}

impl fmt::Display for Backend {
    /// Its name, or its address as configured, with the port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.servers.fmt(f),
        }
    }
}

/// The servers that an entry of `backends` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Servers {
    /// One. If its host is a name with several addresses, the first that answers.
    One(Endpoint),
    /// Those that name servers tell of.
    Discovered(ServerNames),
}

/// What name servers are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ServerNames {
    /// A server at each address that the name has at the moment.
    EachAddress(Endpoint),
    /// The servers that the SRV records of this name list at the moment (RFC 2782).
    Service(String),
}

impl Servers {
    /// Where they are, if that is configured.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::One(endpoint) | Self::Discovered(ServerNames::EachAddress(endpoint)) => {
                Some(endpoint)
            }
            Self::Discovered(ServerNames::Service(_)) => None,
        }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(endpoint) | Self::Discovered(ServerNames::EachAddress(endpoint)) => {
                endpoint.fmt(f)
            }
            Self::Discovered(ServerNames::Service(name)) => f.write_str(name),
        }
    }
}

/// Host and port of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IP address, without brackets, or name.
    pub host: String,
    /// Port of the control connection.
    pub port: u16,
}

impl Endpoint {
    /// As it is compared: names without regard to case and to a trailing dot, addresses in canonical form.
    pub fn id(&self) -> BackendId {
        BackendId {
            host: canonical_host(&self.host),
            port: self.port,
        }
    }
}

impl fmt::Display for Endpoint {
    /// As `host:port`, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn canonical_host(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host.trim_end_matches('.').to_ascii_lowercase(),
    }
}

/// The name that a backend's certificate has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedName {
    /// This one: by default the backend's host.
    Is(String),
    /// Each server's own, which its SRV record says.
    OfEachServer,
}

/// TLS towards a backend. There is no fallback to clear text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// When TLS starts.
    pub start: TlsMode,
    /// How the backend's certificate is verified.
    pub verify: Verify,
    /// The name to send as SNI and to expect in the certificate.
    pub server_name: ExpectedName,
    /// The newest version offered: 1.2 unless set, since many FTP servers run out of TLS 1.3 tickets and then refuse
    /// data connections.
    pub max_version: TlsVersion,
    /// What it is shown where it asks for a client's certificate.
    pub client_certificate: Option<KeyPairFiles>,
}

/// The files of a certificate chain and of its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyPairFiles {
    /// The chain, leaf first, in PEM.
    pub certificate: PathBuf,
    /// The key of the leaf, in PEM.
    pub private_key: PathBuf,
}

/// How a backend's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// By the operating system's trust store, and by name.
    System,
    /// By the certificates in this PEM file, and by name.
    Ca(PathBuf),
    /// By the SHA-256 of the leaf certificate's DER form; name, issuer and dates don't matter then.
    Fingerprint([u8; 32]),
    /// Not at all.
    None,
}
