//! The settings that the program runs on, but for those of a site: checked, complete, immutable.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{AcmeSettings, AdminSettings, ClientCertificates, HostName, MoreCertificates, Site};
use crate::policy::CertificateRules;

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
    /// The files that have a line for each transfer; no file twice.
    pub transfer_logs: Vec<TransferLog>,
    /// Where the process is looked at and told what to do.
    pub admin: AdminSettings,
}

impl Settings {
    /// The files that have users of groups.
    pub fn users_files(&self) -> impl Iterator<Item = &Path> {
        let groups = self.sites.iter().flat_map(|site| &site.groups);
        groups.filter_map(|group| group.users_file.as_deref())
    }

    /// The files that have passwords of users with certificates.
    pub fn credential_files(&self) -> impl Iterator<Item = &Path> {
        let rules = self.certificate_rules();
        rules.filter_map(|rules| rules.credentials.as_deref())
    }

    /// What the sites demand of clients' certificates.
    pub fn certificate_rules(&self) -> impl Iterator<Item = &CertificateRules> {
        let policies = self.sites.iter().map(|site| &site.policy);
        policies.filter_map(|policy| policy.client_certificate.as_ref())
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
    /// The certificates beside that pair; no file and no directory twice.
    pub more: Vec<MoreCertificates>,
    /// Whether USER in clear text is refused.
    pub required: bool,
    /// The oldest version accepted.
    pub min_version: TlsVersion,
    /// Whether transfers without PROT P are refused.
    pub data_required: bool,
    /// Clients' certificates; `None` if no client is asked for one.
    pub client_certificates: Option<ClientCertificates>,
    /// The certificate that is ordered, if one is.
    pub acme: Option<AcmeSettings>,
}

impl Tls {
    /// Whether the pair that clients are shown by default is the one that is ordered, which need not be there yet.
    pub fn is_central_ordered(&self) -> bool {
        let acme = self.acme.as_ref();
        acme.is_some_and(|acme| acme.certificate() == self.certificate)
    }
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

/// A file that has a line for each transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferLog {
    /// Where it is.
    pub file: PathBuf,
    /// What a line looks like.
    pub format: TransferLogFormat,
}

/// The format of a transfer log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferLogFormat {
    /// A JSON object a line.
    Json {
        /// Whether that has the SHA-256 of the content.
        sha256: bool,
    },
    /// As ProFTPD and wu-ftpd write it.
    Xferlog,
    /// W3C extended, as IIS writes it.
    W3c,
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
