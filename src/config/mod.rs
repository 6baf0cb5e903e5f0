//! The settings that the program runs on: checked, complete, immutable.
//!
//! The file format is `file`, its single values are `scalar`; `resolve`, with `listeners`, `passive`, `sites`, `backends`
//! and `checks`, turns it into the types below, filling in the defaults and refusing what can't work. Where a file is
//! wrong, `structure` finds the line of a `location`, `yaml_error` rewords the YAML reader's error, and [`Error`] shows
//! both. The rest of the program sees only [`Settings`].
//!
//! [`parse`] opens no file that the configuration names, and [`load`] none but those of passwords and tokens: whether a certificate
//! exists and is valid is checked when it is loaded. Relative file names count from the directory of the configuration file.

mod admin;
mod backends;
mod checks;
mod error;
mod file;
mod groups;
mod host;
mod listeners;
mod location;
mod nearest;
mod networks;
mod passive;
mod policy;
mod resolve;
mod scalar;
mod schema;
mod secret_file;
mod sites;
mod structure;
mod template;
mod yaml_error;

pub use admin::{AdminSettings, Status};
pub use backends::DEFAULT_WEIGHT;
pub use checks::{CheckLevel, Checks, Probe};
pub use error::{Error, Report};
pub use host::{HostName, HostPattern};
pub use location::Position;
pub use nearest::nearest;
pub use networks::is_in_any;
pub use passive::is_reachable;
pub use schema::SCHEMA;
pub use secret_file::SecretFile;
pub use sites::NO_SITE;
pub use template::{TemplateError, TemplatePart, UserTemplate};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::BackendId;
use crate::base::file::{ReadError, read_bounded};
use crate::policy::{SitePolicy, UserList};

/// The longest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Editors on Windows put an invisible byte order mark in front of UTF-8. The YAML reader takes it for a document of
/// its own.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads the configuration file at `path`.
///
/// # Errors
/// If it can't be read, isn't a regular file, is longer than 1 MiB, isn't UTF-8, isn't YAML, or says what can't work; if
/// a file of a password can't be used.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let owned = || path.to_owned();
    let mut bytes = read_bounded(path, MAX_FILE).map_err(|error| match error {
        ReadError::Io(cause) => Error::Read {
            path: owned(),
            cause,
        },
        ReadError::NotAFile => Error::NotAFile { path: owned() },
        ReadError::TooLong => Error::TooLong { path: owned() },
    })?;
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    match String::from_utf8(bytes) {
        Ok(text) => {
            let mut settings = parse(&text, path)?;
            checks::read_passwords(&mut settings.sites)
                .and_then(|()| admin::read_token(&mut settings.admin))
                .map_err(|fault| located(fault, &text, path))?;
            Ok(settings)
        }
        Err(error) => Err(Error::not_utf8(path, &error)),
    }
}

/// Reads a configuration from `text`; `origin` is the file that errors name and whose directory relative file names
/// count from.
///
/// # Errors
/// If the text isn't YAML or says what can't work.
pub fn parse(text: &str, origin: &Path) -> Result<Settings, Error> {
    let invalid = |error| Error::invalid(origin, text, yaml_error::describe(text, error));
    structure::refuse_duplicate_keys(text).map_err(invalid)?;
    let file: file::File = serde_yaml::from_str(text).map_err(invalid)?;
    let base = origin.parent().unwrap_or(Path::new(""));
    resolve::resolve(file, base).map_err(|fault| located(fault, text, origin))
}

fn located(fault: error::Fault, text: &str, origin: &Path) -> Error {
    let position = structure::locate(text, &fault.location);
    Error::invalid(origin, text, fault.at(position))
}

/// Everything that one configuration file says, with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect; never empty, no address twice.
    pub listeners: Vec<Listener>,
    /// What clients are greeted with, behind the 220: one line.
    pub greeting: Arc<str>,
    /// The client leg's TLS.
    pub tls: Tls,
    /// Passive data connections of the client leg.
    pub passive: Passive,
    /// The ways of naming a host in USER besides `host|user`.
    pub user_forms: UserForms,
    /// The virtual hosts; never empty, no name and no host twice, at most one default.
    pub sites: Vec<Arc<Site>>,
    /// Whether clients may use PORT and EPRT.
    pub active_mode: bool,
    /// How many sessions at once.
    pub limits: Limits,
    /// Limits for clients with failed logins.
    pub guard: GuardRules,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// The name servers that say which servers a backend stands for; none means those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// Where the process is looked at and told what to do.
    pub admin: AdminSettings,
}

impl Settings {
    /// The files that have users of groups.
    pub fn users_files(&self) -> impl Iterator<Item = &Path> {
        let groups = self.sites.iter().flat_map(|site| &site.groups);
        groups.filter_map(|group| group.users_file.as_deref())
    }

    /// Whether any site lets data connections resume their control session. When a control connection's handshake
    /// decides what can be resumed later, its site isn't known yet.
    pub fn any_site_reuses_sessions(&self) -> bool {
        self.sites
            .iter()
            .any(|site| site.session_reuse != SessionReuse::Off)
    }
}

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 lets the operating system choose one, which the log then names.
    pub address: SocketAddr,
    /// When TLS starts.
    pub tls: TlsMode,
    /// The networks of the load balancers that connections come from, each with a PROXY protocol header that names the
    /// client; never empty. `None`: clients connect themselves.
    pub proxy_protocol: Option<Arc<[IpNet]>>,
}

/// When TLS starts on a control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// After AUTH TLS (RFC 4217), on what is usually port 21.
    Explicit,
    /// With the first byte, on what is usually port 990.
    Implicit,
}

impl TlsMode {
    /// Its value in configuration, log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
        }
    }
}

/// The client leg's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key of the leaf.
    pub private_key: PathBuf,
    /// Whether USER in clear text is refused.
    pub required: bool,
    /// The oldest version accepted.
    pub min_version: TlsVersion,
    /// Whether transfers without PROT P are refused.
    pub data_required: bool,
}

/// Whether data connections have to resume the TLS session of their control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionReuse {
    /// Resumption isn't offered.
    Off,
    /// Offered, counted, not demanded.
    Prefer,
    /// A data connection that doesn't resume its own control connection's session is refused.
    Require,
}

impl SessionReuse {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// How an upload under TLS has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseNotify {
    /// With close_notify, or it is not complete.
    Require,
    /// With close_notify, or with FIN alone, which is then treated as the end of an upload without TLS.
    Optional,
}

impl CloseNotify {
    /// Its value in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::Optional => "optional",
        }
    }
}

/// A supported version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// The number for it in configuration, log and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// Passive data connections of the client leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passive {
    /// The ports to listen on; `0..=0` lets the operating system choose one.
    pub ports: RangeInclusive<u16>,
    /// What clients without a rule in `by_client` are sent.
    pub announced: Announced,
    /// What clients of certain networks are sent; the first rule whose network contains the client applies.
    pub by_client: Vec<AnnouncedTo>,
    /// How long after a transfer that was not complete its data connection may still arrive at its port: until then
    /// other sessions of the client's address that could mistake it for theirs don't get that port.
    pub reuse_delay: Duration,
}

/// The address and ports sent to clients for passive mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The address in a 227 reply.
    pub address: AnnouncedAddress,
    /// The ports in 227 and 229 replies, one for each port listened on, in the same order; without it, those.
    pub ports: Option<RangeInclusive<u16>>,
}

/// The address in a 227 reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnnouncedAddress {
    /// The one that the client connected to.
    Control,
    /// This one.
    Ip(Ipv4Addr),
    /// The one that this name has at the moment.
    Name(HostName),
}

/// What the clients of some networks are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedTo {
    /// Never empty.
    pub networks: Vec<IpNet>,
    /// The address and ports for them.
    pub announced: Announced,
}

/// The ways of naming a host in USER besides `host|user`; both off unless switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserForms {
    /// `user@host`, split at the last `@`, if the host is a configured one.
    pub user_at_host: bool,
    /// `host\user`, split at the first `\`, if the host is a configured one.
    pub host_backslash_user: bool,
}

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
    /// Its share of the logins, relative to the site's other backends; 0 takes nobody new. Each server's, if it stands for
    /// several; those of SRV records have their own.
    pub weight: u32,
    /// The most sessions that it may have, of all sites; each server, if it stands for several.
    pub max_sessions: Option<usize>,
    /// Keeps its sessions, and takes nobody new.
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

/// How many sessions at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub sessions: usize,
    /// At one site, from USER on.
    pub sessions_per_site: usize,
    /// Per client address (IPv6: per /64).
    pub sessions_per_client: usize,
    /// How many a client may begin in a minute.
    pub sessions_per_client_per_minute: NonZeroU32,
    /// The clients for which the two limits for each don't hold.
    pub allow: Vec<IpNet>,
}

/// Limits for clients with failed logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardRules {
    /// How many failures in a row block a client; at least 1.
    pub failures: u32,
    /// The time in which so many failures leak from the count.
    pub window: Duration,
    /// How long the first reply that is held back is so; twice as long for each further one.
    pub delay: Duration,
    /// The longest that a reply is held back; shorter than the time for a login.
    pub max_delay: Duration,
    /// How long a client is refused.
    pub block: Duration,
    /// The clients that are never held back nor refused.
    pub allow: Vec<IpNet>,
}

/// How long anything may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A TLS handshake, on either leg; on a data connection from the backend's 1yz or the client's first byte on.
    pub tls_handshake: Duration,
    /// From accept to logged in, TLS included.
    pub login: Duration,
    /// A control connection without a command while no transfer runs.
    pub idle: Duration,
    /// PASV's wait for its turn at a passive port that other sessions of the same address hold.
    pub data_port: Duration,
    /// From 150 or PASV to an open data connection.
    pub data_connect: Duration,
    /// A transfer without a byte, on either leg: the source sends nothing, or the sink reads nothing.
    pub data_idle: Duration,
    /// The backend's reply after the data connections are done.
    pub final_reply: Duration,
    /// Running transfers after SIGTERM.
    pub drain: Duration,
    /// From SIGTERM, with which `/readyz` fails, to the drain: load balancers send clients elsewhere meanwhile.
    pub lame_duck: Duration,
    /// A TCP connection to a backend, name resolution included.
    pub backend_connect: Duration,
    /// Everything until a backend is ready for USER, before the next one is tried. `None` is an equal share of what is
    /// left of the login's time.
    pub backend_attempt: Option<Duration>,
    /// A backend's reply to any other command, and its 1yz to a transfer's.
    pub backend_reply: Duration,
}

/// Where the configuration names no other times.
impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tls_handshake: seconds(10),
            login: seconds(60),
            idle: seconds(5 * 60),
            data_port: seconds(15),
            data_connect: seconds(20),
            data_idle: seconds(5 * 60),
            final_reply: seconds(10 * 60),
            drain: seconds(5 * 60),
            lame_duck: Duration::ZERO,
            backend_connect: seconds(10),
            backend_attempt: None,
            backend_reply: seconds(5 * 60),
        }
    }
}
